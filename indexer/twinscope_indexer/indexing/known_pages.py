"""Known pages: the images of a file that a store contains, even if a single image has become a stack or vice versa."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twinscope_indexer.hashing.perceptual import RECIPE

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from twinscope_indexer.indexing.pages import Pages
    from twinscope_indexer.sources.corpus import Item
    from twinscope_indexer.store.catalog.catalog import Record


def counterpart(page: int, numbers: tuple[int, ...], known: Collection[int]) -> int | None:
    """Return the known page that a page of a file continues, or None if the page is new.

    A store that was made before stacks were read page by page contains the first page of a stack as the whole file. The
    first page of the stack therefore continues the whole file, and keeps its id. In the same way, a file that is no
    longer a stack continues the lowest page of the stack.

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


def same_file(known: Record, item: Item) -> bool:
    """Check whether a file has the size and time in its record; such a file need not be read."""
    return (known.size, known.mtime_ns, known.recipe) == (item.size, item.mtime_ns, RECIPE)


def is_complete(known: Mapping[int, Record], item: Item, pages: Pages) -> bool:
    """Check whether the store contains all images of a file, and whether the file is unchanged.

    Parameters
    ----------
    known : mapping of int to Record
        Images of the file that the store contains, with the numbers of their pages as keys.
    item : Item
    pages : {"all", "first"}
        Which pages of a stack are images of the store.
    """
    if not known or not all(same_file(record, item) for record in known.values()):
        return False
    first = next(iter(known.values()))
    if item.page or first.format != "TIFF":
        return True
    return list(known) == [0] if pages == "first" else first.pages == len(known)
