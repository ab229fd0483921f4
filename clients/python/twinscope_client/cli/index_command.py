"""Build or update a store from a labelled collection.

SOURCE is an image file, a folder with all its subfolders, or an archive (.tar, .tar.gz, .tar.xz, .tar.bz2 or .zip).
Twinscope reads archives without unpacking them. Writes the store into the folder DIR. Files in SOURCE are not changed.

The category of an image is the name of a folder between SOURCE and the image, if this name is a known category. If no
folder has such a name, --unknown-category keep uses the name of the first folder below SOURCE, never a deeper folder.
Archives count as folders. An image directly in SOURCE has a category only if SOURCE has the name of a known category.
An image in folders of two categories has no category. The command prints the categories with their numbers of images.

If the command would remove or relabel many images of the store, the command stops with exit code 1 and changes nothing.
Many means: more than ten images, and more than a tenth of the store. --dry-run shows what would change; --yes allows
the changes.

Run the same command again when the collection has changed. Twinscope then skips unchanged files, indexes changed files
again, and retries files that could not be read. If you stop the command with Ctrl-C, finished work is kept. To index
the remaining files, run the same command again. If a folder contains a file .twinscope-run, the folder is the output of
a labelling run. Twinscope skips such folders and prints a message.

Example: twinscope index collection/ --store lab.store

Example: twinscope index collection/ --store lab.store --json --quiet > references.jsonl
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from twinscope_client.cli.budget_option import add_budget_option
from twinscope_client.cli.console import FAILED, PARTLY, progress
from twinscope_client.cli.double_label_table import add_table_option, as_dicts, report_double_labels, require_new
from twinscope_client.cli.index_lines import print_images
from twinscope_client.cli.index_report import say_foreseen, say_report
from twinscope_client.cli.inputs import MISSING, add_inputs, collected
from twinscope_client.cli.outcome import JsonLines, add_outcome_options, exit_code
from twinscope_client.cli.pages_option import add_pages_option
from twinscope_client.cli.target_options import add_store_folder

if TYPE_CHECKING:
    from typing import TypedDict

    from twinscope_indexer.indexing.pages import Pages
    from twinscope_indexer.indexing.run import IndexReport
    from twinscope_indexer.taxonomy import Taxonomy
    from twinscope_service.matching.double_labels import DoubleLabel

    class IndexSettings(TypedDict):
        """Options of the command that `index` and `preview` have in common."""

        labels: str | None
        taxonomy: Taxonomy | None
        keep_unknown: bool | None
        prune: bool
        pages: Pages | None


HELP = "build or update a store from a labelled collection"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand to the parser."""
    add_inputs(parser, "sources", "SOURCE", "folder, image file or archive")
    add_store_folder(parser, "folder of the store; the folder is created if it does not exist", positional=False)
    parser.add_argument(
        "--labels", metavar="folder|prefix|FILE.csv",
        help="source of the category of each image: 'folder', the name of a folder or archive (default of a new "
        "store); 'prefix', the code before the file name; FILE.csv, a CSV file with the columns file,category. The "
        "column 'file' contains the path of each image relative to SOURCE, or only its file name if no other image has "
        "this name. This option is saved in the store",
    )  # fmt: skip
    parser.add_argument(
        "--taxonomy",
        metavar="builtin|F.toml",
        help="file with the categories to use instead of the ten built-in categories, or 'builtin' for the built-in "
        "categories. The file can also extend the built-in categories. The categories are saved in the store",
    )
    parser.add_argument(
        "--unknown-category", choices=("error", "keep"),
        help="what to do with images whose category is unknown. The value 'error' (default of a new store) leaves "
        "these images out of the store and lists them. The value 'keep' turns the name of each unknown first folder "
        "below SOURCE into a category. This option is saved in the store",
    )  # fmt: skip
    parser.add_argument(
        "--reach", choices=("frame", "views", "windows"),
        help="frames of each image to hash. The value 'frame' hashes only the whole image. The value 'views' (default "
        "of a new store) also hashes the image without an info bar, so that twins that were cropped at the bottom, "
        "rotated, mirrored or inverted are found. The value 'windows' also hashes 409 smaller frames, so that twins "
        "that show only a part of the field are found (52 KB more per image). This option is saved in the store",
    )  # fmt: skip
    parser.add_argument(
        "--prune", action="store_true",
        help="remove images from the store if their files no longer exist. Images below a folder that was skipped or "
        "could not be opened are not removed",
    )  # fmt: skip
    add_pages_option(parser, default=None, note=" (default of a new store). This option is saved in the store")
    add_budget_option(parser)
    parser.add_argument(
        "--yes", action="store_true",
        help="allow the command to take many images out of the store, or to give them another category",
    )  # fmt: skip
    parser.add_argument(
        "--dry-run", action="store_true",
        help="print what would be added, changed, relabelled and removed, but read no image and write nothing",
    )  # fmt: skip
    add_table_option(parser)
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="number of threads, and maximum number of processes in a long run (default: one per core)",
    )
    add_outcome_options(parser, "images that have too little structure to be identified")


