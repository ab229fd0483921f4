"""Exact nearest neighbours in Hamming distance: the protocol of an index, and FAISS behind it.

Every index answers like a scan over all codes: all neighbours within the limit, ordered by (distance, id), cut to k.
FAISS itself promises no order among equal distances, so ties at the k-th place are resolved here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from twinscope_indexer.errors import StoreError
from twinscope_indexer.hashing import BITS, BYTES

if TYPE_CHECKING:
    from pathlib import Path

    import faiss
    from numpy.typing import NDArray


_CORES = os.cpu_count() or 1

_COMPARISONS_PER_THREAD = 50_000
"""Codes times queries, about a millisecond of work, below which waking a thread costs more than it gives."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The neighbours of one query, ordered by (distance, id).

    Attributes
    ----------
    ids : ndarray of int64, shape (n,)
    distances : ndarray of int32, shape (n,)
        Bits.
    """

    ids: NDArray[np.int64]
    distances: NDArray[np.int32]


NO_NEIGHBOURS: Final = Neighbours(np.empty(0, np.int64), np.empty(0, np.int32))


class HammingIndex(Protocol):
    """An immutable set of codes that can be searched from several threads at a time."""

    def __len__(self) -> int:
        """Count the codes."""

    def search(self, queries: NDArray[np.uint8], k: int, max_distance: int) -> list[Neighbours]:
        """Find the k nearest codes of each query.

        Parameters
        ----------
        queries : ndarray of uint8, shape (n, 128)
        k : int
            At least 1.
        max_distance : int
            Bits; farther codes are left out.

        Returns
        -------
        list of Neighbours
            One for each query.

        Raises
        ------
        ValueError
            If the shape, the type or a limit is out of range.
        """


def require_codes(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Check that codes are what FAISS may be given: it does not check by itself, and would read out of bounds.

    Raises
    ------
    ValueError
        If `codes` is not uint8 of shape (n, 128).
    """
    if codes.ndim != 2 or codes.shape[1] != BYTES or codes.dtype != np.uint8:
        msg = f"codes must be uint8 of shape (n, {BYTES}); got {codes.dtype} of shape {codes.shape}"
        raise ValueError(msg)
    return np.ascontiguousarray(codes)


def require_limits(k: int, max_distance: int) -> None:
    """Check the limits of a search.

    Raises
    ------
    ValueError
        If `k` is below 1 or `max_distance` outside 0 to 1024.
    """
    if k < 1:
        msg = f"k must be at least 1, got {k}"
        raise ValueError(msg)
    if not 0 <= max_distance <= BITS:
        msg = f"max_distance must be 0 to {BITS} bits, got {max_distance}"
        raise ValueError(msg)


