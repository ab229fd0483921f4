"""Label images: copy each image into a folder that is named after the category of its twin.

PATH is an image file, or a folder with all its subfolders. Files in PATH are not changed. With --json, prints one JSON
object for each image, and then one object with the numbers of images for each grade. Writes into DIR:

  <Category>/<name>  labelled copies of the images
  matches.csv        table of the images that were labelled
  review.csv         table of the images that were not labelled, each with the reason
  failures.csv       table of the images that could not be read
  labels.jsonl       provenance of every label
  report.html        report with figures
  summary.json       values of the report, for programs
  plots              figures of the report
  tables.xlsx        with --excel: the three tables as an Excel workbook

Copies are never overwritten. If DIR already contains an identical file, Twinscope keeps that file. If DIR contains a
different file with the same name, the name of the new copy gets a number. If a category has the same name as one of
these files or folders, Twinscope adds an underscore to the name of the category folder. For example, the folder of a
category plots is plots_.

Each page of a TIFF stack that is a picture is an image of its own, with a name such as F.tif#page=3. A stack gets a
copy only if all its pages have the same label. Otherwise, its pages are listed in review.csv.

If you stop the command with Ctrl-C, finished work is kept. To label the remaining images, run the same command again.
If the run was finished, running the same command again changes nothing. Twinscope decides again about an image if its
path, size or modification time has changed. Twinscope decides again about all images if the store, the policy or a
threshold has changed. If the content of an image has changed, but its size and modification time have not, set a new
modification time (touch IMAGE) before the next run. If a folder below PATH contains a file .twinscope-run, the folder
is the output of another labelling run. Twinscope skips such folders and prints a message.

Example: twinscope label tiffs/ --at lab.store --out labelled/

Example: twinscope label tiffs/ --at lab.store --out labelled/ --json --quiet --fail-on never > decisions.jsonl
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from twinscope_client.cli.budget_option import add_budget_option
from twinscope_client.cli.console import FAILED, counted, note, progress, say, say_runs, say_some, table
from twinscope_client.cli.inputs import MISSING, add_inputs, collected
from twinscope_client.cli.outcome import JsonLines, add_outcome_options, exit_code, needs_review
from twinscope_client.cli.pages_option import add_pages_option
from twinscope_client.cli.policy_options import (
    add_policy_options,
    chosen_policy,
    warn_of_emptiness,
    warn_of_limit,
    warn_of_reach,
)
from twinscope_client.cli.target_options import add_target_options, open_target

if TYPE_CHECKING:
    from twinscope_client.labelling.journal import Decision, Journal
    from twinscope_client.labelling.run import LabelReport

HELP = "find the twin of each image, and write labelled copies and a report"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand to the parser."""
    add_inputs(parser, "paths", "PATH", "image file or folder")
    add_target_options(parser)
    output = parser.add_argument_group("output")
    output.add_argument("--out", required=True, type=Path, metavar="DIR", help="output folder")
    output.add_argument(
        "--min-grade", choices=("excellent", "good"), default="good",
        help="label only images with at least this grade; 'excellent' requires the same acquisition (default: good)",
    )  # fmt: skip
    output.add_argument(
        "--name", default="{code}_{stem}{suffix}", metavar="TEMPLATE",
        help="template for the file names of the copies. The template can contain these placeholders: {code}, "
        "{category}, {stem}, {suffix}, {hash}, {grade}, {parent} (name of the folder of the image), {date} (day of the "
        "acquisition, or no-date) and {instrument} (name of the instrument, or no-instrument). If a category has no "
        "code of its own, {code}_ is left out (default: %(default)s)",
    )  # fmt: skip
    output.add_argument(
        "--link",
        choices=("copy", "hard", "sym"),
        default="copy",
        help="how to create the labelled copies: 'copy', copy the files (default); 'hard', create hard links; 'sym', "
        "create symbolic links",
    )
    output.add_argument(
        "--jpeg",
        action="store_true",
        help="also write each copy as a JPEG of quality 100 with the name {code}_{hash}.jpg",
    )
    output.add_argument(
        "--sidecar", action="store_true",
        help="also write a file NAME.json beside each copy NAME, with the provenance of the label and all instrument "
        "metadata",
    )  # fmt: skip
    output.add_argument(
        "--excel", action="store_true",
        help="also write the three CSV tables as sheets of the Excel workbook tables.xlsx (needs the extra excel)",
    )  # fmt: skip
    output.add_argument("--dry-run", action="store_true", help="print the decisions as a CSV table, and write no files")
    output.add_argument(
        "--workers", type=int, metavar="N", default=os.cpu_count() or 1,
        help="number of threads, and maximum number of processes in a long run (default: one per core)",
    )  # fmt: skip
    add_pages_option(parser)
    add_budget_option(parser)
    add_policy_options(parser)
    add_outcome_options(parser, "images with the grade doubtful, ambiguous or unverified, or below --min-grade")


