"""A server in this process whose counts are at hand: tests wait for what it has counted, not for a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twinscope_service.server.server import TwinscopeServer
from twinscope_service.server.settings import load_settings


@contextmanager
def running(store: Path, **settings: Any) -> Iterator[TwinscopeServer]:
    """As `twinscope_client.testing.serving`, but it yields the server itself."""
    given = {"port": 0, "lame_duck_seconds": 0.0, "grace_seconds": 0.0} | settings
    server = TwinscopeServer(store, load_settings(given, environment={}))
    server.start()
    try:
        yield server
    finally:
        server.stop()


def counted(server: TwinscopeServer, name: str, **labels: str) -> float:
    """A metric of the server; 0 before it was counted for the first time."""
    return server.metrics.registry.get_sample_value(f"twinscope_{name}", labels) or 0.0


def in_flight(server: TwinscopeServer, method: str = "Search") -> float:
    return counted(server, "requests_in_flight", method=method)
