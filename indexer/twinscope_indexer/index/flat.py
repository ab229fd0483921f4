"""The engine "faiss": FAISS's flat index, with answers ordered and ties cut as `Index` requires."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import faiss
import numpy as np

from twinscope_indexer.hashing.codes import BITS, BYTES
from twinscope_indexer.index.protocol import Neighbours
from twinscope_indexer.index.segment import Segment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_COMPARISONS_PER_THREAD: Final = 100_000
"""Codes times queries, about a millisecond of work; on a busy machine threads wait longer for each other than that."""


class FlatSegment(Segment):
    """Codes in an ``IndexBinaryFlat``. Its labels are rows, because it has no ids; see `Segment`."""

    title: ClassVar = "FAISS's flat index"

    _flat: Any
    _allowed: Any = None
    """FAISS's ``SearchParameters`` that select all rows but those left out."""

    def _build(self, codes: NDArray[np.uint8]) -> None:
        self._flat = faiss.IndexBinaryFlat(BITS)
        self._flat.add(codes)

    @property
    def _code_bytes(self) -> int:
        return self.held * BYTES

    def _codes_at(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        codes: NDArray[np.uint8] = faiss.rev_swig_ptr(self._flat.xb.data(), self.held * BYTES).reshape(-1, BYTES)
        return codes[rows]

    def without(self, ids: NDArray[np.int64]) -> Self:
        """Return a segment that also leaves out some ids, over the same codes, which are not copied."""
        made = super().without(ids)
        if made is not self:
            allowed = np.packbits(~np.isin(made._ids, made._left_out), bitorder="little")
            made._allowed = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(allowed))
        return made

    def _nearest(self, queries: NDArray[np.uint8], k: int, max_distance: int) -> list[Neighbours]:
        # One more than wanted shows whether rank k is tied; FAISS cuts ties in an undefined order.
        with _threads(len(queries), self.held):
            distances, rows = self._flat.search(queries, min(k + 1, len(self)), params=self._allowed)
        found = []
        for query, near, row in zip(queries, distances, rows, strict=True):
            within = near <= max_distance
            if within.sum() > k and near[k] == near[k - 1]:
                found.append(self._within(query, k, int(near[k])))
            else:
                found.append(self._ordered(row[within], near[within], k))
        return found

    def _within(self, query: NDArray[np.uint8], k: int, distance: int) -> Neighbours:
        """Find the k nearest codes of one query among all codes within a distance."""
        with _threads(1, self.held):  # FAISS finds codes strictly nearer than its radius
            _, near, rows = self._flat.range_search(query[None], distance + 1, params=self._allowed)
        return self._ordered(rows, near.astype(np.int32), k)

    def _ordered(self, rows: NDArray[np.int64], distances: NDArray[np.int32], k: int) -> Neighbours:
        ids = self._ids[rows]
        order = np.lexsort((ids, distances))[:k]
        return Neighbours(ids[order], distances[order])


@contextmanager
def _threads(queries: int, codes: int) -> Iterator[None]:
    """Limit FAISS to as many threads as there is work for: it divides queries, and its threads wait for each other."""
    most = faiss.omp_get_max_threads()
    threads = min(most, queries, 1 + queries * codes // _COMPARISONS_PER_THREAD)
    if threads == most:
        yield
        return
    faiss.omp_set_num_threads(threads)  # of the calling thread only
    try:
        yield
    finally:
        faiss.omp_set_num_threads(most)
