"""Print the perceptual hash of each image as 256 hexadecimal digits, like the Python package imagehash.

PATH is an image file, a folder with all its subfolders, an archive, or - for an image on stdin. Prints one line for
each image: the hash, two spaces and the path, like the command sha256sum. If a path contains a control character or a
backslash, the line starts with a backslash, and these characters are escaped. With --csv, prints no hashes, but writes
a CSV table with the columns file, path and phash. With --json, prints one JSON object for each image, and then one
object with the numbers of images.

Example: twinscope hash tiffs/ --csv hashes.csv

Example: cat sample_123.tif | twinscope hash -
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from twinscope_client.cli.budget_option import add_budget_option
from twinscope_client.cli.console import checksum_line, emit, progress, say
from twinscope_client.cli.inputs import MISSING, STDIN, Inputs, add_inputs, collected
from twinscope_client.cli.outcome import JsonLines, add_outcome_options, exit_code
from twinscope_client.cli.pages_option import add_pages_option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twinscope_indexer.indexing.pages import Pages
    from twinscope_indexer.sources.corpus import Item, Walk
    from twinscope_indexer.sources.location import Content

HELP = "print the perceptual hash of each image"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand to the parser."""
    add_inputs(parser, "paths", "PATH", "image file, folder, archive, or - for an image on stdin")
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
    add_pages_option(parser)
    add_budget_option(parser)
    add_outcome_options(parser)


def stopped(parsed: argparse.Namespace) -> str:
    """Return the message for Ctrl-C."""
    if parsed.csv is not None:
        return f"Stopped. Nothing was saved: {parsed.csv} was not complete and was removed."
    return "Stopped. The hashes above are complete; nothing was saved."


def run(parsed: argparse.Namespace) -> int:
    """Run the subcommand, and return the exit code."""
    if parsed.workers < 1:
        parsed.parser.error(f"--workers must be at least 1, got {parsed.workers}")
    if parsed.csv is not None and parsed.json:
        parsed.parser.error("--csv and --json cannot be used together")
    inputs = collected(parsed, stdin=True)
    from twinscope_indexer.compute.ordered import in_order
    from twinscope_indexer.indexing.run import count_images
    from twinscope_indexer.sources.corpus import Walk, scope_of

    found, lines = Walk(), JsonLines(parsed)
    folders = [path for path in inputs.paths if path != STDIN]
    for path in folders:
        scope_of(path)  # checked before Twinscope creates the table
    counts = {"hashed": 0, "failed": 0}
    with ExitStack() as stack:
        write = _to_stdout if parsed.csv is None else _to_table(stack, parsed.csv)
        step = stack.enter_context(progress("hashing", lambda: count_images(folders, parsed.pages)))
        for hashed in in_order(_hash_one, _images(inputs, found, parsed.pages), parsed.workers):
            if hashed.problem:
                say(f"{hashed.path}: {hashed.problem}")
                lines.unreadable(hashed.path, hashed.fault, hashed.problem)
            elif lines.wanted:
                lines.image(hashed.path, phash=hashed.phash)
            else:
                write(hashed)
            counts["failed" if hashed.problem else "hashed"] += 1
            step()
    for path, reason in found.unreadable:
        say(f"{path}: {reason}")
        lines.folder(path, reason)
    for path in inputs.missing:
        counts["failed"] += 1
        say(f"{path}: {MISSING}")
        lines.unreadable(path, "missing", MISSING)
    code = exit_code(parsed, done=counts["hashed"], unreadable=counts["failed"] + len(found.unreadable))
    lines.summary(code, counts)
    return code


@dataclass(frozen=True, slots=True)
class _Hashed:
    """The hash of one image, or the reason why there is no hash."""

    name: str
    path: str
    phash: str = ""
    fault: str = ""
    problem: str = ""


def _to_stdout(hashed: _Hashed) -> None:
    emit(checksum_line(hashed.phash, hashed.path))


def _to_table(stack: ExitStack, path: Path) -> Callable[[_Hashed], None]:
    """Create a CSV file, and return a function that adds a row. If the command is stopped, the file is removed."""
    from twinscope_client.errors import OutputError

    try:
        stream = stack.enter_context(path.open("x", encoding="utf-8", errors="surrogateescape", newline=""))
    except OSError as error:
        msg = f"{path} cannot be created: {error.strerror}. Choose a file that does not exist yet"
        raise OutputError(msg) from error

    def remove(kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            path.unlink(missing_ok=True)

    stack.push(remove)
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(("file", "path", "phash"))
    quoted = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def write(hashed: _Hashed) -> None:
        # Many CSV readers end a row at a carriage return. Python's csv writer does not quote a carriage return.
        (quoted if "\r" in hashed.path else table).writerow((hashed.name, hashed.path, hashed.phash))

    return write


class _Stdin:
    """The image on stdin, or one page of it."""

    def __init__(self, data: bytes, page: int = 0) -> None:
        from twinscope_indexer.sources.location import paged

        self.name = self.uri = paged(STDIN, page)
        self.page = page
        self._data = data

    @contextmanager
    def open(self) -> Iterator[Content]:
        """Open the bytes of the image."""
        from twinscope_indexer.sources.location import Content

        yield Content(BytesIO(self._data), self.name)


def _images(inputs: Inputs, found: Walk, pages: Pages) -> Iterator[Item | _Stdin]:
    from twinscope_indexer.indexing.pages import page_items
    from twinscope_indexer.sources.corpus import scope_of, walk

    for path in inputs.paths:
        if path == STDIN:
            yield from _on_stdin(pages)
        else:
            yield from page_items(walk(scope_of(path), found), pages)


def _on_stdin(pages: Pages) -> Iterator[_Stdin]:
    """Yield the image on stdin. If it is a stack, yield its pages."""
    from twinscope_indexer.errors import ImageError
    from twinscope_indexer.imaging.pages import stack_pages

    data = sys.stdin.buffer.read()
    numbers: tuple[int, ...] = ()
    if pages == "all":
        with suppress(ImageError):  # reading the image reports the fault
            numbers = stack_pages(data)
    for number in numbers or (0,):
        yield _Stdin(data, number)


def _hash_one(item: Item | _Stdin) -> _Hashed:
    from twinscope_indexer.errors import ImageError
    from twinscope_indexer.hashing.perceptual import PHash, hash_pixels
    from twinscope_indexer.imaging.reader import read_image

    try:
        with item.open() as content:
            hashed = hash_pixels(read_image(content.stream, name=item.uri, page=item.page).pixels)
    except ImageError as error:
        return _Hashed(item.name, item.uri, fault=error.fault, problem=error.detail)
    if isinstance(hashed, PHash):
        return _Hashed(item.name, item.uri, hashed.hex)
    problem = f"unhashable ({hashed.reason}): {hashed.detail}"
    return _Hashed(item.name, item.uri, fault="unhashable", problem=problem)
