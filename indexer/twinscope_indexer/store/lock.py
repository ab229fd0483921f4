"""Lock of a store: only one process at a time can write to the store."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from twinscope_indexer.errors import StoreError, StoreLockedError
from twinscope_indexer.files import utc_now

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK_NAME: Final = "writer.lock"
OWNER_NAME: Final = "writer.json"
"""Name of the file that describes the process that writes. This file is not the lock itself: on Windows, no other
process can read a locked file."""
_NO_LOCKS: Final = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
"""Error numbers of a drive that does not support locks, such as some network drives."""


@contextmanager
def writer_lock(path: Path) -> Iterator[None]:
    """Lock a store for writing while the body of the ``with`` statement runs.

    The operating system holds the lock. If the process crashes or is killed, the lock ends.

    Raises
    ------
    StoreLockedError
        If another process is writing to the store; the message names that process.
    StoreError
        If the lock file cannot be created, or if the drive does not support locks.
    """
    from filelock import FileLock, Timeout  # only writers need the library

    lock = FileLock(path, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        owner = _owner(path.with_name(OWNER_NAME))
        msg = f"the store {path.parent} is being written by {owner}; wait until that process ends, or stop it"
        raise StoreLockedError(msg) from error
    except OSError as error:
        msg = f"the store {path.parent} cannot be written: {error.strerror or error}"
        if error.errno in _NO_LOCKS:
            msg = f"the store {path.parent} cannot be locked: {error.strerror or error}; keep the store on a local disk"
        raise StoreError(msg) from error
    try:
        with _described(path.with_name(OWNER_NAME)):
            yield
    finally:
        lock.release()


@contextmanager
def _described(path: Path) -> Iterator[None]:
    """Describe this process in a file while the body of the ``with`` statement runs."""
    command = " ".join(sys.argv)[:200]
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "command": command, "since": utc_now()}
    with suppress(OSError):  # the file only serves the message to other processes
        path.write_text(json.dumps(owner), encoding="utf-8")
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _owner(path: Path) -> str:
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        return f"process {owner['pid']} on {owner['host']} since {owner['since']} ({owner['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
