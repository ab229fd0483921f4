"""The published index file, in FAISS's format (``IndexBinaryIDMap2`` over ``IndexBinaryFlat``), written in one step."""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from twinscope_indexer.errors import StoreError
from twinscope_indexer.hamming import require_codes, require_ids
from twinscope_indexer.hashing import BITS, BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def write_index(path: Path, ids: NDArray[np.int64], codes: NDArray[np.uint8]) -> str:
    """Write an index file, in one step: a reader finds the old file or the whole new one.

    Parameters
    ----------
    path : Path
    ids : ndarray of int64, shape (n,)
        Distinct.
    codes : ndarray of uint8, shape (n, 128)

    Returns
    -------
    str
        SHA-256 of the file, hexadecimal.

    Raises
    ------
    StoreError
        If it cannot be written.
    ValueError
        If a shape or a type is wrong.
    """
    import faiss

    codes = require_codes(codes)
    index = faiss.IndexBinaryIDMap2(faiss.IndexBinaryFlat(BITS))
    if len(codes):
        index.add_with_ids(codes, require_ids(ids, codes))
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        faiss.write_index_binary(index, str(temporary))
        digest = file_sha256(temporary)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # RuntimeError: what FAISS makes of a full disk
        msg = f"index file {path} cannot be written: {error}"
        raise StoreError(msg) from error
    finally:
        temporary.unlink(missing_ok=True)
    return digest


def read_index(path: Path, expected_sha256: str) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Read a published index file.

    Returns
    -------
    ids : ndarray of int64, shape (n,)
    codes : ndarray of uint8, shape (n, 128)

    Raises
    ------
    StoreError
        If the file is missing, is not the one that was published, or holds another kind of index.
    """
    import faiss

    try:
        found = file_sha256(path)
    except OSError as error:
        msg = f"index file {path} cannot be read: {error.strerror or error}"
        raise StoreError(msg) from error
    if found != expected_sha256:
        msg = f"index file {path} is damaged (SHA-256 {found[:12]}, published as {expected_sha256[:12]})"
        raise StoreError(msg)
    try:
        index: Any = faiss.read_index_binary(str(path))
    except RuntimeError as error:
        msg = f"index file {path} holds no binary index: {error}"
        raise StoreError(msg) from error
    inner = faiss.downcast_IndexBinary(index.index) if isinstance(index, faiss.IndexBinaryIDMap2) else None
    if not isinstance(inner, faiss.IndexBinaryFlat) or index.d != BITS:
        msg = f"index file {path} holds a {type(index).__name__} of {index.d} bits, not a flat one of {BITS}"
        raise StoreError(msg)
    codes: NDArray[np.uint8] = faiss.vector_to_array(cast("Any", inner).xb).reshape(-1, BYTES)
    return faiss.vector_to_array(index.id_map), codes


def file_sha256(path: Path) -> str:
    """Give the SHA-256 of a file, hexadecimal."""
    digest = sha256()
    buffer = memoryview(bytearray(1 << 20))
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
