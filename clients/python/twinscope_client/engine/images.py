"""Conversion of image files, arrays and PIL images to grey pixels."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from twinscope_indexer.errors import ImageError
from twinscope_indexer.imaging.raster import Raster
from twinscope_indexer.imaging.reader import read_image
from twinscope_indexer.indexing.pages import first_hashable_page
from twinscope_indexer.metadata.reader import InstrumentMetadata, acquisition_of
from twinscope_indexer.sources.location import paged, split_page


@dataclass(frozen=True, slots=True)
class DecodedFile:
    """An image file and its decoded pixels, so that a search does not decode the file again.

    Attributes
    ----------
    path : Path
        Path of the file. The file is uploaded if a server needs the full-size image.
    pixels : ndarray of uint8, shape (height, width)
        The grey pixels of the file, as returned by `grey_pixels`.
    page : int
        Number of the page if the image is a page of a stack, counted from 1; otherwise 0. The pixels of a page are
        uploaded instead of the file.
    """

    path: Path
    pixels: NDArray[np.uint8]
    page: int = 0


def grey_pixels(image: Any) -> NDArray[np.uint8]:
    """Read an image, and return its grey pixels with 8 bits per pixel.

    Parameters
    ----------
    image : path, bytes, binary file, ndarray or PIL image
        An image file, a page of a stack (``stack.tif#page=3``), or an array of pixels with the shape (height, width) or
        (height, width, 3 or 4). For a stack without a page, the first page that can be hashed is read. Pixels with more
        than 8 bits are scaled to 8 bits. The grey window is the same as for the pixels of a TIFF; see
        `twinscope_indexer.imaging.window`.

    Returns
    -------
    ndarray of uint8, shape (height, width)

    Raises
    ------
    ImageError
        If the file cannot be read, or if the array has a shape or a data type that images cannot have.
    TypeError
        If the value is not an image file, an array or a PIL image.
    """
    if isinstance(image, DecodedFile):
        return image.pixels
    if not can_hold_an_image(image):
        msg = f"an image is a path, bytes, an open binary file, an array or a PIL image, not {type(image).__name__}"
        raise TypeError(msg)
    if isinstance(image, Image.Image):
        deep = image.mode in {"F", "I"} or image.mode.startswith("I;")
        return _of_array(np.asarray(image)) if deep else np.array(image.convert("L"))
    if isinstance(image, np.ndarray):
        return _of_array(image)
    if isinstance(image, (str, os.PathLike)):
        path, page = split_page(image)
        return read_image(path, name=paged(path, page), page=page or first_hashable_page(path)).pixels
    return read_image(image, page=first_hashable_page(image)).pixels


def is_page(image: object) -> bool:
    """Return whether a value is the location of one page of a stack, for example ``stack.tif#page=3``."""
    return isinstance(image, (str, os.PathLike)) and split_page(image)[1] > 0


def can_hold_an_image(image: object) -> bool:
    """Return whether the type of a value is one of the types that `grey_pixels` accepts."""
    return isinstance(image, (str, bytes, os.PathLike, np.ndarray, Image.Image)) or hasattr(image, "seek")


def acquisition(image: Any, given: InstrumentMetadata | None = None) -> InstrumentMetadata | None:
    """Return the instrument metadata of an image, in uniform units, or None if the image has no metadata.

    Parameters
    ----------
    image : path, bytes, binary file, ndarray or PIL image
        The image, in a form that `grey_pixels` accepts. An array or a PIL image has no metadata.
    given : InstrumentMetadata, optional
        Metadata to use instead of the metadata in the file.

    Raises
    ------
    ImageError
        If the file cannot be read.
    """
    if given is not None:
        return given.normalised or None
    if isinstance(image, DecodedFile):
        return acquisition_of(image.path)
    if isinstance(image, (str, os.PathLike)):
        return acquisition_of(split_page(image)[0])
    return None if isinstance(image, (np.ndarray, Image.Image)) else acquisition_of(image)


def _of_array(array: NDArray[Any]) -> NDArray[np.uint8]:
    colour = array.ndim == 3 and array.shape[2] in (3, 4)
    if not (array.ndim == 2 or colour) or array.size == 0 or array.dtype.kind not in "buif":
        msg = (
            "an image array has shape (height, width) or (height, width, 3 or 4) and real numbers; "
            f"got {array.dtype} of shape {array.shape}"
        )
        raise ImageError("array", "unsupported", msg)
    content = array[..., :3] if colour else array  # the alpha channel is ignored
    if content.dtype.kind == "b":
        content = content.astype(np.uint8) * 255
    deep = content.dtype != np.uint8
    whole = np.ascontiguousarray(content, content.dtype.newbyteorder("="))
    mode = "RGB" if colour else "L"
    grey, _ = Raster(whole if deep else Image.fromarray(whole), "TIFF", mode, 8 * whole.itemsize).grey()
    return grey
