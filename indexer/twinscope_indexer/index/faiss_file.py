"""The published index file: FAISS's format of an ``IndexBinaryIDMap2`` over an ``IndexBinaryFlat``.

It is written and read in parts, byte for byte as FAISS does it (`faiss/impl/index_write.cpp`): FAISS itself needs all
codes twice for it, and a table from ids to places besides, which nothing here asks for. The file is a header for the
ids and one for the codes, then the codes, then the ids, both with their number; little-endian.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Final

import numpy as np

from twinscope_indexer.errors import StoreError
from twinscope_indexer.files import _sha256, file_sha256, sync_folder
from twinscope_indexer.hashing.codes import BITS, BYTES
from twinscope_indexer.index.protocol import require_codes, require_ids

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

    from numpy.typing import NDArray

    from twinscope_indexer.index.segments import Parts

_HEADER: Final = struct.Struct("<4siiq?i")
"""Kind of the index, bits and bytes of a code, number of codes, whether it is trained, and the metric."""
_NUMBER: Final = struct.Struct("<Q")
_L2: Final = 1
"""The metric that FAISS writes for binary indexes; it means nothing there."""
_ID: Final = 8
"""Bytes."""


def write_index(path: Path, count: int, parts: Parts) -> str:
    """Write an index file, in one step: a reader finds the old file or the whole new one.

    Parameters
    ----------
    path : Path
    count : int
        Codes of all parts.
    parts : iterable of (ids, codes)
        Distinct ids, int64, shape (n,), and their codes, uint8, shape (n, 128).

    Returns
    -------
    str
        SHA-256 of the file, hexadecimal.

    Raises
    ------
    StoreError
        If it cannot be written.
    ValueError
        If a shape, a type or the number of the codes is wrong.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            _write(stream, count, parts)
            stream.flush()
            os.fsync(stream.fileno())
        digest = file_sha256(temporary)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        msg = f"index file {path} cannot be written: {error}"
        raise StoreError(msg) from error
    finally:
        temporary.unlink(missing_ok=True)
    return digest


def _write(stream: BinaryIO, count: int, parts: Parts) -> None:
    stream.write(_heading(count))
    stream.write(_NUMBER.pack(count * BYTES))
    all_ids = [np.empty(0, np.int64)]
    for ids, codes in parts:
        stream.write(require_codes(codes).data)
        all_ids.append(require_ids(ids, codes))
    if (written := sum(map(len, all_ids))) != count:
        msg = f"{written} codes were given for an index file of {count}"
        raise ValueError(msg)
    stream.write(_NUMBER.pack(count))
    for ids in all_ids:
        stream.write(ids.data)


def _heading(count: int) -> bytes:
    return b"".join(_HEADER.pack(kind, BITS, BYTES, count, True, _L2) for kind in (b"IBM2", b"IBxF"))


def read_index(path: Path, expected_sha256: str, size: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Read a published index file in parts.

    Parameters
    ----------
    path : Path
    expected_sha256 : str
        Of the file that was published, hexadecimal.
    size : int
        Codes of a part.

    Yields
    ------
    ids : ndarray of int64, shape (n,)
    codes : ndarray of uint8, shape (n, 128)

    Raises
    ------
    StoreError
        Before the first part, if the file is missing, is not the one that was published, or holds another kind of
        index; later as well, if it cannot be read any more, or was cut short meanwhile.
    """
    try:
        with path.open("rb", buffering=0) as stream:
            _require_sha256(stream, path, expected_sha256)
            count = _count(stream, path)
            start = stream.tell()
            for first in range(0, count, size):
                rows = min(size, count - first)
                codes = _array(stream, start + first * BYTES, rows * BYTES, path)
                ids = _array(stream, start + count * BYTES + _NUMBER.size + first * _ID, rows * _ID, path)
                yield ids.view("<i8").astype(np.int64, copy=False), codes.reshape(rows, BYTES)
    except OSError as error:
        msg = f"index file {path} cannot be read: {error.strerror or error}"
        raise StoreError(msg) from error


def _require_sha256(stream: BinaryIO, path: Path, expected: str) -> None:
    found = _sha256(stream)
    if found != expected:
        msg = f"index file {path} is damaged (SHA-256 {found[:12]}, published as {expected[:12]})"
        raise StoreError(msg)


def _count(stream: BinaryIO, path: Path) -> int:
    """Read up to the codes; gives their number."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    heading = stream.read(2 * _HEADER.size)
    count = max(0, (size - len(heading) - 2 * _NUMBER.size) // (BYTES + _ID))
    rest = stream.read(_NUMBER.size)
    whole = len(heading) + 2 * _NUMBER.size + count * (BYTES + _ID)
    if heading != _heading(count) or rest != _NUMBER.pack(count * BYTES) or size != whole:
        msg = f"index file {path} holds something else than a flat index of {BITS} bits with ids (FAISS's IBM2, IBxF)"
        raise StoreError(msg)
    return count


def _array(stream: BinaryIO, place: int, size: int, path: Path) -> NDArray[np.uint8]:
    """Read some bytes straight into an array."""
    found = np.empty(size, np.uint8)
    rest = found.data
    stream.seek(place)
    while rest:
        if not (count := stream.readinto(rest)):  # type: ignore[attr-defined]
            msg = f"index file {path} was cut short while it was read"
            raise StoreError(msg)
        rest = rest[count:]
    return found
