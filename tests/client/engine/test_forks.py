"""A process that searches in threads can fork. The child process answers, or fails at once and says what to do."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import forking_program
import pytest
from shelf import Shelf
from twinscope_client.testing import serving

pytestmark = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork processes"
)


@pytest.fixture(scope="module")
def served(shelf: Shelf) -> Iterator[str]:
    with serving(shelf.store) as target:
        yield target


def printed(target: str | Path, image: Path) -> list[tuple[str, str]]:
    command = [sys.executable, forking_program.__file__, str(target), str(image)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    return [(line.partition(": ")[0], line.partition(": ")[2]) for line in ran.stdout.splitlines()]


def test_children_of_a_busy_process_search_in_the_store(shelf: Shelf) -> None:
    found = printed(shelf.store, shelf.reference("Tips", 0))
    assert [value for name, value in found if name != "endless"] == ["excellent"] * 9
    [endless] = [value for name, value in found if name == "endless"]
    assert endless.startswith(f"ClosedError: {shelf.store} cannot be used in this process")
    assert "connect to it again in this process" in endless


def test_children_of_a_busy_process_cannot_search_on_the_server(shelf: Shelf, served: str) -> None:
    """gRPC is refused in a forked process, because gRPC sometimes waits for ever in such a process."""
    found = printed(served, shelf.reference("Tips", 0))
    assert [name for name, value in found if value == "excellent"] == ["first", *["parent"] * 2, "asyncio parent"]
    refused = [(name, value) for name, value in found if value != "excellent"]
    assert [name for name, _ in refused] == [*["busy"] * 5, "endless", "again", "asyncio", "asyncio again"]
    for name, value in refused:
        if "again" in name:
            assert value.startswith(f"ServerError: {served}: this process cannot connect to a server")
        else:
            assert value.startswith(f"ClosedError: {served} cannot be used in this process")
        assert "'spawn'" in value
