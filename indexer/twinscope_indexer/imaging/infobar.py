"""The info bar that microscopes draw at the bottom of a picture: how much of the height it may take."""

from __future__ import annotations

from typing import Final

MAX_HEIGHT: Final = 0.14
"""Share of the height of the picture; the highest bars of real micrographs take as much."""

_EDGE: Final = 0.01
"""Share of the height above a bar into which its edge, and what smooths pictures, may reach."""


def field_rows(rows: int) -> int:
    """Count the rows of a picture, from the top, that no info bar covers; at least one of one or more."""
    return round(rows * (1 - MAX_HEIGHT - _EDGE)) or min(rows, 1)
