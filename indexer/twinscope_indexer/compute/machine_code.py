"""Machine code of the compiled functions: the folders that store the code, and how much of it this process compiled.

This module does not import Numba, so that commands can use this module before they know whether they need Numba.
"""

from __future__ import annotations

import os
import stat
import tempfile
import threading
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

NOT_KEPT: Final = (
    "no folder for machine code can be written, so each start of Twinscope compiles for about 30 s. Set "
    "NUMBA_CACHE_DIR to a folder that you can write"
)
"""Message for users if the machine code cannot be saved."""


def _warn(*, kept: bool) -> None:
    if not kept:
        warnings.warn(NOT_KEPT, RuntimeWarning, stacklevel=2)


@dataclass
class Work:
    """The machine code that this process has loaded and compiled.

    Attributes
    ----------
    loaded, compiled : int
        Number of functions that were loaded from a cache folder, and number of functions that were compiled.
    unkept : int
        Number of compiled functions that could not be written to a cache folder.
    seconds : float
        Time that was needed to compile.
    folder : str
        Folder in which a function was found or kept; empty if there is no such folder yet.
    """

    loaded: int = 0
    compiled: int = 0
    unkept: int = 0
    seconds: float = 0.0
    folder: str = ""
    announce: Callable[..., None] = _warn
    """Function that is called before the first function is compiled; see `announce_with`."""
    _announced: bool = False
    _begun: dict[int, list[float]] = field(default_factory=dict)

    def begin(self, *, kept: bool) -> None:
        """Record that a function is compiled now. `kept` is true if there is a folder for the machine code."""
        self._begun.setdefault(threading.get_ident(), []).append(time.monotonic())
        if not self._announced:
            self._announced = True
            self.announce(kept=kept)

    def end(self, *, kept: bool) -> None:
        """Record that a function was compiled, and whether its machine code was written to a folder."""
        begun = self._begun[threading.get_ident()]
        start = begun.pop()
        if not begun:  # a function that another function calls is compiled meanwhile
            self.seconds += time.monotonic() - start
        self.compiled += 1
        self.unkept += not kept


WORK: Final = Work()


def announce_with(announce: Callable[..., None]) -> None:
    """Call a function once, before this process compiles its first function.

    By default, a `RuntimeWarning` is issued if the machine code cannot be saved.

    Parameters
    ----------
    announce : callable
        The keyword argument `kept` tells whether there is a folder for the machine code.
    """
    WORK.announce = announce


def private_folder() -> Path | None:
    """Return a private folder, which only this user can write, below the folder for temporary files; otherwise None.

    The folder is created if it does not exist. Machine code is executed. Therefore a folder that another user owns or
    can change is never used.
    """
    if not hasattr(os, "geteuid"):  # on Windows, each user has another folder for temporary files
        return Path(tempfile.gettempdir()) / "twinscope"
    user = os.geteuid()
    parent = Path(tempfile.gettempdir())
    folder = parent / f"twinscope-{user}"
    try:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found, above = folder.lstat(), parent.stat()
    except OSError:
        return None
    others_can_write = stat.S_IWGRP | stat.S_IWOTH
    replaceable = above.st_mode & others_can_write and not above.st_mode & stat.S_ISVTX
    owned = stat.S_ISDIR(found.st_mode) and found.st_uid == user and not found.st_mode & others_can_write
    return folder if owned and not replaceable else None
