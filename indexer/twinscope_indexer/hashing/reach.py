"""The reach of a store or a search: which frames of a reference are indexed, or which frames are searched."""

from typing import Final, Literal, get_args

Reach = Literal["frame", "views", "windows"]
"""The frames of a reference that are indexed. ``frame``: only the whole image. ``views``: also views without an info
bar. ``windows``: also views, and windows of the field."""

REACHES: Final[tuple[Reach, ...]] = get_args(Reach)
"""All values of the reach, in ascending order. Each value includes the frames of the values before it."""
