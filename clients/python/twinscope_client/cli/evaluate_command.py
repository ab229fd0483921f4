"""Judge a labelling run by a table of truth: recall, precision, false labels.

RUN is the output folder of 'twinscope label', which is only read. The table of truth (CSV, UTF-8; commas, semicolons or
tabs) has a header and one row an image:

  path       the image: its path, the end of it, or its file name where only one image has that name
             (the column may also be called source, image, file, query or TIFF_path)
  category   the right category (name, code or alias); empty: the collection has no twin, the image must be refused
  transform  optional: what was done to the image; the numbers are given for each
  twin       optional: the right reference, its path or the end of it; right labels by another one are counted

Printed are, for all images, each transform and each true category: images, labels, right, wrong and refused ones; the
recall (right labels of the images that have a twin) with its 95 % interval (Wilson), and the precision (right labels of
all labels); which recall a single score would reach without any false label, and by which threshold; what the old
scripts would have said; and every false label. Images of the run that the table does not name are left out, and listed
on stderr. Exit code 3 if the table names images that the run does not have.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from twinscope_client.cli.console import DONE, PARTLY, emit, say, say_some

if TYPE_CHECKING:
    from twinscope_client.evaluation.assignment import Assignment
    from twinscope_client.evaluation.metrics import Evaluation
    from twinscope_client.evaluation.truth import Truth
    from twinscope_client.labelling.journal import Journal

HELP = "judge a labelling run by a table of truth"

_RESULTS = (
    "evaluation.json", "evaluation.csv", "evaluation.html",
    "evaluation_scene_score.png", "evaluation_ssim.png", "evaluation_distance.png",
)  # fmt: skip
_MARK = "twinscope evaluate"
"""What evaluation.json says it was made by, so that nothing else is ever overwritten."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("run_dir", type=Path, metavar="RUN", help="output folder of 'twinscope label'")
    parser.add_argument("--truth", required=True, type=Path, metavar="CSV", help="what each image shows")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout instead of the tables")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER",
        help="also write evaluation.csv, evaluation.json, evaluation.html and histograms of the scores there",
    )  # fmt: skip
    parser.add_argument(
        "--taxonomy", type=Path, metavar="F.toml", help="categories of the truth other than the ten built-in ones"
    )
    parser.add_argument(
        "--unknown-category", choices=("error", "keep"), default="error",
        help="'keep' takes category names as they are; by default an unknown one is an error",
    )  # fmt: skip


def run(parsed: argparse.Namespace) -> int:
    """Run the subcommand."""
    from twinscope_client.evaluation.tables import to_text

    if parsed.out is not None:
        _require_no_foreign_results(parsed.out)
    truth, found, evaluation, left_out = _evaluated(parsed)
    _tell(parsed, truth, found, left_out)
    described = _described(parsed, found, evaluation, left_out)
    if parsed.json:
        emit(json.dumps(described))
    else:
        for line in to_text(evaluation):
            emit(line)
    if parsed.out is not None:
        _write(parsed, evaluation, described)
    return PARTLY if found.unmatched else DONE


def _evaluated(parsed: argparse.Namespace) -> tuple[Truth, Assignment, Evaluation, list[str]]:
    """Give the truth, which image each row means, the evaluation, and the images that no row means."""
    from functools import partial

    from twinscope_indexer.taxonomy import load_taxonomy

    from twinscope_client.evaluation.assignment import assign, readable
    from twinscope_client.evaluation.metrics import Case, evaluate
    from twinscope_client.evaluation.truth import category_name, read_truth
    from twinscope_client.labelling.journal import Journal

    taxonomy = load_taxonomy(parsed.taxonomy, keep_unknown=parsed.unknown_category == "keep")
    journal = Journal(parsed.run_dir, create=False)
    try:
        truth = read_truth(parsed.truth, partial(category_name, met=_met(journal), taxonomy=taxonomy))
        found = assign(truth.rows, (decision.path for decision in journal.decisions()))
        _require_any(parsed, truth, found, journal)
        cases, left_out = [], []
        for decision in journal.decisions():
            row = found.rows.get(decision.path)
            if row is None:
                left_out.append(readable(decision.path))
            else:
                cases.append(Case.of(decision, row))
    finally:
        journal.close()
    return truth, found, evaluate(cases), left_out


