"""Slots: limits on the number of concurrent calls of one kind, and on the time that a call may wait for its client."""

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

    A call acquires its slot when it begins, before its request has arrived. A client that never sends
    a request therefore also holds a slot, but its call loses the slot if another call needs it.

    Parameters
    ----------
    most : int
        Number of slots.
    full : str
        Error message for a call if no slot is free.
    wait_limit : float
        Maximum time that a call may wait until its client sends the request or accepts a response, in seconds.
    evict_after : float
        Minimum time that a call must have waited for its client before a new call may take its slot, in seconds. A call
        loses its slot only if all slots are in use.
    """

    def __init__(self, most: int, full: str, *, wait_limit: float, evict_after: float = math.inf) -> None:
        self._most = most
        self._full = full
        self._wait_limit = wait_limit
        self._evict_after = evict_after
        self._lock = threading.Lock()
        self._used = 0
        self._waiting: dict[grpc.ServicerContext, float] = {}
        """Time when each waiting call began to wait for its client. The call that has waited longest comes first."""

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
        """Acquire a slot; `release` frees the slot.

        Raises
        ------
        RequestError
            OVERLOADED if no slot is free.
        """
        ended = None
        with self._lock:
            if self._used >= self._most:
                ended = self._longest_waiting(self._evict_after)
                if ended is None:
                    raise overloaded(self._full)
            self._used += 1  # may exceed the limit by one until the cancelled call ends
        if ended is not None:
            ended.cancel()

    def release(self) -> None:
        """Free a slot."""
        with self._lock:
            self._used -= 1

    @contextmanager
    def waiting(self, context: grpc.ServicerContext) -> Iterator[None]:
        """Mark a call as waiting for its client while the body of the ``with`` statement runs."""
        with self._lock:
            self._waiting[context] = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._waiting.pop(context, None)

    def end_overdue(self) -> None:
        """Cancel the calls that have waited too long for their clients; the server calls this method periodically."""
        while True:
            with self._lock:
                overdue = self._longest_waiting(self._wait_limit)
            if overdue is None:
                return
            overdue.cancel()

    def _longest_waiting(self, seconds: float) -> grpc.ServicerContext | None:
        """Return the call that has waited longest, and no longer mark it as waiting.

        If this call has waited for less than `seconds`, return None and change nothing.

        The caller must hold the lock.
        """
        context, since = next(iter(self._waiting.items()), (None, math.inf))
        if context is None or time.monotonic() - since < seconds:
            return None
        del self._waiting[context]
        return context
