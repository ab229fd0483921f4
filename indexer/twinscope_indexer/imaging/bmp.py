"""Decoding of Windows and OS/2 bitmaps (BMP files) by Pillow."""

from __future__ import annotations

import struct

from PIL.BmpImagePlugin import BmpImageFile

from twinscope_indexer.errors import ImageError
from twinscope_indexer.imaging.limits import check_budget
from twinscope_indexer.imaging.pillow import decoding
from twinscope_indexer.imaging.raster import Raster
from twinscope_indexer.imaging.sniffing import ImageFile

_RLE_RATIO = 128  # two bytes of a run-length encoded BMP represent at most 255 pixels


def read_bmp(file: ImageFile, budget: int) -> Raster:
    """Decode a Windows or OS/2 bitmap.

    Raises
    ------
    ImageError
    """
    file.stream.seek(0)
    header = file.stream.read(30)
    if len(header) < 30:
        raise ImageError(file.name, "truncated", "the BMP header is cut off")
    bits = struct.unpack_from("<H", header, 24 if header[14] == 12 else 28)[0]
    file.stream.seek(0)
    with decoding(file.name):
        image = BmpImageFile(file.stream)
        check_budget(file.name, *image.size, budget)
        codec, _, offset, layout = image.tile[0]
        if codec == "raw" and isinstance(layout, tuple):
            needed = offset + int(layout[1]) * image.height
        else:
            needed = image.width * image.height // _RLE_RATIO
        if needed > file.size:
            raise ImageError(file.name, "truncated", f"the file has {file.size} bytes, fewer than its pixels need")
        image.load()
    return Raster(image, "BMP", image.mode, min(bits, 8))
