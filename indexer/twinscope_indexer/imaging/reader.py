"""Any microscope's image file -> 8-bit grey pixels, and what was decoded.

TIFF (also BigTIFF), JPEG, PNG and BMP are told apart by their first bytes, never by their names. Pictures of 8 bits
come out exactly as Pillow's ``convert("L")`` has them; deeper ones through an explicit window, see
`twinscope_indexer.imaging.window`. Whatever is wrong with a file is told by one exception, `ImageError`.
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
"""Most pixels (width times height) that are decoded unless the caller asks for more."""


@dataclass(frozen=True, slots=True, eq=False)
class GreyImage:
    """An image as the index sees it."""

    pixels: NDArray[np.uint8]
    """uint8, shape (height, width), C-contiguous; 0 is black."""
    format: Format
    """``TIFF``, ``JPEG``, ``PNG`` or ``BMP``."""
    mode: str
    """Pillow's name for the kind of pixels in the file: ``L``, ``RGB``, ``P``, ``I;16``, ``F``, ``LA``, ``RGBA``..."""
    bits: int
    """Bits per sample in the file (of a palette image, per index)."""
    width: int
    height: int
    pages: int
    """Pages of a TIFF file, frames of an animated PNG; else 1."""
    page: int
    """Index of the page that was decoded."""
    window: Window | None
    """The values that became 0 and 255 if the samples had more than 8 bits, were signed or floating point, else None.
    Descending if the file counts from white to black; equal if all values are."""


def read_image(source: Source, *, name: str | None = None, pixel_budget: int = PIXEL_BUDGET) -> GreyImage:
    """Decode an image to 8-bit grey.

    Of a TIFF file with several pages the first that holds a picture (no mask, no reduced copy) is read; of a volume or
    of separate channels without a colour space the first plane; of an animation the first frame. Alpha is ignored.
    CMYK is converted as Pillow does it. TIFF pictures are turned upright as their Orientation tag says, which is what
    Pillow does; Exif orientation in JPEG and PNG files is left alone, as Pillow does as well.

    Parameters
    ----------
    source : str, path-like, bytes or binary file
        A path, the content of a file, or an open file, which is read from its beginning wherever it stands, and is
        left open at an arbitrary position.
    name : str, optional
        What errors call the image, for instance an archive member; by default its path.
    pixel_budget : int
        Most pixels to decode; larger images are refused before memory is taken. So are those with a side of more than a
        million pixels.

    Returns
    -------
    GreyImage

    Raises
    ------
    ImageError
        Whatever is wrong; its `fault` tells the kind. Nothing else is raised for a file's content.
    """
    raster, called = _read(source, name, pixel_budget)
    try:
        pixels, window = raster.grey()
    except ValueError as error:
        raise ImageError(called, "damaged", f"the picture has no values: {error}") from error
    height, width = pixels.shape
    return GreyImage(pixels, raster.format, raster.mode, raster.bits, width, height, raster.pages, raster.page, window)


def read_pil_image(source: Source, *, name: str | None = None, pixel_budget: int = PIXEL_BUDGET) -> Image.Image:
    """Decode an image for people to look at: for reviews and for conversion to JPEG.

    Parameters are those of `read_image`.

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
        raise ImageError(called, "damaged", f"the picture has no values: {error}") from error


def _read(source: Source, name: str | None, budget: int) -> tuple[Raster, str]:
    with opened(source, name) as file:
        return _DECODERS[file.format](file, budget), file.name


_DECODERS: dict[Format, Callable[[ImageFile, int], Raster]] = {
    "TIFF": read_tiff,
    "JPEG": read_jpeg,
    "PNG": read_png,
    "BMP": read_bmp,
}
