"""Build or update a store from a labelled collection.

SOURCE is a folder (read recursively), an image file, or a .tar, .tar.gz, .tgz or .zip archive (read without unpacking).
Writes the store into the folder DIR; sources are only read. Run the same command again when the collection has changed:
it skips unchanged files, replaces changed ones and retries failed ones. Ctrl-C keeps finished work; the same command
then continues. Outputs of labelling runs (folders with a file .twinscope-run) are skipped and listed.

Example: twinscope index collection/ --store lab.store
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from twinscope_client.cli.console import DONE, FAILED, PARTLY, progress, say, say_runs, say_some

if TYPE_CHECKING:
    from twinscope_indexer.indexing.run import IndexReport

HELP = "build or update a store from a labelled collection"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="folder, image or archive")
    parser.add_argument(
        "--store", required=True, type=Path, metavar="DIR", help="folder of the store; created if missing"
    )
    parser.add_argument(
        "--labels", metavar="folder|prefix|FILE.csv",
        help="source of the categories: 'folder', the name of the folder or archive (default of a new store); "
        "'prefix', the code before the file name; or a CSV file with the columns file,category (paths below SOURCE, or "
        "file names that only one image has). The store remembers this option",
    )  # fmt: skip
    parser.add_argument(
        "--taxonomy",
        type=Path,
        metavar="F.toml",
        help="categories to use instead of the ten built-in ones; the store remembers them",
    )
    parser.add_argument(
        "--unknown-category", choices=("error", "keep"),
        help="'keep' creates a category for every unknown name (default: such images are left out and listed)",
    )  # fmt: skip
    parser.add_argument(
        "--reach", choices=("frame", "views", "windows"),
        help="frames of each image to hash: 'frame', the whole image only; 'views', also the image without an info bar "
        "(default of a new store; finds twins that were cropped at the bottom, rotated, mirrored or inverted); "
        "'windows', also 409 smaller frames (finds twins that show only a part of the field; 52 KB more per image). "
        "The store remembers this option",
    )  # fmt: skip
    parser.add_argument(
        "--prune", action="store_true",
        help="remove images from the store if their files no longer exist, except below folders that were skipped or "
        "could not be opened",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=int, metavar="N", help="threads, and processes if the run is long (default: one per core)"
    )
    parser.set_defaults(parser=parser)


def run(parsed: argparse.Namespace) -> int:
    """Run the subcommand."""
    if parsed.workers is not None and parsed.workers < 1:
        parsed.parser.error(f"--workers must be at least 1, got {parsed.workers}")
    from twinscope_indexer.indexing.run import count_images, index
    from twinscope_indexer.taxonomy import load_taxonomy

    taxonomy = None if parsed.taxonomy is None else load_taxonomy(parsed.taxonomy)
    keep_unknown = None if parsed.unknown_category is None else parsed.unknown_category == "keep"
    with progress("indexing", lambda: count_images(parsed.sources)) as step:
        report = index(
            parsed.sources,
            parsed.store,
            labels=parsed.labels,
            taxonomy=taxonomy,
            keep_unknown=keep_unknown,
            reach=parsed.reach,
            workers=parsed.workers,
            prune=parsed.prune,
            progress=lambda _: step(),
        )
    return _report(report, parsed.store)


def _report(report: IndexReport, store: Path) -> int:
    counts = report.counts
    parts = [f"{counts[name]} {name}" for name in ("added", "changed", "unchanged", "relabelled") if counts[name]]
    nothing = "the only images found are in skipped folders" if report.runs else "nothing to do"
    say(f"{store}: {', '.join(parts) or nothing}; {report.searchable} images searchable "
        f"(generation {report.generation}).")  # fmt: skip
    say_runs(report.runs)
    if counts["unhashable"]:
        say(f"{counts['unhashable']} images have too little structure to be identified; they will never match.")
    if report.ignored:
        say(f"{report.ignored.total()} files are not images ({_by_suffix(report)}).")
    if report.contradicting_prefixes:
        say(f"{report.contradicting_prefixes} of {report.prefixes} published file-name prefixes contradict the "
            "category; prefixes are only recorded.")  # fmt: skip
    if counts["withdrawn"]:
        say(f"{counts['withdrawn']} images were removed from the store: the labels given now set no category for them. "
            "To add them again, run the command with the right --labels or --taxonomy.")  # fmt: skip
    if counts["removed"]:
        say(f"{counts['removed']} images were removed because their files no longer exist.")
    elif counts["vanished"]:
        say_some(
            f"{counts['vanished']} files no longer exist; --prune removes them from the store:",
            report.vanished, counts["vanished"], "not listed here",
        )  # fmt: skip
    for message, number in report.unknown_categories.most_common(10):
        say(f"{number} images were left out: {message}")
    if report.unknown_categories:
        say(f"For the full list: twinscope store export {store} --failures")
        say("To include them: --unknown-category keep, a CSV file with --labels, or a --taxonomy with the name.")
    listed = [f"{uri}: {message}" for uri, message in report.failures]
    failed = counts["failed"] - report.unknown_categories.total()
    say_some(f"{failed} images could not be read:", listed, failed, f"twinscope store export {store} --failures")
    say_some(
        f"{len(report.unreadable)} folders or archives could not be opened:",
        [f"{path}: {reason}" for path, reason in report.unreadable], len(report.unreadable), "as above",
    )  # fmt: skip
    if counts["failed"] or report.unreadable or (report.runs and not report.counts.total()):
        return PARTLY if report.searchable else FAILED
    return DONE


def _by_suffix(report: IndexReport) -> str:
    return ", ".join(f"{number} {suffix}" for suffix, number in report.ignored.most_common(5))
