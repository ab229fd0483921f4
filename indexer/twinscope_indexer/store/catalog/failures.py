"""Catalog tables of the sources that could not be indexed, and of the images that were seen during a walk.

A walk is one pass through all sources of a collection.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from twinscope_indexer.files import utc_now
from twinscope_indexer.sources.location import source_uri
from twinscope_indexer.store.catalog.database import Database, restored, stored

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Failure:
    """Source (an image, an archive or a folder) that could not be indexed, and the error."""

    uri: str
    fault: str
    message: str
    at: str


class WalkTables(Database):
    """Catalog tables of failures, and of the images that were seen so far during a walk."""

    def put_failure(self, root_id: int, path: str, member: str | None, fault: str, message: str, page: int = 0) -> None:
        """Record that a source could not be indexed; call this method only during a walk, after `begin_walk`."""
        # The message may quote a file name that is not valid UTF-8.
        readable = message.encode("utf-8", "backslashreplace").decode()
        values = (root_id, stored(path), stored(member), fault, readable, utc_now(), page)
        self.forget_failure(root_id, path, member, page)
        rowid = self._db.execute("INSERT INTO failures VALUES (?, ?, ?, ?, ?, ?, ?)", values).lastrowid
        self._db.execute("INSERT OR IGNORE INTO seen_failures VALUES (?)", (rowid,))

    def forget_failure(self, root_id: int, path: str, member: str | None, page: int = 0) -> None:
        """Delete the failure of a source, if the catalog contains this failure."""
        self._db.execute(
            "DELETE FROM failures WHERE root_id = ? AND path = ? AND ifnull(member, '') = ? AND page = ?",
            (root_id, stored(path), stored(member or ""), page),
        )

    def failures(self) -> Iterator[Failure]:
        """Yield all failures that are recorded in the catalog."""
        page = "page" if self.paged else "0 AS page"
        query = (
            f"SELECT roots.path, failures.path, member, {page}, fault, message, at FROM failures"
            " JOIN roots ON roots.id = root_id ORDER BY root_id, failures.path, member, 4"
        )
        for root, path, member, number, *rest in self._db.execute(query):
            inner = None if member is None else restored(member)
            yield Failure(source_uri(Path(restored(root)), restored(path), inner, number), *rest)

    def begin_walk(self) -> None:
        """Begin a walk with an empty table of seen images; the table is on the disk, to save memory."""
        self._db.execute("PRAGMA temp_store = FILE")
        self._db.executescript(
            "CREATE TEMP TABLE IF NOT EXISTS seen (id INTEGER PRIMARY KEY);"
            "CREATE TEMP TABLE IF NOT EXISTS seen_failures (rowid INTEGER PRIMARY KEY);"
            "DELETE FROM seen; DELETE FROM seen_failures;"
        )

    def note_seen(self, number: int) -> None:
        """Record that an image was seen during the walk."""
        self._db.execute("INSERT OR IGNORE INTO seen VALUES (?)", (number,))

    def unseen(self, root_id: int, prefix: str) -> Iterator[tuple[int, str]]:
        """Yield the id and the path of each image below the path `prefix` that was not seen during the walk."""
        query = "SELECT id, path FROM images WHERE root_id = ? AND id NOT IN (SELECT id FROM seen)"
        for number, path in self._db.execute(query, (root_id,)):
            if _below(restored(path), prefix):
                yield number, restored(path)

    def paths(self, root_id: int, prefix: str) -> Iterator[tuple[int, str]]:
        """Yield the id and the path of each image below the path `prefix`."""
        for number, path in self._db.execute("SELECT id, path FROM images WHERE root_id = ?", (root_id,)):
            if _below(restored(path), prefix):
                yield number, restored(path)

    def unhashable(self) -> Iterator[Failure]:
        """Yield all images that cannot be hashed, with the fault ``unhashable`` and the reason."""
        page = "page" if self.paged else "0 AS page"
        query = (
            f"SELECT roots.path, images.path, member, {page}, unhashable, indexed_at FROM images"
            " JOIN roots ON roots.id = root_id WHERE hash IS NULL ORDER BY root_id, images.path, member, 4"
        )
        for root, path, member, number, reason, at in self._db.execute(query):
            inner = None if member is None else restored(member)
            yield Failure(source_uri(Path(restored(root)), restored(path), inner, number), "unhashable", reason, at)

    def forget_unseen_failures(self, root_id: int, prefix: str) -> None:
        """Delete the failures below the path `prefix` that did not occur again during the walk."""
        query = "SELECT rowid, path FROM failures WHERE root_id = ? AND rowid NOT IN (SELECT rowid FROM seen_failures)"
        unseen = [(rowid,) for rowid, path in self._db.execute(query, (root_id,)) if _below(restored(path), prefix)]
        self._db.executemany("DELETE FROM failures WHERE rowid = ?", unseen)


def _below(path: str, prefix: str) -> bool:
    return not prefix or path == prefix or path.startswith(f"{prefix}/")
