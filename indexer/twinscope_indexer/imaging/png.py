"""Decoding of PNG files by Pillow. Files with 16-bit colour are decoded by imagecodecs, which keeps all bits."""

from __future__ import annotations

import io
import os
import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

import imagecodecs
import numpy as np
from PIL.PngImagePlugin import PngImageFile

from twinscope_indexer.errors import ImageError
from twinscope_indexer.imaging.limits import DEFLATE_RATIO, check_budget
from twinscope_indexer.imaging.pillow import decoding
from twinscope_indexer.imaging.raster import Raster
from twinscope_indexer.imaging.sniffing import PNG_MAGIC, ImageFile

# PNG specification, table 11.1: colour type -> (samples per pixel, Pillow's mode of 16-bit images, allowed bit depths)
_PNG_COLOUR = {
    0: (1, "I;16", (1, 2, 4, 8, 16)),
    2: (3, "RGB", (8, 16)),
    3: (1, "P", (1, 2, 4, 8)),
    4: (2, "LA", (8, 16)),
    6: (4, "RGBA", (8, 16)),
}
_PNG_PALETTE = 3
# PNG specification, 8.2: for each pass, the first column, the first row, and the steps between columns and between rows
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_WHOLE = ((0, 0, 1, 1),)
_PNG_END = b"\x00\x00\x00\x00IEND\xae\x42\x60\x82"
_BLOCK = 1 << 20  # number of bytes that are decompressed at a time


def read_png(file: ImageFile, budget: int) -> Raster:
    """Decode a PNG file. If the file is an animation, only the first frame is decoded.

    Raises
    ------
    ImageError
    """
    name = file.name
    header = _PngHeader.read(file.stream, name)
    check_budget(name, header.width, header.height, budget)
    palette, pixels, frames = _png_chunks(file)
    packed = sum(len(chunk) - 12 for chunk in pixels)
    if header.raw > packed * DEFLATE_RATIO:
        raise ImageError(name, "truncated", f"{packed} bytes cannot hold {header.width} x {header.height} pixels")
    _check_deflate(pixels, header, name)
    palette = palette if header.colour == _PNG_PALETTE else []
    essential = b"".join((PNG_MAGIC, header.chunk, *palette, *pixels, _PNG_END))
    with decoding(name):
        if header.bits == 16 and header.colour != 0:
            if header.interlaced:
                raise ImageError(name, "unsupported", "interlaced PNG with 16-bit colour or alpha is not supported")
            deep = np.asarray(imagecodecs.png_decode(essential))
            deep = deep[..., 0] if header.mode == "LA" else deep[..., :3]
            return Raster(deep, "PNG", header.mode, header.bits, frames)
        image = PngImageFile(io.BytesIO(essential))
        image.load()
    if header.bits == 16:
        return Raster(np.array(image), "PNG", header.mode, header.bits, frames)
    return Raster(image, "PNG", image.mode, header.bits, frames)


@dataclass(frozen=True, slots=True)
class _PngHeader:
    chunk: bytes
    width: int
    height: int
    bits: int
    colour: int
    mode: str
    """Pillow's mode for the pixels if the file has 16 bits per sample."""
    interlaced: bool
    raw: int
    """Number of bytes of the decompressed pixels."""

    @classmethod
    def read(cls, stream: BinaryIO, name: str) -> _PngHeader:
        stream.seek(len(PNG_MAGIC))
        chunk = stream.read(12 + 13)
        if len(chunk) < 12 + 13:
            raise ImageError(name, "truncated", "the PNG header is cut off")
        if chunk[:8] != b"\x00\x00\x00\x0dIHDR" or chunk[-4:] != zlib.crc32(chunk[4:-4]).to_bytes(4, "big"):
            raise ImageError(name, "damaged", "the PNG header is damaged")
        width, height, bits, colour, compression, filtering, interlace = struct.unpack(">IIBBBBB", chunk[8:-4])
        samples, mode, depths = _PNG_COLOUR.get(colour, (0, "", ()))
        if not (width and height and bits in depths) or compression or filtering or interlace > 1:
            raise ImageError(
                name,
                "damaged",
                f"invalid PNG header: {width} x {height} pixels, {bits} bits, colour type {colour}",
            )
        raw = sum(
            -(-(height - top) // down) * (1 + (-(-(width - left) // right) * samples * bits + 7) // 8)
            for left, top, right, down in (_ADAM7 if interlace else _WHOLE)
            if left < width and top < height
        )
        return cls(chunk, width, height, bits, colour, mode, interlace == 1, raw)


def _png_chunks(file: ImageFile) -> tuple[list[bytes], list[bytes], int]:
    """Check the checksums of the chunks that are needed to decode the pixels, and return these chunks.

    Pillow does not check the checksums of the chunks of compressed pixels.

    Returns
    -------
    list of bytes
        The palette chunk. The list is empty if the file has no palette.
    list of bytes
        The chunks of the compressed pixels.
    int
        Number of frames.
    """
    palette: list[bytes] = []
    pixels: list[bytes] = []
    frames, hidden = 1, 0
    kind = b""
    while kind != b"IEND":
        head = file.stream.read(8)
        kind = head[4:]
        length = int.from_bytes(head[:4], "big")
        if len(head) < 8 or file.stream.tell() + length + 4 > file.size:
            raise ImageError(file.name, "truncated", "the PNG file has no end chunk")
        if kind not in {b"PLTE", b"IDAT", b"IEND", b"acTL", b"fcTL"}:
            file.stream.seek(length + 4, os.SEEK_CUR)
            continue
        chunk = head + file.stream.read(length + 4)
        if chunk[-4:] != zlib.crc32(chunk[4:-4]).to_bytes(4, "big"):
            raise ImageError(file.name, "damaged", f"the checksum of the PNG chunk {kind.decode()} is wrong")
        if kind == b"PLTE":
            palette = [chunk]
        elif kind == b"IDAT":
            pixels.append(chunk)
        elif kind == b"acTL" and not pixels:
            frames, hidden = max(1, int.from_bytes(chunk[8:12], "big")), 1
        elif kind == b"fcTL" and not pixels:
            hidden = 0  # the pixels of the PNG image are also the first frame of the animation
    return palette, pixels, frames + hidden


def _check_deflate(chunks: list[bytes], header: _PngHeader, name: str) -> None:
    """Check that the compressed data contains all pixels.

    Without this check, Pillow would make missing pixels black, and libpng would write messages to standard error.
    """
    inflater, got = zlib.decompressobj(), 0
    try:
        for chunk in chunks:
            rest = chunk[8:-4]
            while rest:
                got += len(inflater.decompress(rest, _BLOCK))
                rest = inflater.unconsumed_tail
    except zlib.error as error:
        raise ImageError(name, "damaged", f"cannot be decompressed: {error}") from error
    if not inflater.eof or got < header.raw:
        raise ImageError(name, "truncated", f"only {got} of {header.raw} bytes of the pixels are present")
