"""Store that is open for reading: `Store.view` is the current view, and `Store.refresh` loads a newer view."""

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
"""If SQLite's log has at least this size in bytes, `Store.refresh` loads the view again, even if there is no newer
generation. SQLite can then reuse the log."""


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
        self._suspended = False
        _release_memory()

    @property
    def catalog(self) -> Catalog:
        """Current catalog, with a separate connection for each thread; queries use `view` instead of this catalog."""
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
        """View of the generation that was loaded last; after `suspend`, the view of the newest generation."""
        return self.refresh() if self._suspended else self._view

    @property
    def store_id(self) -> str:
        """Id of the store to which the current view belongs."""
        return self._view.store_id

    def refresh(self) -> View:
        """Load the newest generation if the current view is older; return the new current view.

        The folder may now hold another store. This other store is loaded completely after its first generation was
        published, even if the number of its generation is smaller than before. Until then, the old view stays in use.

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
                    self._view, self._renewed, self._suspended = fresh, 0, False
                else:
                    fresh.snapshot.close()
            elif self._suspended or self._behind(held):
                self._view = load_view(self.folder, held)
                self._suspended = False
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

    def suspend(self) -> None:
        """Close all connections to the catalog; the next use of `view` opens a connection to the newest generation.

        No thread may use the store during the call. The process can then be forked: SQLite does not allow that two
        processes share a connection.
        """
        if self._suspended:
            return
        self._suspended = True
        self._view.snapshot.close()
        with self._lock:
            self._close(lambda *_: True)
        self._local = threading.local()

    def close(self) -> None:
        """Close the store; later queries raise `StoreError`.

        Other threads may still be running. The connection of such a thread is closed later, when the thread releases
        the connection. CPython could crash if a SQLite connection is closed during a query.
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

        SQLite can reuse its log only after the whole log was copied into the database file, and after all older views
        were closed. A store always has an open view. Therefore a new view must be loaded after the log was copied.
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

    Without this call, the C library glibc would keep the memory of freed arrays that are as large as a segment. This
    would be a quarter of all memory.
    """
    with suppress(OSError, AttributeError, TypeError):  # other C libraries have no malloc_trim; Windows needs a name
        ctypes.CDLL(None).malloc_trim(0)