def stopped(parsed: argparse.Namespace) -> str:
    """Return the message for Ctrl-C."""
    if getattr(parsed, "dry_run", False):
        return "Stopped. Nothing was written."
    return "Stopped. Finished work is kept; run the same command again to continue."


def run(parsed: argparse.Namespace) -> int:
    """Run the subcommand, and return the exit code."""
    if parsed.workers is not None and parsed.workers < 1:
        parsed.parser.error(f"--workers must be at least 1, got {parsed.workers}")
    inputs = collected(parsed)
    require_new(parsed.contradictions)
    from twinscope_indexer.indexing.run import count_images, index, preview
    from twinscope_indexer.taxonomy import load_taxonomy

    settings: IndexSettings = {
        "labels": parsed.labels,
        "taxonomy": None if parsed.taxonomy is None else load_taxonomy(parsed.taxonomy),
        "keep_unknown": None if parsed.unknown_category is None else parsed.unknown_category == "keep",
        "prune": parsed.prune,
        "pages": parsed.pages,
    }
    lines = JsonLines(parsed)
    if parsed.dry_run:
        report = preview(inputs.paths, parsed.store, **settings)
        report.unreadable.extend((path, MISSING) for path in inputs.missing)
        allowed = say_foreseen(report, parsed.store)
        code = _code(report, parsed, sum(report.categories.values())) if allowed or parsed.yes else FAILED
        lines.summary(code, report.counts, store=str(parsed.store), categories=dict(report.categories))
        return code
    with progress("indexing", lambda: count_images(inputs.paths, parsed.pages or "all")) as step:
        report = index(
            inputs.paths, parsed.store, reach=parsed.reach, workers=parsed.workers, allow_removals=parsed.yes,
            progress=lambda _: step(), **settings,
        )  # fmt: skip
    report.unreadable.extend((path, MISSING) for path in inputs.missing)
    say_report(report, parsed.store)
    pairs = _double_labels(report, parsed)
    report_double_labels(pairs, parsed.contradictions)
    code = _code(report, parsed, report.searchable)
    if lines.wanted:
        print_images(lines, parsed.store, inputs, report)
    lines.summary(
        code, report.counts, store=str(parsed.store), searchable=report.searchable, generation=report.generation,
        categories=dict(report.categories), contradictions=as_dicts(pairs),
    )  # fmt: skip
    return code


def _code(report: IndexReport, parsed: argparse.Namespace, searchable: int) -> int:
    if report.runs and not report.counts.total():
        return PARTLY if searchable else FAILED
    unreadable = report.counts["failed"] + len(report.unreadable)
    return exit_code(parsed, done=searchable, unreadable=unreadable, review=report.counts["unhashable"])


def _double_labels(report: IndexReport, parsed: argparse.Namespace) -> list[DoubleLabel]:
    """Compare the new and the changed images with the references of other categories."""
    from twinscope_indexer.store.reader import Store
    from twinscope_service.matching.double_labels import double_labels

    store = Store(parsed.store)
    try:
        with progress("comparing", lambda: len(report.written)) as step:
            return double_labels(store, report.written, parsed.workers or os.cpu_count() or 1, step)
    finally:
        store.close()
