"""Worker processes, which run Python code in parallel. If a worker process crashes, the main process continues.

The decoders of image formats are written in C. If a damaged file crashes a decoder, the whole process ends, and Python
cannot prevent this. `loky` starts the worker processes. With loky, the caller's script does not need
``if __name__ == "__main__"``, and loky detects when a process ends. If a process ends during a call, the call is
repeated alone in a new process. If the new process also ends during the call, this call is the cause.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections import defaultdict
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Final, TypeVar

from twinscope_indexer.compute.machine_code import announce_with

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.process import BaseProcess

    from loky import ProcessPoolExecutor

T = TypeVar("T")
R = TypeVar("R")

_MOST: Final = 16
"""Maximum number of worker processes. Only one thread writes the results to a database. With about 16 processes, this
thread is always busy."""
_CALLS: Final = 2
"""Number of calls that each process has at a time: one call that runs, and one call that waits."""
_IDLE_SECONDS: Final = 60.0
"""Time in seconds after which an idle process ends. The next run can use an idle process that has not ended yet."""
_EXIT_SECONDS: Final = 5.0
"""Maximum time in seconds to wait until the system reports how a process ended."""
_ENVIRONMENT: Final = {
    "PYTHONSAFEPATH": "1",  # Python then imports nothing from the current folder
    "PYTHONFAULTHANDLER": "",  # otherwise, loky would print a traceback of each crash
    "OPENBLAS_NUM_THREADS": "1",  # as in the `twinscope` command: with more threads, small matrices are slower
    "MKL_NUM_THREADS": "1",
}

_free: Final[defaultdict[int, list[tuple[ProcessPoolExecutor, float]]]] = defaultdict(list)
"""Idle executors, each with one worker process, and the time (`time.monotonic`) at which each executor became idle. The
key is the id of the process that made the executors. A forked process cannot use the executors of its parent
process."""


class WorkerLostError(Exception):
    """A worker process ended during a call, and another worker process ended when the call was repeated.

    The message describes how the process ended, for example "crashed (SIGSEGV)".
    """


class Workers:
    """Worker processes that make the calls of a run.

    A worker process makes one call at a time. The next call already waits in the worker process. The worker process is
    therefore not idle while the main process handles a result. The same worker process also makes later calls,
    including the calls of later runs. A worker process ends after a minute without calls, or when the main process
    ends.

    Parameters
    ----------
    count : int
        Maximum number of worker processes; at most 16 are used. If `count` is 0, the main process makes the calls.
    """

    def __init__(self, count: int) -> None:
        self._processes = [_Process() for _ in range(min(count, _MOST))]
        self.threads = max(1, len(self._processes) * _CALLS)
        """Number of threads that the caller should use to make calls."""
        self._slots = threading.BoundedSemaphore(self.threads)
        self._choosing = threading.Lock()
        self._repeating = threading.Lock()

    def call(self, function: Callable[[T], R], argument: T) -> R:
        """Call a function in a worker process and return the result. Several threads can use this method at once.

        If no worker process can be started, a `RuntimeWarning` is issued, and the function is called in the main
        process.

        Parameters
        ----------
        function : callable
            Function that is defined in an importable module.
        argument : object
            Argument of the function. The argument and the result must be picklable.

        Raises
        ------
        WorkerLostError
            If the worker process ends during the call, and the new process ends during the repeated call. The first
            time, another call in the same process may be the cause, or another process that used all memory. The call
            is therefore repeated alone in a new process. Only one call is repeated at a time.
        """
        if not self._processes:
            return function(argument)
        with self._slots, self._free_process() as process:
            with suppress(BrokenProcessPool):
                return process.call(function, argument)
            with self._repeating:
                return process.call_alone(function, argument)

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
        """Kill the worker processes that have calls. Threads that wait for these calls receive a `RuntimeError`."""
        for process in self._processes:
            process.end()


class _Process:
    """One worker process of a run. The object has an executor only while the worker process has calls."""

    def __init__(self) -> None:
        self.users = 0
        """Number of threads that make a call in this process or wait until the process is started."""
        self._lock = threading.Lock()
        self._executor: ProcessPoolExecutor | None = None
        self._calls = 0
        self._alone: set[ProcessPoolExecutor] = set()
        """Executors of the repeated calls that are running now."""

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
        except BaseException as error:
            if isinstance(error, Exception) and not isinstance(error, BrokenProcessPool):
                self._release(executor)  # the function raised it; the process still runs, perhaps with another call
            else:
                self._discard(executor)
            raise
        self._release(executor)
        return result

    def _release(self, executor: ProcessPoolExecutor) -> None:
        """Record the end of a call. After the last call, later runs can use the executor."""
        with self._lock:
            if self._executor is executor:
                self._calls -= 1
                if not self._calls:
                    self._executor = None
                    _free[os.getpid()].append((executor, time.monotonic()))

    def _discard(self, executor: ProcessPoolExecutor) -> None:
        """Kill the process of an executor, and use the executor no more."""
        with self._lock:
            if self._executor is executor:
                self._executor = None
        executor.shutdown(wait=False, kill_workers=True)

    def call_alone(self, function: Callable[[T], R], argument: T) -> R:
        """Call a function in a new process. Idle processes are not used, because they may have been killed.

        Raises
        ------
        WorkerLostError
            If the process ends during the call.
        """
        executor = _new_executor(function.__module__)
        if executor is None:
            return function(argument)
        started = [*executor._processes.values()]
        self._alone.add(executor)
        try:
            result = _result(executor, function, argument)
        except BrokenProcessPool as error:
            executor.shutdown(wait=False, kill_workers=True)
            raise WorkerLostError(_cause(started)) from error
        except BaseException:
            executor.shutdown(wait=False, kill_workers=True)
            raise
        finally:
            self._alone.discard(executor)
        _free[os.getpid()].append((executor, time.monotonic()))
        return result

    def end(self) -> None:
        """Kill the process, even during a call."""
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
    """Return an idle executor whose process is still running, or None if there is no such executor.

    loky ends a process that was idle for `_IDLE_SECONDS`, and starts a new process for the next call. If the new
    process crashes during this call, loky does not detect the crash. In loky 3.7.0, the thread that detects crashes is
    woken before the new process is started. An executor is therefore not used if it was idle for at least half of
    `_IDLE_SECONDS`.
    """
    with suppress(IndexError):
        while True:
            executor, since = _free[os.getpid()].pop()
            if time.monotonic() - since < _IDLE_SECONDS / 2:
                return executor
            executor.shutdown(wait=False, kill_workers=True)
    return None


def _new_executor(module: str) -> ProcessPoolExecutor | None:
    """Start a worker process, and import a module in the new process. Return None if no process can be started."""
    try:
        from loky import ProcessPoolExecutor

        # Two of loky's warnings are not relevant here. A restart of a process does not change any result. loky uses the
        # command `pgrep` to end the child processes of a worker process. A worker process has no child processes, so
        # that `pgrep` may be missing.
        warnings.filterwarnings("ignore", category=UserWarning, module=r"loky\.")
        executor = ProcessPoolExecutor(
            1, timeout=_IDLE_SECONDS, initializer=_end_with, initargs=(os.getpid(),), env=_ENVIRONMENT
        )
        _start_trackers()
        with _signals_held():
            imported = executor.submit(_import, module)
        imported.result()
        # If a process ends while it sends a result, the thread that reads the result must not wait for the rest. The
        # reading fails only if no process has the other end of the pipe, so this process must close it.
        executor._result_queue._writer.close()
    except Exception as error:  # noqa: BLE001  the main process can still make the calls, for any error
        warnings.warn(
            f"no worker process can be started ({type(error).__name__}: {str(error).splitlines()[0]}); a file that "
            "crashes its decoder will end this run",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return executor


def _start_trackers() -> None:
    """Start the processes that clean up for loky and multiprocessing.

    Starting these processes unblocks all signals in the calling thread. These processes must therefore be started
    before `_signals_held`.
    """
    from multiprocessing import resource_tracker

    from loky.backend import resource_tracker as loky_tracker

    resource_tracker.ensure_running()
    loky_tracker.ensure_running()


@contextmanager
def _signals_held() -> Iterator[None]:
    """Block Ctrl-C (SIGINT) and SIGTERM in the processes that the body of the ``with`` statement starts.

    Windows cannot block signals. There, each process ignores Ctrl-C itself; see `_end_with`.

    Only the main process ends the worker processes. A new process inherits the set of blocked signals. The main process
    can also receive a signal during the body. Another thread then handles the signal, or this thread handles the signal
    after the body.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _import(module: str) -> None:
    import_module(module)  # the module is not returned because it cannot be pickled


def _end_with(parent: int) -> None:
    """End this process when its parent process has ended, even if the parent process was killed.

    On Windows, a process does not notice the end of its parent. There, loky ends the process after `_IDLE_SECONDS`.
    """
    announce_with(lambda **_: None)  # the main process tells the user
    if not hasattr(signal, "pthread_sigmask"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _cause(started: list[BaseProcess]) -> str:
    """Describe how a process ended."""
    for process in started:
        process.join(_EXIT_SECONDS)
    ended = [-process.exitcode for process in started if process.exitcode is not None and process.exitcode < 0]
    if not ended:
        return "ended unexpectedly"
    if signal.Signals(ended[0]).name == "SIGKILL":
        return "was killed (SIGKILL), for example because memory ran out"
    return f"crashed ({signal.Signals(ended[0]).name})"
