"""Segment: a part of the codes of an index, which one engine holds and searches.

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
"""Maximum number of queries that are searched together, to limit the memory for the results."""
_GATHERED: Final = 4096
"""Maximum number of codes that `Segment.dump` copies at a time, to limit the memory for the copies."""


class Segment(ABC):
    """Immutable set of codes that several threads can search at the same time.

    An engine implements `_build`, `_nearest`, `_codes_at` and `_code_bytes`. `Segment` checks the arguments of these
    methods.

    Parameters
    ----------
    ids : ndarray of int64, shape (n,)
        Distinct ids of the codes. The array is copied.
    codes : ndarray of uint8, shape (n, 128)
        Codes. The array is copied.

    Raises
    ------
    ValueError
        If the shape or the type of an array is wrong.
    """

    title: ClassVar[str]
    """Name of the search method, for people."""
    one_thread_up_to: ClassVar[float] = float("inf")
    """Maximum number of codes for which the engine uses only one thread per query. Segments of at most this size are
searched in parallel for one query."""

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
        """Find the k nearest codes of each query, but no code whose id is in `_left_out`; see `Index.search`."""

    @abstractmethod
    def _codes_at(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the original codes of some rows, uint8 of shape (rows, 128)."""

    @property
    @abstractmethod
    def _code_bytes(self) -> int:
        """Memory of the codes in bytes."""

    def __len__(self) -> int:
        """Return the number of codes that a search can return."""
        return len(self._ids) - len(self._left_out)

    @property
    def held(self) -> int:
        """Number of codes in memory, including codes that are left out."""
        return len(self._ids)

    @property
    def ids(self) -> NDArray[np.int64]:
        """Ids of the codes that a search can return, int64, shape (n,)."""
        return self._ids[self._rows()] if len(self._left_out) else self._ids

    @property
    def nbytes(self) -> int:
        """Memory of the codes and ids in bytes."""
        return self._code_bytes + self._ids.nbytes + self._left_out.nbytes

    def without(self, ids: NDArray[np.int64]) -> Self:
        """Return a segment without the codes of some ids; both segments share the codes in memory."""
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
        """Return ids, int64 of shape (n,), and codes, uint8 of shape (n, 128), except codes that are left out."""
        rows = self._rows()
        codes = np.empty((len(rows), BYTES), np.uint8)
        for start in range(0, len(rows), _GATHERED):
            codes[start : start + _GATHERED] = self._codes_at(rows[start : start + _GATHERED])
        return self._ids[rows], codes

    def _rows(self) -> NDArray[np.int64]:
        """Return the row numbers of the codes that a search can return."""
        return np.flatnonzero(~np.isin(self._ids, self._left_out))
