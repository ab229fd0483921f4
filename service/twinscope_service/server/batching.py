"""Gathering: requests that wait at the same time are worked on together, by one of their threads."""

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
        """Released when it is answered, or when it is its turn to lead."""
        self.turn.acquire()

    @property
    def done(self) -> bool:
        return bool(self.outcome) or self.failure is not None


class Gathering(Generic[_Kind, _Item, _Outcome]):
    """Work on single items, put together while others are under way.

    An item that comes alone is worked on at once, in its own thread; those that come meanwhile are worked on together
    after it, by the first of them. There is no thread in between, and no waiting for company.

    Parameters
    ----------
    work : callable
        Gives the outcomes of some items of one kind, in their order; it must not depend on the company.
    most : int
        Items of one go: bounds how long one waits for the others.
    """

    def __init__(self, work: Callable[[_Kind, Sequence[_Item]], Sequence[_Outcome]], most: int = 64) -> None:
        self._work = work
        self._most = most
        self._lock = threading.Lock()
        self._queue: deque[_Waiting[_Kind, _Item, _Outcome]] = deque()
        self._leader: _Waiting[_Kind, _Item, _Outcome] | None = None

    def __call__(self, kind: _Kind, item: _Item) -> _Outcome:
        """Give the outcome of an item; what the work raises, every one of its items raises.

        Parameters
        ----------
        kind : hashable
            Only items of equal kinds are worked on together.
        item
            What the work is given.
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
        finally:  # also where this thread was interrupted
            self._leave(mine)
        if mine.failure is not None:
            raise mine.failure
        return mine.outcome[0]

    def _lead(self, mine: _Waiting[_Kind, _Item, _Outcome]) -> None:
        """Work for the first in the queue, which leads, and for others of its kind; wake those."""
        time.sleep(0)  # gives up Python's lock once: threads that are ready to queue do so now, and come along
        with self._lock:
            together = [one for one in self._queue if one.kind == mine.kind][: self._most]
        try:
            for one, outcome in zip(together, self._work(mine.kind, [one.item for one in together]), strict=True):
                one.outcome.append(outcome)
        except Exception as error:  # noqa: BLE001  each of the waiting threads raises it
            for one in together:
                one.failure = error
        with self._lock:
            for one in together:
                if one in self._queue:  # not there: interrupted meanwhile
                    self._queue.remove(one)
        for one in together:
            if one is not mine:
                one.turn.release()

    def _leave(self, mine: _Waiting[_Kind, _Item, _Outcome]) -> None:
        """Leave the queue, and let the next one lead where this one did."""
        with self._lock:
            if mine in self._queue:
                self._queue.remove(mine)
            if self._leader is mine:
                self._leader = self._queue[0] if self._queue else None
                if self._leader is not None:
                    self._leader.turn.release()
