"""Pages: each page of a stack that is a picture is an image of its own."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, Literal

from twinscope_indexer.errors import ImageError
from twinscope_indexer.hashing.hashability import Unhashable
from twinscope_indexer.hashing.perceptual import hash_pixels
from twinscope_indexer.imaging.pages import stack_pages
from twinscope_indexer.imaging.reader import read_image
from twinscope_indexer.sources.location import paged, split_page

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    from twinscope_indexer.imaging.reader import GreyImage
    from twinscope_indexer.imaging.sniffing import Source
    from twinscope_indexer.sources.corpus import Item
    from twinscope_indexer.store.catalog.catalog import Catalog

Pages = Literal["all", "first"]
"""Which pages of a stack are images: each page that is a picture (``all``), or only the first such page (``first``)."""

PAGES: Final[tuple[Pages, ...]] = ("all", "first")
_STACK_SUFFIXES: Final = frozenset({".tif", ".tiff"})
"""Suffixes of images in archives that can be stacks. An image with another suffix is not unpacked to look for pages."""


def settled_pages(catalog: Catalog, pages: Pages | None) -> Pages:
    """Return which pages of a stack are images of a store. If `pages` is None, the value of the last run is used."""
    return pages or ("first" if catalog.meta("pages") == "first" else "all")


def pages_of(location: str | os.PathLike[str]) -> list[str]:
    """Return the locations of the pages of an image file, as a search accepts them.

    Parameters
    ----------
    location : str or path-like
        Path of an image file, or the location of one page of a stack, for example ``stack.tif#page=3``.

    Returns
    -------
    list of str
        For a stack, one location for each page that is a picture, for example ``stack.tif#page=1``. Otherwise, only
        `location`, also if the file cannot be read.
    """
    path, page = split_page(location)
    if page:
        return [paged(path, page)]
    try:
        return [paged(path, number) for number in stack_pages(path)] or [path]
    except ImageError:
        return [path]


def page_items(items: Iterable[Item], pages: Pages) -> Iterator[Item]:
    """Replace each stack by its pages, and yield all other images unchanged.

    Only the directories of a stack are read. A file that cannot be read is yielded unchanged; reading it reports the
    fault.

    Parameters
    ----------
    items : iterable of Item
    pages : {"all", "first"}
        With ``first``, all images are yielded unchanged.

    Yields
    ------
    Item
    """
    for item in items:
        if pages == "first" or item.page:
            yield item
        else:
            yield from [replace(item, page=number) for number in _pages_of_item(item)] or [item]


def _pages_of_item(item: Item) -> tuple[int, ...]:
    if item.member is not None and PurePosixPath(item.member).suffix.lower() not in _STACK_SUFFIXES:
        return ()
    try:
        if item.member is None:
            return stack_pages(item.file)
        with item.open() as content:
            return stack_pages(content.stream, name=content.name)
    except ImageError:
        return ()


def first_hashable_page(source: Source, *, name: str | None = None, pixel_budget: int | None = None) -> int:
    """Return the number of the page that stands for a whole image file: the first page of a stack that can be hashed.

    Parameters
    ----------
    source, name, pixel_budget
        As for `read_image`.

    Returns
    -------
    int
        The number, or 0 for the image that `read_image` reads by default. The number is also 0 if no page of the stack
        can be hashed.

    Raises
    ------
    ImageError
        If the file cannot be opened or is not an image, or if its first picture cannot be read.
    """
    numbers = stack_pages(source, name=name, pixel_budget=pixel_budget)
    if not numbers or _is_hashable(read_image(source, name=name, pixel_budget=pixel_budget)):
        return 0
    for number in numbers[1:]:
        with suppress(ImageError):  # the pages after a damaged page can still be read
            if _is_hashable(read_image(source, name=name, pixel_budget=pixel_budget, page=number)):
                return number
    return 0


def _is_hashable(image: GreyImage) -> bool:
    return not isinstance(hash_pixels(image.pixels), Unhashable)
