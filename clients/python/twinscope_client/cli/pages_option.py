"""The option ``--pages`` of the commands that read images."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_pages_option(parser: argparse.ArgumentParser, default: str | None = "all", note: str = " (default)") -> None:
    """Add the option ``--pages`` to a parser.

    Parameters
    ----------
    parser : ArgumentParser
    default : str, optional
        Value without the option; None if the store determines the value.
    note : str
        Text after the description of the value ``all``.
    """
    parser.add_argument(
        "--pages",
        choices=("all", "first"),
        default=default,
        help="pages of a TIFF stack that are images. The value 'first' uses only the first page that is a picture, for "
        "stacks whose pages are planes of one volume. The value 'all' uses each page that is a picture as an image of "
        f"its own, with a name such as F.tif#page=3{note}",
    )
