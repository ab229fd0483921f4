"""Worker processes: threads hand their work on, so that Python's own steps of it run on all cores, too.

Compiled code lets go of the interpreter's lock, but for what is left threads wait for each other; of small images that
is most. A process takes a second to start, so that is done for long work only, and in the background. `multiprocessing`
would import the caller's script again, and run all of it where it lacks a guard; this starts an interpreter of its own
that speaks over two pipes. It ends with the first, so also where the caller is killed.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self, TypeVar

from twinscope_indexer.compute.jit import is_kept

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

T = TypeVar("T")
R = TypeVar("R")

PATIENCE: Final = 5.0
"""Seconds of work after which there is probably enough left to be worth more processes."""
_MOST: Final = 16
"""Processes; who settles what they find out, one thread with a database, keeps up with about as many."""
_FAREWELL: Final = 5.0
"""Seconds that a process has to end by itself."""
_PROGRAM: Final = """
import os, pickle, sys
requests, answers = os.fdopen(int(sys.argv[1]), "rb"), os.fdopen(int(sys.argv[2]), "wb")
sys.path[:] = pickle.load(requests)
from twinscope_indexer.compute.processes import serve
serve(requests, answers)
"""


class ProcessLostError(Exception):
    """A worker process has ended in the middle of its work; the message says how."""


class WorkerProcesses:
    """Processes for the threads of a pool, one each; safe to use from several threads.

    Parameters
    ----------
    workers : int
        Threads that there are; of a single one all is done by itself.
    """

    def __init__(self, workers: int) -> None:
        possible = workers > 1 and _is_python(sys.executable) and is_kept()  # else each would compile everything
        self._left = min(workers, _MOST) if possible else 0
        self._begin = time.monotonic() + PATIENCE
        self._of_thread = threading.local()
        self._started: list[_Process] = []
        self._lock = threading.Lock()

    def apply(self, function: Callable[[T], R], argument: T, here: Callable[[T], R]) -> R:
        """Apply a function in the process of this thread.

        Parameters
        ----------
        function : callable
            Of a module; it must not raise.
        argument : object
            It, and the answer, can be pickled.
        here : callable
            What the thread does itself until it has a process; often the same function.

        Raises
        ------
        ProcessLostError
            If the process has ended over it, as where the system ran out of memory. The next call starts another.
        """
        process = self._process(function.__module__)
        if process is None or not process.ready:
            return here(argument)
        try:
            answer: R = process.apply(function, argument)
        except ProcessLostError:
            self._of_thread.process = None
            with self._lock:
                if process in self._started:  # else all are being ended
                    self._started.remove(process)
                    self._left += 1
            raise
        return answer

    def close(self) -> None:
        """End all processes."""
        with self._lock:
            self._left, started, self._started = 0, self._started, []
        for process in started:
            process.dismiss()
        for process in started:
            process.end()

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all processes."""
        self.close()

    def _process(self, module: str) -> _Process | None:
        """Give the process of this thread; None where it has none (yet)."""
        process: _Process | None = getattr(self._of_thread, "process", None)
        if process is not None and process.failed:
            with self._lock:
                self._left = 0  # what cannot be started here now will not be later
            return None
        if process is not None and process not in self._started:  # all have been ended
            return None
        if process is None and time.monotonic() >= self._begin:
            with self._lock:
                if self._left:
                    self._left -= 1
                    process = self._of_thread.process = _Process(module)
                    self._started.append(process)
        return process


class _Process:
    """One process, and the pipes to it.

    Parameters
    ----------
    module : str
        Imported at the start, so that the first answer does not wait for it.
    """

    def __init__(self, module: str) -> None:
        self._ready = False
        self.failed = False
        self._process: subprocess.Popen[bytes] | None = None
        taken, self._requests = _pipe()
        self._answers, given = _pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603  this very interpreter
                [sys.executable, *_flags(), "-c", _PROGRAM, str(taken.fileno()), str(given.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=(taken.fileno(), given.fileno()),
                start_new_session=True,  # Ctrl-C is for the caller, who ends what has been begun
            )
            taken.close()
            given.close()
            self._send(sys.path)
            self._send(module)
        except (OSError, ValueError):
            self.failed = True
        finally:
            taken.close()
            given.close()

    @property
    def ready(self) -> bool:
        """Whether it has started; does not wait for it."""
        if not (self._ready or self.failed):
            arrived = select.poll()  # unlike select(), for any number of open files
            try:
                arrived.register(self._answers, select.POLLIN)
                self._ready = bool(arrived.poll(0)) and bool(self._received())
            except (EOFError, OSError, ValueError, pickle.UnpicklingError):
                self.failed = True
        return self._ready

    def apply(self, function: Callable[[T], R], argument: T) -> R:
        try:
            self._send((function, argument))
            answer: R = self._received()
        except (EOFError, OSError, ValueError, pickle.UnpicklingError) as error:  # ValueError: closed meanwhile
            raise ProcessLostError(self.end()) from error
        return answer

    def dismiss(self) -> None:
        """Let it end once it has done what it is at."""
        with suppress(OSError):
            self._requests.close()

    def end(self) -> str:
        """See that it has ended, and say how."""
        self.dismiss()
        if self._process is None:
            self._answers.close()
            return "it could not be started"
        try:
            code = self._process.wait(_FAREWELL)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._answers.close()
        if code == -signal.SIGKILL:
            return "it was killed, as the system does where memory runs out"
        return f"it died of signal {-code}" if code < 0 else f"it ended with status {code}"

    def _received(self) -> Any:
        return pickle.load(self._answers)  # noqa: S301  our own child's

    def _send(self, message: Any) -> None:
        pickle.dump(message, self._requests, pickle.HIGHEST_PROTOCOL)
        self._requests.flush()


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Do what is asked for until there is no one to ask any more; the program of a worker process.

    Parameters
    ----------
    requests : binary file
        Pickles: the name of a module to import first, then functions, each with its argument.
    answers : binary file
        Pickles: true once the module is there, then what the functions return.
    """
    with suppress(EOFError, BrokenPipeError):
        importlib.import_module(pickle.load(requests))  # noqa: S301  our own parent's
        message: Any = True
        while True:
            pickle.dump(message, answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()
            function, argument = pickle.load(requests)  # noqa: S301
            message = function(argument)
    os._exit(0)  # without waiting for what cannot be flushed any more


def _pipe() -> tuple[BinaryIO, BinaryIO]:
    """Make a pipe, to read from and to write to; not by numbers of the standard streams, where these are closed."""
    ends = os.pipe()
    apart = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3) for end in ends]
    for end in ends:
        os.close(end)
    return os.fdopen(apart[0], "rb"), os.fdopen(apart[1], "wb")


def _flags() -> list[str]:
    """Give the options of this interpreter that another needs; it imports nothing from the folder where it is run."""
    flags = {"-I": sys.flags.isolated, "-E": sys.flags.ignore_environment, "-s": sys.flags.no_user_site}
    chosen = ["-P", *(flag for flag, is_set in flags.items() if is_set)]
    return [*chosen, "-X", "utf8"] if sys.flags.utf8_mode else chosen


def _is_python(executable: str) -> bool:
    """Tell whether a program is an interpreter, and not one that has Python built in."""
    return bool(executable) and Path(executable).name.startswith(("python", "pypy"))
