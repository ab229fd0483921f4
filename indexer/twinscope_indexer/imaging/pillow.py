"""Pillow's decoders behind `ImageError`; JPEG.

The plugins are used directly: ``Image.open`` would warn of large images or refuse them by a global setting, and
would look for other formats. Every header is checked against the pixel budget and against the length of the file
before memory is taken. Metadata is not handed to the decoders: it says nothing about pixels, and makes them warn.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from PIL.JpegImagePlugin import JpegImageFile

from twinscope_indexer.errors import ImageError, ImageFault
from twinscope_indexer.imaging import jpeg
from twinscope_indexer.imaging.limits import check_budget
from twinscope_indexer.imaging.raster import Raster


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Turn what Pillow's plugins and imagecodecs raise on rubbish into `ImageError`."""
    try:
        yield
    except (OSError, SyntaxError, ValueError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the file could not be read, which says nothing about its content
        detail = str(error) or type(error).__name__
        raise ImageError(name, _fault(detail), f"cannot be decoded: {detail}") from error


def _fault(detail: str) -> ImageFault:
    lowered = detail.lower()
    if "truncated" in lowered or "not enough image data" in lowered:
        return "truncated"
    return "unsupported" if "unsupported" in lowered or "cannot handle" in lowered else "damaged"


def read_jpeg(stream: BinaryIO, name: str, budget: int) -> Raster:
    """Decode a JPEG file; it is read whole.

    Raises
    ------
    ImageError
    """
    stream.seek(0)
    data = stream.read()
    plain = jpeg.plain_frame(data)
    if plain is not None:
        check_budget(name, plain.width, plain.height, budget)
        with suppress(RuntimeError, ValueError, MemoryError):  # Pillow tells what is wrong
            return Raster(jpeg.decode_plain(data, plain), "JPEG", plain.mode, plain.precision)
    data = jpeg.without_metadata(data, name)
    frame = jpeg.frame(data, name)
    check_budget(name, frame.width, frame.height, budget)
    with _decoding(name):
        image = JpegImageFile(io.BytesIO(data))
        image.load()
    return Raster(image, "JPEG", image.mode, frame.precision)
