"""Work on a stream in threads, with ordered results and bounded memory."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

T = TypeVar("T")
R = TypeVar("R")

_AHEAD_PER_WORKER = 2
"""Pieces of work per thread that are started before the first result is taken."""


def in_order(
    function: Callable[[T], R], pieces: Iterable[T], workers: int, abandon: Callable[[], None] = lambda: None
) -> Generator[R, None, None]:
    """Apply a function in threads, like `map`, but start only a few pieces ahead of the awaited result.

    If the generator is closed before its end, or an exception is raised, it waits for the work that has started.

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
        The results, in the order of the pieces.
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
