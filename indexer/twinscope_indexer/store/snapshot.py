"""A snapshot: the catalog as it was at one moment, shared by all threads that answer queries."""

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
    """The published rows of a catalog at one moment; safe to use from several threads.

    A separate connection holds a read transaction. So SQLite keeps showing the rows of its beginning until `close`, or
    until the snapshot is no longer used. Meanwhile SQLite cannot copy its log into the database file beyond that
    moment, and the log grows with every write. Refreshing the store releases it (see `Store.refresh`).

    If the folder cannot be written, SQLite cannot hold a moment; then changes by a writer are seen at once.

    Parameters
    ----------
    path : Path
        The catalog file.

    Raises
    ------
    StoreError
        If there is no catalog, or it cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()  # one query at a time; CPython crashes if a connection is closed during a query
        self._closed = False
        self._open()

    def _open(self) -> None:
        self._catalog = Catalog(self._path, read_only=True)
        self._finalizer = weakref.finalize(self, self._catalog.close)
        self._finalizer.atexit = False  # a remaining thread may still be reading
        self._catalog.hold()

    @contextmanager
    def reading(self) -> Iterator[Catalog]:
        """Reserve the catalog for this thread while the body runs.

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
        """True if the path now belongs to another file; see `Database.replaced`."""
        return self._catalog.replaced

    def close(self) -> None:
        """Close the connection, after its current query if there is one."""
        with self._lock:
            self._closed = True
            self._finalizer()

    def records(self, numbers: Sequence[int]) -> dict[int, Record]:
        """Return the records of images by id; unknown ids are left out."""
        with self.reading() as catalog:
            return catalog.records(numbers)

    def page(self, after: int, size: int) -> list[Record]:
        """Return the next `size` records after an id, ordered by id."""
        with self.reading() as catalog:
            return catalog.page(after, size)

    def thumbnail(self, number: int) -> bytes | None:
        """Return the encoded thumbnail of an image, if it is stored."""
        with self.reading() as catalog:
            return catalog.thumbnail(number)

    def instruments(self, numbers: Sequence[int]) -> dict[int, InstrumentMetadata]:
        """Return the instrument metadata of images; see `Catalog.instruments`."""
        with self.reading() as catalog:
            return catalog.instruments(numbers)

    def categories(self) -> frozenset[str]:
        """Return the names of all categories of images."""
        with self.reading() as catalog:
            return catalog.categories()

    def description(self) -> dict[str, Any]:
        """Return the store's creation time, its roots, and the counts of `Catalog.counts`."""
        with self.reading() as catalog:
            made = {"created": catalog.meta("created"), "roots": [str(path) for path in catalog.roots().values()]}
            return made | catalog.counts()
