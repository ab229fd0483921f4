"""Forks of this process: a fork waits until no operation is running, so that the child process can go on.

The child process of a fork has a copy of the memory, but only one thread. If another thread of the parent process holds
a lock during the fork, nobody releases this lock in the child process, and the child process waits for ever. Locks are
also in libraries, for example in SQLite, Numba and OpenBLAS. A fork therefore waits until all operations have ended.

On systems without `os.register_at_fork`, this module does nothing.
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401  registers hooks, which must run after the hooks of this module
import ctypes
import logging  # noqa: F401  as above: hooks before a fork run in the reverse order of their registration
import os
import threading
import time
import weakref
from collections import Counter
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_WAIT_SECONDS: Final = 10.0
"""Maximum time that a fork waits for running operations, in seconds. A fork that waited without a limit could wait for
an operation that itself waits for the forking thread."""


class Forkable(Protocol):
    """An object with connections that parent process and child process must not share."""

    def _before_fork(self) -> None:
        """Close all connections. After the fork, each of the two processes opens new connections when necessary.

        No operation is running in another thread.
        """

    def _after_fork(self, *, usable: bool) -> None:
        """Prepare the object for the child process.

        Parameters
        ----------
        usable : bool
            Whether `_before_fork` was called. If not, an operation was running during the fork, and the object must
            refuse all operations in the child process.
        """


class _Gate:
    """The operations that are running, and the thread that is forking."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.running: Counter[int] = Counter()
        """Number of nested operations of each thread; the key is the identifier of the thread."""
        self.forking: int | None = None
        self.quiet = False
        """Whether no operation is running in another thread during the fork."""

    def enter(self) -> None:
        me = threading.get_ident()
        with self.changed:
            if me not in self.running:  # a fork waits for the end of the outer operation
                self.changed.wait_for(lambda: self.forking in (None, me))
            self.running[me] += 1

    def leave(self) -> None:
        me = threading.get_ident()
        with self.changed:
            self.running[me] -= 1
            if not self.running[me]:
                del self.running[me]
                self.changed.notify_all()


_gate = _Gate()
_forkables: weakref.WeakSet[Forkable] = weakref.WeakSet()


@contextmanager
def no_fork() -> Iterator[None]:
    """Delay the forks of other threads until the body of the ``with`` statement has ended.

    The delay has a limit. After the limit, the fork takes place, and the child process cannot use the objects of
    `protect`.
    """
    gate = _gate
    gate.enter()
    try:
        yield
    finally:
        gate.leave()


def protect(forkable: Forkable) -> None:
    """Call the methods of an object at every fork, as long as the object exists."""
    _forkables.add(forkable)


def leak(thing: object) -> None:
    """Never free an object, not even at the end of this process.

    SQLite does not allow that a child process closes a connection of its parent process.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def in_child(callback: Callable[[], object]) -> None:
    """Call a function in every child process, right after the fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=callback)


def _before() -> None:
    me = threading.get_ident()
    until = time.monotonic() + _WAIT_SECONDS
    with _gate.changed:
        _gate.changed.wait_for(lambda: _gate.forking is None)
        _gate.forking = me
        # An operation of the forking thread itself cannot end before the fork.
        ended = _gate.changed.wait_for(lambda: not (_gate.running.keys() - {me}), until - time.monotonic())
        _gate.quiet = ended and me not in _gate.running
    if _gate.quiet:
        for forkable in list(_forkables):
            with suppress(Exception):  # an error here must not prevent the fork
                forkable._before_fork()


def _after_in_parent() -> None:
    with _gate.changed:
        _gate.forking = None
        _gate.changed.notify_all()


def _after_in_child() -> None:
    global _gate
    quiet = _gate.quiet and _gate.forking is not None  # programs in C can fork without a call of `_before`
    _gate = _Gate()  # another thread may have held the lock of the old object
    for forkable in list(_forkables):
        forkable._after_fork(usable=quiet)


def _at_exit() -> None:
    """Wait for the operations of daemon threads, because Python can crash if it ends such a thread in a library."""
    me = threading.get_ident()
    with _gate.changed:
        _gate.forking = me
        _gate.changed.wait_for(lambda: not (_gate.running.keys() - {me}), _WAIT_SECONDS)


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
