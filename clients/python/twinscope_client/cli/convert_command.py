"""Convert images to JPEG.

PATH is an image file, or a folder with all its subfolders. Writes one JPEG for each image into DIR. DIR then has the
same subfolders as PATH. A TIFF with more than 8 bits per pixel is scaled to 8 bits. The grey window for this scaling is
the same as for hashing, so that bright areas are not clipped to white. Every image is turned upright, as viewers show
it. If DIR already contains a different file with the same name, Twinscope keeps that file, and the name of the new JPEG
gets a number. DIR can be inside PATH. PATH must not be DIR or a folder inside DIR, because Twinscope treats all files
in DIR as results. With --json, prints one JSON object for each image, and then one object with the numbers of images.

Example: twinscope convert tiffs/ --out jpegs/
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from twinscope_client.cli.budget_option import add_budget_option
from twinscope_client.cli.console import FAILED, PARTLY, counted, note, progress, say_some
from twinscope_client.cli.inputs import MISSING, add_inputs, collected
from twinscope_client.cli.outcome import JsonLines, add_outcome_options, exit_code
from twinscope_client.cli.pages_option import add_pages_option

if TYPE_CHECKING:
    from twinscope_client.conversion import Converted

HELP = "convert images to JPEG"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand to the parser."""
    add_inputs(parser, "paths", "PATH", "image file or folder")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="output folder for the JPEGs")
    parser.add_argument(
        "--quality", type=int, default=100, metavar="N", help="JPEG quality, 1 to 100 (default: %(default)s)"
    )
    add_pages_option(parser)
    add_budget_option(parser)
    add_outcome_options(parser)


def stopped(_: argparse.Namespace) -> str:
    """Return the message for Ctrl-C."""
    return "Stopped. Finished JPEGs are kept; run the same command again to convert the other images."


def run(parsed: argparse.Namespace) -> int:
    """Run the subcommand, and return the exit code."""
    if not 1 <= parsed.quality <= 100:
        parsed.parser.error(f"--quality must be 1 to 100, got {parsed.quality}")
    inputs = collected(parsed)
    from twinscope_indexer.indexing.run import count_images

    from twinscope_client.conversion import convert

    lines = JsonLines(parsed)
    with progress("converting", lambda: count_images(inputs.paths, parsed.pages)) as step:

        def finished(converted: Converted) -> None:
            _print(lines, converted)
            step()

        report = convert(inputs.paths, parsed.out, quality=parsed.quality, pages=parsed.pages, progress=finished)
    counts, failures = report.counts, report.failures
    for path in inputs.missing:
        counts["failed"] += 1
        failures.append((path, MISSING))
        lines.unreadable(path, "missing", MISSING)
    for path, reason in report.unreadable:
        lines.folder(path, reason)
    note(f"{counted(counts['written'], 'JPEG', 'JPEGs')} written to {parsed.out}, {counts['kept']} already there.")
    failed = len(failures)
    say_some(
        f"{counted(failed, 'image', 'images')} could not be converted:",
        [f"{path}: {reason}" for path, reason in failures], failed, "not listed here; --json lists all images",
    )  # fmt: skip
    done = counts["written"] + counts["kept"]
    code = exit_code(parsed, done=done, unreadable=counts["failed"])
    if counts["unwritten"]:
        code = PARTLY if done else FAILED
    lines.summary(code, counts)
    return code


def _print(lines: JsonLines, converted: Converted) -> None:
    if converted.fault:
        lines.unreadable(converted.path, converted.fault, converted.reason)
    else:
        output = None if converted.output is None else str(converted.output)
        lines.image(converted.path, result=converted.result, output=output, reason=converted.reason)
