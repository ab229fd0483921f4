"""Processing of many inputs in threads. The results have the order of the inputs, and the memory use is limited."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

T = TypeVar("T")
R = TypeVar("R")

_AHEAD_PER_WORKER = 2
"""Number of pieces per thread that are submitted before the generator waits for the first result."""


def in_order(
    function: Callable[[T], R], pieces: Iterable[T], workers: int, abandon: Callable[[], None] = lambda: None
) -> Generator[R, None, None]:
    """Apply a function to each piece in threads, and yield the results in the order of the pieces.

    The method `map` of an executor submits all pieces at once. This generator submits only a few pieces before it
    yields the next result.

    If the generator is closed early, or if an exception is raised, the generator waits for the end of all running
    calls.

    A forked process cannot continue the generator of its parent process; it gets a `RuntimeError`.

    Parameters
    ----------
    function : callable
        Function of one piece. The calls run in parallel only if the function releases Python's global lock (GIL).
    pieces : iterable
        Arguments of the function, one for each call. The iterable is read in the caller's thread.
    workers : int
        Number of threads.
    abandon : callable, optional
        Function that is called if the generator ends early. The function can stop the running calls of `function`.

    Yields
    ------
    object
        The results, in the order of the pieces.
    """
    pool, owner = ThreadPoolExecutor(workers), os.getpid()
    pending: deque[Future[R]] = deque()
    try:
        for piece in pieces:
            pending.append(pool.submit(function, piece))
            if len(pending) > _AHEAD_PER_WORKER * workers:
                yield _result(pending.popleft(), owner)
        while pending:
            yield _result(pending.popleft(), owner)
    except BaseException:
        abandon()
        raise
    finally:
        pool.shutdown(wait=os.getpid() == owner, cancel_futures=True)


def _result(future: Future[R], owner: int) -> R:
    """Return the result of a call. `owner` is the id of the process that has the threads."""
    if os.getpid() != owner and not future.done():
        msg = (
            "this iterator was created before the process was forked, and its threads exist only in the parent "
            "process: create the iterator in this process"
        )
        raise RuntimeError(msg)
    return future.result()
