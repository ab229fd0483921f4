"""Decoding of TIFF files by tifffile and imagecodecs, after a check of all tags.

The check is needed because tifffile and imagecodecs trust files too much. Without the check, tifffile would read
missing strips as zeros. tifffile would also accept any width and height. tifffile reports such faults only in its log.
This module reads a file if the file contains all data of the pixels, even if the tags contain an error that does not
affect the pixels. If data of the pixels are missing, the file is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tifffile import TiffFile, TiffPage

from twinscope_indexer.compute import scratch
from twinscope_indexer.errors import ImageError
from twinscope_indexer.imaging import tiff_segments
from twinscope_indexer.imaging.raster import Raster
from twinscope_indexer.imaging.sniffing import ImageFile
from twinscope_indexer.imaging.tiff_codecs import JPEGS, OLD_JPEG
from twinscope_indexer.imaging.tiff_directories import count_directories
from twinscope_indexer.imaging.tiff_pages import chain_of

# PhotometricInterpretation (TIFF 6.0, page 37)
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _MASK, _CMYK, _YCBCR = range(7)
_COLOURS = {_RGB: (3, "RGB"), _CMYK: (4, "CMYK"), _YCBCR: (3, "YCbCr")}  # number of colour channels, Pillow's mode
_PREMULTIPLIED, _ALPHA = 1, 2  # ExtraSamples
_ORIENTATION = 274
_LEAST_SIDE = 16  # pixels; a smaller page is read only if no larger page holds an image
_PADDING = 1  # bytes; every part of a TIFF file begins at an even offset
_MOST_SEARCHED = 1000  # maximum number of pages that are searched for an image

_reading: ContextVar[bool] = ContextVar("twinscope_reading_tiff", default=False)


class _Hush(logging.Filter):
    """A filter that suppresses the log messages of tifffile while this module reads a file.

    `ImageError` reports all relevant faults.
    """

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002
        return not _reading.get()


logging.getLogger("tifffile").addFilter(_Hush())


def read_tiff(file: ImageFile, budget: int) -> Raster:
    """Decode the first page of a TIFF or BigTIFF file that holds an image.

    Masks are skipped. Reduced-resolution subfiles, and pages with a side of less than 16 pixels, are skipped if another
    page holds an image. Only the first plane of a volume is read, and only as many channels as the colour space has.
    The image is turned upright according to the Orientation tag.

    Parameters
    ----------
    file : ImageFile
    budget : int
        Maximum number of pixels to decode.

    Raises
    ------
    ImageError
    """
    pages, complete = count_directories(file)
    with _decoding(file.name), _opened(file) as tiff:
        index, page = _find_image_page(tiff, pages, complete, file)
        return _decoded(page, file, budget, (pages, index))


def read_tiff_page(file: ImageFile, budget: int, number: int) -> Raster:
    """Decode one page of a TIFF or BigTIFF file.

    Parameters
    ----------
    file : ImageFile
    budget : int
        Maximum number of pixels to decode.
    number : int
        Number of the page in the file, counted from 1.

    Raises
    ------
    ImageError
        The fault is ``missing`` if the file has no such page, and ``truncated`` if the file ends before the page. The
        other faults are the same as for `read_tiff`.
    """
    chain = chain_of(file)
    count = len(chain.offsets)
    if number == count + 1 and chain.fault:
        raise ImageError(file.name, "truncated", chain.fault)
    if not 1 <= number <= count:
        raise ImageError(file.name, "missing", f"the file has no page {number}; the number of its pages is {count}")
    with _decoding(file.name), _opened(file) as tiff:
        tiff.filehandle.seek(chain.offsets[number - 1])
        page = TiffPage(tiff, number - 1)
        if not all(isinstance(side, int) and side > 0 for side in (page.imagewidth, page.imagelength)):
            raise ImageError(file.name, "damaged", f"page {number} of the TIFF file holds no image")
        if chain.step:
            page.dataoffsets = (page.dataoffsets[0] + (number - 1) * chain.step,)
            page.databytecounts = (chain.step,)
        return _decoded(page, file, budget, (count, number - 1))


def _opened(file: ImageFile) -> TiffFile:
    return TiffFile(file.stream, name="tiff", offset=0, size=file.size, is_ndpi=False, is_lsm=False, is_scanimage=False)


def _decoded(page: TiffPage, file: ImageFile, budget: int, place: tuple[int, int]) -> Raster:
    """Decode a page. `place` is the number of pages of the file, and the index of the page."""
    colour = _colour(page, file.name)
    samples = tiff_segments.decode(page, file, _COLOURS.get(colour, (1,))[0], budget)
    turn = _TURNS.get(page.tags.valueof(_ORIENTATION, 1))
    return _raster(page, colour, scratch.packed(turn(samples)) if turn else samples, place, file.name)


# Orientation (TIFF 6.0, page 36) -> function that turns an array of shape (height, width, ...) upright
_TURNS: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    2: np.fliplr,
    3: lambda samples: np.rot90(samples, 2),
    4: np.flipud,
    5: lambda samples: np.swapaxes(samples, 0, 1),
    6: lambda samples: np.rot90(samples, -1),
    7: lambda samples: np.swapaxes(np.rot90(samples, 2), 0, 1),
    8: np.rot90,
}


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Convert the errors that tifffile and imagecodecs raise for invalid data to `ImageError`.

    Suppress the log messages of both libraries.
    """
    token = _reading.set(True)
    try:
        with np.errstate(all="ignore"):  # tifffile calculates with unchecked numbers from tags
            yield
    except NotImplementedError as error:
        raise ImageError(name, "unsupported", f"cannot be decoded: {error}") from error
    # TiffFileError is a ValueError; the errors of imagecodecs are RuntimeErrors
    except (TypeError, LookupError, ArithmeticError) as error:  # the text would describe the code, not the file
        raise ImageError(name, "damaged", "cannot be decoded: its TIFF tags are invalid") from error
    except (RuntimeError, ValueError) as error:
        raise ImageError(name, "damaged", f"cannot be decoded: {error}") from error
    finally:
        _reading.reset(token)


