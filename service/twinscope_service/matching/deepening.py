"""Repeated searches with more results, while excluded results take the first positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_Found = TypeVar("_Found")

_FACTOR: Final = 4
"""Each search asks for this many times as many results as the previous one."""


def deepening(search: Callable[[int], list[_Found]], first: int, most: int) -> Iterator[list[_Found]]:
    """Search for more and more results until everything is found or the caller stops.

    Parameters
    ----------
    search : callable
        Takes a number and returns at most that many results, nearest first.
    first : int
        Number of results of the first search.
    most : int
        After a search for at least this many results, no other search follows.

    Yields
    ------
    list
        The results of each search; each list begins with the results of the previous search.
    """
    depth = first
    while True:
        found = search(depth)
        yield found
        if len(found) < depth or depth >= most:
            return
        depth *= _FACTOR
