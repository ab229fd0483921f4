"""Gathering: queries that arrive while a scan is going on share the next one."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from twinscope_indexer.hamming import Neighbours
    from twinscope_indexer.store import View


@dataclass(eq=False)
class _Waiting:
    view: View
    code: NDArray[np.uint8]
    k: int
    max_distance: int
    wake: threading.Event = field(default_factory=threading.Event)
    leads: bool = False
    found: Neighbours | None = None
    error: Exception | None = None


class GatheredScans:
    """Answers single queries from several threads, several queries a scan.

    A query that comes alone is scanned at once; those that come during a scan wait for it, and are then scanned
    together by the first of them, so that nobody works for others longer than one scan. Answers do not depend on the
    company: every index is exact, with a total order.

    Parameters
    ----------
    scans : int
        Scans that may go on at the same time.
    """

    def __init__(self, scans: int = 1) -> None:
        self._lock = threading.Lock()
        self._free = scans
        self._queue: list[_Waiting] = []

    def search(self, view: View, code: NDArray[np.uint8], k: int, max_distance: int) -> Neighbours:
        """Find the k nearest images of one query; see `View.search`.

        Parameters
        ----------
        view : View
        code : ndarray of uint8, shape (128,)
        k, max_distance : int
        """
        mine = _Waiting(view, code, k, max_distance)
        with self._lock:
            if self._free > 0:
                self._free -= 1
                mine.leads = True
            else:
                self._queue.append(mine)
        if not mine.leads:
            mine.wake.wait()
        if mine.leads:
            self._lead(mine)
        if mine.error is not None:
            raise mine.error
        if mine.found is None:
            msg = "a scan ended without an answer"
            raise RuntimeError(msg)
        return mine.found

    def _lead(self, mine: _Waiting) -> None:
        """Scan for all that are waiting, then let the first of those that came meanwhile do the same."""
        with self._lock:
            batch, self._queue = [mine, *self._queue], []
        try:
            for together in _alike(batch):
                _scan(together)
        finally:
            with self._lock:
                if self._queue:
                    following = self._queue.pop(0)
                    following.leads = True
                    following.wake.set()
                else:
                    self._free += 1


def _alike(batch: list[_Waiting]) -> list[list[_Waiting]]:
    groups: dict[tuple[int, int, int], list[_Waiting]] = {}
    for one in batch:
        groups.setdefault((id(one.view), one.k, one.max_distance), []).append(one)
    return list(groups.values())


def _scan(together: list[_Waiting]) -> None:
    first = together[0]
    try:
        found = first.view.search(np.stack([one.code for one in together]), first.k, first.max_distance)
        for one, neighbours in zip(together, found, strict=True):
            one.found = neighbours
    except Exception as error:  # noqa: BLE001  each of the waiting threads raises it
        for one in together:
            one.error = error
    finally:
        for one in together:
            one.wake.set()
