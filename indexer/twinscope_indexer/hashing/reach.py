"""Reach: which frames of a reference are indexed, and which are searched."""

from typing import Final, Literal, get_args

Reach = Literal["frame", "views", "windows"]
"""Which frames of a reference are indexed: the image alone; what is left without an info bar; parts of the field."""

REACHES: Final[tuple[Reach, ...]] = get_args(Reach)
"""All, each includes those before it."""
