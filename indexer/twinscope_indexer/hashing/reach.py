"""The reach: which frames of a reference are indexed, and which are searched."""

from typing import Final, Literal, get_args

Reach = Literal["frame", "views", "windows"]
"""Which frames of a reference are indexed: the whole image alone; also views without an info bar; also windows of the
field."""

REACHES: Final[tuple[Reach, ...]] = get_args(Reach)
"""All reaches; each includes those before it."""
