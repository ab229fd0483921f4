"""Worker processes, so that a crash does not end the run, and so that Python code runs in parallel.

The decoders of image formats are written in C. A damaged file can make a decoder end its process, which Python cannot
catch. `loky` starts the processes: it needs no guard in the caller's script, and notices if a process ends. Each
process has one call at a time, which identifies the call that ended it.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
import warnings
from collections import defaultdict
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from loky import ProcessPoolExecutor

T = TypeVar("T")
R = TypeVar("R")

_MOST: Final = 16
"""Maximum number of processes; about as many saturate the one thread that writes their results to a database."""
_IDLE_SECONDS: Final = 60.0
"""Time without calls after which a process ends. Until then, the next run uses it instead of starting one."""
_ENVIRONMENT: Final = {
    "PYTHONSAFEPATH": "1",  # nothing is imported from the folder in which the program is run
    "PYTHONFAULTHANDLER": "",  # loky would print a traceback of each crash
    "OPENBLAS_NUM_THREADS": "1",  # as in the command: threads for small matrices slow each other down
    "MKL_NUM_THREADS": "1",
}

_free: Final[defaultdict[int, list[tuple[ProcessPoolExecutor, float]]]] = defaultdict(list)
"""Executors of one process each that have no call, and since when (`time.monotonic`), by the id of the process that
made them: a forked process cannot use them."""


class WorkerLostError(Exception):
    """A call ended its process, and again when repeated. The message says how, for example "crashed (SIGSEGV)"."""


class Workers:
    """Worker processes for the threads of a run.

    A process that was started for a call also serves later calls, including those of other runs. It ends after a minute
    without calls, or when this process ends.

    Parameters
    ----------
    count : int
        Maximum number of processes; more than 16 are not used. If 0, this process makes the calls itself.
    """

    def __init__(self, count: int) -> None:
        self.threads = max(1, count)
        """Number of threads that should make calls."""
        self._slots = threading.BoundedSemaphore(min(count, _MOST)) if count else None
        self._busy: set[ProcessPoolExecutor] = set()

    def call(self, function: Callable[[T], R], argument: T) -> R:
        """Call a function in another process and return its result; safe to use from several threads.

        If no process can be started, a `RuntimeWarning` is issued and the function is called in this process.

        Parameters
        ----------
        function : callable
            Function of a module that can be imported.
        argument : object
            The argument and the result are pickled.

        Raises
        ------
        WorkerLostError
            If the call ends its process twice. It is repeated because the first process may have been killed when
            another one used all memory.
        """
        if self._slots is None:
            return function(argument)
        with self._slots:
            with suppress(BrokenProcessPool):
                return self._call_once(_free_executor(), function, argument)
            try:  # in a new process: an idle one may have been killed long ago
                return self._call_once(None, function, argument)
            except BrokenProcessPool as error:
                raise WorkerLostError(_cause(error)) from error

    def _call_once(self, executor: ProcessPoolExecutor | None, function: Callable[[T], R], argument: T) -> R:
        executor = executor or _new_executor(function.__module__)
        if executor is None:
            return function(argument)
        self._busy.add(executor)
        try:
            with _signals_held():
                future = executor.submit(function, argument)
            result: R = future.result()
        except BaseException:
            self._busy.discard(executor)
            executor.shutdown(wait=False, kill_workers=True)
            raise
        with suppress(KeyError):  # absent if `end_calls` has just removed it
            self._busy.remove(executor)
            _free[os.getpid()].append((executor, time.monotonic()))
        return result

    def end_calls(self) -> None:
        """End the processes that have a call, without waiting; each call raises `RuntimeError` in its thread."""
        with suppress(KeyError):
            while True:
                self._busy.pop().shutdown(wait=False, kill_workers=True)


def _free_executor() -> ProcessPoolExecutor | None:
    """Return an idle executor whose process certainly runs; None if there is none.

    loky replaces a process that ended after an idle time, but does not notice if the new one crashes in its first call
    (loky 3.7.0: it wakes the thread that waits for crashes before it starts the process). An executor that has been
    idle for half of that time is therefore not used.
    """
    with suppress(IndexError):
        while True:
            executor, since = _free[os.getpid()].pop()
            if time.monotonic() - since < _IDLE_SECONDS / 2:
                return executor
            executor.shutdown(wait=False, kill_workers=True)
    return None


def _new_executor(module: str) -> ProcessPoolExecutor | None:
    """Start a process and import a module in it; return None if no process can be started."""
    try:
        from loky import ProcessPoolExecutor

        # loky warns about restarts, which change nothing, and about a missing `pgrep`, with which it ends the children
        # of an ended process; there are none.
        warnings.filterwarnings("ignore", category=UserWarning, module=r"loky\.")
        executor = ProcessPoolExecutor(
            1, timeout=_IDLE_SECONDS, initializer=_end_with, initargs=(os.getpid(),), env=_ENVIRONMENT
        )
        with _signals_held():
            imported = executor.submit(_import, module)
        imported.result()
    except Exception as error:  # noqa: BLE001  whatever the cause, the work can still be done
        warnings.warn(
            f"no worker process can be started ({type(error).__name__}: {str(error).splitlines()[0]}); a file that "
            "crashes its decoder will end this run",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return executor


@contextmanager
def _signals_held() -> Iterator[None]:
    """Block Ctrl-C and SIGTERM for processes that are started meanwhile: the caller decides what ends with it.

    A new process inherits the set of blocked signals. Other threads, or this one afterwards, receive the signals that
    arrive meanwhile.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _import(module: str) -> None:
    import_module(module)  # the module is not returned because it cannot be pickled


def _end_with(parent: int) -> None:
    """End this process when its parent is gone, even if the parent was killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _cause(error: Exception) -> str:
    """Return how a process ended. loky names the signal in its message."""
    found = re.search(r"\bSIG[A-Z]+\b", str(error))
    if found is None:
        return "ended unexpectedly"
    if found[0] == "SIGKILL":
        return "was killed (SIGKILL), as the system does when memory runs out"
    return f"crashed ({found[0]})"
