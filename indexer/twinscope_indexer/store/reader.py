"""Store for readers: it has a current view, which `Store.refresh` replaces by a newer view."""

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
"""Minimum size of SQLite's log, in bytes, for which `Store.refresh` loads the view again although there is no newer
generation. After the view was loaded again, SQLite can reuse the log."""


class Store:
    """Store that is open for reading; several threads can use it at the same time.

    Parameters
    ----------
    folder : Path
        Folder of the store.

    Raises
    ------
    StoreError
        If the folder holds no store, or if the store cannot be used.
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
        """Current catalog, with a connection for the calling thread; answers to queries use only `view`."""
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
        """View of the generation that was loaded last."""
        return self._view

    @property
    def store_id(self) -> str:
        """Id of the store that is shown by the current view."""
        return self._view.store_id

    def refresh(self) -> View:
        """Load the newest generation, if it is newer than the current view; return the view that is then in use.

        If the folder now holds another store, the new store is loaded completely after it has published a generation,
        even if the number of this generation is smaller than before. Until the new store is loaded, the old view stays
        in use.

        Raises
        ------
        StoreError
            If the store no longer exists or cannot be used. The old view then stays in use.
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
        """Compact the codes of the view step by step, and release the freed memory after each step."""
        _release_memory()
        while (compacted := self._view.compacted()) is not self._view:
            self._view = compacted
            _release_memory()

    def records(self, numbers: Sequence[int]) -> dict[int, Record]:
        """Return the records of images in the current view, by id; unknown ids are left out."""
        return self._view.records(numbers)

    def close(self) -> None:
        """Close the store; later queries raise `StoreError`.

        If another thread still runs, its connection is closed only when that thread releases the connection. Otherwise
        CPython could crash, because a SQLite connection must not be closed during a query.
        """
        self._view.snapshot.close()
        with self._lock:
            self._close(lambda thread, _: thread is threading.current_thread() or not thread.is_alive())
            self._open.clear()
        self._local = threading.local()

    def _close(self, ended: Callable[[threading.Thread, Catalog], bool]) -> None:
        """Close the connections for which `ended` returns true; the caller must hold the lock."""
        left = []
        for thread, catalog in self._open:
            if ended(thread, catalog):
                catalog.close()
            else:
                left.append((thread, catalog))
        self._open = left

    def _behind(self, held: View) -> bool:
        """Check whether the view must be loaded again, because a generation is newer or SQLite's log is too long.

        An open view prevents SQLite from reusing its log, unless the whole log was copied into the database file before
        the view was loaded. Since a store always has an open view, a new view must be loaded after the log was
        copied.
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
    """Return freed memory to the operating system.

    Otherwise, the C library glibc would keep freed arrays of the size of a segment, in total a quarter of the memory.
    """
    with suppress(OSError, AttributeError):  # this C library has no malloc_trim
        ctypes.CDLL(None).malloc_trim(0)
