"""Decoding of microscope image files to 8-bit grey pixels and a description.

The first bytes of a file, never its name, decide whether it is TIFF (also BigTIFF), JPEG, PNG or BMP. Images of 8 bits
are converted exactly as by Pillow's ``convert("L")``, deeper ones through an explicit window (see
`twinscope_indexer.imaging.window`). Every fault of a file is reported by one exception, `ImageError`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twinscope_indexer.errors import ImageError
from twinscope_indexer.imaging.bmp import read_bmp
from twinscope_indexer.imaging.jpeg import read_jpeg
from twinscope_indexer.imaging.png import read_png
from twinscope_indexer.imaging.raster import Raster
from twinscope_indexer.imaging.sniffing import Format, ImageFile, Source, opened
from twinscope_indexer.imaging.tiff import read_tiff
from twinscope_indexer.imaging.window import Window

PIXEL_BUDGET = 300_000_000
"""Maximum number of pixels (width times height) to decode, unless the caller sets another."""


@dataclass(frozen=True, slots=True, eq=False)
class GreyImage:
    """A decoded image, as it is hashed, with a description of its file."""

    pixels: NDArray[np.uint8]
    """uint8, shape (height, width), C-contiguous; 0 is black."""
    format: Format
    """``TIFF``, ``JPEG``, ``PNG`` or ``BMP``."""
    mode: str
    """Pillow's mode for the pixels in the file: ``L``, ``RGB``, ``P``, ``I;16``, ``F``, ``LA``, ``RGBA``..."""
    bits: int
    """Bits per sample in the file, or per index of a palette image."""
    width: int
    height: int
    pages: int
    """Number of pages of a TIFF file or of frames of an animated PNG; else 1."""
    page: int
    """Index of the page that was decoded."""
    window: Window | None
    """The values that became 0 and 255 if the samples had more than 8 bits, were signed or floating point, else None.
    Descending if the file counts from white to black; equal if all values are equal."""


def read_image(source: Source, *, name: str | None = None, pixel_budget: int = PIXEL_BUDGET) -> GreyImage:
    """Decode an image to 8-bit grey.

    One image of a file is read: the first page of a TIFF file that holds an image (no mask, no reduced copy), the first
    plane of a volume or of separate channels without a colour space, the first frame of an animation. Alpha is ignored.
    CMYK is converted as by Pillow. TIFF images are turned upright according to their Orientation tag; Exif orientation
    in JPEG and PNG files is ignored. Pillow does both in the same way.

    Parameters
    ----------
    source : str, path-like, bytes or binary file
        A path, the content of a file, or an open file, which is read from its beginning whatever its position, and is
        left open at an arbitrary position.
    name : str, optional
        Name of the image in errors, for example of an archive member; by default its path.
    pixel_budget : int
        Maximum number of pixels to decode. Larger images, and images with a side of more than a million pixels, are
        refused before memory is allocated.

    Returns
    -------
    GreyImage

    Raises
    ------
    ImageError
        For every fault; its `fault` is the kind. The content of a file raises nothing else.
    """
    raster, called = _read(source, name, pixel_budget)
    try:
        pixels, window = raster.grey()
    except ValueError as error:
        raise ImageError(called, "damaged", f"the image has no usable values: {error}") from error
    height, width = pixels.shape
    return GreyImage(pixels, raster.format, raster.mode, raster.bits, width, height, raster.pages, raster.page, window)


def read_pil_image(source: Source, *, name: str | None = None, pixel_budget: int = PIXEL_BUDGET) -> Image.Image:
    """Decode an image for display: for reviews and for conversion to JPEG.

    The parameters are those of `read_image`.

    Returns
    -------
    PIL.Image.Image
        Mode ``L`` for grey content (the pixels of `read_image`), ``RGB`` for colour; deep colour is reduced to
        8 bits by one window for all channels.

    Raises
    ------
    ImageError
        As for `read_image`.
    """
    raster, called = _read(source, name, pixel_budget)
    try:
        return raster.to_pil()
    except ValueError as error:
        raise ImageError(called, "damaged", f"the image has no usable values: {error}") from error


def _read(source: Source, name: str | None, budget: int) -> tuple[Raster, str]:
    with opened(source, name) as file:
        return _DECODERS[file.format](file, budget), file.name


_DECODERS: dict[Format, Callable[[ImageFile, int], Raster]] = {
    "TIFF": read_tiff,
    "JPEG": read_jpeg,
    "PNG": read_png,
    "BMP": read_bmp,
}
