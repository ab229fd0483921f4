"""The reach of a store, and the reach of a search. A reach defines which frames of the references are used."""

from typing import Final, Literal, get_args

Reach = Literal["frame", "views", "windows"]
"""The frames of a reference that are indexed. ``frame``: only the whole image. ``views``: the whole image, and views
without an info bar. ``windows``: the whole image, the views, and windows of the field."""

REACHES: Final[tuple[Reach, ...]] = get_args(Reach)
"""All values of the reach, from the smallest to the largest. A larger reach includes all frames of a smaller reach."""
