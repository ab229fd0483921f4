"""Check whether an image file can be read without the compiled decoders of other libraries.

A damaged file can crash a compiled decoder. A TIFF file that is not compressed needs no decoder: NumPy copies the
pixels from the file. Most microscopes write such files.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal

from twinscope_indexer.errors import ImageError
from twinscope_indexer.imaging.sniffing import ImageFile, opened
from twinscope_indexer.imaging.tiff_directories import Directory, read_directories, read_value
from twinscope_indexer.imaging.tiff_pages import chain_of

if TYPE_CHECKING:
    from pathlib import Path

_BITS, _COMPRESSION, _FILL_ORDER, _PREDICTOR = 258, 259, 266, 317
_WHOLE_BYTES: Final = frozenset({8, 16, 32, 64})
"""Bits per sample that NumPy can read without a decoder."""
_MOST_SAMPLES: Final = 16


def needs_codec(path: Path) -> bool:
    """Check whether a compiled decoder is needed to read an image file.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bool
        False only for a TIFF file whose pixels are not compressed and whose samples consist of whole bytes. Every
        directory of the file must state both facts, or imply them by missing tags. True for all other files, and for
        files that cannot be read.
    """
    with suppress(ImageError), opened(path) as file:
        return file.format != "TIFF" or not _is_plain(file)
    return True


def _is_plain(file: ImageFile) -> bool:
    directories = read_directories(file)
    chain = chain_of(file)
    all_read = len(chain.offsets) == len(directories) and not chain.fault
    return all_read and all(_has_plain_pixels(file, directory) for directory in directories)


def _has_plain_pixels(file: ImageFile, directory: Directory) -> bool:
    for code in (_COMPRESSION, _FILL_ORDER, _PREDICTOR):  # the default of each tag is 1: no processing
        if _numbers(file, directory, code) not in (None, {1}):
            return False
    bits = _numbers(file, directory, _BITS)
    return bits is not None and bits <= _WHOLE_BYTES


def _numbers(file: ImageFile, directory: Directory, code: int) -> set[int] | None:
    """Return the distinct values of a tag with 16-bit values, or None if the directory does not have the tag."""
    tag = directory.tags.get(code)
    if tag is None:
        return None
    value = read_value(file.stream, tag, 2 * _MOST_SAMPLES)
    if len(value) != tag.size or len(value) % 2:
        return {0}
    order: Literal["little", "big"] = "little" if directory.order == "<" else "big"
    return {int.from_bytes(value[at : at + 2], order) for at in range(0, len(value), 2)}
