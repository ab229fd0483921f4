"""Nearest neighbours in Hamming distance: what an index promises, and how the answers of several become one.

Every index answers like a scan over all codes: all neighbours within the limit, ordered by (distance, id), cut to k.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from twinscope_indexer.hashing.codes import BITS, BYTES

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
    """Check that codes are what FAISS and compiled code may be given: they would read out of bounds.

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
        If it has not.
    """
    if ids.shape != (len(codes),):
        msg = f"{len(codes)} codes need as many ids; got shape {ids.shape}"
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


def merge(parts: list[Neighbours], k: int) -> Neighbours:
    """Merge the answers of disjoint indexes to one query."""
    parts = [part for part in parts if len(part.ids)]
    if len(parts) <= 1:  # nearly always, and ten times as fast
        return Neighbours(parts[0].ids[:k], parts[0].distances[:k]) if parts else NO_NEIGHBOURS
    ids = np.concatenate([part.ids for part in parts])
    distances = np.concatenate([part.distances for part in parts])
    order = np.lexsort((ids, distances))[:k]
    return Neighbours(ids[order], distances[order])