def _find_image_page(tiff: TiffFile, pages: int, complete: bool, file: ImageFile) -> tuple[int, TiffPage]:
    """Return the first page that holds an image, and the index of this page.

    If all images in the file are small or reduced, return the first small page, or else the first reduced page. If the
    last part of the chain is missing, and the file contains bytes of a lost page, neither of these pages is returned.
    """
    spare: list[tuple[int, TiffPage]] = []
    for index in range(min(pages, _MOST_SEARCHED)):
        try:
            page = tiff.pages[index].aspage()
        except (ValueError, TypeError, LookupError):
            if index == 0:
                raise
            complete = False  # the chain leads to something that is not a directory
            break
        sides = page.imagewidth, page.imagelength
        if not all(isinstance(side, int) and side > 0 for side in sides) or page.is_mask or page.photometric == _MASK:
            continue
        if min(sides) >= _LEAST_SIDE and not page.is_reduced:
            return index, page
        spare.append((index, page))
    if not complete and not (spare and _described_end(spare) + _PADDING >= file.size):
        raise ImageError(file.name, "truncated", "the TIFF file stops before the first page that holds an image")
    if not spare:
        raise ImageError(file.name, "damaged", "no page of the TIFF file holds an image")
    return min(spare, key=lambda found: found[1].is_reduced)


def _described_end(pages: list[tuple[int, TiffPage]]) -> int:
    """Return the end of the last part of the file that these pages describe: directories, values of tags, and pixels.

    Further bytes can be what remains of a lost page.
    """
    ends = [0]
    for _, page in pages:
        number, entry, pointer = (8, 20, 8) if page.parent.is_bigtiff else (2, 12, 4)
        ends.append(page.offset + number + len(page.tags) * entry + pointer)
        ends.extend(tag.valueoffset + tag.valuebytecount for tag in page.tags)
        ends.extend(map(sum, zip(page.dataoffsets, page.databytecounts, strict=False)))
    return max(ends)


def _colour(page: TiffPage, name: str) -> int:
    """Return the PhotometricInterpretation of the samples after decoding."""
    colour = int(page.photometric)
    if colour == _YCBCR and page.samplesperpixel == 1:
        return _BLACK_IS_ZERO
    if colour == _YCBCR and page.compression in {*JPEGS, OLD_JPEG}:
        return _RGB  # imagecodecs converts the samples to RGB
    deep = page.dtype is not None and page.dtype not in {np.dtype(np.uint8), np.dtype(np.bool_)}
    if colour not in {_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR} or (deep and colour > _RGB):
        raise ImageError(
            name,
            "unsupported",
            f"TIFF images of kind {page.photometric!s} with {page.bitspersample} bits are not supported",
        )
    return colour


