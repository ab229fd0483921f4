"""The info bar that microscopes draw at the bottom of an image: the share of the height that it can take."""

from __future__ import annotations

from typing import Final

MAX_HEIGHT: Final = 0.14
"""Maximum share of the height of the image; the highest bars of real micrographs have it."""

_EDGE: Final = 0.01
"""Share of the height above a bar that its edge, or smoothing of the image, can affect."""


def field_rows(rows: int) -> int:
    """Return the number of rows from the top that no info bar covers; at least 1, unless there are no rows."""
    return round(rows * (1 - MAX_HEIGHT - _EDGE)) or min(rows, 1)
