"""Batching: if several threads wait with one item each, one of the threads processes all these items together."""

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
        """Lock that is released when the item has an outcome, or when the thread of the item becomes the leader."""
        self.turn.acquire()

    @property
    def done(self) -> bool:
        return bool(self.outcome) or self.failure is not None


class Batcher(Generic[_Kind, _Item, _Outcome]):
    """Process single items in batches, without extra threads and without waiting for more items.

    If an item arrives while no other item is processed, the thread of the item processes it at once. Items that arrive
    during this work wait. Afterwards, the thread of the first waiting item becomes the leader and processes the waiting
    items together.

    Parameters
    ----------
    work : callable
        Function that takes items of one kind and returns their outcomes in the same order. The outcome of an item must
        not depend on the other items.
    most : int
        Maximum number of items in a batch. This maximum limits how long an item waits for the other items of its batch.
    """

    def __init__(self, work: Callable[[_Kind, Sequence[_Item]], Sequence[_Outcome]], most: int = 64) -> None:
        self._work = work
        self._most = most
        self._lock = threading.Lock()
        self._queue: deque[_Waiting[_Kind, _Item, _Outcome]] = deque()
        self._leader: _Waiting[_Kind, _Item, _Outcome] | None = None

    def __call__(self, kind: _Kind, item: _Item) -> _Outcome:
        """Return the outcome of an item.

        If the work on a batch raises an exception, the calls for all items of the batch raise this exception.

        Parameters
        ----------
        kind : hashable
            Kind of the item; only items of equal kinds are processed together.
        item
            The item that the function `work` receives.
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
        finally:  # an interrupted thread must also leave the queue
            self._leave(mine)
        if mine.failure is not None:
            raise mine.failure
        return mine.outcome[0]

    def _lead(self, mine: _Waiting[_Kind, _Item, _Outcome]) -> None:
        """Process the item of the leader and the queued items of the same kind, then wake their threads."""
        time.sleep(0)  # releases the GIL, so that other threads can add their items to this batch
        with self._lock:
            batch = [one for one in self._queue if one.kind == mine.kind][: self._most]
        try:
            for one, outcome in zip(batch, self._work(mine.kind, [one.item for one in batch]), strict=True):
                one.outcome.append(outcome)
        except Exception as error:  # noqa: BLE001  every thread of the batch raises this error
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
        """Remove the item of this thread from the queue.

        If this thread was the leader, the next thread becomes the leader.
        """
        with self._lock:
            if mine in self._queue:
                self._queue.remove(mine)
            if self._leader is mine:
                self._leader = self._queue[0] if self._queue else None
                if self._leader is not None:
                    self._leader.turn.release()
