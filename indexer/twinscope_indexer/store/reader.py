"""A store as its readers see it: the view that they answer from, which is brought up to date when they ask for it."""

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
"""Bytes of SQLite's log from which a refresh makes room in it."""


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
        _give_back()

    @property
    def catalog(self) -> Catalog:
        """The catalogue as it is now, by this thread's own connection; answers come from the `view` alone."""
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
        """The state that was last loaded."""
        return self._view

    @property
    def store_id(self) -> str:
        """The id of the store that the view is of."""
        return self._view.store_id

    def refresh(self) -> View:
        """Load the newest published state, if there is a newer one.

        Where another store has been put into the folder's place, it is loaded wholly, whatever its generation, as soon
        as it has published one; until then the old one goes on answering.

        Raises
        ------
        StoreError
            If the store is gone, or cannot be used; the old view goes on answering.
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
        """Compact the codes of the view, step by step; the memory of each step is given back before the next."""
        _give_back()
        while (compacted := self._view.compacted()) is not self._view:
            self._view = compacted
            _give_back()

    def records(self, numbers: Sequence[int]) -> dict[int, Record]:
        """Return the records of some images of the view by id; ids that are not stored are left out."""
        return self._view.records(numbers)

    def close(self) -> None:
        """Close all connections; those of other threads that still run are closed when these let go of them.

        What is asked of the view afterwards is refused. Python crashes where a connection of SQLite is closed under a
        query.
        """
        self._view.snapshot.close()
        with self._lock:
            self._close(lambda thread, _: thread is threading.current_thread() or not thread.is_alive())
            self._open.clear()
        self._local = threading.local()

    def _close(self, ended: Callable[[threading.Thread, Catalog], bool]) -> None:
        """Close some connections of threads; to be called under the lock."""
        left = []
        for thread, catalog in self._open:
            if ended(thread, catalog):
                catalog.close()
            else:
                left.append((thread, catalog))
        self._open = left

    def _behind(self, held: View) -> bool:
        """Check whether there is a newer state, or the view must be loaded again to let go of SQLite's log.

        A view holds the end of the log of its time. As long as there always is one, none of the log can be used again,
        unless one is loaded when all of it is in the file.
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


def _give_back() -> None:
    """Return freed memory back to the system: glibc keeps arrays of the size of a segment, in all a quarter."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