def _met(journal: Journal) -> dict[str, str]:
    """Give the names of the categories that a run met, by name and by code."""
    names = {decision.category: decision.code for decision in journal.decisions("category <> ''")}
    return {code: name for name, code in names.items()} | {name: name for name in names}


def _require_any(parsed: argparse.Namespace, truth: Truth, found: Assignment, journal: Journal) -> None:
    from twinscope_indexer.errors import TaxonomyError

    if found.rows:
        return
    first = next((decision.path for decision in journal.decisions()), None)
    looks = "the run has no images" if first is None else f"images of the run look like {first!r}"
    msg = (
        f"none of the {len(truth.rows)} rows of {parsed.truth} means an image of {parsed.run_dir}: "
        f"{looks}, rows like {truth.rows[0].image!r} ({found.unmatched[0][1]})"
    )
    raise TaxonomyError(msg)


def _tell(parsed: argparse.Namespace, truth: Truth, found: Assignment, left_out: list[str]) -> None:
    """Say what was not evaluated, and what was taken on less than its full name."""
    if truth.unused:
        say(f"Columns of {parsed.truth} that are not used: {', '.join(truth.unused)}")
    if found.by_name:
        say(f"{found.by_name} rows were matched by file name, in spite of other folders.")
    rows = [f"line {row.line}, {row.image}: {why}" for row, why in found.unmatched]
    rest = "in --json and --out"
    say_some(f"{len(rows)} rows of {parsed.truth} mean no image of the run:", rows, len(rows), rest)
    say_some(f"{len(left_out)} images of the run have no row and are left out:", left_out, len(left_out), rest)


def _described(
    parsed: argparse.Namespace, found: Assignment, evaluation: Evaluation, left_out: list[str]
) -> dict[str, object]:
    from twinscope_client.evaluation.assignment import readable
    from twinscope_client.evaluation.tables import to_dict

    return {
        "made_by": _MARK,
        "run": readable(str(parsed.run_dir)),
        "truth": readable(str(parsed.truth)),
        **to_dict(evaluation),
        "rows_without_image": [
            {"line": row.line, "image": row.image, "reason": why} for row, why in found.unmatched
        ],
        "images_without_row": left_out,
    }  # fmt: skip


def _require_no_foreign_results(out: Path) -> None:
    """Refuse a folder with files of the names that are to be written, unless they are of an earlier evaluation."""
    from twinscope_client.errors import OutputError

    foreign = [name for name in _RESULTS if os.path.lexists(out / name)]
    if foreign and not _is_ours(out / "evaluation.json"):
        msg = f"{out} holds {', '.join(foreign)}, but no evaluation of Twinscope; give another folder"
        raise OutputError(msg)


def _is_ours(path: Path) -> bool:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("made_by") == _MARK


def _write(parsed: argparse.Namespace, evaluation: Evaluation, described: dict[str, object]) -> None:
    from twinscope_client.evaluation.page import render
    from twinscope_client.evaluation.plots import draw
    from twinscope_client.evaluation.tables import to_csv
    from twinscope_client.outputs import replace_if_changed

    out: Path = parsed.out
    plots = draw(evaluation)
    replace_if_changed(out / "evaluation.json", (json.dumps(described, indent=2) + "\n").encode())
    replace_if_changed(out / "evaluation.csv", to_csv(evaluation).encode())
    for name, png in plots.items():
        replace_if_changed(out / f"evaluation_{name}.png", png)
    replace_if_changed(out / "evaluation.html", render(evaluation, plots, described).encode())
    say(f"Results: {out / 'evaluation.html'} (to look at), evaluation.csv, evaluation.json and histograms beside it.")
