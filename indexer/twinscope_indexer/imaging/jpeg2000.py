"""Decoding of JPEG 2000 files: by Pillow up to 8 bits per sample, and by imagecodecs if there are more bits."""

from __future__ import annotations

import io
import struct

import imagecodecs
import numpy as np
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile

from twinscope_indexer.errors import ImageError
from twinscope_indexer.imaging.codestream import IncompleteError, jpeg2000_codestream, jpeg2000_size
from twinscope_indexer.imaging.limits import check_budget
from twinscope_indexer.imaging.pillow import decoding
from twinscope_indexer.imaging.raster import Raster
from twinscope_indexer.imaging.sniffing import ImageFile

_DEPTH_AT = 42  # position of Ssiz of the first component in a codestream (ISO/IEC 15444-1, A.5.1)
_MODES = {1: "I;16", 2: "LA", 3: "RGB"}  # number of components -> Pillow's mode of deep images


def read_jpeg2000(file: ImageFile, budget: int) -> Raster:
    """Decode a JPEG 2000 file or codestream.

    Raises
    ------
    ImageError
    """
    file.stream.seek(0)
    data = file.stream.read()
    try:
        width, height = jpeg2000_size(data)
        depth = jpeg2000_codestream(data)[_DEPTH_AT]
    except IncompleteError as error:
        raise ImageError(file.name, "truncated", str(error)) from error
    except (ValueError, LookupError, struct.error) as error:
        raise ImageError(file.name, "damaged", "the JPEG 2000 header is damaged or cut off") from error
    check_budget(file.name, width, height, budget)
    is_signed, bits = bool(depth & 0x80), (depth & 0x7F) + 1
    with decoding(file.name):
        if bits <= 8 and not is_signed:
            image = Jpeg2KImageFile(io.BytesIO(data))
            if image.size != (width, height):  # the boxes of the file format also contain a size
                raise ImageError(file.name, "damaged", "the sizes in the JPEG 2000 file contradict each other")
            image.load()
            return Raster(image, "JPEG 2000", image.mode, bits)
        deep = np.asarray(imagecodecs.jpeg2k_decode(data))
    channels = deep.shape[2] if deep.ndim == 3 else 1
    if deep.shape[:2] != (height, width):
        raise ImageError(file.name, "damaged", "the components of the JPEG 2000 image have different sizes")
    if channels < 3:
        deep = deep.reshape(height, width, channels)[..., 0]
    return Raster(deep[:, :, :3] if channels >= 3 else deep, "JPEG 2000", _MODES.get(channels, "RGBA"), bits)
