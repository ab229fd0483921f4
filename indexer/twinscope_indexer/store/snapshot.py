"""Snapshot: the catalog as it was at one moment, shared by all threads that answer queries."""

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

_PART = 1000
"""Number of records that are read at a time. Meanwhile, other threads must wait for the catalog."""


class Snapshot:
    """Published rows of a catalog at one moment; several threads can use a snapshot at the same time.

    A snapshot has a separate connection with an open read transaction. So SQLite shows the rows as they were at the
    beginning of the transaction, until `close` is called or the snapshot is no longer used. While a snapshot is open,
    SQLite cannot copy newer parts of its log into the database file, so the log grows with every write. When
    `Store.refresh` replaces the snapshot, SQLite can reuse the log.

    If the folder cannot be written, SQLite cannot keep the rows of one moment. In this case, readers see the changes of
    a writer at once.

    Parameters
    ----------
    path : Path
        Path of the catalog file.

    Raises
    ------
    StoreError
        If there is no catalog, or if the catalog cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Only one query runs at a time, because CPython crashes if a connection is closed during a query.
        self._lock = threading.Lock()
        self._closed = False
        self._open()

    def _open(self) -> None:
        self._catalog = Catalog(self._path, read_only=True)
        self._finalizer = weakref.finalize(self, self._catalog.close)
        self._finalizer.atexit = False  # because another thread may still use the connection
        self._catalog.hold()

    @contextmanager
    def reading(self) -> Iterator[Catalog]:
        """Reserve the catalog for the calling thread while the body of the ``with`` statement runs.

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
                self._finalizer()
                self._open()
            yield self._catalog

    @property
    def replaced(self) -> bool:
        """True if another file is now at the path of the catalog; see `Database.replaced`."""
        return self._catalog.replaced

    def close(self) -> None:
        """Close the connection; if a query is running, wait until the query has ended."""
        with self._lock:
            self._closed = True
            self._finalizer()

    def records(self, numbers: Sequence[int]) -> dict[int, Record]:
        """Return the records of images, with the ids as keys; unknown ids are ignored."""
        with self.reading() as catalog:
            return catalog.records(numbers)

    def page(self, after: int, size: int) -> list[Record]:
        """Return at most `size` records with ids greater than `after`, ordered by id."""
        with self.reading() as catalog:
            return catalog.page(after, size)

    def thumbnail(self, number: int) -> bytes | None:
        """Return the encoded thumbnail of an image, or None if no thumbnail is stored."""
        with self.reading() as catalog:
            return catalog.thumbnail(number)

    def instruments(self, numbers: Sequence[int]) -> dict[int, InstrumentMetadata]:
        """Return the instrument metadata of images, with the ids as keys; see `Catalog.instruments`."""
        with self.reading() as catalog:
            return catalog.instruments(numbers)

    def categories(self) -> frozenset[str]:
        """Return the names of all categories of images."""
        with self.reading() as catalog:
            return catalog.categories()

    def labels(self, numbers: Sequence[int]) -> Iterator[tuple[int, str]]:
        """Yield the id and the category of each image that has a hash; unknown ids are ignored."""
        for start in range(0, len(numbers), _PART):
            with self.reading() as catalog:
                found = catalog.records(numbers[start : start + _PART])
            yield from ((number, record.category) for number, record in found.items() if record.hash is not None)

    def description(self) -> dict[str, Any]:
        """Return the creation time of the store, the folders of its roots, and the result of `Catalog.counts`."""
        with self.reading() as catalog:
            made = {"created": catalog.meta("created"), "roots": [str(path) for path in catalog.roots().values()]}
            return made | catalog.counts()
