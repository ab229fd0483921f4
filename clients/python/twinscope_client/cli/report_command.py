"""Write the tables and the report of a labelling run again.

Reads the journal of the run, which is in RUN. Then writes matches.csv, review.csv, failures.csv, labels.jsonl,
summary.json, report.html and the plots in RUN again. Does not search or copy any image.

Example: twinscope report labelled/
"""

from __future__ import annotations

import argparse

from twinscope_client.cli.budget_option import add_budget_option
from twinscope_client.cli.console import DONE, say
from twinscope_client.cli.inputs import add_run, run_folder

HELP = "write the tables and the report of a labelling run again"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand to the parser."""
    add_run(parser)
    add_budget_option(parser)
    parser.add_argument(
        "--excel", action="store_true",
        help="also write the three CSV tables as sheets of the Excel workbook tables.xlsx (needs the extra excel)",
    )  # fmt: skip


def stopped(_: argparse.Namespace) -> str:
    """Return the message for Ctrl-C."""
    return "Stopped. Each file is complete, old or new; run the same command again to write all files."


def run(parsed: argparse.Namespace) -> int:
    """Run the subcommand, and return the exit code."""
    run_dir = run_folder(parsed)
    from twinscope_indexer.errors import StoreError

    from twinscope_client.connect import connect
    from twinscope_client.labelling.journal import Journal
    from twinscope_client.labelling.report import write_report
    from twinscope_client.labelling.tables import write_tables
    from twinscope_client.labelling.workbook import wants_workbook, write_workbook

    excel = wants_workbook(run_dir, asked=parsed.excel)
    journal = Journal(run_dir, create=False)
    try:
        write_tables(journal)
        if excel:
            write_workbook(journal)
        try:
            engine = connect(str(journal.settings().get("target", "")))
        except StoreError as error:
            say(f"The report has no thumbnails of references: {error}")
            write_report(journal, None)
        else:
            with engine:
                write_report(journal, engine)
    finally:
        journal.close()
    say(f"{run_dir / 'report.html'} is up to date.")
    return DONE
