"""The option ``--max-megapixels`` of the commands that read images."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from twinscope_indexer.imaging.limits import BUDGET_VARIABLE, MEGAPIXEL, MOST_MEGAPIXELS, PIXEL_BUDGET

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

BUDGET: Final = "image_megapixels"
"""Attribute of the parsed arguments. The command ``serve`` has its own setting ``max_megapixels``."""


def add_budget_option(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--max-megapixels`` to a parser."""
    parser.add_argument(
        "--max-megapixels", type=int, metavar="N", dest=BUDGET,
        help="maximum size of an image, in millions of pixels; a larger image is not decoded (default: the environment "
        f"variable {BUDGET_VARIABLE}, or 'max_megapixels' in twinscope.toml, or {PIXEL_BUDGET // MEGAPIXEL})",
    )  # fmt: skip


@contextmanager
def pixel_budget(parsed: argparse.Namespace) -> Iterator[None]:
    """Set the pixel budget of this process, and of the processes that it starts, to the value of the option.

    If the value is out of range, the command ends with exit code 2.
    """
    value = getattr(parsed, BUDGET, None)
    if value is None:
        yield
        return
    if not 1 <= value <= MOST_MEGAPIXELS:
        parsed.parser.error(f"--max-megapixels must be at least 1 and at most {MOST_MEGAPIXELS}, got {value}")
    before = os.environ.get(BUDGET_VARIABLE)
    os.environ[BUDGET_VARIABLE] = str(value)
    try:
        yield
    finally:
        if before is None:
            del os.environ[BUDGET_VARIABLE]
        else:
            os.environ[BUDGET_VARIABLE] = before
