"""Rate limit of requests for each caller."""

from __future__ import annotations

import threading
import time

from twinscope_service.server.status import overloaded

_MAX_CALLERS = 10_000


class Rates:
    """Token buckets, one for each caller; a bucket fills at the allowed rate and holds the requests of one second.

    Parameters
    ----------
    rate : float
        Requests per second; 0 for no limit.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._most = max(1.0, rate)
        self._lock = threading.Lock()
        self._left: dict[str, tuple[float, float]] = {}

    @property
    def limited(self) -> bool:
        """Whether there is a limit."""
        return self._rate > 0

    def take(self, caller: str) -> None:
        """Take one request from a caller's bucket.

        Raises
        ------
        RequestError
            RATE_LIMITED.
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