def stopped(parsed: argparse.Namespace) -> str:
    """Return the message for Ctrl-C."""
    if parsed.dry_run:
        return "Stopped. Nothing was written."
    return "Stopped. Finished work is kept; run the same command again to continue."


def run(parsed: argparse.Namespace) -> int:
    """Run the subcommand, and return the exit code."""
    policy = chosen_policy(parsed)
    if parsed.workers < 1:
        parsed.parser.error(f"--workers must be at least 1, got {parsed.workers}")
    from twinscope_client.labelling.run import LabelSettings

    try:
        settings = LabelSettings(
            min_grade=parsed.min_grade,
            template=parsed.name,
            jpeg=parsed.jpeg,
            sidecar=parsed.sidecar,
            link=parsed.link,
            pages=parsed.pages,
            dry_run=parsed.dry_run,
            policy=policy,
            workers=parsed.workers,
        )
    except ValueError as error:
        parsed.parser.error(str(error))
    inputs = collected(parsed)
    from twinscope_service.matching.grades import LABELLED

    from twinscope_client.labelling.job import described, open_journal, require_outside_store, write_results
    from twinscope_client.labelling.run import count_queries, label, scopes_apart
    from twinscope_client.labelling.workbook import wants_workbook, write_workbook

    excel = not parsed.dry_run and wants_workbook(parsed.out, asked=parsed.excel)
    lines, reviewed = JsonLines(parsed), Counter[str]()
    scopes_apart(inputs.paths, parsed.out)  # checked before Twinscope creates files in the output folder
    with ExitStack() as opened:
        engine = opened.enter_context(open_target(parsed))
        require_outside_store(parsed.out, engine)
        journal = opened.enter_context(open_journal(parsed.out, dry_run=parsed.dry_run))
        warn_of_emptiness(engine)
        warn_of_reach(parsed, engine)
        warn_of_limit(policy, engine)
        if not parsed.dry_run:
            journal.set_settings(described(inputs.paths, engine, settings))
        with progress("labelling", lambda: count_queries(inputs.paths, parsed.out, parsed.pages)) as step:

            def finished(decision: Decision) -> None:
                _print_decision(lines, decision)
                reviewed["review"] += needs_review(decision.grade) or (
                    decision.grade in LABELLED and not decision.output
                )

            report = label(inputs.paths, engine, journal, parsed.out, settings, finished, step)
        _report(report, inputs.missing, parsed)
        _report_open_points(journal, report)
        for path, reason in report.unreadable:
            lines.folder(path, reason)
        for path in inputs.missing:
            lines.image(path, grade="failed", fault="missing", reason=MISSING)
        if not parsed.dry_run:
            write_results(journal, engine)
            if excel:
                write_workbook(journal)
            note(f"Results: open {parsed.out / 'report.html'}; matches.csv, review.csv and failures.csv are beside it.")
        elif not lines.wanted:
            _print_plan(journal)
        code = _code(report, inputs.missing, reviewed["review"], parsed)
        lines.summary(code, report.counts, out=str(parsed.out))
    return code


