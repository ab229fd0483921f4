"""Published index file: FAISS writes and reads this file.

The file contains an ``IndexBinaryIDMap`` (the ids), which contains an ``IndexBinaryFlat`` (the codes).

FAISS does not wait until the data of a file are on the disk. Therefore this module first writes a temporary file, and
renames the temporary file only after its data are on the disk. FAISS does not detect damaged files. Therefore the
catalog stores the SHA-256 of each index file.

The module can also read a file that contains an ``IndexBinaryIDMap2``. This class has an additional table, which gives
the row of each id. Twinscope does not need this table. The table needs one third as much memory as the codes.
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
"""Number of bytes that FAISS reads or writes at a time."""


def write_index(path: Path, count: int, parts: CodeBatches) -> str:
    """Write an index file atomically: a reader finds either the old file or the complete new file.

    While the file is written, one copy of all codes is in memory.

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
    """Build the FAISS index that a file will contain."""
    import faiss

    flat = faiss.IndexBinaryFlat(BITS)
    index = faiss.IndexBinaryIDMap(flat)
    for vector, size in ((flat.xb, count * BYTES), (index.id_map, count)):
        # Reserve the memory for all codes now. Otherwise, FAISS would double the memory whenever a vector is full.
        vector.resize(size)
        vector.resize(0)
    for ids, codes in parts:
        index.add_with_ids(require_codes(codes), require_ids(ids, codes))
    if index.ntotal != count:
        msg = f"expected {count} codes for the index file, got {index.ntotal}"
        raise ValueError(msg)
    return index


def _written(index: Any, stream: BinaryIO) -> str:
    """Write an index to a stream; return the SHA-256 of the written data."""
    import faiss

    digest = sha256()

    def write(data: bytes) -> None:
        digest.update(data)
        stream.write(data)

    faiss.write_index_binary(index, faiss.PyCallbackIOWriter(write, _CHUNK))
    return digest.hexdigest()


def read_index(path: Path, expected_sha256: str, size: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Read a published index file in batches.

    FAISS first reads the complete file into a FAISS index. Then this function copies the codes, batch by batch. After
    each batch, the function frees the memory of the copied codes in the FAISS index. So each code is in memory only
    once: in the FAISS index or in a batch. Data that the caller builds from the batches need additional memory.

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
        holds another kind of index. The error is raised before the first batch is returned.
    """
    try:
        with path.open("rb", buffering=0) as stream:
            _require_sha256(stream, path, expected_sha256)
            stream.seek(0)
            index = _read(stream, path)
    except OSError as error:
        msg = f"index file {path} cannot be read: {error.strerror or error}"
        raise StoreError(msg) from error
    yield from _batches(index, size)


def _require_sha256(stream: BinaryIO, path: Path, expected: str) -> None:
    found = _sha256(stream)
    if found != expected:
        msg = f"index file {path} is damaged (SHA-256 is {found[:12]}, expected {expected[:12]})"
        raise StoreError(msg)


def _read(stream: BinaryIO, path: Path) -> Any:
    """Read an index from a stream.

    Raises
    ------
    StoreError
        If FAISS cannot read the data, or if the data are another kind of index.
    """
    import faiss

    try:
        index = faiss.read_index_binary(faiss.PyCallbackIOReader(stream.read, _CHUNK))
        flat = faiss.downcast_IndexBinary(index.index) if isinstance(index, faiss.IndexBinaryIDMap) else None
    except RuntimeError as error:
        msg = f"index file {path} holds data that FAISS cannot read: {error}"
        raise StoreError(msg) from error
    if not isinstance(flat, faiss.IndexBinaryFlat) or index.d != BITS or index.id_map.size() != flat.ntotal:
        msg = f"index file {path} holds an unsupported index; expected a flat index of {BITS} bits with ids"
        raise StoreError(msg)
    return index


def _batches(index: Any, size: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Yield the ids and the codes of a FAISS index in batches.

    The function frees the memory of the index step by step. Afterwards, the index cannot be used.
    """
    import faiss

    flat = faiss.downcast_IndexBinary(index.index)
    ids: NDArray[np.int64] = faiss.vector_to_array(index.id_map)
    for first in range(0, flat.ntotal, size):
        rows = min(size, flat.ntotal - first)
        batch = ids[first : first + rows], flat.reconstruct_n(first, rows)
        _release(int(flat.xb.data()) + first * BYTES, rows * BYTES)
        yield batch
        del batch


def _release(address: int, size: int) -> None:
    """Return the memory of an address range to the operating system.

    Only complete memory pages are returned. Afterwards, the program must not read this range.
    """
    first = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (address + size) // mmap.PAGESIZE * mmap.PAGESIZE
    if first < end and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        with suppress(OSError, AttributeError):  # some C libraries have no madvise
            ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(end - first), mmap.MADV_DONTNEED)
