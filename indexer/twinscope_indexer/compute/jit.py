"""Compilation of functions by Numba. The machine code is saved in a folder for later processes."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import numba
from numba.core import config
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    NullCache,
    _CacheLocator,
    _SourceFileBackedLocatorMixin,
)

from twinscope_indexer.compute.machine_code import WORK, private_folder

if TYPE_CHECKING:
    from collections.abc import Callable

_Function = TypeVar("_Function", bound="Callable[..., Any]")
_caches: Final[list[Any]] = []
"""The caches of all compiled functions that were imported so far."""


def compiled(**options: Any) -> Callable[[_Function], _Function]:
    """Return a decorator that compiles a function on its first call.

    A compiled function releases Python's global lock (GIL), so that other threads can run at the same time.

    The machine code is saved in the first of these folders that can be written: the folder in the environment variable
    ``NUMBA_CACHE_DIR``; the folder of the module; the user's cache folder; a folder below the folder for temporary
    files that only this user can write. Machine code in the folder of the module is also used if this folder cannot be
    written. If no folder can be written, or if the disk is full, each process compiles the function again.

    Parameters
    ----------
    **options
        Options of ``numba.njit``.
    """

    def decorated(function: _Function) -> _Function:
        dispatcher = numba.njit(nogil=True, **options)(function)
        dispatcher._cache = cache = _cache_of(function)  # as njit(cache=True) does
        _caches.append(cache)
        return cast("_Function", dispatcher)

    return decorated


def is_kept() -> bool:
    """Return whether there is a folder in which the machine code of the imported functions is saved."""
    return not any(isinstance(cache, _NoCache) for cache in _caches)


def is_uncompiled() -> bool:
    """Return whether at least one imported function has no machine code in any folder."""
    return not all(cache.exists for cache in _caches)


class _Cache(FunctionCache):
    """The cache of one function.

    Parameters
    ----------
    function : callable
    beside : FunctionCache or None
        Cache in the folder of the module, which can only be read.
    """

    def __init__(self, function: Any, beside: Any) -> None:
        cast("Any", super()).__init__(function)
        self._beside = beside

    @property
    def exists(self) -> bool:
        """Whether the folder has machine code of this function, for this or for another processor."""
        return any(
            os.path.exists(cache._cache_file._index_path)  # noqa: PTH110  a path of Numba
            for cache in (cast("Any", self), self._beside)
            if cache is not None
        )

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        for cache in (cast("Any", super()), self._beside):
            found = None
            with suppress(Exception):  # a damaged file; `save_overload` replaces it
                found = None if cache is None else cache.load_overload(sig, target_context)
            if found is not None:
                WORK.loaded += 1
                WORK.folder = str(cache.cache_path)
                return found
        WORK.begin(kept=True)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        for damaged in (False, True):
            try:
                if damaged:
                    cast("Any", self).flush()
                cast("Any", super()).save_overload(sig, data)
            except OSError:  # for example a full disk
                break
            except Exception:  # noqa: BLE001, S112  the index of the cache is damaged and must be written again
                continue
            WORK.folder = str(cast("Any", self).cache_path)
            WORK.end(kept=True)
            return
        WORK.end(kept=False)


class _NoCache(NullCache):
    """The cache of a function if there is no folder for its machine code."""

    exists = False

    def load_overload(self, sig: Any, target_context: Any) -> None:  # noqa: ARG002  Numba's names
        WORK.begin(kept=False)

    def save_overload(self, sig: Any, data: Any) -> None:  # noqa: ARG002
        WORK.end(kept=False)


class _PrivateLocator(_SourceFileBackedLocatorMixin, _CacheLocator):
    """The folder of this user below the folder for temporary files."""

    def __init__(self, function: Any, file: str) -> None:
        self._py_file = file
        self._lineno = function.__code__.co_firstlineno
        folder = private_folder()
        self._folder = None if folder is None else str(folder / _subfolder(file))

    def get_cache_path(self) -> Any:
        return self._folder

    def ensure_cache_path(self) -> None:
        if self._folder is None:
            msg = "there is no private folder for temporary files"
            raise OSError(msg)
        cast("Any", super()).ensure_cache_path()


class _BesideLocator(_SourceFileBackedLocatorMixin, _CacheLocator):
    """The folder of the module, as it is; the folder need not be writable."""

    def __init__(self, function: Any, file: str) -> None:
        self._py_file = file
        self._lineno = function.__code__.co_firstlineno
        self._folder = os.path.join(os.path.dirname(file), "__pycache__")  # noqa: PTH118, PTH120  as Numba does

    def get_cache_path(self) -> Any:
        return self._folder

    def ensure_cache_path(self) -> None:
        if not os.path.isdir(self._folder):  # noqa: PTH112
            raise FileNotFoundError(self._folder)


def _subfolder(file: str) -> str:
    return str(cast("Any", _CacheLocator).get_suitable_cache_subpath(file))


def _absolute(locator: Any) -> Any:
    """Return a locator of Numba that ignores relative folders.

    If the user has no home folder, the user's cache folder would be the folder ``~`` inside the current folder.
    """

    class Absolute(locator):  # type: ignore[misc]
        def ensure_cache_path(self) -> None:
            if not cast("Any", config).CACHE_DIR and not os.path.isabs(self.get_cache_path()):  # noqa: PTH117
                raise FileNotFoundError(self.get_cache_path())
            super().ensure_cache_path()

    return Absolute


class _Places(CompileResultCacheImpl):
    _locator_classes = [*map(_absolute, CompileResultCacheImpl._locator_classes), _PrivateLocator]  # noqa: RUF012


class _Beside(CompileResultCacheImpl):
    _locator_classes = [_BesideLocator]  # noqa: RUF012


class _WritableCache(_Cache):
    _impl_class: Any = _Places


class _BesideCache(FunctionCache):
    _impl_class: Any = _Beside


def _cache_of(function: Any) -> Any:
    try:
        beside = cast("Any", _BesideCache)(function)
    except RuntimeError:  # there is no such folder
        beside = None
    try:
        return _WritableCache(function, beside)
    except RuntimeError:  # no folder can be written
        return _NoCache() if beside is None else _ReadOnlyCache(function, beside)


class _ReadOnlyCache(_NoCache):
    """The cache of a function that can only be read."""

    def __init__(self, function: Any, beside: Any) -> None:  # noqa: ARG002
        self._beside = beside
        self.exists = os.path.exists(beside._cache_file._index_path)  # noqa: PTH110

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        with suppress(Exception):
            found = self._beside.load_overload(sig, target_context)
            if found is not None:
                WORK.loaded += 1
                WORK.folder = str(self._beside.cache_path)
                return found
        return super().load_overload(sig, target_context)