def _print_decision(lines: JsonLines, d: Decision) -> None:
    """Write the JSON object of one image. Only a labelled image has a category."""
    if d.failed:
        lines.image(d.query, grade="failed", fault=d.fault, reason=d.reason)
    elif lines.wanted:
        lines.image(
            d.query, grade=d.grade, category=d.category if d.output else None, code=d.code if d.output else None,
            output=d.output or None, jpeg_output=d.jpeg_output or None, written=d.written, problem=d.problem,
            reason=d.reason, reasons=json.loads(d.reasons or "[]"), p_wrong=d.p_wrong, ssim=d.ssim,
            scene_score=d.scene_score, hamming_distance=d.distance, match_category=d.category or None,
            match_source=d.match_source or None, sha256=d.sha256,
        )  # fmt: skip


def _report_open_points(journal: Journal, report: LabelReport) -> None:
    from twinscope_service.matching.reasons import ReasonCode

    uncompared = journal.count_reason(ReasonCode.FULL_SIZE_MISSING, "grade = 'good'")
    if uncompared:
        note(
            f"{uncompared} images could not be compared at full size with their twins, so their grade is at most "
            "'good'. If the collection has moved, run twinscope store relocate."
        )
    earlier = journal.scalar("count(*)", "earlier_output <> ''")
    if earlier:
        say(
            f"{earlier} images have copies from earlier runs with labels that no longer apply. Twinscope has not "
            "removed these copies; check them. The column earlier_output of matches.csv and review.csv lists them."
        )
    differing = journal.scalar("count(DISTINCT path)", "stack_conflict <> ''")
    if differing:
        say(
            f"{differing} stacks got no copy, because their pages have different labels, or because a page has no "
            "label. The table review.csv names the pages."
        )
    if not sum(report.counts.values()):
        note("The given paths contain no images.")


def _print_plan(journal: Journal) -> None:
    rows = table()
    rows.writerow(("TIFF_path", "grade", "category", "output_path", "reason"))
    for decision in journal.decisions():
        category = decision.category if decision.output else ""
        rows.writerow((decision.query, decision.grade, category, decision.output, decision.explanation))


def _report(report: LabelReport, missing: list[str], parsed: argparse.Namespace) -> None:
    from twinscope_client.labelling.grades import DECISION_GRADES

    counts = report.counts
    total = sum(counts[grade] for grade in DECISION_GRADES)
    by_grade = ", ".join(f"{counts[grade]} {grade}" for grade in DECISION_GRADES if counts[grade])
    note(f"{counted(total, 'image', 'images')}: {by_grade or 'none found'}")
    if report.ignored:
        suffixes = ", ".join(f"{number} {suffix}" for suffix, number in report.ignored.most_common(5))
        note(f"{report.ignored.total()} files are not images ({suffixes}).")
    say_runs(report.runs)
    if not parsed.dry_run:
        note(
            f"{counted(counts['written'], 'labelled copy', 'labelled copies')} written, {counts['kept']} already there."
        )
    say_some(
        f"{len(report.problems)} copies could not be written:", report.problems, len(report.problems), "review.csv"
    )
    closed = [*report.unreadable, *((path, MISSING) for path in missing)]
    say_some(
        f"{len(closed)} folders, links or listed paths could not be opened:",
        [f"{path}: {reason}" for path, reason in closed], len(closed), "not listed here; --json lists all",
    )  # fmt: skip
    if counts["failed"]:
        say(f"{counted(counts['failed'], 'image', 'images')} could not be read: {parsed.out / 'failures.csv'}")


def _code(report: LabelReport, missing: list[str], review: int, parsed: argparse.Namespace) -> int:
    from twinscope_client.labelling.grades import DECISION_GRADES

    total = sum(report.counts[grade] for grade in DECISION_GRADES)
    if report.problems or (report.runs and not total):
        return FAILED
    failed = report.counts["failed"]
    return exit_code(
        parsed,
        done=total - failed if total + len(missing) else 1,
        unreadable=failed + len(missing) + len(report.unreadable),
        review=review,
    )
