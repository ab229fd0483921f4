"""Work for worker processes, and worker processes that are there at once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from twinscope_indexer.compute.processes import WorkerProcesses

_SOON = 60.0


def until(holds: Callable[[], Any]) -> Any:
    end = time.monotonic() + _SOON
    while time.monotonic() < end:
        found = holds()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("did not happen in time")


def who(_: object) -> int:
    return os.getpid()


class AtOnce(WorkerProcesses):
    """Lets nothing be done by threads; knows how often it was asked."""

    asked = 0

    def apply(self, function: Any, argument: Any, here: Any) -> Any:
        process = until(lambda: self._process(function.__module__))
        until(lambda: process.ready)
        AtOnce.asked += 1
        return super().apply(function, argument, here)
