"""The pages of a TIFF file: where they lie in the file, and which of them are pictures.

A page is a picture if it is not a mask and not a reduced copy of another page. Only the directories are read, not the
pixels.
"""

from __future__ import annotations

import io
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from twinscope_indexer.imaging.sniffing import ImageFile
from twinscope_indexer.imaging.tiff_directories import Directory, directory_offsets, read_directory_at, read_value

_NEW_SUBFILE, _SUBFILE, _PHOTOMETRIC = 254, 255, 262
_BITS, _COMPRESSION, _DESCRIPTION, _STRIP_OFFSETS, _SAMPLES = 258, 259, 270, 273, 277
_IMAGEJ_IMAGES: Final = re.compile(rb"^images=([0-9]{1,9})\r?$", re.MULTILINE)
_MOST_TEXT: Final = 4096  # bytes; ImageJ writes the number of images into the first lines
_MOST_PAGES: Final = 1 << 20
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType (TIFF 6.0, page 36)
_OLD_REDUCED: Final = 2  # value of SubfileType (TIFF 6.0, page 40)
_TRANSPARENCY: Final = 4  # PhotometricInterpretation of a mask
LEAST_SIDE: Final = 16
"""Minimum side of a picture, in pixels."""
_CHAINS_KEPT: Final = 16
"""Number of files whose chains stay in memory, because the pages of a file are usually read one after the other."""


@dataclass(frozen=True, slots=True)
class Chain:
    """The chain of directories of a TIFF file.

    Attributes
    ----------
    offsets : tuple of int
        Offset of the directory of each page.
    fault : str
        Reason why the chain ends before its last page; empty if the chain is complete.
    step : int
        Distance in bytes between the pixels of one page and the next page, if all pages share one directory; otherwise
        0. ImageJ writes such files if they have more than 4 GiB.
    """

    offsets: tuple[int, ...]
    fault: str
    step: int = 0


@dataclass(frozen=True, slots=True)
class Picture:
    """A page that holds a picture of its own.

    Attributes
    ----------
    number : int
        Number of the page in the file, counted from 1. All pages are counted, also pages that hold no picture.
    width, height : int
        Size in pixels.
    """

    number: int
    width: int
    height: int

    def may_reduce(self, other: Picture) -> bool:
        """Check whether the size of this picture is the size of another picture, reduced to a half or less."""
        same_shape = abs(self.width * other.height - self.height * other.width) <= max(other.width, other.height)
        return same_shape and 2 * self.width <= other.width + 1 and 2 * self.height <= other.height + 1


def chain_of(file: ImageFile) -> Chain:
    """Return the chain of directories of a TIFF file. For a file on disk, the chain is read only once.

    Raises
    ------
    ImageError
        If the file has no complete directory.
    """
    identity = _identity(file)
    if identity is None:
        return _read_chain(file)
    kept = _kept_chain(identity)
    if kept.chain is None:
        kept.chain = _read_chain(file)
    return kept.chain


def find_pictures(file: ImageFile) -> list[Picture]:
    """Return the pages of a TIFF file that hold a picture. The list is empty if the whole file holds no picture.

    If the file has at least two pictures and ends before its last page, the list also contains the first missing page,
    with a width and a height of 0. Reading this page raises an error with the reason.

    Raises
    ------
    ImageError
        If the file has no complete directory.
    """
    chain = chain_of(file)
    found = []
    for number, offset in enumerate(chain.offsets, 1):
        directory = read_directory_at(file, offset)
        width, height = directory.width or 0, directory.height or 0
        if min(width, height) >= LEAST_SIDE and _is_picture(file, directory):
            found.append(Picture(number, width, height))
    if chain.fault and len(found) > 1:
        found.append(Picture(len(chain.offsets) + 1, 0, 0))
    return found


def _is_picture(file: ImageFile, directory: Directory) -> bool:
    kind = _number(file, directory, _NEW_SUBFILE)
    if kind & (_REDUCED | _MASK) or _number(file, directory, _PHOTOMETRIC) == _TRANSPARENCY:
        return False
    return kind != 0 or _number(file, directory, _SUBFILE) != _OLD_REDUCED


def _number(file: ImageFile, directory: Directory, code: int) -> int:
    """Return the integer of a tag, or 0 if the directory does not have the tag."""
    tag = directory.tags.get(code)
    if tag is None or tag.size > tag.inline:
        return 0
    order: Literal["little", "big"] = "little" if directory.order == "<" else "big"
    return int.from_bytes(read_value(file.stream, tag, tag.inline), order)


def _read_chain(file: ImageFile) -> Chain:
    offsets, fault = directory_offsets(file)
    if len(offsets) == 1:
        shared = _shared_directory(file, offsets[0])
        if shared is not None:
            return shared
    return Chain(tuple(offsets), fault)


def _shared_directory(file: ImageFile, offset: int) -> Chain | None:
    """Return the chain of a file of ImageJ in which all pages share the only directory; None for any other file."""
    directory = read_directory_at(file, offset)
    description = directory.tags.get(_DESCRIPTION)
    text = b"" if description is None else read_value(file.stream, description, _MOST_TEXT)
    found = _IMAGEJ_IMAGES.search(text) if text.startswith(b"ImageJ=") else None
    bits, first = (_number(file, directory, code) for code in (_BITS, _STRIP_OFFSETS))
    samples = _number(file, directory, _SAMPLES) or 1
    step = (directory.width or 0) * (directory.height or 0) * samples * bits // 8
    plain = _number(file, directory, _COMPRESSION) in {0, 1} and bits in {8, 16, 32} and samples == 1
    if found is None or int(found[1]) < 2 or not plain or not first or not step:
        return None
    there = min(int(found[1]), (file.size - first) // step, _MOST_PAGES)
    if there < 1:
        return None
    return Chain((offset,) * there, "" if there == int(found[1]) else "the file ends before this page", step)


@dataclass(slots=True)
class _Kept:
    """The chain of one file; None if the chain has not been read yet."""

    chain: Chain | None = None


@lru_cache(maxsize=_CHAINS_KEPT)
def _kept_chain(identity: tuple[int, ...]) -> _Kept:  # noqa: ARG001  the argument is the key
    return _Kept()


def _identity(file: ImageFile) -> tuple[int, ...] | None:
    """Return values that change if the content of a file on disk changes; None if the content is in memory."""
    try:
        found = os.fstat(file.stream.fileno())
    except (OSError, io.UnsupportedOperation):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
