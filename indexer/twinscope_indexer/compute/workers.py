"""Worker processes, so that a crash does not end the run, and so that Python code runs in parallel.

The decoders of image formats are written in C. A damaged file can make a decoder end its process, which Python cannot
catch. `loky` starts the processes: it needs no guard in the caller's script, and notices if a process ends. A call that
ended its process is repeated in a process of its own, which identifies the call that is the cause.
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
_CALLS: Final = 2
"""Calls for each process: one runs, one waits."""
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

    A process makes one call at a time, and the next call already waits in it: it does not idle while this process
    handles a result. A process that was started for a call also serves later calls, including those of other runs. It
    ends after a minute without calls, or when this process ends.

    Parameters
    ----------
    count : int
        Maximum number of processes; more than 16 are of no use. 0: this process makes the calls itself.
    """

    def __init__(self, count: int) -> None:
        self._processes = [_Process() for _ in range(min(count, _MOST))]
        self.threads = max(1, len(self._processes) * _CALLS)
        """Number of threads that should make calls."""
        self._slots = threading.BoundedSemaphore(self.threads)
        self._choosing = threading.Lock()
        self._repeating = threading.Lock()

    def call(self, function: Callable[[T], R], argument: T) -> R:
        """Call a function in another process and return its result; safe to use from several threads.

        If no process can be started, a `RuntimeWarning` is issued and the function is called in this process.

        Parameters
        ----------
        function : callable
            Of a module that can be imported.
        argument : object
            The argument and the result are pickled.

        Raises
        ------
        WorkerLostError
            If the call ends its process twice. The first time, another call may be the cause: the other call of that
            process, or a process that used all memory. So the call is repeated in a process of its own, and no other
            call is repeated at that time.
        """
        if not self._processes:
            return function(argument)
        with self._slots, self._free_process() as process:
            with suppress(BrokenProcessPool):
                return process.call(function, argument)
            try:
                with self._repeating:
                    return process.call_alone(function, argument)
            except BrokenProcessPool as error:
                raise WorkerLostError(_cause(error)) from error

    @contextmanager
    def _free_process(self) -> Iterator[_Process]:
        with self._choosing:
            process = min(self._processes, key=lambda one: one.users)
            process.users += 1
        try:
            yield process
        finally:
            with self._choosing:
                process.users -= 1

    def end_calls(self) -> None:
        """End the processes that have a call; the threads that wait for these calls get a `RuntimeError`."""
        for process in self._processes:
            process.end()


class _Process:
    """One of the processes of a run. It has an executor while there are calls for it."""

    def __init__(self) -> None:
        self.users = 0
        """Threads that call it, or wait for its process to be started."""
        self._lock = threading.Lock()
        self._executor: ProcessPoolExecutor | None = None
        self._calls = 0
        self._alone: set[ProcessPoolExecutor] = set()
        """Executors of repeated calls."""

    def call(self, function: Callable[[T], R], argument: T) -> R:
        with self._lock:
            if self._executor is None:
                self._executor, self._calls = _free_executor() or _new_executor(function.__module__), 0
            executor = self._executor
            self._calls += 1
        if executor is None:
            return function(argument)
        try:
            result = _result(executor, function, argument)
        except BaseException:
            with self._lock:
                self._executor = None if self._executor is executor else self._executor
            executor.shutdown(wait=False, kill_workers=True)
            raise
        with self._lock:
            if self._executor is executor:
                self._calls -= 1
                if not self._calls:
                    self._executor = None
                    _free[os.getpid()].append((executor, time.monotonic()))
        return result

    def call_alone(self, function: Callable[[T], R], argument: T) -> R:
        """Call a function in a new process. A process that waited for a call may have been killed long ago."""
        executor = _new_executor(function.__module__)
        if executor is None:
            return function(argument)
        self._alone.add(executor)
        try:
            result = _result(executor, function, argument)
        except BaseException:
            executor.shutdown(wait=False, kill_workers=True)
            raise
        finally:
            self._alone.discard(executor)
        _free[os.getpid()].append((executor, time.monotonic()))
        return result

    def end(self) -> None:
        """Kill the process, whatever it does."""
        with self._lock:
            executors = [*self._alone] if self._executor is None else [self._executor, *self._alone]
            self._executor = None
        for executor in executors:
            executor.shutdown(wait=False, kill_workers=True)


def _result(executor: ProcessPoolExecutor, function: Callable[[T], R], argument: T) -> R:
    with _signals_held():
        future = executor.submit(function, argument)
    result: R = future.result()
    return result


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
