"""Index engine "faiss": the flat index of FAISS.

This module sorts the results of FAISS by distance and then by id, because `Index` requires this order.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import faiss
import numpy as np

from twinscope_indexer.compute.forking import in_child
from twinscope_indexer.hashing.codes import BITS, BYTES
from twinscope_indexer.index.protocol import Neighbours
from twinscope_indexer.index.segment import Segment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_COMPARISONS_PER_THREAD: Final = 100_000
"""Number of comparisons for each thread; one comparison compares one code with one query. These comparisons take about
one millisecond. With fewer comparisons per thread, the threads on a busy machine would spend more time on waiting than
on work."""


class FlatSegment(Segment):
    """Segment that holds its codes in an ``IndexBinaryFlat`` of FAISS.

    FAISS returns row numbers, because an ``IndexBinaryFlat`` has no ids. The segment converts the row numbers to ids.
    """

    title: ClassVar = "FAISS's flat index"

    _flat: Any
    _allowed: Any = None
    """FAISS search parameters with the list of codes that a search uses; None if a search uses all codes."""

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
        """Return a segment without the codes whose ids are in `ids`; the codes in memory are not copied."""
        made = super().without(ids)
        if made is not self:
            allowed = np.packbits(~np.isin(made._ids, made._left_out), bitorder="little")
            made._allowed = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(allowed))
        return made

    def _nearest(self, queries: NDArray[np.uint8], k: int, max_distance: int) -> list[Neighbours]:
        # FAISS returns codes of equal distance in an undefined order. Therefore the search requests k + 1 codes. Then
        # this method can check whether the codes of ranks k and k + 1 have equal distances.
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
        """Find the `k` codes nearest to one query; codes at a distance larger than `distance` are ignored."""
        with _threads(1, self.held):  # FAISS finds only distances smaller than the radius
            _, near, rows = self._flat.range_search(query[None], distance + 1, params=self._allowed)
        return self._ordered(rows, near.astype(np.int32), k)

    def _ordered(self, rows: NDArray[np.int64], distances: NDArray[np.int32], k: int) -> Neighbours:
        ids = self._ids[rows]
        order = np.lexsort((ids, distances))[:k]
        return Neighbours(ids[order], distances[order])


def _after_fork() -> None:
    global _forked
    _forked = True


_forked = False
"""Whether this process is the child process of a fork. OpenMP would wait for threads of the parent process for ever."""
in_child(_after_fork)


@contextmanager
def _threads(queries: int, codes: int) -> Iterator[None]:
    """Limit the number of FAISS threads, depending on the work, while the body of the ``with`` statement runs.

    FAISS divides a batch of queries among several threads. Every thread waits until the last thread has finished.
    """
    most = 1 if _forked else faiss.omp_get_max_threads()
    threads = min(most, queries, 1 + queries * codes // _COMPARISONS_PER_THREAD)
    if threads == most and not _forked:
        yield
        return
    faiss.omp_set_num_threads(threads)  # this setting applies only to the calling thread
    try:
        yield
    finally:
        faiss.omp_set_num_threads(most)
