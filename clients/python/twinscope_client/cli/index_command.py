"""Build or update a store from a labelled collection.

SOURCE is an image file, a folder with all its subfolders, or an archive (.tar, .tar.gz, .tgz or .zip). Twinscope reads
archives without unpacking them. Writes the store into the folder DIR. Files in SOURCE are not changed.

Run the same command again when the collection has changed. Twinscope then skips unchanged files, indexes changed files
again, and retries files that could not be read. If you stop the command with Ctrl-C, finished work is kept. To index
the remaining files, run the same command again. If a folder contains a file .twinscope-run, the folder is the output of
a labelling run. Twinscope skips such folders and prints a message.

Example: twinscope index collection/ --store lab.store
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from twinscope_client.cli.console import DONE, FAILED, PARTLY, progress, say, say_runs, say_some
from twinscope_client.cli.target_options import store_folder

if TYPE_CHECKING:
    from twinscope_indexer.indexing.run import IndexReport

HELP = "build or update a store from a labelled collection"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand to the parser."""
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="folder, image file or archive")
    parser.add_argument(
        "--store",
        required=True,
        type=store_folder,
        metavar="DIR",
        help="folder of the store; the folder is created if it does not exist",
    )
    parser.add_argument(
        "--labels", metavar="folder|prefix|FILE.csv",
        help="source of the category of each image: 'folder', the name of its folder or archive (default of a new "
        "store); 'prefix', the code before the file name; FILE.csv, a CSV file with the columns file,category. The "
        "column 'file' contains the path of each image relative to SOURCE, or only its file name if no other image has "
        "this name. This option is saved in the store",
    )  # fmt: skip
    parser.add_argument(
        "--taxonomy",
        type=Path,
        metavar="F.toml",
        help="file with the categories to use instead of the ten built-in categories; these categories are saved in "
        "the store",
    )
    parser.add_argument(
        "--unknown-category", choices=("error", "keep"),
        help="what to do with images whose category is unknown. The value 'error' (default of a new store) leaves these "
        "images out of the store and lists them. The value 'keep' creates a category for every unknown name. This "
        "option is saved in the store",
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
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="number of threads, and maximum number of processes in a long run (default: one per core)",
    )
    parser.set_defaults(parser=parser)


def run(parsed: argparse.Namespace) -> int:
    """Run the subcommand, and return the exit code."""
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
        say(
            f"{counts['unhashable']} images have too little structure to be identified; a search never returns these "
            "images."
        )
    if report.ignored:
        say(f"{report.ignored.total()} files are not images ({_by_suffix(report)}).")
    if report.contradicting_prefixes:
        say(f"{report.contradicting_prefixes} of {report.prefixes} published file-name prefixes contradict the "
            "category of their image; Twinscope records the prefixes but does not use them.")  # fmt: skip
    if counts["withdrawn"]:
        say(f"{counts['withdrawn']} images were removed from the store, because the labels of this command give them "
            "no category. To add them again, run the command with the right --labels or --taxonomy.")  # fmt: skip
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
        say(
            "To include these images, use --unknown-category keep, a CSV file with --labels, or a --taxonomy that "
            "contains the name."
        )
    listed = [f"{uri}: {message}" for uri, message in report.failures]
    failed = counts["failed"] - report.unknown_categories.total()
    say_some(f"{failed} images could not be read:", listed, failed, f"twinscope store export {store} --failures")
    say_some(
        f"{len(report.unreadable)} folders or archives could not be opened:",
        [f"{path}: {reason}" for path, reason in report.unreadable], len(report.unreadable),
        f"twinscope store export {store} --failures",
    )  # fmt: skip
    if counts["failed"] or report.unreadable or (report.runs and not report.counts.total()):
        return PARTLY if report.searchable else FAILED
    return DONE


def _by_suffix(report: IndexReport) -> str:
    return ", ".join(f"{number} {suffix}" for suffix, number in report.ignored.most_common(5))
