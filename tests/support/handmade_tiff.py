"""TIFF files that are built tag by tag, so that a test can make every mistake that a program can make."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_COUNTS = 273, 277, 278, 279
SUBFILE_TYPE, COLOUR_MAP = 254, 320
TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_COUNTS = 322, 323, 324, 325

_SHORTS = {BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, COLOUR_MAP, 284, 317, 338, 339}
_OFFSETS = {STRIP_OFFSETS, TILE_OFFSETS}


@dataclass(frozen=True)
class Page:
    """One page: its tags, its segments (strips or tiles), and the position of the next directory."""

    tags: Mapping[int, int | Sequence[int] | None]
    segments: Sequence[bytes]
    following: int = 0


def grey_tags(pixels: np.ndarray, **changes: int) -> dict[int, int | Sequence[int] | None]:
    """Return the tags of an 8-bit grey picture in one strip. The offsets are filled in by `handmade`."""
    height, width = pixels.shape[:2]
    tags: dict[int, int | Sequence[int] | None] = {
        WIDTH: width, LENGTH: height, BITS: 8, COMPRESSION: 1, PHOTOMETRIC: 1, SAMPLES: 1, ROWS_PER_STRIP: height,
    }  # fmt: skip
    return tags | {int(name[1:]): value for name, value in changes.items()}


def strips(pixels: np.ndarray, rows: int) -> list[bytes]:
    """Cut rows of samples into strips."""
    return [pixels[top : top + rows].tobytes() for top in range(0, len(pixels), rows)]


def tiles(pixels: np.ndarray, side: int) -> list[bytes]:
    """Cut samples into square tiles. The tiles at the edges are filled up with the value 77."""
    height, width = pixels.shape
    padded = np.pad(pixels, ((0, -height % side), (0, -width % side)), constant_values=77)
    return [
        np.ascontiguousarray(padded[y : y + side, x : x + side]).tobytes()
        for y in range(0, height, side)
        for x in range(0, width, side)
    ]


def handmade(page: Page, *, pixels_last: bool = False) -> bytes:
    """Return a little-endian TIFF file of one page.

    The tags of the offsets and byte counts are filled in for all segments, unless the tags of the page give them. The
    value None leaves a tag out. An empty segment gets the offset 0 and the byte count 0.
    """
    is_tiled = TILE_WIDTH in page.tags
    offset_tag, count_tag = (TILE_OFFSETS, TILE_COUNTS) if is_tiled else (STRIP_OFFSETS, STRIP_COUNTS)
    start = 8
    for _ in range(2 if pixels_last else 1):  # the length of the directory does not depend on the offsets
        offsets, at = [], start
        for segment in page.segments:
            offsets.append(at if segment else 0)
            at += len(segment)
        filled = {offset_tag: offsets, count_tag: [len(segment) for segment in page.segments]}
        tags = {code: value for code, value in (filled | dict(page.tags)).items() if value is not None}
        body = b"".join(page.segments)
        first = 8 if pixels_last else 8 + len(body) + len(body) % 2
        directory = _directory(tags, first, page.following)
        start = 8 + len(directory)
    head = struct.pack("<2sHI", b"II", 42, first)
    return head + directory + body if pixels_last else head + body + bytes(len(body) % 2) + directory


def _directory(tags: Mapping[int, int | Sequence[int]], at: int, following: int) -> bytes:
    values_at = at + 2 + 12 * len(tags) + 4
    entries, values = struct.pack("<H", len(tags)), b""
    for code, value in sorted(tags.items()):
        numbers = [value] if isinstance(value, int) else list(value)
        kind, form = (3, "H") if code in _SHORTS else (4, "I")
        packed = struct.pack(f"<{len(numbers)}{form}", *numbers)
        if len(packed) > 4:
            field = struct.pack("<I", values_at + len(values))
            values += packed + bytes(len(packed) % 2)
        else:
            field = packed.ljust(4, b"\0")
        entries += struct.pack("<HHI", code, kind, len(numbers)) + field
    return entries + struct.pack("<I", following) + values
