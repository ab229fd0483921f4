"""Where the values of TIFF tags lie: the first directories of a file, without its pixels.

tifffile has readers for several makers' tags. They are not used here: they turn text into numbers, where it is to be
kept as it was written; they believe counts in the text, and take quadratic time or unlimited memory on hostile files;
and a file takes them several times as long as what is below. The tests compare both.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from twinscope_indexer.errors import ImageError

_MOST_DIRECTORIES = 16  # makers write their tags into the first
_MOST_ENTRIES = 4096  # as tifffile has it
# bytes of one value of each type (TIFF 6.0, page 15; 13, and 16 to 18 of BigTIFF); others are taken for bytes
_TYPE_SIZES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WIDTH, _LENGTH = 256, 257
_INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}


@dataclass(frozen=True, slots=True)
class Tag:
    """Where the value of a tag lies in the file."""

    offset: int
    size: int
    """Bytes, as the directory claims."""
    inline: int
    """Up to how many bytes stand in the directory itself: 4, of BigTIFF 8."""


@dataclass(frozen=True, slots=True)
class Directory:
    """The tags of one picture."""

    order: str
    """``<`` or ``>``, as `struct` has it."""
    tags: dict[int, Tag]
    width: int | None
    height: int | None


@dataclass(frozen=True, slots=True)
class _Layout:
    """Formats of `struct` in which TIFF and BigTIFF differ."""

    number: str
    entry: str
    pointer: str


_CLASSIC = _Layout("H", "HHI4s", "I")
_BIG = _Layout("Q", "HHQ8s", "Q")


def read_directories(stream: BinaryIO, size: int, name: str) -> list[Directory]:
    """Read the first directories of a TIFF or BigTIFF file, 16 at most.

    Parameters
    ----------
    stream : binary file
        Seekable.
    size : int
        Length of the file in bytes.
    name : str
        What errors call the file.

    Returns
    -------
    list of Directory
        At least one; a last one that is cut off has the tags that are there.

    Raises
    ------
    ImageError
        ``truncated`` if the header or the first directory is cut off; ``damaged`` if there is none, or the chain of
        directories leads back into itself.
    """
    stream.seek(0)
    head = stream.read(16)
    order = "<" if head[:2] == b"II" else ">"
    layout = _BIG if head[2:4] in {b"+\0", b"\0+"} else _CLASSIC
    start = 8 if layout is _BIG else 4
    if len(head) < start + struct.calcsize(order + layout.pointer):
        raise ImageError(name, "truncated", "the TIFF header is cut off")
    (at,) = struct.unpack_from(order + layout.pointer, head, start)
    if at >= size:
        raise ImageError(name, "truncated", "the first TIFF directory lies beyond the end of the file")
    found: list[Directory] = []
    seen: set[int] = set()
    while 0 < at < size and len(found) < _MOST_DIRECTORIES:
        if at in seen:
            raise ImageError(name, "damaged", "the chain of TIFF directories bites its own tail")
        seen.add(at)
        directory, at = _read_directory(stream, at, order, layout)
        found.append(directory)
    if not found:
        raise ImageError(name, "damaged", "the TIFF file has no directory")
    return found


def _read_directory(stream: BinaryIO, at: int, order: str, layout: _Layout) -> tuple[Directory, int]:
    """Read one directory, and where the next one lies; 0 if there is none."""
    number, entry = struct.Struct(order + layout.number), struct.Struct(order + layout.entry)
    pointer = struct.Struct(order + layout.pointer)
    stream.seek(at)
    head = stream.read(number.size)
    count = number.unpack(head)[0] if len(head) == number.size else 0
    if count > _MOST_ENTRIES:  # no directory at all
        return Directory(order, {}, None, None), 0
    body = stream.read(count * entry.size + pointer.size)
    tags: dict[int, Tag] = {}
    sides: dict[int, int | None] = {}
    for index in range(min(count, len(body) // entry.size)):
        code, kind, values, inline = entry.unpack_from(body, index * entry.size)
        length = values * _TYPE_SIZES.get(kind, 1)
        field = at + number.size + (index + 1) * entry.size - len(inline)
        offset = field if length <= len(inline) else pointer.unpack(inline)[0]
        tags.setdefault(code, Tag(offset, length, len(inline)))
        if code in {_WIDTH, _LENGTH}:
            sides.setdefault(code, _side(inline, kind, order))
    following = (
        pointer.unpack_from(body, count * entry.size)[0] if len(body) == count * entry.size + pointer.size else 0
    )
    return Directory(order, tags, sides.get(_WIDTH), sides.get(_LENGTH)), following


def _side(inline: bytes, kind: int, order: str) -> int | None:
    """Read a width or a height, which stands in the directory itself."""
    form = _INTEGERS.get(kind)
    if form is None or struct.calcsize(order + form) > len(inline):
        return None
    value: int = struct.unpack_from(order + form, inline)[0]
    return value or None


def read_value(stream: BinaryIO, tag: Tag, most: int) -> bytes:
    """Read the value of a tag, `most` bytes of it at the most; less if the file ends before."""
    return read_at(stream, tag.offset, min(tag.size, most))


def read_at(stream: BinaryIO, offset: int, size: int) -> bytes:
    """Read bytes anywhere in a file; less, or none, where it ends before."""
    if offset >= 1 << 62:  # beyond what can be sought
        return b""
    stream.seek(offset)
    return stream.read(size)
