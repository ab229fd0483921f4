"""Convert images to JPEG.

Writes one JPEG for each image into DIR. DIR then has the same subfolders as PATH. A TIFF with more than 8 bits per
pixel is scaled to 8 bits. The grey window for this scaling is the same as for hashing, so that bright areas are not
clipped to white. Every image is turned upright, as viewers show it. If DIR already contains a different file with the
same name, Twinscope keeps that file, and the name of the new JPEG gets a number. DIR can be inside PATH. PATH must not
be DIR or a folder inside DIR, because Twinscope treats all files in DIR as results.

Example: twinscope convert tiffs/ --out jpegs/
"""

from __future__ import annotations

import argparse
from pathlib import Path

from twinscope_client.cli.console import DONE, FAILED, PARTLY, progress, say, say_some

HELP = "convert images to JPEG"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand to the parser."""
    parser.add_argument("paths", nargs="+", metavar="PATH", help="image or folder")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="output folder for the JPEGs")
    parser.add_argument(
        "--quality", type=int, default=100, metavar="N", help="JPEG quality, 1 to 100 (default: %(default)s)"
    )
    parser.set_defaults(parser=parser)


def run(parsed: argparse.Namespace) -> int:
    """Run the subcommand, and return the exit code."""
    if not 1 <= parsed.quality <= 100:
        parsed.parser.error(f"--quality must be 1 to 100, got {parsed.quality}")
    from twinscope_indexer.indexing.run import count_images

    from twinscope_client.conversion import convert

    with progress("converting", lambda: count_images(parsed.paths)) as step:
        report = convert(parsed.paths, parsed.out, quality=parsed.quality, progress=lambda _: step())
    counts = report.counts
    say(f"{counts['written']} JPEGs written to {parsed.out}, {counts['kept']} were already there.")
    say_some(
        f"{counts['failed']} images could not be converted:",
        [f"{path}: {reason}" for path, reason in report.failures], counts["failed"], "not listed here",
    )  # fmt: skip
    if counts["failed"]:
        return PARTLY if counts["written"] + counts["kept"] else FAILED
    return DONE
