"""A store for readers: its current view, which `Store.refresh` replaces by a newer one."""

from __future__ import annotations

import ctypes
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from twinscope_indexer.store.catalog.catalog import Catalog
from twinscope_indexer.store.view import StoreWarning, View, load_view
from twinscope_indexer.store.writer import CALIBRATION, CATALOG_NAME, StoreWriter, open_writer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from twinscope_indexer.store.catalog.catalog import Record

__all__ = ["CALIBRATION", "CATALOG_NAME", "Store", "StoreWarning", "StoreWriter", "View", "open_writer"]

_LONG_LOG: Final = 16 << 20
"""Bytes of SQLite's log from which a refresh makes it reusable."""


class Store:
    """A store opened for reading; safe to use from several threads.

    Parameters
    ----------
    folder : Path
        The store.

    Raises
    ------
    StoreError
        If there is no store, or it cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._local = threading.local()
        self._open: list[tuple[threading.Thread, Catalog]] = []
        self._lock = threading.Lock()
        self._refreshing = threading.Lock()
        self._view = load_view(folder)
        self._renewed = 0
        _release_memory()

    @property
    def catalog(self) -> Catalog:
        """The current catalog, over this thread's own connection; answers are made from `view` only."""
        found: Catalog | None = getattr(self._local, "catalog", None)
        if found is None or found.outdated or found.replaced:
            made = Catalog(self.folder / CATALOG_NAME, read_only=True)
            self._local.catalog = made
            with self._lock:
                self._open.append((threading.current_thread(), made))
                self._close(lambda thread, catalog: catalog is found or not thread.is_alive())
            return made
        return found

    @property
    def view(self) -> View:
        """The generation that was last loaded."""
        return self._view

    @property
    def store_id(self) -> str:
        """The id of the store that the view belongs to."""
        return self._view.store_id

    def refresh(self) -> View:
        """Load the newest generation, if there is a newer one.

        If the folder now holds another store, that store is loaded completely, whatever its generation number, when it
        has published a generation. Until then the old view stays in use.

        Raises
        ------
        StoreError
            If the store no longer exists or cannot be used; the old view stays in use.
        """
        with self._refreshing:
            held = self._view
            if held.snapshot.replaced:
                fresh = load_view(self.folder)
                if fresh.generation:
                    self._view, self._renewed = fresh, 0
                else:
                    fresh.snapshot.close()
            elif self._behind(held):
                self._view = load_view(self.folder, held)
            else:
                return held
            del held
            self._compact()
        return self._view

    def _compact(self) -> None:
        """Compact the codes of the view step by step; release the memory of each step before the next."""
        _release_memory()
        while (compacted := self._view.compacted()) is not self._view:
            self._view = compacted
            _release_memory()

    def records(self, numbers: Sequence[int]) -> dict[int, Record]:
        """Return the records of images of the view by id; unknown ids are left out."""
        return self._view.records(numbers)

    def close(self) -> None:
        """Close the store; later queries of its view raise `StoreError`.

        Connections of other threads that still run are closed when those threads release them: CPython crashes if a
        SQLite connection is closed while it is executing a query.
        """
        self._view.snapshot.close()
        with self._lock:
            self._close(lambda thread, _: thread is threading.current_thread() or not thread.is_alive())
            self._open.clear()
        self._local = threading.local()

    def _close(self, ended: Callable[[threading.Thread, Catalog], bool]) -> None:
        """Close the connections for which `ended` is true; call it with the lock held."""
        left = []
        for thread, catalog in self._open:
            if ended(thread, catalog):
                catalog.close()
            else:
                left.append((thread, catalog))
        self._open = left

    def _behind(self, held: View) -> bool:
        """Check whether there is a newer generation, or the view must be loaded again to release SQLite's log.

        A view holds the position in the log at which it was loaded. While there is always a view, SQLite can reuse the
        log only if a view was loaded when all of the log had been copied into the database file.
        """
        catalog = self.catalog
        newest = catalog.published()
        number = 0 if newest is None else newest.number
        if number > held.generation:
            return True
        if self._renewed == number or catalog.frozen or catalog.log_size < _LONG_LOG or catalog.unpublished(number):
            return False
        if catalog.checkpoint():
            self._renewed = number
            return True
        return False


def _release_memory() -> None:
    """Return freed memory to the system; glibc would keep arrays as large as a segment, in total a quarter."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
