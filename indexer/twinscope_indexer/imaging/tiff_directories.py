"""Reading of the directories of a TIFF file: the number of directories, and the position of the value of each tag.

tifffile has readers for the tags of several vendors. Twinscope does not use the readers of tifffile, for three reasons.
The readers convert text to numbers, but Twinscope must keep the original text. The readers trust numbers in the text. A
hostile file can therefore cause unlimited use of memory, or a run time that is quadratic in the file size. The readers
take several times as long as this module. The tests compare the results of tifffile's readers with the results of this
module.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

from twinscope_indexer.errors import ImageError
from twinscope_indexer.imaging.sniffing import ImageFile

_MOST_DIRECTORIES = 16  # vendors write their tags into the first directories of a file
_MOST_LINKS = 1 << 20
_MOST_ENTRIES = 4096  # as in tifffile
# Type -> number of bytes of one value (TIFF 6.0, page 15). Type 13 is a later addition, and types 16 to 18 are from
# BigTIFF. A value of any other type counts as one byte.
_TYPE_SIZES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WIDTH, _LENGTH = 256, 257
_INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}


@dataclass(frozen=True, slots=True)
class Tag:
    """The position of the value of a tag in the file."""

    offset: int
    size: int
    """Number of bytes of the value, according to the directory."""
    inline: int
    """Maximum number of bytes of a value that is stored in the directory: 4 in TIFF, 8 in BigTIFF."""


@dataclass(frozen=True, slots=True)
class Directory:
    """The directory of one page of a TIFF file: the tags, and the width and height of the page."""

    order: str
    """Byte order: ``<`` or ``>``, as in `struct`."""
    tags: dict[int, Tag]
    width: int | None
    height: int | None


@dataclass(frozen=True, slots=True)
class _Layout:
    """The formats of the numbers in a file.

    The formats depend on the byte order, and are different in TIFF and BigTIFF.
    """

    order: str
    number: struct.Struct
    """Format of the number of entries of a directory."""
    entry: struct.Struct
    pointer: struct.Struct
    first: int
    """Position of the pointer to the first directory."""

    @classmethod
    def of(cls, head: bytes) -> _Layout:
        """Return the layout that the first bytes of a file define."""
        order = "<" if head[:2] == b"II" else ">"
        big = head[2:4] in {b"+\0", b"\0+"}
        forms = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
        number, entry, pointer = (struct.Struct(order + form) for form in forms)
        return cls(order, number, entry, pointer, 8 if big else 4)


@dataclass(frozen=True, slots=True)
class _Link:
    """The position of one directory in the chain of directories of a file."""

    layout: _Layout
    offset: int
    entries: int
    """Number of entries, according to the directory. If the file ends before this number, the value is 0."""
    following: int
    """Offset of the next directory. At the end of the chain, the offset is 0. If the rest of the chain is missing, the
    offset is at least the size of the file."""


def count_directories(file: ImageFile) -> tuple[int, bool]:
    """Count the directories of a TIFF or BigTIFF file.

    Returns
    -------
    int
        Number of directories, at least one.
    bool
        Whether the chain of directories is complete. If this value is False, the last part of the chain is missing. A
        chain that leads back to one of its directories is complete, because the circle contains all directories.

    Raises
    ------
    ImageError
        As for `read_directories`.
    """
    offsets: set[int] = set()
    following = 0
    for link in _chain(file):
        offsets.add(link.offset)
        following = link.following
    return len(offsets), following == 0 or following in offsets


def read_directories(file: ImageFile) -> list[Directory]:
    """Read at most the first 16 directories of a TIFF or BigTIFF file.

    Returns
    -------
    list of Directory
        At least one directory. If the last directory is cut off, the result contains only the tags that are present.

    Raises
    ------
    ImageError
        The fault is ``truncated`` if the header or the first directory is cut off. The fault is ``damaged`` if the file
        has no directory.
    """
    return [_read_directory(file, link) for link in islice(_chain(file), _MOST_DIRECTORIES)]


def directory_offsets(file: ImageFile) -> tuple[list[int], str]:
    """Return the offsets of the directories of a TIFF or BigTIFF file, and the fault that ends their chain early.

    Returns
    -------
    list of int
        At least one offset, in the order of the chain.
    str
        Description of the fault. The text is empty if the chain is complete, or if its last pointer leads to an earlier
        directory or to something that is not a directory.

    Raises
    ------
    ImageError
        As for `read_directories`, if there is not even one directory.
    """
    offsets: list[int] = []
    following = 0
    try:
        for link in _chain(file):
            if offsets and not _is_directory(file, link):
                return offsets, ""
            offsets.append(link.offset)
            following = link.following
    except ImageError:
        if not offsets:
            raise
        return offsets, ""
    return offsets, "the file ends before this page" if following >= file.size else ""


def _is_directory(file: ImageFile, link: _Link) -> bool:
    """Check whether some bytes can be a directory: the first entry has a known type, or is cut off."""
    entry = read_at(file.stream, link.offset + link.layout.number.size, link.layout.entry.size)
    if len(entry) < link.layout.entry.size:
        return True
    return link.entries > 0 and 1 <= link.layout.entry.unpack(entry)[1] <= max(_TYPE_SIZES)


def read_directory_at(file: ImageFile, offset: int) -> Directory:
    """Read the directory at an offset that `directory_offsets` returned."""
    file.stream.seek(0)
    return _read_directory(file, _link(file, offset, _Layout.of(file.stream.read(16))))


def _chain(file: ImageFile) -> Iterator[_Link]:
    """Yield the directories of a file, in the order of the chain.

    The chain ends at a pointer that leads back to an earlier directory, or to something that is not a directory. Pages
    before such a pointer can be complete.
    """
    file.stream.seek(0)
    head = file.stream.read(16)
    layout = _Layout.of(head)
    if len(head) < layout.first + layout.pointer.size:
        raise ImageError(file.name, "truncated", "the TIFF header is cut off")
    (at,) = layout.pointer.unpack_from(head, layout.first)
    if at >= file.size:
        raise ImageError(file.name, "truncated", "the file ends before the first TIFF directory")
    if at == 0:
        raise ImageError(file.name, "damaged", "the TIFF file has no directory")
    seen: set[int] = set()
    while 0 < at < file.size:
        if at in seen:
            return
        if len(seen) == _MOST_LINKS:
            raise ImageError(file.name, "damaged", f"the TIFF file has more than {_MOST_LINKS:,} directories")
        seen.add(at)
        link = _link(file, at, layout)
        if link.entries > _MOST_ENTRIES and len(seen) > 1:
            return
        yield link
        at = link.following


def _link(file: ImageFile, at: int, layout: _Layout) -> _Link:
    head = read_at(file.stream, at, layout.number.size)
    if len(head) < layout.number.size:
        return _Link(layout, at, 0, file.size)
    (entries,) = layout.number.unpack(head)
    pointer = read_at(file.stream, at + layout.number.size + entries * layout.entry.size, layout.pointer.size)
    cut_off = len(pointer) < layout.pointer.size
    return _Link(layout, at, entries, file.size if cut_off else layout.pointer.unpack(pointer)[0])


def _read_directory(file: ImageFile, link: _Link) -> Directory:
    """Read the tags of one directory. If the directory claims more than `_MOST_ENTRIES` entries, read no tags."""
    layout = link.layout
    start = link.offset + layout.number.size
    entries = link.entries if link.entries <= _MOST_ENTRIES else 0
    body = read_at(file.stream, start, entries * layout.entry.size)
    tags: dict[int, Tag] = {}
    sides: dict[int, int | None] = {}
    for at in range(0, len(body) - layout.entry.size + 1, layout.entry.size):
        code, kind, values, inline = layout.entry.unpack_from(body, at)
        length = values * _TYPE_SIZES.get(kind, 1)
        field = start + at + layout.entry.size - len(inline)
        offset = field if length <= len(inline) else layout.pointer.unpack(inline)[0]
        tags.setdefault(code, Tag(offset, length, len(inline)))
        if code in {_WIDTH, _LENGTH}:
            sides.setdefault(code, _side(inline, kind, layout.order))
    return Directory(layout.order, tags, sides.get(_WIDTH), sides.get(_LENGTH))


def _side(inline: bytes, kind: int, order: str) -> int | None:
    """Return a width or height that is stored in the directory, or None if this value is not a positive integer."""
    form = _INTEGERS.get(kind)
    if form is None or struct.calcsize(order + form) > len(inline):
        return None
    value: int = struct.unpack_from(order + form, inline)[0]
    return value or None


def read_value(stream: BinaryIO, tag: Tag, most: int) -> bytes:
    """Read the value of a tag, but at most `most` bytes. The result is shorter if the file ends earlier."""
    return read_at(stream, tag.offset, min(tag.size, most))


def read_at(stream: BinaryIO, offset: int, size: int) -> bytes:
    """Read `size` bytes at a position in a file. The result is shorter, or empty, if the file ends earlier."""
    if offset >= 1 << 62:  # larger than any file position
        return b""
    stream.seek(offset)
    return stream.read(size)
