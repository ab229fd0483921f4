"""Compare a labelling run with a truth table: compute recall and precision, and list the false labels.

RUN is the output folder of 'twinscope label'. Files in RUN are not changed. The truth table is a CSV file in UTF-8 with
commas, semicolons or tabs. The table has a header and one row for each image:

  path       The path of the image, the end of this path, or the file name if only one image has that name. The column
             can also be called source, image, file, query or TIFF_path.
  category   The right category of the image: a name, code or alias. If the collection has no twin of the image, the
             category is empty, and the image must not be labelled.
  transform  Optional. The kind of change that was made to the image. Results are also printed for each transform.
  twin       Optional. The path of the right reference, or the end of this path. If a label is right but comes from
             another reference, the label is counted separately.

Prints these results for all images, for each transform and for each true category:

  - the numbers of images, labels, right labels and wrong labels;
  - the number of missed images, which have a twin but no label, and of images that rightly got no label;
  - the recall, with its 95 % Wilson interval: of all images with a twin, the fraction that got the right label;
  - the precision, with its 95 % Wilson interval: of all labels, the fraction that is right.

Also prints a threshold and a recall for each score. If the labels depended on this score alone, the threshold would
give no false label, and the recall would be the highest recall without a false label. Then prints a list of all missed
images with the reason why each image was refused, and a list of all false labels. With --legacy-rule, also prints the
results of the rule of the old scripts. If an image of the run has no row in the table, the image is not evaluated, but
is listed on stderr. Ends with exit code 3 if the table has rows for images that are not in the run.

Example: twinscope evaluate labelled/ --truth truth.csv --out evaluation/
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from twinscope_client.cli.console import DONE, PARTLY, emit, say, say_some
from twinscope_client.cli.inputs import add_run, run_folder

if TYPE_CHECKING:
    from twinscope_client.evaluation.assignment import Assignment
    from twinscope_client.evaluation.metrics import Evaluation, ScoreName
    from twinscope_client.evaluation.truth import Truth
    from twinscope_client.labelling.journal import Journal

HELP = "compare a labelling run with a truth table"

_RESULTS = (
    "evaluation.json", "evaluation.csv", "evaluation.html",
    "evaluation_scene_score.png", "evaluation_ssim.png", "evaluation_distance.png",
)  # fmt: skip
_MARK = "twinscope evaluate"
"""Value of ``made_by`` in evaluation.json. An evaluation overwrites earlier results only if they have this value."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand to the parser."""
    add_run(parser)
    parser.add_argument(
        "--truth", required=True, type=Path, metavar="CSV", help="truth table with the right category of each image"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the tables")
    parser.add_argument(
        "--legacy-rule", action="store_true",
        help="also show what the rule of the old scripts would have given for the candidates of this run",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER",
        help="also write evaluation.csv, evaluation.json, evaluation.html and histograms of the scores into FOLDER",
    )  # fmt: skip
    parser.add_argument(
        "--taxonomy",
        type=Path,
        metavar="F.toml",
        help="file with the categories of the truth table (default: the ten built-in categories)",
    )
    parser.add_argument(
        "--unknown-category", choices=("error", "keep"), default="error",
        help="what to do with unknown category names in the truth table: 'error' stops the command, 'keep' accepts the "
        "names as they are (default: error)",
    )  # fmt: skip


def stopped(parsed: argparse.Namespace) -> str:
    """Return the message for Ctrl-C."""
    kept = f", and files in {parsed.out} may be those of an earlier evaluation" if parsed.out is not None else ""
    return f"Stopped. The evaluation is not complete{kept}; run the same command again."


def run(parsed: argparse.Namespace) -> int:
    """Run the subcommand, and return the exit code."""
    parsed.run_dir = run_folder(parsed)
    from twinscope_client.evaluation.tables import legacy_text, to_text

    if parsed.out is not None:
        _require_no_other_results(parsed.out)
    truth, found, evaluation, left_out = _evaluated(parsed)
    _report(parsed, truth, found, left_out)
    described = _described(parsed, found, evaluation, left_out)
    if parsed.json:
        emit(json.dumps(described))
    else:
        for line in to_text(evaluation) + (["", *legacy_text(evaluation)] if parsed.legacy_rule else []):
            emit(line)
    if parsed.out is not None:
        _write(parsed, evaluation, described)
    return PARTLY if found.unmatched else DONE


def _evaluated(parsed: argparse.Namespace) -> tuple[Truth, Assignment, Evaluation, list[str]]:
    """Return the truth table, the image of each row, the evaluation, and the images that have no row."""
    from functools import partial

    from twinscope_indexer.taxonomy import load_taxonomy

    from twinscope_client.evaluation.assignment import assign, readable
    from twinscope_client.evaluation.metrics import Case, evaluate
    from twinscope_client.evaluation.truth import category_name, read_truth
    from twinscope_client.labelling.journal import Journal

    taxonomy = load_taxonomy(parsed.taxonomy, keep_unknown=parsed.unknown_category == "keep")
    journal = Journal(parsed.run_dir, create=False)
    try:
        truth = read_truth(parsed.truth, partial(category_name, met=_categories(journal), taxonomy=taxonomy))
        images = dict.fromkeys(name for one in journal.decisions() for name in (one.path, one.query))
        found = assign(truth.rows, images)  # a row names a page of a stack, or all pages of the file
        _require_any(parsed, truth, found, journal)
        cases, left_out = [], []
        for decision in journal.decisions():
            row = found.rows.get(decision.query) or found.rows.get(decision.path)
            if row is None:
                left_out.append(readable(decision.query))
            else:
                cases.append(Case.of(decision, row))
    finally:
        journal.close()
    return truth, found, evaluate(cases), left_out


def _categories(journal: Journal) -> dict[str, str]:
    """Return the names of all categories that the run assigned, as a dict with category names and codes as keys."""
    names = {decision.category: decision.code for decision in journal.decisions("category <> ''")}
    return {code: name for name, code in names.items()} | {name: name for name in names}


def _require_any(parsed: argparse.Namespace, truth: Truth, found: Assignment, journal: Journal) -> None:
    from twinscope_indexer.errors import TaxonomyError

    if found.rows:
        return
    first = next((decision.path for decision in journal.decisions()), None)
    example = "the run has no images" if first is None else f"the run has images such as {first!r}"
    msg = (
        f"none of the {len(truth.rows)} rows of {parsed.truth} matches an image of {parsed.run_dir}: "
        f"{example}, and the table has rows such as {truth.rows[0].image!r} ({found.unmatched[0][1]})"
    )
    raise TaxonomyError(msg)


def _report(parsed: argparse.Namespace, truth: Truth, found: Assignment, left_out: list[str]) -> None:
    """Report the rows and images that were not evaluated, and the rows that were matched by file name alone."""
    if truth.unused:
        say(f"Columns of {parsed.truth} that are not used: {', '.join(truth.unused)}")
    if found.by_name:
        say(f"{found.by_name} rows were matched by file name although their folders differ.")
    rows = [f"line {row.line}, {row.image}: {why}" for row, why in found.unmatched]
    rest = "the output of --json and --out contains the full list"
    say_some(f"{len(rows)} rows of {parsed.truth} match no image of the run:", rows, len(rows), rest)
    say_some(f"{len(left_out)} images of the run have no row and are not evaluated:", left_out, len(left_out), rest)


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


def _require_no_other_results(out: Path) -> None:
    """Raise an error if the results would overwrite files that were not written by an earlier evaluation."""
    from twinscope_client.errors import OutputError

    foreign = [name for name in _RESULTS if os.path.lexists(out / name)]
    if foreign and not _is_ours(out / "evaluation.json"):
        msg = (
            f"{out} holds {', '.join(foreign)}, which 'twinscope evaluate' has not written; choose another folder, so "
            "that these files are not overwritten"
        )
        raise OutputError(msg)


def _is_ours(path: Path) -> bool:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("made_by") == _MARK


def _write(parsed: argparse.Namespace, evaluation: Evaluation, described: dict[str, object]) -> None:
    from twinscope_client.evaluation.page import render
    from twinscope_client.evaluation.tables import to_csv
    from twinscope_client.outputs import replace_if_changed

    out: Path = parsed.out
    plots = _plots(evaluation)
    replace_if_changed(out / "evaluation.json", (json.dumps(described, indent=2) + "\n").encode())
    replace_if_changed(out / "evaluation.csv", to_csv(evaluation).encode())
    for name, png in plots.items():
        replace_if_changed(out / f"evaluation_{name}.png", png)
    page = render(evaluation, plots, described, legacy_rule=parsed.legacy_rule)
    replace_if_changed(out / "evaluation.html", page.encode())
    beside = "evaluation.csv, evaluation.json and histograms are" if plots else "evaluation.csv and evaluation.json are"
    say(f"Results: open {out / 'evaluation.html'}; {beside} beside it.")


def _plots(evaluation: Evaluation) -> dict[ScoreName, bytes]:
    """Draw the histograms of an evaluation; the result is empty if Matplotlib is not installed."""
    from contextlib import suppress

    from twinscope_indexer.errors import MissingExtraError, extra_needed

    with suppress(MissingExtraError), extra_needed("an evaluation with plots", "plots"):
        from twinscope_client.evaluation.plots import draw

        return draw(evaluation)
    return {}
