"""Compilation of functions by Numba. The machine code is cached on disk if a cache folder can be written."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache

if TYPE_CHECKING:
    from collections.abc import Callable

_Function = TypeVar("_Function", bound="Callable[..., Any]")


def compiled(**options: Any) -> Callable[[_Function], _Function]:
    """Return a decorator that compiles a function on its first call. Compiled functions release Python's global lock.

    The machine code is cached in the folder ``NUMBA_CACHE_DIR``, if this variable is set. Otherwise, the machine code
    is cached beside the module, or in the user's cache folder. If none of the folders can be written, or if the disk is
    full, Numba's own cache would raise an error. This decorator does not raise an error in that case; instead, each
    process compiles the function again.

    Parameters
    ----------
    **options
        Options of ``numba.njit``.
    """

    def decorated(function: _Function) -> _Function:
        dispatcher = numba.njit(nogil=True, **options)(function)
        with suppress(RuntimeError):  # no cache folder can be written
            dispatcher._cache = cast("Any", _ForgivingCache)(function)  # as njit(cache=True) does
        return cast("_Function", dispatcher)

    return decorated


def is_kept() -> bool:
    """Check whether machine code is cached on disk, so that other processes need not compile the functions again."""
    try:
        cast("Any", _ForgivingCache)(is_kept)
    except RuntimeError:
        return False
    return True


class _ForgivingCache(FunctionCache):
    def save_overload(self, signature: Any, data: Any) -> None:
        with suppress(OSError):
            cast("Any", super()).save_overload(signature, data)
