"""Compilation of functions by Numba. If a cache folder is writable, the machine code is cached on disk."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache

if TYPE_CHECKING:
    from collections.abc import Callable

_Function = TypeVar("_Function", bound="Callable[..., Any]")


def compiled(**options: Any) -> Callable[[_Function], _Function]:
    """Return a decorator that compiles a function on its first call.

    A compiled function releases Python's global lock (GIL), so that other threads can run at the same time.

    If the environment variable ``NUMBA_CACHE_DIR`` is set, the machine code is cached in this folder. Otherwise, the
    machine code is cached in the folder of the module, or in the user's cache folder. Numba's own cache raises an error
    if none of these folders is writable, or if the disk is full. This decorator raises no error in these cases.
    Instead, each process compiles the function again.

    Parameters
    ----------
    **options
        Options of ``numba.njit``.
    """

    def decorated(function: _Function) -> _Function:
        dispatcher = numba.njit(nogil=True, **options)(function)
        with suppress(RuntimeError):  # no cache folder is writable
            dispatcher._cache = cast("Any", _ForgivingCache)(function)  # as njit(cache=True) does
        return cast("_Function", dispatcher)

    return decorated


def is_kept() -> bool:
    """Check whether machine code is cached on disk. If so, other processes do not compile the functions again."""
    try:
        cast("Any", _ForgivingCache)(is_kept)
    except RuntimeError:
        return False
    return True


class _ForgivingCache(FunctionCache):
    def save_overload(self, signature: Any, data: Any) -> None:
        with suppress(OSError):
            cast("Any", super()).save_overload(signature, data)
