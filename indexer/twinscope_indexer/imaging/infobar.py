"""Maximum height of the info bar that microscopes draw at the bottom of an image."""

from __future__ import annotations

from typing import Final

MAX_HEIGHT: Final = 0.14
"""Maximum height of an info bar, as a share of the height of the image. The highest info bars of real micrographs have
this height."""

_EDGE: Final = 0.01
"""Height of the strip above an info bar, as a share of the height of the image. The edge of the info bar, or smoothing
of the image, can affect this strip."""


def field_rows(rows: int) -> int:
    """Return the number of rows above the highest possible info bar.

    The minimum is 1, except for an image without rows.
    """
    return round(rows * (1 - MAX_HEIGHT - _EDGE)) or min(rows, 1)
