"""Known pages: which image of a store is a page of a file, if the file has become a stack, or is a stack no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection


def counterpart(page: int, numbers: tuple[int, ...], known: Collection[int]) -> int | None:
    """Return the known page that a page of a file continues, or None if the page is new.

    A store that was made before stacks were read page by page contains the first page of a stack as the whole file. The
    first page of the stack therefore continues the whole file, and keeps its id. The reverse is also true.

    Parameters
    ----------
    page : int
        Number of the page, or 0 for a file that is one image.
    numbers : tuple of int
        Numbers of all pages of the file; ``(0,)`` for a file that is one image.
    known : collection of int
        Numbers of the pages of the file that the store contains.
    """
    if page in known:
        return page
    if page != numbers[0] or not known:
        return None
    if page == 0:
        return min(known)
    return 0 if 0 in known else None
