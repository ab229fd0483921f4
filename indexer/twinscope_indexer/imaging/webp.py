"""Decoding of WebP files by Pillow."""

from __future__ import annotations

import io
import struct

from PIL.WebPImagePlugin import WebPImageFile

from twinscope_indexer.errors import ImageError
from twinscope_indexer.imaging.codestream import IncompleteError, webp_size
from twinscope_indexer.imaging.limits import check_budget
from twinscope_indexer.imaging.pillow import decoding
from twinscope_indexer.imaging.raster import Raster
from twinscope_indexer.imaging.sniffing import ImageFile


def read_webp(file: ImageFile, budget: int) -> Raster:
    """Decode a WebP file. If the file is an animation, only the first frame is decoded.

    Raises
    ------
    ImageError
    """
    file.stream.seek(0)
    data = file.stream.read()
    try:
        width, height = webp_size(data)
    except IncompleteError as error:
        raise ImageError(file.name, "truncated", str(error)) from error
    except (ValueError, struct.error) as error:
        raise ImageError(file.name, "damaged", "the WebP header is damaged or cut off") from error
    check_budget(file.name, width, height, budget)
    with decoding(file.name):
        image = WebPImageFile(io.BytesIO(data))
        frames = int(getattr(image, "n_frames", 1))
        image.load()
    return Raster(image, "WebP", image.mode, 8, frames)
