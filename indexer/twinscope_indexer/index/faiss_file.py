"""Published index file, in the format of FAISS.

The file contains an ``IndexBinaryIDMap`` (the ids), which contains an ``IndexBinaryFlat`` (the codes). FAISS writes the
same bytes and can read the file, but Twinscope does not need FAISS for it. A file with an ``IndexBinaryIDMap2`` has the
same layout and is also read.

The file is first written under a temporary name, and renamed only after its data are on the disk. The catalog stores
the SHA-256 of each index file, so that damaged files are detected.
"""

from __future__ import annotations

import os
import struct
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from twinscope_indexer.errors import StoreError
from twinscope_indexer.files import _sha256, sync_folder
from twinscope_indexer.hashing.codes import BITS, BYTES
from twinscope_indexer.index.protocol import require_codes, require_ids

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

    from numpy.typing import NDArray

    from twinscope_indexer.index.protocol import CodeBatches

_HEADER: Final = struct.Struct("<4siiq?i")
"""Header of an index: kind, bits and bytes of a code, number of codes, 1 for "trained", and 1 for "metric L2"."""
_COUNT: Final = struct.Struct("<Q")
"""Number of elements of an array; the elements follow."""
_WITH_IDS: Final = (b"IBMp", b"IBM2")
"""Kinds of the outer index: ``IndexBinaryIDMap`` and ``IndexBinaryIDMap2``."""
_FLAT: Final = b"IBxF"
"""Kind of the inner index: ``IndexBinaryFlat``."""


def write_index(path: Path, count: int, parts: CodeBatches) -> str:
    """Write an index file atomically: a reader finds either the old file or the complete new file.

    While the file is written, all ids and one batch of codes are in memory.

    Parameters
    ----------
    path : Path
    count : int
        Total number of codes in all batches.
    parts : iterable of (ids, codes)
        Batches of codes; see `CodeBatches`.

    Returns
    -------
    str
        SHA-256 of the file, in hexadecimal.

    Raises
    ------
    StoreError
        If the file cannot be written.
    ValueError
        If the shape or the type of a batch is wrong, or if the total number of codes is not `count`.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    digest = sha256()
    try:
        with temporary.open("wb") as stream:
            for piece in _pieces(count, parts):
                digest.update(piece)
                stream.write(piece)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        msg = f"index file {path} cannot be written: {error}"
        raise StoreError(msg) from error
    finally:
        temporary.unlink(missing_ok=True)
    return digest.hexdigest()


def _pieces(count: int, parts: CodeBatches) -> Iterator[bytes | memoryview]:
    """Yield the content of an index file piece by piece."""
    for kind in (_WITH_IDS[0], _FLAT):
        yield _HEADER.pack(kind, BITS, BYTES, count, True, 1)
    yield _COUNT.pack(count * BYTES)
    all_ids = np.empty(count, "<i8")
    written = 0
    for ids, codes in parts:
        end = written + len(require_codes(codes))
        checked = require_ids(ids, codes)
        if end <= count:
            all_ids[written:end] = checked
        yield np.ascontiguousarray(codes).data.cast("B") if len(codes) else b""
        written = end
    if written != count:
        msg = f"expected {count} codes for the index file, got {written}"
        raise ValueError(msg)
    yield _COUNT.pack(count)
    yield all_ids.data.cast("B") if count else b""


def read_index(path: Path, expected_sha256: str, size: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Read a published index file in batches.

    All ids and one batch of codes are in memory. Data that the caller builds from the batches need additional memory.

    Parameters
    ----------
    path : Path
    expected_sha256 : str
        SHA-256 of the published file, in hexadecimal.
    size : int
        Maximum number of codes in a batch.

    Yields
    ------
    ids : ndarray of int64, shape (n,)
    codes : ndarray of uint8, shape (n, 128)

    Raises
    ------
    StoreError
        If the file is missing, if the file cannot be read, if the file differs from the published file, or if the file
        holds another kind of index.
    """
    try:
        with path.open("rb", buffering=0) as stream:
            _require_sha256(stream, path, expected_sha256)
            layout = _layout(stream, path)
            ids = np.empty(layout.codes, "<i8")
            stream.seek(layout.ids_at)
            _fill(stream, path, ids.data)
            stream.seek(layout.codes_at)
            for first in range(0, layout.codes, size):
                some = ids[first : first + size]
                codes = np.empty((len(some), BYTES), np.uint8)
                _fill(stream, path, codes.data)
                yield some.astype(np.int64, copy=False), codes
    except OSError as error:
        msg = f"index file {path} cannot be read: {error.strerror or error}"
        raise StoreError(msg) from error


class _Layout(NamedTuple):
    """Number of codes in an index file, and the positions of the codes and of the ids, in bytes."""

    codes: int
    codes_at: int
    ids_at: int


def _require_sha256(stream: BinaryIO, path: Path, expected: str) -> None:
    found = _sha256(stream)
    if found != expected:
        msg = f"index file {path} is damaged (SHA-256 is {found[:12]}, expected {expected[:12]})"
        raise StoreError(msg)


def _layout(stream: BinaryIO, path: Path) -> _Layout:
    """Check the headers of an index file, and return its layout.

    Raises
    ------
    StoreError
        If the file is incomplete, or holds another kind of index.
    """
    stream.seek(0)
    heading = stream.read(2 * _HEADER.size + _COUNT.size)
    if len(heading) < 2 * _HEADER.size + _COUNT.size:
        raise _unsupported(path)
    outer, inner = _HEADER.unpack_from(heading), _HEADER.unpack_from(heading, _HEADER.size)
    count = outer[3]
    codes_at = len(heading)
    ids_at = codes_at + count * BYTES + _COUNT.size
    stream.seek(ids_at - _COUNT.size if count >= 0 else 0)
    counted = stream.read(_COUNT.size)
    if (
        outer[0] not in _WITH_IDS
        or inner[:4] != (_FLAT, BITS, BYTES, count)
        or outer[1] != BITS
        or _COUNT.unpack_from(heading, 2 * _HEADER.size) != (count * BYTES,)
        or len(counted) != _COUNT.size
        or _COUNT.unpack(counted) != (count,)
    ):
        raise _unsupported(path)
    return _Layout(count, codes_at, ids_at)


def _fill(stream: BinaryIO, path: Path, buffer: memoryview) -> None:
    """Fill a buffer with the next bytes of a file.

    Raises
    ------
    StoreError
        If the file ends before the buffer is full.
    """
    left = buffer.cast("B") if buffer.nbytes else memoryview(bytearray())
    while len(left):
        got = stream.readinto(left)  # type: ignore[attr-defined]
        if not got:
            raise _unsupported(path)
        left = left[got:]


def _unsupported(path: Path) -> StoreError:
    return StoreError(
        f"index file {path} holds an incomplete or unsupported index; expected a flat index of {BITS} bits with ids"
    )
