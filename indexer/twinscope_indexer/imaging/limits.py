"""Limits on the size of an image: the pixel budget, the compression ratio of Deflate, and the size of a whole file."""

from __future__ import annotations

import math
import os
from typing import Final

from twinscope_indexer.errors import ImageError, SettingsError

BUDGET_VARIABLE: Final = "TWINSCOPE_MAX_MEGAPIXELS"
"""Name of the environment variable with the default pixel budget, in millions of pixels."""

PIXEL_BUDGET: Final = 300_000_000
"""Pixel budget without the environment variable: the maximum number of pixels (width times height) of an image."""

MEGAPIXEL: Final = 1_000_000
MOST_MEGAPIXELS: Final = 1_000_000
"""Maximum pixel budget in millions of pixels. No image can be larger, because a side has at most a million pixels."""

DEFLATE_RATIO = 1032
"""Maximum compression ratio of Deflate (zlib, "Technical Details": the 1032:1 limit)."""

_MOST_WHOLE = 2 << 30  # bytes; a file of a format without strips and tiles is read into memory as a whole
_MOST_SIDE = 1_000_000  # pixels; even for a narrow image, resampling needs up to 128 bytes per pixel of the long side


def default_pixel_budget() -> int:
    """Return the pixel budget of this process: the value of the environment variable, or `PIXEL_BUDGET`.

    The command sets the variable for its option ``--max-megapixels``.

    Raises
    ------
    SettingsError
        If the value of the variable is not a whole number from 1 to `MOST_MEGAPIXELS`.
    """
    text = os.environ.get(BUDGET_VARIABLE, "").strip()
    if not text:
        return PIXEL_BUDGET
    if not text.isdecimal() or len(text) > 20 or not 1 <= int(text) <= MOST_MEGAPIXELS:
        msg = (
            f"environment variable {BUDGET_VARIABLE}: the maximum size of an image in millions of pixels must be a "
            f"whole number from 1 to {MOST_MEGAPIXELS}, got {text[:40]!r}"
        )
        raise SettingsError(msg)
    return int(text) * MEGAPIXEL


def check_budget(name: str, width: int, height: int, budget: int) -> None:
    """Raise an error if an image has more pixels than the pixel budget allows, or a side of more than a million pixels.

    Raises
    ------
    ImageError
        The fault is ``too_large``.
    """
    if width * height > budget:
        raise ImageError(
            name,
            "too_large",
            f"{width} x {height} pixels exceed the budget of {budget / MEGAPIXEL:g} megapixels; if the size is right, "
            f"raise the budget to {math.ceil(width * height / MEGAPIXEL)} with the option --max-megapixels of the "
            f"command or the server, or with the environment variable {BUDGET_VARIABLE}",
        )
    if max(width, height) > _MOST_SIDE:
        raise ImageError(name, "too_large", f"{width} x {height} pixels: a side of more than {_MOST_SIDE:,} is refused")


def require_divisible(name: str, size: int, kind: str) -> None:
    """Raise an error if a file of more than 2 GiB is not a TIFF file. Only TIFF files can be read in parts.

    Raises
    ------
    ImageError
        The fault is ``too_large``.
    """
    if size > _MOST_WHOLE:
        raise ImageError(
            name,
            "too_large",
            f"the file has {size} bytes; a {kind} file is read as a whole, so the limit is {_MOST_WHOLE} bytes. Only "
            "TIFF files may be larger",
        )
