"""Interface of an index of hashes, and a function that merges the results of several indexes.

Every index gives the same result as a comparison with all codes: the k nearest codes within the distance limit, sorted
by distance and then by id.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from twinscope_indexer.hashing.codes import BITS, BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

CodeBatches = Iterable[tuple[NDArray[np.int64], NDArray[np.uint8]]]
"""Batches of codes. Each batch is a pair of arrays: the ids (int64, shape (n,)), and one code for each id (uint8, shape
(n, 128)). Each id must occur only once."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Nearest codes of one query, sorted by distance and then by id.

    Attributes
    ----------
    ids : ndarray of int64, shape (n,)
        Ids of the codes.
    distances : ndarray of int32, shape (n,)
        Distances of the codes from the query, in bits.
    """

    ids: NDArray[np.int64]
    distances: NDArray[np.int32]


NO_NEIGHBOURS: Final = Neighbours(np.empty(0, np.int64), np.empty(0, np.int32))


@dataclass(frozen=True, slots=True)
class Description:
    """Information about an index, for programs and for users.

    Attributes
    ----------
    engine : str
        Name of the engine, as in `engines.ENGINES`; programs use this name.
    kind : str
        Text for users: the kind of search, and the reason for the choice of the engine.
    codes : int
        Number of codes that searches can find.
    segments : int
        Number of segments.
    nbytes : int
        Memory that the index uses, in bytes.
    """

    engine: str
    kind: str
    codes: int
    segments: int
    nbytes: int


class Index(Protocol):
    """An immutable set of codes that several threads can search at the same time.

    A method that changes the set of codes returns a new index. Codes that are in both indexes are not copied, so these
    codes are in memory only once.
    """

    def __len__(self) -> int:
        """Return the number of codes that searches can find."""

    @property
    def ids(self) -> NDArray[np.int64]:
        """Ids of the codes that searches can find, int64, shape (n,), in any order."""

    @property
    def nbytes(self) -> int:
        """Memory that the index uses, in bytes, including memory that other indexes also use."""

    def search(self, queries: NDArray[np.uint8], k: int, max_distance: int) -> list[Neighbours]:
        """Find the k nearest codes of each query.

        Parameters
        ----------
        queries : ndarray of uint8, shape (n, 128)
        k : int
            Maximum number of codes that are returned for each query; at least 1.
        max_distance : int
            Maximum distance in bits, 0 to 1024. Codes at larger distances are not returned.

        Returns
        -------
        list of Neighbours
            One entry for each query; the codes in an entry are sorted by distance and then by id. If several codes have
            the same distance as the k-th code, the codes with the smallest ids are returned.

        Raises
        ------
        ValueError
            If the shape or the type of `queries` is wrong, or if `k` or `max_distance` is out of range.
        """

    def without(self, ids: NDArray[np.int64]) -> Self:
        """Return an index without the codes whose ids are in `ids`; unknown ids are ignored."""

    def restricted_to(self, ids: NDArray[np.int64]) -> Self:
        """Return an index that finds only the codes whose ids are in `ids`; unknown ids are ignored.

        Parameters
        ----------
        ids : ndarray of int64, shape (n,)
            Ids in ascending order.
        """

    def extended(self, parts: CodeBatches) -> Self:
        """Return an index with additional codes; only one batch of `parts` is in memory at a time.

        The ids of the additional codes must be new, or must belong to codes that were removed with `without`.

        Raises
        ------
        ValueError
            If the shape or the type of a batch is wrong.
        """

    def compacted(self) -> Self:
        """Compact the index by one step; the returned index gives the same results, but needs less memory or time.

        If the index cannot be compacted further, the method returns the index itself. To compact an index completely,
        call the method until it returns the same index. If the caller keeps only the newest index, at most one segment
        is in memory twice at the same time.
        """

    def describe(self) -> Description:
        """Return a description of the index."""


def require_codes(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Check the shape and the type of an array of codes.

    If the shape or the type is wrong, FAISS and compiled functions could read memory after the end of the array.

    Raises
    ------
    ValueError
        If `codes` is not uint8 of shape (n, 128).
    """
    if codes.ndim != 2 or codes.shape[1] != BYTES or codes.dtype != np.uint8:
        msg = f"codes must be uint8 of shape (n, {BYTES}); got {codes.dtype} of shape {codes.shape}"
        raise ValueError(msg)
    return np.ascontiguousarray(codes)


def require_ids(ids: NDArray[np.int64], codes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Check that every code has an id.

    Raises
    ------
    ValueError
        If the number of ids differs from the number of codes, or if the ids do not fit in 64-bit integers.
    """
    if ids.shape != (len(codes),) or not np.can_cast(ids.dtype, np.int64):
        msg = f"ids must be int64 of shape ({len(codes)},), one for each code; got {ids.dtype} of shape {ids.shape}"
        raise ValueError(msg)
    return np.ascontiguousarray(ids, np.int64)


def require_limits(k: int, max_distance: int) -> None:
    """Check the limits `k` and `max_distance` of a search.

    Raises
    ------
    ValueError
        If `k` is less than 1, or if `max_distance` is not in the range 0 to 1024.
    """
    if k < 1:
        msg = f"k must be at least 1, got {k}"
        raise ValueError(msg)
    if not 0 <= max_distance <= BITS:
        msg = f"max_distance must be 0 to {BITS} bits, got {max_distance}"
        raise ValueError(msg)


def merge(parts: Sequence[Neighbours], k: int) -> Neighbours:
    """Merge the results of several indexes for one query; each id may occur in only one of the results."""
    parts = [part for part in parts if len(part.ids)]
    if len(parts) <= 1:  # usually, only one index has neighbours; then no sorting is needed (ten times as fast)
        return Neighbours(parts[0].ids[:k], parts[0].distances[:k]) if parts else NO_NEIGHBOURS
    ids = np.concatenate([part.ids for part in parts])
    distances = np.concatenate([part.distances for part in parts])
    order = np.lexsort((ids, distances))[:k]
    return Neighbours(ids[order], distances[order])


def ids_not_in(ids: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the elements of `ids` that are not in `known`.

    Parameters
    ----------
    ids : ndarray of int64, shape (n,)
    known : ndarray of int64, shape (m,)
        Ids in ascending order.
    """
    if not len(known):
        return ids
    nearest: NDArray[np.int64] = known.take(np.searchsorted(known, ids), mode="clip")
    unknown: NDArray[np.bool_] = ids != nearest
    return ids[unknown]
