"""Slots: limits on concurrent calls of one kind, and on how long they may wait for their clients."""

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
    """The slots for one kind of call.

    A call acquires its slot when it begins, before its request has arrived. A client that never sends a request
    therefore also holds a slot, but it loses the slot if another call needs it.

    Parameters
    ----------
    most : int
    full : str
        Error message for calls that find no free slot.
    wait_limit : float
        Seconds that a call may wait for its client to send the request or to accept a response.
    evict_after : float
        If all slots are in use, a new call replaces a call that has waited for its client for at least this many
        seconds.
    """

    def __init__(self, most: int, full: str, *, wait_limit: float, evict_after: float = math.inf) -> None:
        self._most = most
        self._full = full
        self._wait_limit = wait_limit
        self._evict_after = evict_after
        self._lock = threading.Lock()
        self._used = 0
        self._waiting: dict[grpc.ServicerContext, float] = {}
        """Start of each wait, oldest first."""

    @property
    def used(self) -> int:
        """Number of calls that hold a slot."""
        return self._used

    @property
    def served(self) -> int:
        """Number of calls that hold a slot and do not wait for their clients."""
        with self._lock:
            return self._used - len(self._waiting)

    def acquire(self) -> None:
        """Acquire a slot; `release` frees it.

        Raises
        ------
        RequestError
            OVERLOADED.
        """
        ended = None
        with self._lock:
            if self._used >= self._most:
                ended = self._longest_waiting(self._evict_after)
                if ended is None:
                    raise overloaded(self._full)
            self._used += 1  # exceeds the limit by one until the thread of the cancelled call notices
        if ended is not None:
            ended.cancel()

    def release(self) -> None:
        """Release a slot."""
        with self._lock:
            self._used -= 1

    @contextmanager
    def waiting(self, context: grpc.ServicerContext) -> Iterator[None]:
        """Mark a call as waiting for its client."""
        with self._lock:
            self._waiting[context] = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._waiting.pop(context, None)

    def end_overdue(self) -> None:
        """Cancel the calls that have waited too long for their clients; must be called periodically."""
        while True:
            with self._lock:
                overdue = self._longest_waiting(self._wait_limit)
            if overdue is None:
                return
            overdue.cancel()

    def _longest_waiting(self, seconds: float) -> grpc.ServicerContext | None:
        """Remove and return the longest waiting call if it has waited this many seconds; the caller holds the lock."""
        context, since = next(iter(self._waiting.items()), (None, math.inf))
        if context is None or time.monotonic() - since < seconds:
            return None
        del self._waiting[context]
        return context
