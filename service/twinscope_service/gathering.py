"""Gathering: queries that wait at the same time share a scan."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from twinscope_indexer.hamming import Neighbours
    from twinscope_indexer.store import View

_TOGETHER = 64
"""Queries of one scan: enough for all cores, few enough that a single query never waits for the whole of a batch."""


def _held() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


@dataclass(eq=False, slots=True)
class _Waiting:
    view: View
    codes: NDArray[np.uint8]
    k: int
    max_distance: int
    found: list[Neighbours] = field(default_factory=list)
    failure: Exception | None = None
    turn: threading.Lock = field(default_factory=_held)
    """Released when it is answered, or when it is its turn to scan."""

    @property
    def left(self) -> NDArray[np.uint8]:
        return self.codes[len(self.found) :]

    @property
    def done(self) -> bool:
        return self.failure is not None or len(self.found) == len(self.codes)

    def agrees_with(self, other: _Waiting) -> bool:
        same = (self.k, self.max_distance) == (other.k, other.max_distance)
        return same and self.view is other.view


class GatheredScans:
    """Scans for several threads, one scan at a time and each by all cores.

    A query that comes alone is scanned at once, in its own thread; those that come during a scan are scanned together
    after it, by the first of them. Long batches are taken in parts, so that others get their turn. Answers do not
    depend on the company: every index is exact, with a total order.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: deque[_Waiting] = deque()
        self._leader: _Waiting | None = None

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
            if self._leader is None:
                self._leader = mine
        try:
            if self._leader is not mine:
                mine.turn.acquire()
            while not mine.done:
                self._scan()
        finally:  # also where this thread was interrupted
            self._leave(mine)
        if mine.failure is not None:
            raise mine.failure
        return mine.found

    def _scan(self) -> None:
        """Scan for the first in the queue and those that agree with it; wake those that are answered."""
        with self._lock:
            together = self._chosen()
        _scan(together)
        with self._lock:
            for one in together:
                if one in self._queue:  # not there: interrupted meanwhile
                    self._queue.remove(one)
                    if not one.done:
                        self._queue.append(one)
        for one in together:
            if one.done and one is not self._leader:
                one.turn.release()

    def _chosen(self) -> list[_Waiting]:
        """Choose who is scanned for: the first in the queue, and others of the same kind while there is room."""
        first = self._queue[0]
        chosen, room = [], _TOGETHER
        for one in self._queue:
            if room > 0 and one.agrees_with(first):
                chosen.append(one)
                room -= len(one.left)
        return chosen

    def _leave(self, mine: _Waiting) -> None:
        """Leave the queue, and let the next one lead where this one did."""
        with self._lock:
            if mine in self._queue:
                self._queue.remove(mine)
            if self._leader is mine:
                self._leader = self._queue[0] if self._queue else None
                if self._leader is not None:
                    self._leader.turn.release()


def _scan(together: list[_Waiting]) -> None:
    """Scan for at most `_TOGETHER` queries."""
    first = together[0]
    try:
        codes = first.left if len(together) == 1 else np.concatenate([one.left for one in together])
        found = iter(first.view.search(codes[:_TOGETHER], first.k, first.max_distance))
        for one in together:
            one.found.extend(neighbours for _, neighbours in zip(range(len(one.left)), found, strict=False))
    except Exception as error:  # noqa: BLE001  each of the waiting threads raises it
        for one in together:
            one.failure = error
