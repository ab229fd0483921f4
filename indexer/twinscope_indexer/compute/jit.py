"""Compiled functions: Numba with its cache on disk where there can be one, and without where there cannot."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache

if TYPE_CHECKING:
    from collections.abc import Callable

_Function = TypeVar("_Function", bound="Callable[..., Any]")


def compiled(**options: Any) -> Callable[[_Function], _Function]:
    """Compile a function when it is first called; it runs without Python's global lock.

    The machine code is kept beside the module, else in the user's cache folder or in ``NUMBA_CACHE_DIR``. Numba alone
    fails where none of these can be written, or the disk is full; here the function is then compiled in each process.

    Parameters
    ----------
    **options
        Of ``numba.njit``.
    """

    def decorated(function: _Function) -> _Function:
        dispatcher = numba.njit(nogil=True, **options)(function)
        with suppress(RuntimeError):  # no folder can be written
            dispatcher._cache = cast("Any", _ForgivingCache)(function)  # as njit(cache=True) does
        return cast("_Function", dispatcher)

    return decorated


def is_kept() -> bool:
    """Tell whether machine code is kept, so that another process need not compile again."""
    try:
        cast("Any", _ForgivingCache)(is_kept)
    except RuntimeError:
        return False
    return True


class _ForgivingCache(FunctionCache):
    def save_overload(self, signature: Any, data: Any) -> None:
        with suppress(OSError):
            cast("Any", super()).save_overload(signature, data)
