"""Gathering: queries that wait at the same time share a scan."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from twinscope_indexer.hamming import Neighbours
    from twinscope_indexer.store import View

_TOGETHER = 64
"""Queries of one scan: enough for all cores, few enough that a single query never waits for the whole of a batch."""


@dataclass(eq=False)
class _Waiting:
    view: View
    codes: NDArray[np.uint8]
    k: int
    max_distance: int
    found: list[Neighbours] = field(default_factory=list)
    answer: Future[list[Neighbours]] = field(default_factory=Future)

    @property
    def left(self) -> NDArray[np.uint8]:
        return self.codes[len(self.found) :]

    def agrees_with(self, other: _Waiting) -> bool:
        same = (self.k, self.max_distance) == (other.k, other.max_distance)
        return same and self.view is other.view


class GatheredScans:
    """Scans for several threads, one scan at a time and each by all cores.

    A query that comes alone is scanned at once; those that come during a scan are scanned together after it. Long
    batches are taken in parts, so that others get their turn. Answers do not depend on the company: every index is
    exact, with a total order.

    One thread calls FAISS: its OpenMP keeps a team of threads for every thread that ever called it, and two teams on
    the same cores hinder one another.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: deque[_Waiting] = deque()
        self._scanner = ThreadPoolExecutor(1, thread_name_prefix="scan")

    def search(self, view: View, codes: NDArray[np.uint8], k: int, max_distance: int) -> list[Neighbours]:
        """Find the k nearest images of each query; see `View.search`.

        Parameters
        ----------
        view : View
        codes : ndarray of uint8, shape (n, 128)
        k, max_distance : int
        """
        mine = _Waiting(view, codes, k, max_distance)
        with self._lock:
            self._queue.append(mine)
            if len(self._queue) == 1:
                self._scanner.submit(self._scan_all)
        return mine.answer.result()

    def _scan_all(self) -> None:
        while self._queue:
            with self._lock:
                together = self._chosen()
            _scan(together)
            with self._lock:
                for one in together:
                    self._queue.remove(one)
                    if not one.answer.done():
                        self._queue.append(one)

    def _chosen(self) -> list[_Waiting]:
        """Choose who is scanned for: the first in the queue, and others of the same kind while there is room."""
        first = self._queue[0]
        chosen, room = [], _TOGETHER
        for one in self._queue:
            if room > 0 and one.agrees_with(first):
                chosen.append(one)
                room -= len(one.left)
        return chosen


def _scan(together: list[_Waiting]) -> None:
    """Scan for at most `_TOGETHER` queries, and answer those that have all they asked for."""
    first = together[0]
    try:
        codes = np.concatenate([one.left for one in together])[:_TOGETHER]
        found = iter(first.view.search(codes, first.k, first.max_distance))
        for one in together:
            one.found.extend(neighbours for _, neighbours in zip(range(len(one.left)), found, strict=False))
            if len(one.found) == len(one.codes):
                one.answer.set_result(one.found)
    except Exception as error:  # noqa: BLE001  each of the waiting threads raises it
        for one in together:
            if not one.answer.done():
                one.answer.set_exception(error)
