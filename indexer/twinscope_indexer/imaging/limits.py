"""Limits on the size of an image: the pixel budget, the compression ratio of Deflate, and the size of a whole file."""

from __future__ import annotations

from twinscope_indexer.errors import ImageError

DEFLATE_RATIO = 1032
"""Maximum compression ratio of Deflate (zlib, "Technical Details": the 1032:1 limit)."""

_MOST_WHOLE = 2 << 30  # bytes; a file of a format without strips and tiles is read into memory as a whole
_MOST_SIDE = 1_000_000  # pixels; even for a narrow image, resampling needs up to 128 bytes per pixel of the long side


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
            f"{width} x {height} pixels exceed the budget of {budget}; raise the pixel budget if the size is right",
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
