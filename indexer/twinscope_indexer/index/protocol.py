"""The interface of an index of hashes, and the merging of answers of several indexes.

Every index answers like a scan over all codes: all neighbours within the limit, in the order (distance, id), cut to k.
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
"""Batches of codes: distinct ids, int64, shape (n,), and their codes, uint8, shape (n, 128)."""


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


@dataclass(frozen=True, slots=True)
class Description:
    """The description of an index.

    Attributes
    ----------
    engine : str
        Name of the engine, for programs; see `engines.ENGINES`.
    kind : str
        Which search answers, and why it was chosen, in words.
    codes : int
        Number of codes that a search can return.
    segments : int
        Number of segments.
    nbytes : int
        Bytes of memory.
    """

    engine: str
    kind: str
    codes: int
    segments: int
    nbytes: int


class Index(Protocol):
    """An immutable set of codes that several threads can search at the same time.

    A change makes a new index. Both share their common codes, which are in memory once.
    """

    def __len__(self) -> int:
        """Return the number of codes that a search can return."""

    @property
    def ids(self) -> NDArray[np.int64]:
        """Ids of these codes, int64, shape (n,), in no particular order."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory, including those shared with other indexes."""

    def search(self, queries: NDArray[np.uint8], k: int, max_distance: int) -> list[Neighbours]:
        """Find the k nearest codes of each query.

        Parameters
        ----------
        queries : ndarray of uint8, shape (n, 128)
        k : int
            At least 1.
        max_distance : int
            Bits, 0 to 1024; farther codes are left out.

        Returns
        -------
        list of Neighbours
            One for each query, ordered by (distance, id); ties at rank k are cut in the same order.

        Raises
        ------
        ValueError
            If the shape or the type is wrong, or a limit is out of range.
        """

    def without(self, ids: NDArray[np.int64]) -> Self:
        """Return an index that also leaves out some ids; unknown ids are ignored."""

    def restricted_to(self, ids: NDArray[np.int64]) -> Self:
        """Return an index that answers with some ids only; unknown ids are ignored.

        Parameters
        ----------
        ids : ndarray of int64, shape (n,)
            In ascending order.
        """

    def extended(self, parts: CodeBatches) -> Self:
        """Return an index with further codes, of which one batch is in memory at a time.

        An id must not be in the index yet, unless the index leaves it out.

        Raises
        ------
        ValueError
            If a shape or a type is wrong.
        """

    def compacted(self) -> Self:
        """Return an index with the same answers, compacted by one step; the index itself if nothing is left to do.

        Call it until it returns the same index. If each result replaces the previous index, at most one segment is in
        memory twice at a time.
        """

    def describe(self) -> Description:
        """Describe the index."""


def require_codes(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Check the shape and type of codes; FAISS and compiled code would read out of bounds.

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
        If the numbers differ, or if the ids do not fit in 64-bit integers.
    """
    if ids.shape != (len(codes),) or not np.can_cast(ids.dtype, np.int64):
        msg = f"ids must be int64 of shape ({len(codes)},), one for each code; got {ids.dtype} of shape {ids.shape}"
        raise ValueError(msg)
    return np.ascontiguousarray(ids, np.int64)


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


def merge(parts: Sequence[Neighbours], k: int) -> Neighbours:
    """Merge the answers to one query of indexes that have no common ids."""
    parts = [part for part in parts if len(part.ids)]
    if len(parts) <= 1:  # the usual case, and ten times as fast
        return Neighbours(parts[0].ids[:k], parts[0].distances[:k]) if parts else NO_NEIGHBOURS
    ids = np.concatenate([part.ids for part in parts])
    distances = np.concatenate([part.distances for part in parts])
    order = np.lexsort((ids, distances))[:k]
    return Neighbours(ids[order], distances[order])


def ids_not_in(ids: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the ids that are not known.

    Parameters
    ----------
    ids : ndarray of int64, shape (n,)
    known : ndarray of int64, shape (m,)
        In ascending order.
    """
    if not len(known):
        return ids
    nearest: NDArray[np.int64] = known.take(np.searchsorted(known, ids), mode="clip")
    unknown: NDArray[np.bool_] = ids != nearest
    return ids[unknown]
