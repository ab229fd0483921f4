"""Label images: write copies of them under the categories of their twins.

PATH is an image, or a folder that is taken recursively. Sources are only read. Into DIR go <Category>/<name>,
matches.csv (what was labelled), review.csv (what was not, and why), failures.csv (what could not be read),
labels.jsonl (the provenance of every label), summary.json, report.html and plots. Nothing is ever overwritten: the
same content is left in place, another content gets a numbered name, and a category called as one of these files is
gets a folder whose name ends with _ (plots_). Ctrl-C keeps what is done; the same command goes on from there, and
changes nothing when all is done: a decision stands as long as the image has the same path, size and time of last
change, and store, policy and thresholds are the same. After an image was changed with its size and time kept, give it
a new time (touch IMAGE), and it is decided anew. Outputs of other runs below PATH (folders with a file .twinscope-run)
are left out, and told.
"""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from twinscope_client.cli.console import DONE, FAILED, PARTLY, progress, say, say_runs, say_some, table
from twinscope_client.cli.policy_options import (
    add_policy_options,
    chosen_policy,
    warn_of_emptiness,
    warn_of_limit,
    warn_of_reach,
)
from twinscope_client.cli.target_options import add_target_options, open_target

if TYPE_CHECKING:
    from twinscope_client.labelling.journal import Journal
    from twinscope_client.labelling.run import LabelReport

HELP = "write labelled copies of images"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("paths", nargs="+", metavar="PATH", help="image or folder")
    add_target_options(parser)
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="output folder")
    parser.add_argument(
        "--min-grade", choices=("excellent", "good"), default="good",
        help="'excellent' labels only where the acquisition itself was found (default: good)",
    )  # fmt: skip
    parser.add_argument(
        "--name", default="{code}_{stem}{suffix}", metavar="TEMPLATE",
        help="name of the copies; fields: code, category, stem, suffix, hash, grade (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--jpeg", action="store_true", help="also write a quality-100 JPEG named {code}_{hash}.jpg")
    parser.add_argument(
        "--sidecar", action="store_true",
        help="also write NAME.json beside each copy: where its label came from, and all that the instrument wrote",
    )  # fmt: skip
    parser.add_argument("--link", choices=("copy", "hard", "sym"), default="copy", help="copy (default), or link")
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, as CSV; write nothing")
    parser.add_argument(
        "--workers", type=int, metavar="N", default=os.cpu_count() or 1,
        help="threads, and processes once it takes long (default: one a core)",
    )  # fmt: skip
    add_policy_options(parser)
    parser.set_defaults(parser=parser)


def run(parsed: argparse.Namespace) -> int:
    """Run the subcommand."""
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
            dry_run=parsed.dry_run,
            policy=policy,
            workers=parsed.workers,
        )
    except ValueError as error:
        parsed.parser.error(str(error))
    from twinscope_client.labelling.job import described, open_journal, require_outside_store, write_results
    from twinscope_client.labelling.run import count_queries, label, scopes_apart

    scopes_apart(parsed.paths, parsed.out)  # before anything is made there
    with ExitStack() as opened:
        engine = opened.enter_context(open_target(parsed))
        require_outside_store(parsed.out, engine)
        journal = opened.enter_context(open_journal(parsed.out, dry_run=parsed.dry_run))
        warn_of_emptiness(engine)
        warn_of_reach(parsed, engine)
        warn_of_limit(policy, engine)
        if not parsed.dry_run:
            journal.set_settings(described(parsed.paths, engine, settings))
        with progress("labelling", lambda: count_queries(parsed.paths, parsed.out)) as step:
            report = label(parsed.paths, engine, journal, parsed.out, settings, lambda _: step())
        code = _tell(report, parsed)
        _tell_what_to_look_at(journal, report)
        if parsed.dry_run:
            _print_plan(journal)
        else:
            write_results(journal, engine)
            say(f"Results: {parsed.out / 'report.html'} (to look at), matches.csv, review.csv, failures.csv beside it.")
    return code


def _tell_what_to_look_at(journal: Journal, report: LabelReport) -> None:
    from twinscope_service.matching.reasons import ReasonCode

    uncompared = journal.count_reason(ReasonCode.FULL_SIZE_MISSING, "grade = 'good'")
    if uncompared:
        say(
            f"{uncompared} twins could not be compared at full size, so they are 'good' at best: is the collection "
            "where it was indexed? (twinscope store relocate)"
        )
    earlier = journal.scalar("count(*)", "earlier_output <> ''")
    if earlier:
        say(
            f"{earlier} images have copies of earlier runs under labels that no longer stand; they were left in place "
            "and are named in the column earlier_output of matches.csv and review.csv. Look at them."
        )
    if not sum(report.counts.values()):
        say("No image was found in what was named.")


def _print_plan(journal: Journal) -> None:
    rows = table()
    rows.writerow(("TIFF_path", "grade", "category", "output_path", "reason"))
    for decision in journal.decisions():
        category = decision.category if decision.output else ""
        rows.writerow((decision.path, decision.grade, category, decision.output, decision.reason))


def _tell(report: LabelReport, parsed: argparse.Namespace) -> int:
    from twinscope_client.labelling.grades import DECISION_GRADES

    counts = report.counts
    total = sum(counts[grade] for grade in DECISION_GRADES)
    by_grade = ", ".join(f"{counts[grade]} {grade}" for grade in DECISION_GRADES if counts[grade])
    say(f"{total} images: {by_grade or 'none found'}")
    if report.ignored:
        suffixes = ", ".join(f"{number} {suffix}" for suffix, number in report.ignored.most_common(5))
        say(f"{report.ignored.total()} files are no images ({suffixes}).")
    say_runs(report.runs)
    if not parsed.dry_run:
        say(f"{counts['written']} labelled copies written, {counts['kept']} were in place already.")
    say_some(
        f"{len(report.problems)} copies could not be written:", report.problems, len(report.problems), "review.csv"
    )
    say_some(
        f"{len(report.unreadable)} folders or links could not be opened:",
        [f"{place}: {reason}" for place, reason in report.unreadable], len(report.unreadable), "not listed here",
    )  # fmt: skip
    if counts["failed"]:
        say(f"{counts['failed']} images could not be read: {parsed.out / 'failures.csv'}")
    if report.problems or (total and counts["failed"] == total) or (report.runs and not total):
        return FAILED
    return PARTLY if counts["failed"] or report.unreadable else DONE