def _raster(page: TiffPage, colour: int, samples: NDArray[Any], pages: tuple[int, int], name: str) -> Raster:
    """Build a raster from samples of shape (height, width, channels)."""
    bits = page.bitspersample
    alpha = page.extrasamples[0] if page.extrasamples else 0
    if colour not in _COLOURS:
        grey = scratch.packed(samples[..., 0])
        if colour == _PALETTE:
            return Raster(_indexed(page, grey, name), "TIFF", "P", bits, *pages)
        has_alpha = page.samplesperpixel == 2 and alpha in {_PREMULTIPLIED, _ALPHA}
        if grey.dtype == np.bool_:
            return Raster(_stretched(grey, 1, colour), "TIFF", "1", bits, *pages)
        if grey.dtype == np.uint8:
            return Raster(_stretched(grey, (1 << bits) - 1, colour), "TIFF", "LA" if has_alpha else "L", bits, *pages)
        mode = "LA" if has_alpha else "F" if grey.dtype.kind == "f" else "I;16" if grey.dtype == np.uint16 else "I"
        return Raster(grey, "TIFF", mode, bits, *pages, white_is_zero=colour == _WHITE_IS_ZERO)
    count, mode = _COLOURS[colour]
    has_alpha = colour == _RGB and page.samplesperpixel > 3 and (not page.extrasamples or alpha in {1, 2})
    named = "RGBA" if has_alpha else mode
    if samples.dtype == np.bool_:
        samples = samples.view(np.uint8)
    if samples.dtype != np.uint8:
        return Raster(scratch.packed(samples[..., :count]), "TIFF", named, bits, *pages)
    if bits != 8:
        samples = _stretched(samples, (1 << bits) - 1, _BLACK_IS_ZERO)
    size = samples.shape[1], samples.shape[0]
    is_premultiplied = has_alpha and alpha == _PREMULTIPLIED and samples.shape[2] >= 4
    if scratch.is_scratch(samples) and mode == "RGB" and not is_premultiplied:
        return Raster(scratch.packed(samples[..., :3]), "TIFF", named, bits, *pages)
    if is_premultiplied:
        image = Image.frombuffer("RGBA", size, np.ascontiguousarray(samples[..., :4]), "raw", "RGBa", 0, 1)
    else:
        image = Image.frombuffer(mode, size, np.ascontiguousarray(samples[..., :count]), "raw", mode, 0, 1)
    return Raster(image, "TIFF", named, bits, *pages)


def _stretched(samples: NDArray[Any], most: int, colour: int) -> NDArray[np.uint8]:
    """Stretch samples of at most 8 bits from the range 0 to `most` to the range 0 to 255. In the result, 0 is black."""
    table = (np.arange(256) * 255 // most).clip(0, 255).astype(np.uint8)
    if colour == _WHITE_IS_ZERO:
        table = 255 - table
    elif most == 255:
        return samples
    stretched = scratch.empty(samples.shape, np.uint8)
    for rows in scratch.bands(stretched, samples):  # no index is above 255, and "clip" needs no buffer
        np.take(table, samples[rows].view(np.uint8), out=stretched[rows], mode="clip")
    return stretched


def _indexed(page: TiffPage, indices: NDArray[Any], name: str) -> Image.Image:
    """Build a palette image. Like Pillow, use only the upper bytes of the 16-bit colours of the palette.

    If no colour is above 255, the colours have 8 bits, and are used without change.
    """
    colours = page.colormap
    if colours is None or colours.shape != (3, 1 << page.bitspersample) or colours.dtype != np.uint16:
        raise ImageError(name, "damaged", "the palette of the TIFF file is missing or has the wrong length")
    shift = 8 if colours.max() > 255 else 0  # as in libtiff: some programs write 8-bit colours
    height, width = indices.shape
    image = Image.frombuffer("P", (width, height), np.ascontiguousarray(indices.view(np.uint8)), "raw", "P", 0, 1)
    image.putpalette((colours >> shift).astype(np.uint8).T.tobytes(), "RGB")
    return image
