"""Repetition of a search with more and more results, because the nearest results may be excluded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_Found = TypeVar("_Found")

_FACTOR: Final = 4
"""Factor by which the number of requested results increases from one search to the next."""


def deepening(search: Callable[[int], list[_Found]], first: int, most: int) -> Iterator[list[_Found]]:
    """Repeat a search with more and more results until all results are found or the caller stops.

    Parameters
    ----------
    search : callable
        Function that takes a number, and returns at most this number of results; the nearest result is first.
    first : int
        Number of results that the first search requests.
    most : int
        If a search requests at least this number of results, the search is not repeated.

    Yields
    ------
    list
        Results of each search. Each list begins with the results of the previous search.
    """
    depth = first
    while True:
        found = search(depth)
        yield found
        if len(found) < depth or depth >= most:
            return
        depth *= _FACTOR
