"""Build or update a store from a labelled collection.

SOURCE is a folder (taken recursively), an image file, or a .tar, .tar.gz, .tgz or .zip archive, which is read without
unpacking. Run it again whenever the collection has changed: unchanged files are passed over, changed ones replaced,
failed ones tried again. Ctrl-C keeps what is done; the same command goes on from there. Outputs of labelling runs
(folders with a file .twinscope-run) are left out, and told.
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
    parser.add_argument("--store", required=True, type=Path, metavar="DIR", help="folder of the store")
    parser.add_argument(
        "--labels", metavar="folder|prefix|FILE.csv",
        help="where categories come from: the name of the folder or archive (the default of a new store), the code "
        "before the file name, or a CSV with the columns file,category (paths below SOURCE, or base names that only "
        "one image has); a store remembers it",
    )  # fmt: skip
    parser.add_argument(
        "--taxonomy",
        type=Path,
        metavar="F.toml",
        help="categories other than the ten built-in ones; a store remembers them",
    )
    parser.add_argument(
        "--unknown-category", choices=("error", "keep"),
        help="'keep' makes a category of every unknown name; by default such images are left out and listed",
    )  # fmt: skip
    parser.add_argument(
        "--reach", choices=("frame", "views", "windows"),
        help="what is hashed of every image: the image alone; also what is left without an info bar (the default of a "
        "new store; finds twins that were cropped at the bottom, rotated, mirrored, inverted); also 409 parts of it "
        "(finds twins that show a part of the field; 52 KB more an image); a store remembers it",
    )  # fmt: skip
    parser.add_argument(
        "--prune", action="store_true",
        help="remove images from the store whose files have vanished; not those below folders that were left out or "
        "could not be opened",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=int, metavar="N", help="threads, and processes once it takes long (default: one a core)"
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
    return _tell(report, parsed.store)


def _tell(report: IndexReport, store: Path) -> int:
    counts = report.counts
    parts = [f"{counts[name]} {name}" for name in ("added", "changed", "unchanged", "relabelled") if counts[name]]
    nothing = "no image was met but in folders that are left out" if report.runs else "nothing to do"
    say(f"{store}: {', '.join(parts) or nothing}; {report.searchable} images searchable "
        f"(generation {report.generation}).")  # fmt: skip
    say_runs(report.runs)
    if counts["unhashable"]:
        say(f"{counts['unhashable']} images have no structure that could identify them; they will never match.")
    if report.ignored:
        say(f"{report.ignored.total()} files are no images ({_by_suffix(report)}).")
    if report.contradicting_prefixes:
        say(f"{report.contradicting_prefixes} of {report.prefixes} published file-name prefixes contradict the "
            "category; prefixes are recorded, not believed.")  # fmt: skip
    if counts["withdrawn"]:
        say(f"{counts['withdrawn']} images were taken out of the store: by the labels given now they have no category. "
            "Run again with the right --labels or --taxonomy to take them in again.")  # fmt: skip
    if counts["removed"]:
        say(f"{counts['removed']} images were removed, as their files have vanished.")
    elif counts["vanished"]:
        say_some(
            f"{counts['vanished']} files have vanished; --prune removes them from the store:",
            report.vanished, counts["vanished"], "not listed here",
        )  # fmt: skip
    for message, number in report.unknown_categories.most_common(10):
        say(f"{number} images were left out: {message}")
    if report.unknown_categories:
        say(f"All of them: twinscope store export {store} --failures")
        say("To take them in: --unknown-category keep, a CSV with --labels, or a --taxonomy that knows the name.")
    listed = [f"{uri}: {message}" for uri, message in report.failures]
    failed = counts["failed"] - report.unknown_categories.total()
    say_some(f"{failed} images could not be read:", listed, failed, f"twinscope store export {store} --failures")
    say_some(
        f"{len(report.unreadable)} folders or archives could not be opened:",
        [f"{place}: {reason}" for place, reason in report.unreadable], len(report.unreadable), "as above",
    )  # fmt: skip
    if counts["failed"] or report.unreadable or (report.runs and not report.counts.total()):
        return PARTLY if report.searchable else FAILED
    return DONE


def _by_suffix(report: IndexReport) -> str:
    return ", ".join(f"{number} {suffix}" for suffix, number in report.ignored.most_common(5))
