"""Slots: how many calls of a kind may be under way at the same time, and how long they may wait for their clients."""

from __future__ import annotations

import math
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from twinscope_service.server.status import overloaded

if TYPE_CHECKING:
    from collections.abc import Iterator

    import grpc


class Slots:
    """The slots of one kind of calls.

    A call takes its slot when it begins, before its request has come. So a client that never sends one holds a slot
    too, but it has to give way where others need it.

    Parameters
    ----------
    most : int
    full : str
        What those are told for whom there is no slot.
    patience : float
        Seconds that a call may wait for its client, to send the request or to take a response.
    gives_way : float
        Seconds from which on a call that waits for its client is ended when a new one finds all slots taken.
    """

    def __init__(self, most: int, full: str, *, patience: float, gives_way: float = math.inf) -> None:
        self._most = most
        self._full = full
        self._patience = patience
        self._gives_way = gives_way
        self._lock = threading.Lock()
        self._taken = 0
        self._waiting: dict[grpc.ServicerContext, float] = {}
        """Since when, in the order in which they began to wait."""

    @property
    def taken(self) -> int:
        """Calls that hold a slot."""
        return self._taken

    @property
    def served(self) -> int:
        """Those of them that do not wait for their clients."""
        with self._lock:
            return self._taken - len(self._waiting)

    def take(self) -> None:
        """Take a slot, to be left again by `leave`.

        Raises
        ------
        RequestError
            OVERLOADED.
        """
        ended = None
        with self._lock:
            if self._taken >= self._most:
                ended = self._longest_waiting(self._gives_way)
                if ended is None:
                    raise overloaded(self._full)
            self._taken += 1  # one too many until the other thread has noticed
        if ended is not None:
            ended.cancel()

    def leave(self) -> None:
        """Leave a slot."""
        with self._lock:
            self._taken -= 1

    @contextmanager
    def waiting(self, context: grpc.ServicerContext) -> Iterator[None]:
        """Let it be known that a call waits for its client."""
        with self._lock:
            self._waiting[context] = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._waiting.pop(context, None)

    def end_overdue(self) -> None:
        """Cancel the calls that have waited for their clients for too long; to be called now and then."""
        while True:
            with self._lock:
                overdue = self._longest_waiting(self._patience)
            if overdue is None:
                return
            overdue.cancel()

    def _longest_waiting(self, seconds: float) -> grpc.ServicerContext | None:
        """Take out the call that has waited longest, if it has for so many seconds; the lock is held."""
        context, since = next(iter(self._waiting.items()), (None, math.inf))
        if context is None or time.monotonic() - since < seconds:
            return None
        del self._waiting[context]
        return context
