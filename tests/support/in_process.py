"""A server in this process with accessible metrics, so that tests can wait for a count instead of a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twinscope_service.server.server import TwinscopeServer
from twinscope_service.server.settings import load_settings


@contextmanager
def running(store: Path, **settings: Any) -> Iterator[TwinscopeServer]:
    """Run a server like `twinscope_client.testing.serving`, but yield the server itself."""
    given = {"port": 0, "lame_duck_seconds": 0.0, "grace_seconds": 0.0} | settings
    server = TwinscopeServer(store, load_settings(given, environment={}))
    server.start()
    try:
        yield server
    finally:
        server.stop()


def counted(server: TwinscopeServer, name: str, **labels: str) -> float:
    """Return a metric of the server; 0 before its first count."""
    return server.metrics.registry.get_sample_value(f"twinscope_{name}", labels) or 0.0


def in_flight(server: TwinscopeServer, method: str = "Search") -> float:
    return counted(server, "requests_in_flight", method=method)
