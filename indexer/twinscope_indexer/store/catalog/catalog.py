"""Catalog of a store: one SQLite file. If an index file differs from the catalog, the catalog is correct."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscope_indexer.store.catalog.database import SCHEMA_VERSION
from twinscope_indexer.store.catalog.failures import Failure
from twinscope_indexer.store.catalog.generations import Generation, GenerationTables
from twinscope_indexer.store.catalog.records import Record, RecordTables
from twinscope_indexer.store.catalog.roots import RootTable

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

__all__ = ["SCHEMA_VERSION", "Catalog", "Failure", "Generation", "Record"]


class Catalog(RootTable, RecordTables, GenerationTables):
    """Open catalog with all its tables; the parameters are the same as for `Database`."""

    def categories(self) -> frozenset[str]:
        """Return the names of all categories of images."""
        return frozenset(row[0] for row in self._db.execute("SELECT DISTINCT category FROM images"))

    def of_categories(self, names: Collection[str]) -> NDArray[np.int64]:
        """Return the ids of all images whose category is in `names`, int64 of shape (n,), in ascending order."""
        query = "SELECT id FROM images WHERE category IN (SELECT value FROM json_each(?)) ORDER BY id"
        rows = self._db.execute(query, (json.dumps(sorted(names)),)).fetchall()
        return np.array([row[0] for row in rows], dtype=np.int64)

    def searchable(self) -> NDArray[np.int64]:
        """Return the ids of all images that have a hash, int64 of shape (n,), in ascending order."""
        rows = self._db.execute("SELECT id FROM images WHERE hash IS NOT NULL ORDER BY id").fetchall()
        return np.array([row[0] for row in rows], dtype=np.int64)

    def counts(self) -> dict[str, Any]:
        """Return the numbers of images and failures in the catalog.

        ``images``, ``searchable``, ``unhashable`` and ``failures`` are total numbers. ``prefixes`` is the number of
        images whose published file name begins with a code. ``contradicting_prefixes`` is the number of images whose
        published file name begins with a code that differs from the code of the category. ``category``, ``format`` and
        ``bits`` are dictionaries. These dictionaries contain the number of images for each category, for each file
        format and for each number of bits.
        """
        grouped = {
            name: dict(self._db.execute(f"SELECT {name}, count(*) FROM images GROUP BY 1 ORDER BY 1").fetchall())
            for name in ("category", "format", "bits")
        }
        single = {
            "images": "SELECT count(*) FROM images",
            "searchable": "SELECT count(*) FROM images WHERE hash IS NOT NULL",
            "unhashable": "SELECT count(*) FROM images WHERE hash IS NULL",
            "failures": "SELECT count(*) FROM failures",
            "prefixes": "SELECT count(*) FROM images WHERE published_prefix IS NOT NULL",
            "contradicting_prefixes": "SELECT count(*) FROM images WHERE published_prefix <> code",
        }
        return {name: self._db.execute(query).fetchone()[0] for name, query in single.items()} | grouped
