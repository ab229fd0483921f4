"""Worker processes: what may crash is called in one, so that it ends no run, and what Python itself does is parallel.

The decoders of image formats are written in C. One that meets a damaged file may end its process, which Python cannot
catch. `loky` starts the processes: it needs no guard in the caller's script, and notices a process that has ended.
A call that ended its process is repeated in a process of its own, so it is known which call did it.
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
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from loky import ProcessPoolExecutor

T = TypeVar("T")
R = TypeVar("R")

_MOST: Final = 16
"""Processes; one thread with a database takes up the results of about as many."""
_CALLS: Final = 2
"""Calls for each process: one is made, one waits."""
_IDLE_SECONDS: Final = 60.0
"""A process that has had no call for so long ends; until then the next run takes it, and need not start one."""
_ENVIRONMENT: Final = {
    "PYTHONSAFEPATH": "1",  # nothing is imported from the folder in which the program is run
    "PYTHONFAULTHANDLER": "",  # loky would print a traceback of each crash
    "OPENBLAS_NUM_THREADS": "1",  # as the command has it: threads for small matrices slow each other down
    "MKL_NUM_THREADS": "1",
}

_free: Final[defaultdict[int, list[tuple[ProcessPoolExecutor, float]]]] = defaultdict(list)
"""Executors of one process each that have no call, and since when (`time.monotonic`), by the process that has made
them: a fork cannot use them."""


class WorkerLostError(Exception):
    """A call has ended its process, and another one when it was repeated; the message says how: "crashed (SIGSEGV)"."""


class Workers:
    """Worker processes for the threads of a run.

    A process makes one call at a time. The next one already waits in it, so that it does not idle while this process
    handles a result. A process that was started for a call also serves later calls, including those of other runs. It
    ends after a minute without any, and with this process.

    Parameters
    ----------
    count : int
        Processes at most; more than 16 are of no use. 0: there are none, and this process makes the calls itself.
    """

    def __init__(self, count: int) -> None:
        processes = min(count, _MOST)
        self.threads = max(1, processes * _CALLS)
        """How many threads should make calls."""
        self._processes = [_Process() for _ in range(processes)]
        self._open: SimpleQueue[_Process] = SimpleQueue()
        for process in self._processes * _CALLS:
            self._open.put(process)
        self._repeating = threading.Lock()

    def call(self, function: Callable[[T], R], argument: T) -> R:
        """Return what a function returns, called in another process; safe to use from several threads.

        If no process can be started, which a `RuntimeWarning` says, the function is called in this one.

        Parameters
        ----------
        function : callable
            Of a module that can be imported.
        argument : object
            The argument and the result are pickled.

        Raises
        ------
        WorkerLostError
            If the call ends its process twice. The first time, another call may have ended it: the one that shared the
            process, or one that took all memory. So the call is repeated in a new process, while no other is repeated.
        """
        if not self._processes:
            return function(argument)
        process = self._open.get()
        try:
            with suppress(BrokenProcessPool):
                return process.call(function, argument)
            try:
                with self._repeating:
                    return process.call_in_new(function, argument)
            except BrokenProcessPool as error:
                raise WorkerLostError(_how(error)) from error
        finally:
            self._open.put(process)

    def end_calls(self) -> None:
        """End the processes that have a call, however long it would take; it raises `RuntimeError` in its thread."""
        for process in self._processes:
            process.end()


class _Process:
    """One of the processes of a run: an executor while there are calls for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._executor: ProcessPoolExecutor | None = None
        self._calls = 0
        self._alone: set[ProcessPoolExecutor] = set()
        """Executors of calls that are repeated."""

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
            self._forget(executor)
            raise
        with self._lock:
            if self._executor is executor:
                self._calls -= 1
                if not self._calls:
                    self._executor = None
                    _free[os.getpid()].append((executor, time.monotonic()))
        return result

    def call_in_new(self, function: Callable[[T], R], argument: T) -> R:
        """Call a function in a process of its own, which surely runs: others may have been killed long ago."""
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
        """Kill it, whatever it does."""
        with self._lock:
            ended = [one for one in (self._executor, *self._alone) if one is not None]
            self._executor = None
        for executor in ended:
            executor.shutdown(wait=False, kill_workers=True)

    def _forget(self, executor: ProcessPoolExecutor) -> None:
        with self._lock:
            if self._executor is executor:
                self._executor = None
        executor.shutdown(wait=False, kill_workers=True)


def _result(executor: ProcessPoolExecutor, function: Callable[[T], R], argument: T) -> R:
    with _signals_held():
        future = executor.submit(function, argument)
    result: R = future.result()
    return result


def _free_executor() -> ProcessPoolExecutor | None:
    """Return an executor whose process surely runs.

    loky starts another process for one that has ended for want of calls, but does not notice if that one crashes in
    its first call (loky 3.7.0: it wakes the thread that waits for crashes before it starts the process). So what has
    been idle for half of that time is not taken.
    """
    with suppress(IndexError):
        while True:
            executor, since = _free[os.getpid()].pop()
            if time.monotonic() - since < _IDLE_SECONDS / 2:
                return executor
            executor.shutdown(wait=False, kill_workers=True)
    return None


def _new_executor(module: str) -> ProcessPoolExecutor | None:
    """Start a process, and import a module in it; None if none can be started."""
    try:
        from loky import ProcessPoolExecutor

        # It warns of restarts, which change nothing, and of a missing `pgrep`, with which it ends what a process that
        # has ended had started: nothing.
        warnings.filterwarnings("ignore", category=UserWarning, module=r"loky\.")
        executor = ProcessPoolExecutor(
            1, timeout=_IDLE_SECONDS, initializer=_end_with, initargs=(os.getpid(),), env=_ENVIRONMENT
        )
        with _signals_held():
            imported = executor.submit(_import, module)
        imported.result()
    except Exception as error:  # noqa: BLE001  whatever keeps processes from starting here, the work can be done
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
    """Start processes that Ctrl-C and SIGTERM do not reach: the caller decides what ends with it.

    A new process inherits which signals are blocked. Other threads, or this one afterwards, get what came meanwhile.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _import(module: str) -> None:
    import_module(module)  # returns what cannot be pickled


def _end_with(parent: int) -> None:
    """Let this process end when the one that has started it is gone, also if that was killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _how(error: Exception) -> str:
    """Return how a process has ended; loky names the signal in its message."""
    found = re.search(r"\bSIG[A-Z]+\b", str(error))
    if found is None:
        return "ended unexpectedly"
    if found[0] == "SIGKILL":
        return "was killed (SIGKILL), as the system does when memory runs out"
    return f"crashed ({found[0]})"
