"""Searching deeper, while what may not be answered with takes the first places."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_Found = TypeVar("_Found")

_FACTOR: Final = 4
"""Each search goes so many times as deep as the one before."""


def deepening(search: Callable[[int], list[_Found]], first: int, most: int) -> Iterator[list[_Found]]:
    """Search deeper and deeper, until everything is found or the caller has enough.

    Parameters
    ----------
    search : callable
        Returns at most as many results as it is given, nearest first.
    first : int
        Results of the first search.
    most : int
        After a search for this many or more no deeper one follows.

    Yields
    ------
    list
        The results of each search; each begins with those of the one before.
    """
    depth = first
    while True:
        found = search(depth)
        yield found
        if len(found) < depth or depth >= most:
            return
        depth *= _FACTOR
