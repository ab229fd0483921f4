"""Functions compiled by Numba, with a cache on disk if one can be written."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache

if TYPE_CHECKING:
    from collections.abc import Callable

_Function = TypeVar("_Function", bound="Callable[..., Any]")


def compiled(**options: Any) -> Callable[[_Function], _Function]:
    """Compile a function on its first call. It runs without Python's global lock.

    The machine code is kept beside the module, else in the user's cache folder or in ``NUMBA_CACHE_DIR``. If none of
    these can be written, or the disk is full, Numba alone fails; here, the function is then compiled in each process.

    Parameters
    ----------
    **options
        Options of ``numba.njit``.
    """

    def decorated(function: _Function) -> _Function:
        dispatcher = numba.njit(nogil=True, **options)(function)
        with suppress(RuntimeError):  # no folder can be written
            dispatcher._cache = cast("Any", _ForgivingCache)(function)  # as njit(cache=True) does
        return cast("_Function", dispatcher)

    return decorated


def is_kept() -> bool:
    """Check whether machine code is kept, so that another process need not compile it again."""
    try:
        cast("Any", _ForgivingCache)(is_kept)
    except RuntimeError:
        return False
    return True


class _ForgivingCache(FunctionCache):
    def save_overload(self, signature: Any, data: Any) -> None:
        with suppress(OSError):
            cast("Any", super()).save_overload(signature, data)
