"""What an image may claim: the pixel budget, and how far Deflate can shrink pixels."""

from __future__ import annotations

from twinscope_indexer.errors import ImageError

DEFLATE_RATIO = 1032
"""Deflate cannot shrink anything further than this (zlib, "Technical Details": the 1032:1 limit)."""


_MOST_SIDE = 1_000_000  # resampling takes up to 128 bytes a pixel of the long side, however narrow the image is


def check_budget(name: str, width: int, height: int, budget: int) -> None:
    """Refuse an image with more pixels than the budget, or with a side of more than a million.

    Raises
    ------
    ImageError
        ``too_large``.
    """
    if width * height > budget:
        raise ImageError(
            name,
            "too_large",
            f"{width} x {height} pixels are more than the budget of {budget}; raise the pixel budget if this is real",
        )
    if max(width, height) > _MOST_SIDE:
        raise ImageError(
            name, "too_large", f"{width} x {height} pixels: sides of more than {_MOST_SIDE:,} are no micrograph's"
        )
