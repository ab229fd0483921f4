"""Functions that crash their process, like a decoder that fails on a damaged file."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path
from typing import Any

from twinscope_client.labelling import decide
from twinscope_indexer.indexing import reading

_read, _read_query = reading.read, decide.read_query


def segfault() -> None:
    ctypes.string_at(0)


def crash(how: str) -> None:
    if how == "SIGSEGV":
        segfault()
    os.kill(os.getpid(), getattr(signal, how))


def crash_once(note: Path) -> str:
    """Kill the process in the first call; return in the second call."""
    if note.exists():
        return "done"
    note.touch()
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


def held_signals(_: object) -> list[str]:
    """Return the names of the signals that are blocked in the main thread of the process."""
    return sorted(signal.Signals(number).name for number in signal.pthread_sigmask(signal.SIG_BLOCK, []))


def halt(message: str) -> None:
    """Write a message to show that the call has begun, and never return."""
    os.write(1, message.encode())
    time.sleep(3600)


def read(task: Any) -> Any:
    """Read an image of a collection, or crash if its name begins with ``crash``."""
    if task.item.name.startswith("crash"):
        segfault()
    return _read(task)


def read_query(reading: Any) -> Any:
    """Read an image to be labelled, or crash if its name begins with ``crash``."""
    if reading.item.name.startswith("crash"):
        segfault()
    return _read_query(reading)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pid: int) -> None:
    """Wait for a process to end, at most until the time limit of the test."""
    while alive(pid):
        time.sleep(0.02)
