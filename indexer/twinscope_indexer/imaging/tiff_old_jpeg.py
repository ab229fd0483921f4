"""Decoding of TIFF pages with old-style JPEG (TIFF 6.0, section 22), which later specifications withdrew."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffPage

from twinscope_indexer.errors import ImageError
from twinscope_indexer.imaging import jpeg
from twinscope_indexer.imaging.sniffing import ImageFile

_STREAM, _STREAM_LENGTH = 513, 514  # JPEGInterchangeFormat, JPEGInterchangeFormatLength


def decode_old_jpeg(page: TiffPage, file: ImageFile) -> NDArray[np.uint8]:
    """Decode a page whose pixels are one whole JPEG stream.

    Old-style JPEG can also spread the tables and the pixels over the file. Few programs wrote such files. They are
    refused.

    Parameters
    ----------
    page : TiffPage
        Page to decode. The caller has checked the width, the height and the number of samples.
    file : ImageFile
        File that contains the page.

    Returns
    -------
    ndarray of uint8, shape (height, width, channels)
        Grey values, or red, green and blue.

    Raises
    ------
    ImageError
    """
    data = _stream(page, file)
    header = jpeg.header(data, file.name)
    size = header.width, header.height, header.components
    if size != (page.imagewidth, page.imagelength, page.samplesperpixel):
        raise ImageError(
            file.name,
            "damaged",
            f"the old-style JPEG stream has {header.width} x {header.height} pixels and {header.components} components,"
            " but the TIFF tags describe another size",
        )
    raster = jpeg.decode(jpeg.completed(data, header, file.name), header, file.name)
    return np.asarray(raster.content).reshape(page.imagelength, page.imagewidth, -1)


def _stream(page: TiffPage, file: ImageFile) -> bytes:
    """Return the bytes of the JPEG stream. The bytes can end after the stream."""
    length = _number(page.tags.valueof(_STREAM_LENGTH)) or file.size
    offsets = page.tags.valueof(_STREAM), *page.dataoffsets[:1]
    for offset in filter(None, map(_number, offsets)):
        if offset < file.size:
            file.stream.seek(offset)
            data = file.stream.read(min(length, file.size - offset))
            if data.startswith(b"\xff\xd8\xff"):
                return data
    raise ImageError(
        file.name, "unsupported", "TIFF compression old-style JPEG (6) is only supported as one whole JPEG stream"
    )


def _number(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
