"""The published index file: FAISS's ``IndexBinaryIDMap`` over an ``IndexBinaryFlat``, written and read by FAISS.

FAISS neither makes a file durable nor notices a damaged one. So a file gets its name only once it is on the disk, and
its SHA-256 is kept beside it. Files of the kind ``IndexBinaryIDMap2`` are read, too; that one has a table from ids to
rows besides, which nothing here needs, and which takes a third of the memory of the codes.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

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

_CHUNK: Final = 1 << 20
"""Bytes that FAISS reads or writes at a time."""


def write_index(path: Path, count: int, parts: CodeBatches) -> str:
    """Write an index file, in one step: a reader finds the old file or the whole new one.

    All codes are in memory once, until the file is written.

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
    index = _built(count, parts)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            digest = _written(index, stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        msg = f"index file {path} cannot be written: {error}"
        raise StoreError(msg) from error
    finally:
        temporary.unlink(missing_ok=True)
    return digest


def _built(count: int, parts: CodeBatches) -> Any:
    """Build the index of a file."""
    import faiss

    flat = faiss.IndexBinaryFlat(BITS)
    index = faiss.IndexBinaryIDMap(flat)
    for vector, size in ((flat.xb, count * BYTES), (index.id_map, count)):
        vector.resize(size)  # its memory stays when it is emptied; else it would double as it grows
        vector.resize(0)
    for ids, codes in parts:
        index.add_with_ids(require_codes(codes), require_ids(ids, codes))
    if index.ntotal != count:
        msg = f"{index.ntotal} codes were given for an index file of {count}"
        raise ValueError(msg)
    return index


def _written(index: Any, stream: BinaryIO) -> str:
    """Write an index into a stream; return the SHA-256."""
    import faiss

    digest = sha256()

    def write(data: bytes) -> None:
        digest.update(data)
        stream.write(data)

    faiss.write_index_binary(index, faiss.PyCallbackIOWriter(write, _CHUNK))
    return digest.hexdigest()


def read_index(path: Path, expected_sha256: str, size: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Read a published index file in parts.

    FAISS reads all of it, and gives the memory of a part back once that is copied: so the codes are in memory once, and
    again what the caller makes of the parts that it had.

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
        Before the first part, if the file is missing, is not the one that was published, cannot be read, or holds
        another kind of index.
    """
    try:
        with path.open("rb", buffering=0) as stream:
            _require_sha256(stream, path, expected_sha256)
            stream.seek(0)
            index = _read(stream, path)
    except OSError as error:
        msg = f"index file {path} cannot be read: {error.strerror or error}"
        raise StoreError(msg) from error
    yield from _parts(index, size)


def _require_sha256(stream: BinaryIO, path: Path, expected: str) -> None:
    found = _sha256(stream)
    if found != expected:
        msg = f"index file {path} is damaged (SHA-256 {found[:12]}, published as {expected[:12]})"
        raise StoreError(msg)


def _read(stream: BinaryIO, path: Path) -> Any:
    """Read an index from a stream.

    Raises
    ------
    StoreError
        If it is of another kind.
    """
    import faiss

    try:
        index = faiss.read_index_binary(faiss.PyCallbackIOReader(stream.read, _CHUNK))
        flat = faiss.downcast_IndexBinary(index.index) if isinstance(index, faiss.IndexBinaryIDMap) else None
    except RuntimeError as error:
        msg = f"index file {path} holds something else than FAISS can read: {error}"
        raise StoreError(msg) from error
    if not isinstance(flat, faiss.IndexBinaryFlat) or index.d != BITS or index.id_map.size() != flat.ntotal:
        msg = f"index file {path} holds something else than a flat index of {BITS} bits with ids (IndexBinaryIDMap)"
        raise StoreError(msg)
    return index


def _parts(index: Any, size: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Take an index apart; its memory is given back meanwhile, so that it is of no use afterwards."""
    import faiss

    flat = faiss.downcast_IndexBinary(index.index)
    ids: NDArray[np.int64] = faiss.vector_to_array(index.id_map)
    for first in range(0, flat.ntotal, size):
        rows = min(size, flat.ntotal - first)
        part = ids[first : first + rows], flat.reconstruct_n(first, rows)
        _give_back(int(flat.xb.data()) + first * BYTES, rows * BYTES)
        yield part
        del part


def _give_back(address: int, size: int) -> None:
    """Let the system have the whole pages of some memory, which nobody reads any more."""
    first = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (address + size) // mmap.PAGESIZE * mmap.PAGESIZE
    if first < end:
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(end - first), mmap.MADV_DONTNEED)
