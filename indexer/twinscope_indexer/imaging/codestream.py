"""Read the size of the image, and find the end of the data, in compressed streams.

Decoders allocate memory for any size that a stream claims. The size is therefore read before a stream is decoded. The
decoder of JPEG XR does not notice that data are missing, and some versions of the decoder of JPEG 2000 accept
incomplete data. For these two formats, this module also checks that the stream is complete.
"""

from __future__ import annotations

import lzma
import struct
from collections.abc import Iterator
from itertools import islice

_PNG_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_JPEG2000_START = b"\xff\x4f\xff\x51"  # ISO/IEC 15444-1, annex A: start of codestream, and image and tile size
_JPEG2000_BOX = b"\0\0\0\x0cjP  \r\n\x87\n"  # annex I: signature box of a JP2 file
_START_OF_TILE_PART, _END_OF_CODESTREAM = b"\xff\x90", b"\xff\xd9"
_ZSTD_START, _ZSTD_REPEATED = b"\x28\xb5\x2f\xfd", 1
_LZMA_MEMORY = 1 << 28  # bytes; the highest preset of LZMA needs a quarter of it
_MOST_BOXES = 1000
_MOST_TILE_PARTS = 1 << 20
_MOST_COMPONENTS = 16
_JPEGXL_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
# JPEG XR (ITU-T T.832, annex A): tags of the width, the height, the offset and the length of the pixels
_JPEGXR_TAGS = {0xBC80: "width", 0xBC81: "height", 0xBCC0: "offset", 0xBCC1: "length"}
_JPEGXR_INTEGERS = {1: "<B", 3: "<H", 4: "<I"}

Size = tuple[int, int]
"""Width and height in pixels."""


class IncompleteError(ValueError):
    """The last part of a stream is missing."""


def packbits_end(data: bytes, needed: int) -> int:
    """Return the position after the run that completes `needed` decompressed bytes (TIFF 6.0, section 9)."""
    at, got = 0, 0
    while got < needed and at < len(data):
        count = data[at]
        if count < 128:
            got, at = got + count + 1, at + count + 2
        else:
            got, at = got + (257 - count) % 129, at + 1 + (count > 128)
    return at


def lzma_end(data: bytes, needed: int) -> int:
    """Return the position after an LZMA stream. If the stream is damaged, return the length of the data."""
    decompressor = lzma.LZMADecompressor(memlimit=_LZMA_MEMORY)
    try:
        decompressor.decompress(data, needed)
        decompressor.decompress(b"", 1)
    except (lzma.LZMAError, EOFError):
        return len(data) - len(decompressor.unused_data)
    return len(data) - len(decompressor.unused_data)


def zstd_end(data: bytes, needed: int) -> int:  # noqa: ARG001  all functions for the end of a stream have two parameters
    """Return the position after a Zstandard frame (RFC 8878, section 3.1). Blocks are not decompressed."""
    if not data.startswith(_ZSTD_START) or len(data) < 6:
        return len(data)
    flags = data[4]
    single = flags >> 5 & 1
    at = 5 + (1 - single) + (0, 1, 2, 4)[flags & 3] + (single, 2, 4, 8)[flags >> 6]
    last = 0
    while not last and at + 3 <= len(data):
        block = int.from_bytes(data[at : at + 3], "little")
        last, kind = block & 1, block >> 1 & 3
        at += 3 + (1 if kind == _ZSTD_REPEATED else block >> 3)
    return min(at + 4 * (flags >> 2 & 1), len(data))


def png_size(data: bytes) -> Size:
    """Read the size of a PNG stream.

    Raises
    ------
    ValueError, struct.error
        If the stream has no valid header.
    """
    if not data.startswith(_PNG_START):
        raise ValueError(data[:16])
    width, height = struct.unpack_from(">II", data, len(_PNG_START))
    return width, height


