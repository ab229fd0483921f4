"""Print the perceptual hash of each image as 256 hexadecimal digits, like the Python package imagehash.

Prints one line for each image: the hash, two spaces and the path, like the command sha256sum. If a path contains a
control character or a backslash, the line starts with a backslash, and these characters are escaped. With --csv,
prints no hashes, but writes a CSV table with the columns file, path and phash.

Example: twinscope hash tiffs/ --csv hashes.csv
"""

from __future__ import annotations

import argparse
import csv
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from twinscope_client.cli.console import DONE, FAILED, PARTLY, checksum_line, emit, progress, say

if TYPE_CHECKING:
    from twinscope_indexer.sources.corpus import Item

HELP = "print the perceptual hash of each image"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand to the parser."""
    parser.add_argument("paths", nargs="+", metavar="PATH", help="image file, folder or archive")
    parser.add_argument(
        "--csv",
        type=Path,
        metavar="FILE",
        help="write the hashes into a new CSV file with the columns file,path,phash instead of printing them",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        default=os.cpu_count() or 1,
        help="number of threads (default: one thread per core)",
    )
    parser.set_defaults(parser=parser)


def run(parsed: argparse.Namespace) -> int:
    """Run the subcommand, and return the exit code."""
    if parsed.workers < 1:
        parsed.parser.error(f"--workers must be at least 1, got {parsed.workers}")
    from twinscope_indexer.compute.ordered import in_order
    from twinscope_indexer.indexing.run import count_images
    from twinscope_indexer.sources.corpus import Walk, scope_of, walk

    from twinscope_client.errors import OutputError

    found = Walk()
    scopes = [scope_of(path) for path in parsed.paths]
    items = (item for scope in scopes for item in walk(scope, found))
    counts = {"hashed": 0, "failed": 0}
    with ExitStack() as stack:
        write = _to_stdout
        if parsed.csv is not None:
            try:
                stream = stack.enter_context(
                    parsed.csv.open("x", encoding="utf-8", errors="surrogateescape", newline="")
                )
            except OSError as error:
                msg = f"{parsed.csv} cannot be created: {error.strerror}. Choose a file that does not exist yet"
                raise OutputError(msg) from error
            table = csv.writer(stream, lineterminator="\n")
            table.writerow(("file", "path", "phash"))
            quoted = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)

            def write(item: Item, text: str) -> None:
                # Many CSV readers end a row at a carriage return. Python's csv writer does not quote a carriage return.
                (quoted if "\r" in item.uri else table).writerow((item.name, item.uri, text))

        step = stack.enter_context(progress("hashing", lambda: count_images(parsed.paths)))
        for item, text, problem in in_order(_hash_one, items, parsed.workers):
            if problem:
                say(f"{item.uri}: {problem}")
            else:
                write(item, text)
            counts["failed" if problem else "hashed"] += 1
            step()
    for path, reason in found.unreadable:
        say(f"{path}: {reason}")
    if counts["failed"] or found.unreadable:
        return PARTLY if counts["hashed"] else FAILED
    return DONE


def _to_stdout(item: Item, text: str) -> None:
    emit(checksum_line(text, item.uri))


def _hash_one(item: Item) -> tuple[Item, str, str]:
    from twinscope_indexer.errors import ImageError
    from twinscope_indexer.hashing.perceptual import PHash, hash_pixels
    from twinscope_indexer.imaging.reader import read_image

    try:
        hashed = hash_pixels(read_image(item.read(), name=item.uri).pixels)
    except ImageError as error:
        return item, "", error.detail
    if isinstance(hashed, PHash):
        return item, hashed.hex, ""
    return item, "", f"unhashable ({hashed.reason}): {hashed.detail}"
