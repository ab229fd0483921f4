"""A snapshot: the catalogue as it was at one moment, for all threads that answer from it."""

from __future__ import annotations

import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from twinscope_indexer.errors import StoreError
from twinscope_indexer.store.catalog.catalog import Catalog

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from twinscope_indexer.metadata.reader import InstrumentMetadata
    from twinscope_indexer.store.catalog.catalog import Record


class Snapshot:
    """The published rows of a catalogue at one moment; safe to use from several threads.

    A connection of its own holds a read transaction, so that SQLite goes on showing what was there when it began, until
    `close` or until nobody uses the snapshot any more. Meanwhile SQLite's log cannot be taken back into the file beyond
    that moment, and grows with what is written; a store that is refreshed lets go of it (see `Store.refresh`).

    Where the folder may not be written SQLite cannot hold a moment: there, what a writer changes is seen at once.

    Parameters
    ----------
    path : Path
        The catalogue's file.

    Raises
    ------
    StoreError
        If there is no catalogue, or it cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()  # one query at a time; Python crashes where a connection is closed under one
        self._closed = False
        self._open()

    def _open(self) -> None:
        self._catalog = Catalog(self._path, read_only=True)
        self._letting_go = weakref.finalize(self, self._catalog.close)
        self._letting_go.atexit = False  # a thread left behind may still be reading
        self._catalog.hold()

    @contextmanager
    def reading(self) -> Iterator[Catalog]:
        """Hold the catalogue for the body alone.

        Raises
        ------
        StoreError
            If the snapshot is closed.
        """
        with self._lock:
            if self._closed:
                msg = f"the store {self._path.parent} was closed"
                raise StoreError(msg)
            if self._catalog.outdated:
                self._letting_go()
                self._open()
            yield self._catalog

    @property
    def replaced(self) -> bool:
        """Whether the file is another one by now; see `Database.replaced`."""
        return self._catalog.replaced

    def close(self) -> None:
        """Close the connection, after the query that it is at, if it is."""
        with self._lock:
            self._closed = True
            self._letting_go()

    def records(self, numbers: Sequence[int]) -> dict[int, Record]:
        """Return the records of some images by id; ids that are not stored are left out."""
        with self.reading() as catalog:
            return catalog.records(numbers)

    def page(self, after: int, size: int) -> list[Record]:
        """Return the next records behind an id, in the order of their ids."""
        with self.reading() as catalog:
            return catalog.page(after, size)

    def thumbnail(self, number: int) -> bytes | None:
        """Return the encoded thumbnail of an image, if it is stored."""
        with self.reading() as catalog:
            return catalog.thumbnail(number)

    def instruments(self, numbers: Sequence[int]) -> dict[int, InstrumentMetadata]:
        """Return what the instruments of some images wrote; see `Catalog.instruments`."""
        with self.reading() as catalog:
            return catalog.instruments(numbers)

    def categories(self) -> frozenset[str]:
        """Return the names of all categories that images have."""
        with self.reading() as catalog:
            return catalog.categories()

    def description(self) -> dict[str, Any]:
        """Return when the store was made, its roots, and the counts of `Catalog.counts`."""
        with self.reading() as catalog:
            made = {"created": catalog.meta("created"), "roots": [str(path) for path in catalog.roots().values()]}
            return made | catalog.counts()
