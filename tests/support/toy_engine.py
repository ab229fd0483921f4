"""A minimal index engine, a NumPy scan, as an example of what an additional engine must provide."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from twinscope_indexer.index.protocol import Neighbours
from twinscope_indexer.index.segment import Segment


class ToySegment(Segment):
    """Codes in an array."""

    title: ClassVar = "toy scan"

    def _build(self, codes: NDArray[np.uint8]) -> None:
        self._codes = codes.copy()

    @property
    def _code_bytes(self) -> int:
        return self._codes.nbytes

    def _codes_at(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self._codes[rows]

    def _nearest(self, queries: NDArray[np.uint8], k: int, max_distance: int) -> list[Neighbours]:
        return [self._near(query, k, max_distance) for query in queries]

    def _near(self, query: NDArray[np.uint8], k: int, max_distance: int) -> Neighbours:
        distances = np.bitwise_count(self._codes ^ query).sum(axis=1, dtype=np.int32)
        rows = np.flatnonzero((distances <= max_distance) & ~np.isin(self._ids, self._left_out))
        best = rows[np.lexsort((self._ids[rows], distances[rows]))][:k]
        return Neighbours(self._ids[best], distances[best])
