"""The pages of an image file that are pictures of their own.

Only TIFF files can have several such pages. A file with several such pages is called a stack.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twinscope_indexer.compute import scratch
from twinscope_indexer.errors import ImageError
from twinscope_indexer.imaging.reader import read_image
from twinscope_indexer.imaging.sniffing import Source, opened
from twinscope_indexer.imaging.tiff_pages import Picture, find_pictures

_MOST_COMPARED = 1 << 24  # maximum number of pixels of a page that are compared with its possible reduced copy
_SAME_PICTURE = 0.9  # correlation of a picture and its reduced copy; pages of different fields have at most about 0.5


def stack_pages(source: Source, *, name: str | None = None, pixel_budget: int | None = None) -> tuple[int, ...]:
    """Return the numbers of the pages of a stack that are pictures of their own.

    Masks, pages with a side of less than 16 pixels, pages that are marked as reduced, and reduced copies of the first
    picture without such a mark are left out. If a stack is cut off, the numbers include the first missing page, so that
    reading this page reports the fault.

    Parameters
    ----------
    source : str, path-like, bytes or binary file
        As for `read_image`.
    name : str, optional
        Name of the image in error messages.
    pixel_budget : int, optional
        Maximum number of pixels to decode, for the comparison of a page with its possible reduced copy. The default is
        the same as for `read_image`.

    Returns
    -------
    tuple of int
        Numbers of the pages, counted from 1, in ascending order. Empty if the file has fewer than two pictures and is
        therefore not a stack.

    Raises
    ------
    ImageError
        If the file cannot be opened or is not an image.
    """
    with opened(source, name) as file:
        if file.format != "TIFF":
            return ()
        found = find_pictures(file)
        if len(found) < 2:
            return ()
        first, suspects = found[0], {one.number for one in found if one.width and one.may_reduce(found[0])}
        copies = _reduced_copies(source, first, suspects, pixel_budget) if suspects else set()
    kept = tuple(one.number for one in found if one.number not in copies)
    return kept if len(kept) > 1 else ()


def _reduced_copies(source: Source, first: Picture, suspects: set[int], pixel_budget: int | None) -> set[int]:
    """Return the numbers of the readable pages that show the same as the first picture."""
    try:
        whole = read_image(source, page=first.number, pixel_budget=pixel_budget).pixels
    except ImageError:
        return set()
    copies = set()
    for number in suspects:
        try:
            pixels = read_image(source, page=number, pixel_budget=pixel_budget).pixels
        except ImageError:
            continue
        if _correlation(*_sampled(pixels, _reduced(whole, pixels.shape))) > _SAME_PICTURE:
            copies.add(number)
    return copies


def _reduced(pixels: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Reduce a grey image to another height and width by averaging. A scratch array is reduced in bands of rows."""
    height, width = shape
    reduced = scratch.empty((height, width), np.uint8)
    step = len(pixels) / height
    rows = max(int(scratch.STEP / step / pixels.shape[1]), 1) if scratch.is_scratch(pixels) else height
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        top, bottom = int(start * step), min(math.ceil(stop * step), len(pixels))
        box = (0, start * step - top, pixels.shape[1], min(stop * step - top, bottom - top))
        band = Image.fromarray(pixels[top:bottom])
        reduced[start:stop] = band.resize((width, stop - start), Image.Resampling.BOX, box)
        scratch.release(pixels, reduced)
    return reduced


def _sampled(*images: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Return every n-th pixel of images of one size. If the images are small enough, n is 1."""
    step = math.ceil(math.sqrt(images[0].size / _MOST_COMPARED))
    return [scratch.every(step, image)[:, ::step] for image in images]


def _correlation(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return the correlation of two grey images of one size, from -1 to 1; 0 if an image has only one grey value."""
    a, b = one - one.mean(), other - other.mean()
    length = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / length if length else 0.0