def webp_size(data: bytes) -> Size:
    """Read the size of a WebP file (RFC 9649, section 2).

    Raises
    ------
    ValueError, struct.error
        If the file has no valid header.
    IncompleteError
        If the file is shorter than its header says.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise ValueError(data[:12])
    if struct.unpack_from("<I", data, 4)[0] + 8 > len(data) + 1:  # the last byte can be padding
        raise IncompleteError("the WebP data are shorter than their header says")
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError(kind)


def lerc_size(data: bytes) -> Size:
    """Read the size of a LERC blob.

    Raises
    ------
    ValueError, struct.error
        If the blob has no valid header.
    """
    if data.startswith(b"CntZImage "):
        _, _, height, width = struct.unpack_from("<iiII", data, 10)
    elif data.startswith(b"Lerc2 "):
        has_checksum = struct.unpack_from("<i", data, 6)[0] >= 3
        height, width = struct.unpack_from("<II", data, 14 if has_checksum else 10)
    else:
        raise ValueError(data[:10])
    return width, height


def jpegxl_size(data: bytes) -> Size:
    """Read the size of a JPEG XL file or codestream (ISO/IEC 18181-1, annex D).

    Raises
    ------
    ValueError
        If the file has no valid header.
    """
    if data[4:8] == b"JXL ":
        for kind, start, end in islice(_boxes(data), _MOST_BOXES):
            if kind in {b"jxlc", b"jxlp"}:
                data = data[start + 4 * (kind == b"jxlp") : end]
                break
    if data[:2] != b"\xff\n" or len(data) < 16:
        raise ValueError(data[:12])
    bits = int.from_bytes(data[2:16], "little")

    def take(number: int) -> int:
        nonlocal bits
        value = bits & ((1 << number) - 1)
        bits >>= number
        return value

    def side(small: int) -> int:
        return 8 * (1 + take(5)) if small else 1 + take((9, 13, 18, 30)[take(2)])

    small = take(1)
    height = side(small)
    ratio = take(3)
    if ratio == 0:
        return side(small), height
    wide, high = _JPEGXL_RATIOS[ratio]
    return height * wide // high, height


def jpegxr_size(data: bytes) -> Size:
    """Read the size of a JPEG XR file, and check that the file contains all pixels.

    Raises
    ------
    ValueError, LookupError, struct.error
        If the file has no valid header.
    IncompleteError
        If the last part of the pixels is missing.
    """
    if data[:3] != b"II\xbc":
        raise ValueError(data[:4])
    at = struct.unpack_from("<I", data, 4)[0]
    found: dict[str, int] = {}
    for entry in range(struct.unpack_from("<H", data, at)[0]):
        code, kind, count = struct.unpack_from("<HHI", data, at + 2 + 12 * entry)
        if code in _JPEGXR_TAGS and count == 1:
            found[_JPEGXR_TAGS[code]] = struct.unpack_from(_JPEGXR_INTEGERS[kind], data, at + 10 + 12 * entry)[0]
    if found["offset"] + max(found["length"], 1) > len(data):
        raise IncompleteError("the JPEG XR data are shorter than their header says")
    return found["width"], found["height"]


def jpeg2000_size(data: bytes) -> Size:
    """Read the size of a JPEG 2000 file or codestream, and check that the codestream contains all tiles.

    Raises
    ------
    ValueError, struct.error
        If the file has no valid header.
    IncompleteError
        If a part of a tile is missing.
    """
    stream = jpeg2000_codestream(data)
    if not stream.startswith(_JPEG2000_START):
        raise ValueError(data[:12])
    sizes = struct.unpack_from(">8I", stream, 8)
    (right, bottom, left, top), (tile_width, tile_height, tile_left, tile_top) = sizes[:4], sizes[4:]
    if not (right > left and bottom > top and tile_width and tile_height and tile_left <= left and tile_top <= top):
        raise ValueError(sizes)
    components = struct.unpack_from(">H", stream, 40)[0]
    if not 1 <= components <= _MOST_COMPONENTS:
        raise ValueError(components)
    across, down = -(-(right - tile_left) // tile_width), -(-(bottom - tile_top) // tile_height)
    tiles: dict[int, int] = {}
    wanted: dict[int, int] = {}
    for tile, parts in islice(_tile_parts(stream), _MOST_TILE_PARTS):
        tiles[tile] = tiles.get(tile, 0) + 1
        wanted[tile] = max(wanted.get(tile, 1), parts)
    if len(tiles) < across * down or any(tiles[tile] < parts for tile, parts in wanted.items()):
        raise IncompleteError("the JPEG 2000 data stop before the last tile")
    return right - left, bottom - top


def jpeg2000_codestream(data: bytes) -> bytes:
    """Return the codestream in a JPEG 2000 file. If the data are a codestream, return them unchanged.

    Raises
    ------
    ValueError
        If the file does not contain a codestream.
    """
    if not data.startswith(_JPEG2000_BOX):
        return data
    for kind, start, end in islice(_boxes(data), _MOST_BOXES):
        if kind == b"jp2c":
            return data[start:end]
    raise ValueError("no codestream")


def _boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the type, the start and the end of the content of every box of a file (ISO/IEC 15444-1, annex I.4)."""
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if length == 1 and at + 16 <= len(data):
            length, start = struct.unpack_from(">Q", data, at + 8)[0], at + 16
        end = len(data) if length == 0 else at + length
        yield kind, start, min(end, len(data))
        at = max(end, start)


def _tile_parts(stream: bytes) -> Iterator[tuple[int, int]]:
    """For every tile-part, yield the number of its tile, and how many tile-parts this tile must have (0 if unknown)."""
    at = 2
    while stream[at : at + 2] != _START_OF_TILE_PART:  # the main header
        if at + 4 > len(stream):
            raise IncompleteError("the JPEG 2000 data stop inside their header")
        at += 2 + max(2, struct.unpack_from(">H", stream, at + 2)[0])
    while stream[at : at + 2] == _START_OF_TILE_PART and at + 12 <= len(stream):
        tile, length, _, parts = struct.unpack_from(">HIBB", stream, at + 4)
        if length == 0:  # the tile-part extends to the end of the codestream
            if stream.rfind(_END_OF_CODESTREAM, at) < 0:
                raise IncompleteError("the JPEG 2000 data have no end marker")
            yield tile, parts
            return
        if at + length > len(stream):
            raise IncompleteError("the JPEG 2000 data stop inside a tile")
        yield tile, parts
        at += max(length, 12)
    if stream[at : at + 2] != _END_OF_CODESTREAM:
        raise IncompleteError("the JPEG 2000 data have no end marker")
