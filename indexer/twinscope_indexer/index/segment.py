"""Segment: a part of the codes of an index; one engine stores and searches these codes.

Each engine implements a subclass of `Segment`. The module `segments` builds an index from segments.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Final, Self

import numpy as np

from twinscope_indexer.hashing.codes import BYTES
from twinscope_indexer.index.protocol import (
    NO_NEIGHBOURS,
    Neighbours,
    require_codes,
    require_ids,
    require_limits,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TOGETHER: Final = 256
"""Maximum number of queries in one search; this limits the memory for the results."""
_GATHERED: Final = 4096
"""Maximum number of codes that `Segment.dump` copies at a time; this limits the memory for the copies."""


class Segment(ABC):
    """Immutable set of codes that several threads can search at the same time.

    An engine implements `_build`, `_nearest`, `_codes_at` and `_code_bytes`. `Segment` checks the arguments of these
    methods.

    Parameters
    ----------
    ids : ndarray of int64, shape (n,)
        Ids of the codes; each id must occur only once. The array is copied.
    codes : ndarray of uint8, shape (n, 128)
        Codes. The array is copied.

    Raises
    ------
    ValueError
        If the shape or the type of an array is wrong.
    """

    title: ClassVar[str]
    """Name of the search method, for users."""
    one_thread_up_to: ClassVar[float] = float("inf")
    """If a segment has at most this number of codes, the engine uses only one thread for one query.

    For such segments, `SegmentedIndex` searches several segments at the same time."""

    def __init__(self, ids: NDArray[np.int64], codes: NDArray[np.uint8]) -> None:
        codes = require_codes(codes)
        self._ids = require_ids(ids, codes).copy()
        self._left_out = np.empty(0, np.int64)
        self._build(codes)

    @abstractmethod
    def _build(self, codes: NDArray[np.uint8]) -> None:
        """Store a copy of the codes, uint8 of shape (n, 128); the caller may change the array afterwards."""

    @abstractmethod
    def _nearest(self, queries: NDArray[np.uint8], k: int, max_distance: int) -> list[Neighbours]:
        """Find the k nearest codes of each query, without codes whose ids are in `_left_out`; see `Index.search`."""

    @abstractmethod
    def _codes_at(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the codes in the rows `rows`, with the original order of bits, uint8 of shape (rows, 128)."""

    @property
    @abstractmethod
    def _code_bytes(self) -> int:
        """Memory that the codes use, in bytes."""

    def __len__(self) -> int:
        """Return the number of codes that searches can find."""
        return len(self._ids) - len(self._left_out)

    @property
    def held(self) -> int:
        """Number of codes in memory, including codes that searches ignore."""
        return len(self._ids)

    @property
    def ids(self) -> NDArray[np.int64]:
        """Ids of the codes that searches can find, int64, shape (n,)."""
        return self._ids[self._rows()] if len(self._left_out) else self._ids

    @property
    def nbytes(self) -> int:
        """Memory that the codes and ids use, in bytes."""
        return self._code_bytes + self._ids.nbytes + self._left_out.nbytes

    def without(self, ids: NDArray[np.int64]) -> Self:
        """Return a segment without the codes whose ids are in `ids`; the codes in memory are not copied."""
        left_out = np.union1d(self._left_out, np.intersect1d(self._ids, ids))
        if len(left_out) == len(self._left_out):
            return self
        made = copy.copy(self)
        made._left_out = left_out
        return made

    def search(self, queries: NDArray[np.uint8], k: int, max_distance: int) -> list[Neighbours]:
        """Find the k nearest codes of each query; see `Index.search`."""
        queries = require_codes(queries)
        require_limits(k, max_distance)
        if not len(self):
            return [NO_NEIGHBOURS] * len(queries)
        found: list[Neighbours] = []
        for start in range(0, len(queries), _TOGETHER):
            found += self._nearest(queries[start : start + _TOGETHER], min(k, len(self)), max_distance)
        return found

    def dump(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Return the ids (int64, shape (n,)) and the codes (uint8, shape (n, 128)) that searches can find."""
        rows = self._rows()
        codes = np.empty((len(rows), BYTES), np.uint8)
        for start in range(0, len(rows), _GATHERED):
            codes[start : start + _GATHERED] = self._codes_at(rows[start : start + _GATHERED])
        return self._ids[rows], codes

    def _rows(self) -> NDArray[np.int64]:
        """Return the row numbers of the codes that searches can find."""
        return np.flatnonzero(~np.isin(self._ids, self._left_out))