class FlatIndex:
    """A full scan by FAISS (``IndexBinaryIDMap2`` over ``IndexBinaryFlat``).

    Parameters
    ----------
    ids : ndarray of int64, shape (n,)
        Distinct.
    codes : ndarray of uint8, shape (n, 128)
    """

    def __init__(self, ids: NDArray[np.int64], codes: NDArray[np.uint8]) -> None:
        import faiss

        codes = require_codes(codes)
        if ids.shape != (len(codes),):
            msg = f"{len(codes)} codes need as many ids; got shape {ids.shape}"
            raise ValueError(msg)
        index = faiss.IndexBinaryIDMap2(faiss.IndexBinaryFlat(BITS))
        if len(codes):
            index.add_with_ids(codes, np.ascontiguousarray(ids, np.int64))
        self._take(index, np.empty(0, np.int64))

    def _take(self, index: faiss.IndexBinaryIDMap2, left_out: NDArray[np.int64]) -> None:
        import faiss

        self._index = index
        self._left_out = left_out
        self._others = None
        if len(left_out):
            self._batch = faiss.IDSelectorBatch(left_out)  # not owned by the selector made of it
            self._others = faiss.IDSelectorNot(self._batch)

    def _parameters(self) -> faiss.SearchParameters | None:
        """Make the parameters of one search: an ID map changes them while it searches, so threads cannot share them."""
        import faiss

        if self._others is None:
            return None
        return faiss.SearchParameters(sel=self._others)  # type: ignore[call-arg]  # made by FAISS's Python layer

    @classmethod
    def read(cls, path: Path, expected_sha256: str) -> FlatIndex:
        """Read a published index file.

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
            index = faiss.read_index_binary(str(path))
        except RuntimeError as error:
            msg = f"index file {path} holds no binary index: {error}"
            raise StoreError(msg) from error
        if (
            not isinstance(index, faiss.IndexBinaryIDMap2)
            or not isinstance(faiss.downcast_IndexBinary(index.index), faiss.IndexBinaryFlat)
            or index.d != BITS
        ):
            msg = f"index file {path} holds a {type(index).__name__} of {index.d} bits, not a flat one of {BITS}"
            raise StoreError(msg)
        made = cls.__new__(cls)
        made._take(index, np.empty(0, np.int64))
        return made

    def leaving_out(self, ids: NDArray[np.int64]) -> FlatIndex:
        """Give an index over the same codes, not copied, that never answers with some ids."""
        import faiss

        present = faiss.vector_to_array(self._index.id_map)
        made = FlatIndex.__new__(FlatIndex)
        made._take(self._index, np.intersect1d(present, ids))
        return made

    def write(self, path: Path) -> str:
        """Write to a file, in one step: a reader finds the old file or the whole new one.

        Returns
        -------
        str
            SHA-256 of the file, hexadecimal.

        Raises
        ------
        StoreError
            If it cannot be written.
        """
        import faiss

        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            faiss.write_index_binary(self._index, str(temporary))
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

    def __len__(self) -> int:
        """Count the codes that it may answer with."""
        return int(self._index.ntotal) - len(self._left_out)

    def search(self, queries: NDArray[np.uint8], k: int, max_distance: int) -> list[Neighbours]:
        """Find the k nearest codes of each query; see `HammingIndex.search`."""
        queries = require_codes(queries)
        require_limits(k, max_distance)
        total = len(self)
        if total == 0 or len(queries) == 0:
            return [NO_NEIGHBOURS] * len(queries)
        import faiss

        # FAISS divides queries, not codes, among threads. The setting is the calling thread's own.
        worthwhile = 1 + len(queries) * total // _COMPARISONS_PER_THREAD
        faiss.omp_set_num_threads(min(_CORES, len(queries), worthwhile))
        # One more than asked for shows whether a tie was cut at the k-th place.
        distances, ids = self._index.search(queries, min(k + 1, total), params=self._parameters())
        found = []
        for row in range(len(queries)):
            near = (ids[row] >= 0) & (distances[row] <= max_distance)
            row_ids, row_distances = ids[row][near], distances[row][near]
            if len(row_ids) > k and row_distances[k - 1] == row_distances[k]:
                row_ids, row_distances = self._within(queries[row : row + 1], int(row_distances[k]))
            found.append(_ordered(row_ids, row_distances, k))
        return found

    def _within(self, query: NDArray[np.uint8], limit: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        # FAISS's radius is exclusive, its distances are floats and its answers unsorted.
        _, distances, ids = self._index.range_search(query, limit + 1, params=self._parameters())
        return ids, distances.astype(np.int32)


def merge(parts: list[Neighbours], k: int) -> Neighbours:
    """Merge the answers of disjoint indexes to one query."""
    ids = np.concatenate([part.ids for part in parts])
    return _ordered(ids, np.concatenate([part.distances for part in parts]), k)


def _ordered(ids: NDArray[np.int64], distances: NDArray[np.int32], k: int) -> Neighbours:
    order = np.lexsort((ids, distances))[:k]
    return Neighbours(ids[order].astype(np.int64), distances[order].astype(np.int32))


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
