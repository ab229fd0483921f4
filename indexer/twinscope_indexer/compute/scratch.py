"""Scratch arrays: large arrays that lie in a temporary file instead of in memory.

An array above `LIMIT` is mapped into memory from a temporary file. The file has no name, and the system removes it when
the array is no longer used. All code can use the array like any other array. The parts that were used stay in memory
until `release` is called. The values stay in the file. A long scan therefore uses `bands`, which calls `release`.

Below the limit, the functions of this module return ordinary arrays, and `bands` yields the whole array.
"""

from __future__ import annotations

import errno
import math
import mmap
import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import DTypeLike, NDArray

LIMIT = 256 << 20
"""Maximum size in bytes of an array that lies in memory."""

STEP = 48 << 20
"""Number of bytes of a scratch array that a scan may use before it calls `release`."""

_TILES: Final = (64, 2048)  # pixels; least and largest side of the tiles in which an array is copied
_PAGE: Final = mmap.PAGESIZE
_NOT_OFFERED: Final = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS})


class ScratchSpaceError(MemoryError):
    """The folder for temporary files has no room for a large array. `ImageError` reports this to the caller."""


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return a new array, as `numpy.empty` does. A scratch array contains zeros.

    Raises
    ------
    ScratchSpaceError
        If the folder for temporary files has no room for a scratch array.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return np.empty(shape, dtype) if size <= LIMIT else np.ndarray(shape, dtype, _mapped(size))


def zeros(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return a new array of zeros. The errors are the same as for `empty`."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return np.zeros(shape, dtype) if size <= LIMIT else empty(shape, dtype)


def is_scratch(array: NDArray[Any]) -> bool:
    """Return whether an array is a scratch array or a part of a scratch array."""
    return _mapping_of(array) is not None


def release(*arrays: NDArray[Any]) -> None:
    """Take scratch arrays out of memory. The values are read from the file when they are used again.

    The call has no effect on ordinary arrays, and no effect on Windows.
    """
    if hasattr(mmap, "MADV_DONTNEED"):
        for array in arrays:
            mapping = _mapping_of(array)
            if mapping is not None:
                mapping.madvise(mmap.MADV_DONTNEED)


def bands(array: NDArray[Any], *others: NDArray[Any], multiple: int = 1) -> Iterator[slice]:
    """Yield slices of the first axis of an array, and release the arrays after each slice.

    If none of the arrays is a scratch array, there is only one slice.

    Parameters
    ----------
    array : ndarray
        Array of at least one dimension.
    *others : ndarray
        Further arrays that are used in the same bands.
    multiple : int
        The length of each slice is a multiple of this number, except for the last slice.
    """
    length = len(array)
    if not any(is_scratch(one) for one in (array, *others)):
        yield slice(0, length)
        return
    line = max(one.nbytes // max(len(one), 1) for one in (array, *others))
    step = max(STEP // max(line, 1) // multiple, 1) * multiple
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))
        release(array, *others)


def every(step: int, array: NDArray[Any]) -> NDArray[Any]:
    """Return ``array[::step]``; a copy in memory if the array is a scratch array."""
    if not is_scratch(array):
        return array[::step]
    return np.concatenate([array[band][::step].copy() for band in bands(array, multiple=step)])


def packed(array: NDArray[Any]) -> NDArray[Any]:
    """Return a C-contiguous copy of an array that is a part or a turned view of a scratch array.

    The values are copied in tiles. Ordinary arrays and contiguous arrays are returned without a copy.
    """
    if array.flags.c_contiguous or not is_scratch(array):
        return array
    copy = empty(array.shape, array.dtype)
    # The system may map all lines of a tile, not only their pixels in the tile.
    side = min(max(STEP // max(*map(abs, array.strides), copy.strides[0]), _TILES[0]), _TILES[1])
    for top in range(0, array.shape[0], side):
        for left in range(0, array.shape[1], side):
            tile = slice(top, top + side), slice(left, left + side)
            copy[tile] = array[tile]
            release(array, copy)
    return copy


class Usage:
    """Counter for a scratch array that is written part by part: how many bytes of the array are in memory.

    Parameters
    ----------
    array : ndarray
        The array. If it is no scratch array, the object does nothing.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array
        self._counts = is_scratch(array)
        self._used = 0

    def add(self, part: NDArray[Any]) -> None:
        """Count a part that was written. If too much of the array is in memory, release the array."""
        if self._counts:
            line = part.nbytes // max(len(part), 1)
            self._used += len(part) * (line + _PAGE)  # the first and the last page of a line are only partly used
            if self._used >= 2 * STEP:
                release(self._array)
                self._used = 0


def _mapped(size: int) -> mmap.mmap:
    """Return a mapping of a new temporary file."""
    try:
        with tempfile.TemporaryFile(prefix="twinscope-") as file:  # the mapping keeps the file
            _allocate(file.fileno(), size)
            return mmap.mmap(file.fileno(), size)
    except OSError as error:
        msg = (
            f"decoding it needs {size / 1e9:.1f} GB in the folder for temporary files, {_folder()}: "
            f"{error.strerror or error}. Make room there, or set the environment variable TMPDIR to another folder"
        )
        raise ScratchSpaceError(msg) from error


def _allocate(descriptor: int, size: int) -> None:
    """Give a file its size on the disk. Otherwise, the system would end this process when the disk is full."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in _NOT_OFFERED:
                raise
        else:
            return
    if shutil.disk_usage(_folder()).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.truncate(descriptor, size)


def _folder() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:  # there is no folder that can be written
        return os.environ.get("TMPDIR", "which does not exist")


def _mapping_of(array: NDArray[Any]) -> mmap.mmap | None:
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None
