"""Work over a stream in threads: answers in order, memory bounded."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

T = TypeVar("T")
R = TypeVar("R")

_AHEAD_PER_WORKER = 4
"""Pieces of work that are begun before the first of them is asked for."""


def in_order(
    function: Callable[[T], R], pieces: Iterable[T], workers: int, abandon: Callable[[], None] = lambda: None
) -> Generator[R, None, None]:
    """Apply a function in threads; like `map`, but with few pieces ahead of the answer that is waited for.

    If it is closed before its end, or something is raised, what has begun is waited for.

    Parameters
    ----------
    function : callable
        Native code that releases the GIL runs in parallel.
    pieces : iterable
        Consumed in the caller's thread.
    workers : int
        Threads.
    abandon : callable, optional
        Called before that wait, to shorten it.

    Yields
    ------
    object
        The answers, in the order of the pieces.
    """
    pool = ThreadPoolExecutor(workers)
    pending: deque[Future[R]] = deque()
    try:
        for piece in pieces:
            pending.append(pool.submit(function, piece))
            if len(pending) > _AHEAD_PER_WORKER * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BaseException:
        abandon()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
