"""A program that searches in threads and forks. It runs as a script, because the tests must not fork with threads."""

from __future__ import annotations

import asyncio
import io
import multiprocessing
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import twinscope
from twinscope_indexer.compute import forking

_HANGS = 60.0
_FORK = multiprocessing.get_context("fork")
Outcome = Callable[[], str]


def in_child(outcome: Outcome) -> str:
    """Return what a function returns in a forked process."""
    queue = _FORK.SimpleQueue()
    process = _FORK.Process(target=lambda: queue.put(outcome()))
    process.start()
    process.join(_HANGS)
    if process.is_alive():
        process.kill()
        return "hung"
    return f"died {process.exitcode}" if process.exitcode else queue.get()


def show(name: str, outcome: str) -> None:
    sys.stdout.write(f"{name}: {outcome}\n")
    sys.stdout.flush()  # a forked process must not write the same text again


def attempt(action: Outcome) -> str:
    try:
        return action()
    except twinscope.TwinscopeError as error:
        return f"{type(error).__name__}: {error}"


class Slow(io.BytesIO):
    """An image file whose reader waits until the test permits it to continue."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.reached, self.allowed = threading.Event(), threading.Event()

    def read(self, *size: int | None) -> bytes:
        self.reached.set()
        self.allowed.wait(_HANGS)
        return super().read(*size)


def while_others_search(engine: twinscope.Engine, image: Path) -> None:
    stop = threading.Event()

    def search() -> None:
        while not stop.is_set():
            engine.search(image)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        show("busy", in_child(lambda: attempt(lambda: engine.search(image).grade)))
    stop.set()
    for thread in threads:
        thread.join()
    show("parent", engine.search(image).grade)


def while_a_search_does_not_end(engine: twinscope.Engine, target: str, image: Path) -> None:
    forking._WAIT_SECONDS = 0.1  # type: ignore[misc]
    slow = Slow(image.read_bytes())
    thread = threading.Thread(target=engine.search, args=(slow,))
    thread.start()
    slow.reached.wait(_HANGS)
    show("endless", in_child(lambda: attempt(lambda: engine.search(image).grade)))
    show("again", in_child(lambda: attempt(lambda: twinscope.connect(target).search(image).grade)))
    slow.allowed.set()
    thread.join()
    show("parent", engine.search(image).grade)


def while_asyncio_is_connected(target: str, image: Path) -> None:
    async def search() -> None:
        async with twinscope.aio.connect(target) as engine:
            await engine.search(image)
            show("asyncio", in_child(lambda: attempt(lambda: asyncio.run(engine.search(image)))))
            show("asyncio again", in_child(lambda: attempt(lambda: str(twinscope.connect(target)))))
            show("asyncio parent", (await engine.search(image)).grade)

    asyncio.run(search())


if __name__ == "__main__":
    place, picture = sys.argv[1], Path(sys.argv[2])
    with twinscope.connect(place) as opened:
        show("first", opened.search(picture).grade)
        while_others_search(opened, picture)
        while_a_search_does_not_end(opened, place, picture)
    if "://" in place:
        while_asyncio_is_connected(place, picture)
