"""Lock of a store: only one process at a time can write to the store."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from twinscope_indexer.errors import StoreError, StoreLockedError
from twinscope_indexer.files import utc_now

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK_NAME: Final = "writer.lock"


@contextmanager
def writer_lock(path: Path) -> Iterator[None]:
    """Lock a store for writing while the body of the ``with`` statement runs.

    Raises
    ------
    StoreLockedError
        If another process is writing to the store; the message names that process.
    StoreError
        If the lock file cannot be created, or if the drive does not support locks.
    """
    try:
        stream = path.open("a+", encoding="utf-8")
    except OSError as error:
        msg = f"the store {path.parent} cannot be written: {error.strerror or error}"
        raise StoreError(msg) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            msg = (
                f"the store {path.parent} is being written by {_holder(path)}; wait until that process ends, or stop it"
            )
            raise StoreLockedError(msg) from error
        except OSError as error:  # for example, a network drive without locks
            msg = f"the store {path.parent} cannot be locked: {error.strerror or error}; keep the store on a local disk"
            raise StoreError(msg) from error
        stream.truncate(0)
        command = " ".join(sys.argv)[:200]
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "command": command, "since": utc_now()}, stream)
        stream.flush()
        yield


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['host']} since {holder['since']} ({holder['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
