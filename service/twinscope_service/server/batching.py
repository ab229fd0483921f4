"""Batching: items that wait at the same time are processed together by one of their threads."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

_Kind = TypeVar("_Kind", bound="Hashable")
_Item = TypeVar("_Item")
_Outcome = TypeVar("_Outcome")


class _Waiting(Generic[_Kind, _Item, _Outcome]):
    def __init__(self, kind: _Kind, item: _Item) -> None:
        self.kind = kind
        self.item = item
        self.outcome: list[_Outcome] = []
        self.failure: Exception | None = None
        self.turn = threading.Lock()
        """Released when the item has an outcome, or when its thread becomes the leader."""
        self.turn.acquire()

    @property
    def done(self) -> bool:
        return bool(self.outcome) or self.failure is not None


class Batcher(Generic[_Kind, _Item, _Outcome]):
    """Process single items in batches, without extra threads and without waiting for more items.

    An item that arrives alone is processed at once, in its own thread. The items that arrive meanwhile are processed
    together afterwards, in the thread of the first of them.

    Parameters
    ----------
    work : callable
        Returns the outcomes of items of one kind, in their order. An outcome must not depend on the other items.
    most : int
        Maximum items of a batch; it bounds how long an item waits for the others.
    """

    def __init__(self, work: Callable[[_Kind, Sequence[_Item]], Sequence[_Outcome]], most: int = 64) -> None:
        self._work = work
        self._most = most
        self._lock = threading.Lock()
        self._queue: deque[_Waiting[_Kind, _Item, _Outcome]] = deque()
        self._leader: _Waiting[_Kind, _Item, _Outcome] | None = None

    def __call__(self, kind: _Kind, item: _Item) -> _Outcome:
        """Return the outcome of an item; if the work raises an exception, every item of the batch raises it.

        Parameters
        ----------
        kind : hashable
            Only items of equal kinds are processed together.
        item
            Passed to the work.
        """
        mine = _Waiting[_Kind, _Item, _Outcome](kind, item)
        with self._lock:
            self._queue.append(mine)
            if self._leader is None:
                self._leader = mine
        try:
            if self._leader is not mine:
                mine.turn.acquire()
            if not mine.done:
                self._lead(mine)
        finally:  # also if this thread is interrupted
            self._leave(mine)
        if mine.failure is not None:
            raise mine.failure
        return mine.outcome[0]

    def _lead(self, mine: _Waiting[_Kind, _Item, _Outcome]) -> None:
        """Process the leader's item and the queued items of its kind; wake their threads."""
        time.sleep(0)  # yields the GIL once: threads that are ready to queue join this batch
        with self._lock:
            batch = [one for one in self._queue if one.kind == mine.kind][: self._most]
        try:
            for one, outcome in zip(batch, self._work(mine.kind, [one.item for one in batch]), strict=True):
                one.outcome.append(outcome)
        except Exception as error:  # noqa: BLE001  each of the waiting threads raises it
            for one in batch:
                one.failure = error
        with self._lock:
            for one in batch:
                if one in self._queue:  # an interrupted thread has already removed its item
                    self._queue.remove(one)
        for one in batch:
            if one is not mine:
                one.turn.release()

    def _leave(self, mine: _Waiting[_Kind, _Item, _Outcome]) -> None:
        """Leave the queue; if this thread was the leader, pass the lead to the next."""
        with self._lock:
            if mine in self._queue:
                self._queue.remove(mine)
            if self._leader is mine:
                self._leader = self._queue[0] if self._queue else None
                if self._leader is not None:
                    self._leader.turn.release()
