"""The Exif orientation of JPEG, PNG and WebP files: how viewers turn an image before they show it.

The hash does not use this orientation, because the search finds quarter turns and mirror images by itself.
"""

from __future__ import annotations

import io
import struct
from contextlib import suppress
from typing import BinaryIO, Final, Literal

from PIL import Image

from twinscope_indexer.errors import ImageError
from twinscope_indexer.imaging import jpeg
from twinscope_indexer.imaging.sniffing import PNG_MAGIC, ImageFile, Source, opened
from twinscope_indexer.imaging.tiff_directories import read_directories, read_value

_ORIENTATION: Final = 274
_EXIF_START: Final = b"Exif\0\0"
_MOST_CHUNKS: Final = 65_536
_MOST_EXIF: Final = 1 << 20  # bytes
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def turned_upright(image: Image.Image, source: Source) -> Image.Image:
    """Turn a decoded image upright, as viewers show it.

    Parameters
    ----------
    image : PIL.Image.Image
        Image, as returned by `read_pil_image`. TIFF images are already upright.
    source : str, path-like, bytes or binary file
        File of the image.

    Returns
    -------
    PIL.Image.Image
        The same image if the file has no orientation, or if the orientation cannot be read.
    """
    turn = _TURNS.get(_orientation(source))
    return image if turn is None else image.transpose(turn)


def _orientation(source: Source) -> int:
    with suppress(ImageError, struct.error), opened(source) as file:
        exif = _exif(file).removeprefix(_EXIF_START)
        if exif[:2] in {b"II", b"MM"}:
            stream = io.BytesIO(exif)
            directory = read_directories(ImageFile(stream, len(exif), "TIFF", file.name))[0]
            tag = directory.tags.get(_ORIENTATION)
            order: Literal["little", "big"] = "little" if directory.order == "<" else "big"
            return 1 if tag is None else int.from_bytes(read_value(stream, tag, tag.inline), order)
    return 1


def _exif(file: ImageFile) -> bytes:
    """Return the Exif data of a file: a small TIFF file. Without Exif data, the result is empty."""
    file.stream.seek(0)
    if file.format == "JPEG":
        return jpeg.exif(file.stream.read(), file.name)
    if file.format == "PNG":
        return _chunk(file.stream, ">I4s", len(PNG_MAGIC), b"eXIf")
    if file.format == "WebP":
        return _chunk(file.stream, "<4sI", 12, b"EXIF")
    return b""


def _chunk(stream: BinaryIO, form: str, start: int, wanted: bytes) -> bytes:
    """Return the content of the first chunk of a type, in a PNG or WebP file."""
    at = start
    for _ in range(_MOST_CHUNKS):
        stream.seek(at)
        head = stream.read(8)
        if len(head) < 8:
            break
        fields = struct.unpack(form, head)
        is_png = form.startswith(">")
        length, kind = fields if is_png else reversed(fields)
        if kind == wanted:
            return stream.read(min(length, _MOST_EXIF))
        at += 8 + length + (4 if is_png else length % 2)  # a checksum, or padding
    return b""
