"""Decoding of microscope image files to 8-bit grey pixels and a description.

The format of a file (TIFF, BigTIFF, JPEG, PNG, BMP, WebP or JPEG 2000) is detected from the first bytes of the file.
The file name is not used. For images of 8 bits, the result is exactly the same as from Pillow's ``convert("L")``.
Images of more than 8 bits are converted with an explicit window (see `twinscope_indexer.imaging.window`). Every fault
of a file raises the exception `ImageError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twinscope_indexer.compute.scratch import ScratchSpaceError
from twinscope_indexer.errors import ImageError
from twinscope_indexer.imaging.bmp import read_bmp
from twinscope_indexer.imaging.jpeg import read_jpeg
from twinscope_indexer.imaging.jpeg2000 import read_jpeg2000
from twinscope_indexer.imaging.limits import PIXEL_BUDGET as PIXEL_BUDGET
from twinscope_indexer.imaging.limits import default_pixel_budget, require_divisible
from twinscope_indexer.imaging.png import read_png
from twinscope_indexer.imaging.raster import Raster
from twinscope_indexer.imaging.sniffing import Format, ImageFile, Source, opened
from twinscope_indexer.imaging.tiff import read_tiff, read_tiff_page
from twinscope_indexer.imaging.webp import read_webp
from twinscope_indexer.imaging.window import Window


@dataclass(frozen=True, slots=True, eq=False)
class GreyImage:
    """A decoded image in the form that Twinscope hashes, with a description of the image file."""

    pixels: NDArray[np.uint8]
    """Grey levels: uint8, shape (height, width), C-contiguous; 0 is black."""
    format: Format
    """Format of the file: ``TIFF``, ``JPEG``, ``PNG``, ``BMP``, ``WebP`` or ``JPEG 2000``."""
    mode: str
    """Pillow's mode for the pixels in the file: ``L``, ``RGB``, ``P``, ``I;16``, ``F``, ``LA``, ``RGBA``..."""
    bits: int
    """Bits per sample in the file. For a palette image: bits per palette index."""
    width: int
    height: int
    pages: int
    """Number of pages of a TIFF file, or number of frames of an animated PNG or WebP file. For other files, it is 1."""
    page: int
    """Index of the page that was decoded, counted from 0."""
    window: Window | None
    """The two sample values that were mapped to 0 and 255. If lower sample values are brighter in the file, the first
    value is higher than the second value. If all samples are equal, the two values are equal. The window is None if the
    samples are unsigned integers of at most 8 bits."""


def read_image(source: Source, *, name: str | None = None, pixel_budget: int | None = None, page: int = 0) -> GreyImage:
    """Decode an image to 8-bit grey.

    Only one image of a file is read. By default, this is the first page with an image of a TIFF file. Pages with a mask
    or a reduced copy are skipped. If the image is a volume, only the first plane is read. If an image without a colour
    space has separate channels, only the first channel is read. In an animation, only the first frame is read. Alpha is
    ignored. CMYK is converted in the same way as in Pillow. TIFF images are turned upright according to the Orientation
    tag. The Exif orientation of JPEG and PNG files is ignored. Pillow treats the orientation of TIFF, JPEG and PNG
    files in the same way.

    Parameters
    ----------
    source : str, path-like, bytes or binary file
        A path, the content of a file, or an open file. An open file is always read from its beginning, and is not
        closed. After the call, the position in the open file is undefined.
    name : str, optional
        Name of the image in error messages, for example the name of an archive member; by default, the path.
    pixel_budget : int, optional
        Maximum number of pixels to decode. Images with more pixels, or with a side of more than a million pixels, are
        refused before memory is allocated. By default, the environment variable ``TWINSCOPE_MAX_MEGAPIXELS`` gives the
        maximum in millions of pixels. Without this variable, it is 300 million pixels.
    page : int
        Number of a page of a TIFF file, counted from 1. All pages are counted, also masks and reduced copies. With 0,
        the first page with an image is read. `twinscope_indexer.imaging.pages` lists the pages that are pictures.

    Returns
    -------
    GreyImage

    Raises
    ------
    ImageError
        If the file has any fault. The attribute `fault` of the exception is the kind of the fault. Invalid content of a
        file never causes any other exception.
    SettingsError
        If the value of the environment variable is not a number that can be used.
    """
    raster, called = _read(source, name, pixel_budget, page)
    with _converting(called):
        pixels, window = raster.grey()
    height, width = pixels.shape
    return GreyImage(pixels, raster.format, raster.mode, raster.bits, width, height, raster.pages, raster.page, window)


def read_pil_image(
    source: Source, *, name: str | None = None, pixel_budget: int | None = None, page: int = 0
) -> Image.Image:
    """Decode an image for display: for reviews and for conversion to JPEG.

    The parameters are the same as for `read_image`.

    Returns
    -------
    PIL.Image.Image
        For colour, an image of mode ``RGB``. For grey content, an image of mode ``L`` with the same pixels as from
        `read_image`. Colour of more than 8 bits is reduced to 8 bits with one window for all channels.

    Raises
    ------
    ImageError, SettingsError
        As for `read_image`.
    """
    raster, called = _read(source, name, pixel_budget, page)
    with _converting(called):
        return raster.to_pil()


@contextmanager
def _converting(name: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ImageError(name, "damaged", f"the image has no usable values: {error}") from error
    except ScratchSpaceError as error:
        raise ImageError(name, "too_large", str(error)) from error


def _read(source: Source, name: str | None, pixel_budget: int | None, page: int) -> tuple[Raster, str]:
    budget = default_pixel_budget() if pixel_budget is None else pixel_budget
    with opened(source, name) as file:
        if file.format == "TIFF":
            return (read_tiff_page(file, budget, page) if page else read_tiff(file, budget)), file.name
        if page > 1:
            raise ImageError(file.name, "missing", f"a {file.format} file has no page {page}")
        require_divisible(file.name, file.size, file.format)
        return _DECODERS[file.format](file, budget), file.name


_DECODERS: dict[Format, Callable[[ImageFile, int], Raster]] = {
    "TIFF": read_tiff,
    "JPEG": read_jpeg,
    "PNG": read_png,
    "BMP": read_bmp,
    "WebP": read_webp,
    "JPEG 2000": read_jpeg2000,
}
