"""Limit on the number of requests per second from each caller."""

from __future__ import annotations

import threading
import time

from twinscope_service.server.status import overloaded

_MAX_CALLERS = 10_000


class Rates:
    """Token buckets, one for each caller.

    Each request takes one token from the bucket of its caller. A bucket is filled at the allowed rate, and it holds at
    most the tokens for the requests of one second.

    Parameters
    ----------
    rate : float
        Maximum number of requests per second; 0 means no limit.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._most = max(1.0, rate)
        self._lock = threading.Lock()
        self._left: dict[str, tuple[float, float]] = {}

    @property
    def limited(self) -> bool:
        """Whether the number of requests is limited."""
        return self._rate > 0

    def take(self, caller: str) -> None:
        """Take the token for one request from the bucket of a caller.

        Raises
        ------
        RequestError
            RATE_LIMITED if the bucket is empty.
        """
        with self._lock:
            if len(self._left) > _MAX_CALLERS:
                self._left.clear()
            now = time.monotonic()
            left, last = self._left.get(caller, (self._most, now))
            left = min(self._most, left + self._rate * (now - last))
            self._left[caller] = (left if left < 1 else left - 1, now)
        if left < 1:
            raise overloaded("too many requests per second", "RATE_LIMITED", (1 - left) / self._rate)
