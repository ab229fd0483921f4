"""Generations: the published states of a store, and the codes that its indexes are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from twinscope_indexer import before
from twinscope_indexer.database import Database
from twinscope_indexer.hashing import BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Generation:
    """A published state of the store."""

    number: int
    images: int
    """Searchable images (those with a hash)."""
    recipe: str
    file: str | None
    """Name of the index file, where one was written."""
    sha256: str | None
    """Of that file, hexadecimal."""
    at: str


class GenerationTables(Database):
    """The part of a catalogue that knows generations, and gives what is indexed of each."""

    def codes(self, *, above: int, upto: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Give ids, int64 (n,), and codes, uint8 (n, 128), of the generations in (`above`, `upto`], by id."""
        query = "SELECT id, hash FROM images WHERE generation > ? AND generation <= ? AND hash IS NOT NULL ORDER BY id"
        count = self._db.execute(
            "SELECT count(*) FROM images WHERE generation > ? AND generation <= ? AND hash IS NOT NULL", (above, upto)
        ).fetchone()[0]
        ids, codes = np.empty(count, np.int64), np.empty((count, BYTES), np.uint8)
        for i, (number, code) in enumerate(self._db.execute(query, (above, upto))):
            ids[i] = number
            codes[i] = np.frombuffer(code, np.uint8)
        return ids, codes

    def frames(self, count: int, *, above: int, upto: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Give ids, int64 (n,), and the first codes of their frames, uint8 (n, count, 128), by id; see `codes`."""
        size = count * BYTES
        rows = self._db.execute(
            "SELECT id, substr(codes, 1, ?1) FROM frames JOIN images USING (id)"
            " WHERE generation > ?2 AND generation <= ?3 AND hash IS NOT NULL AND length(codes) >= ?1 ORDER BY id",
            (size, above, upto),
        ).fetchall()
        ids = np.fromiter((row[0] for row in rows), np.int64, len(rows))
        return ids, np.frombuffer(b"".join(row[1] for row in rows), np.uint8).reshape(-1, count, BYTES)

    def without_frames(self, count: int) -> Iterator[tuple[int, bytes]]:
        """Give ids and thumbnails of the images that have fewer than `count` frames."""
        rows: list[tuple[int, bytes]] = [(-1, b"")]
        while rows:  # in parts, as it is written meanwhile
            rows = self._db.execute(
                "SELECT id, data FROM thumbnails JOIN images USING (id) LEFT JOIN frames USING (id)"
                " WHERE hash IS NOT NULL AND ifnull(length(codes), 0) < ? AND id > ? ORDER BY id LIMIT 1000",
                (count * BYTES, rows[-1][0]),
            ).fetchall()
            yield from rows

    def put_frames(self, number: int, codes: bytes) -> None:
        """Set the codes of the frames of an image."""
        self._db.execute("REPLACE INTO frames VALUES (?, ?)", (number, codes))

    def forget_frames(self) -> None:
        """Remove the codes of all frames; within a transaction."""
        self._db.execute("DELETE FROM frames")

    def changed_since(self, generation: int, *, upto: int) -> NDArray[np.int64]:
        """Give the ids changed or deleted after `generation`, up to another: older files are wrong there."""
        query = (
            "SELECT id FROM images WHERE generation > ?1 AND generation <= ?2"
            " UNION SELECT id FROM deletions WHERE generation > ?1 AND generation <= ?2"
        )
        rows = self._db.execute(query, (generation, upto)).fetchall()
        return np.array([row[0] for row in rows], dtype=np.int64)

    def count_hashed(self, *, upto: int) -> int:
        """Count the searchable images of a generation."""
        query = "SELECT count(*) FROM images WHERE generation <= ? AND hash IS NOT NULL"
        return int(self._db.execute(query, (upto,)).fetchone()[0])

    def published(self) -> Generation | None:
        """Give the newest generation that readers may see, if there is one."""
        row = self._db.execute("SELECT * FROM generations ORDER BY number DESC LIMIT 1").fetchone()
        return None if row is None else Generation(*row)

    def newest_file(self) -> Generation | None:
        """Give the newest generation that has an index file, if there is one."""
        row = self._db.execute(
            "SELECT * FROM generations WHERE file IS NOT NULL ORDER BY number DESC LIMIT 1"
        ).fetchone()
        return None if row is None else Generation(*row)

    def publish(self, generation: Generation) -> None:
        """Let readers see everything up to a generation; forget what it has replaced.

        Deletions are forgotten when an index file has applied them.
        """
        values = (
            generation.number, generation.images, generation.recipe, generation.file, generation.sha256, generation.at,
        )  # fmt: skip
        with self.transaction():
            self._db.execute("REPLACE INTO generations VALUES (?, ?, ?, ?, ?, ?)", values)
            before.forget(self._db)
            if generation.file is not None:
                older = "UPDATE generations SET file = NULL, sha256 = NULL WHERE number < ?"
                self._db.execute(older, (generation.number,))
                self._db.execute("DELETE FROM deletions WHERE generation <= ?", (generation.number,))

    def unpublished(self, generation: int) -> bool:
        """Tell whether anything was written after a generation."""
        written = (
            "SELECT EXISTS (SELECT 1 FROM images WHERE generation > ?1)"
            " OR EXISTS (SELECT 1 FROM deletions WHERE generation > ?1)"
        )
        return bool(self._db.execute(written, (generation,)).fetchone()[0]) or before.anything(self._db)

    def hold(self) -> None:
        """Stay at this moment, and at what is published of it, until the connection is closed; for reading only."""
        self._db.execute("BEGIN")
        published = self.published()
        number = 0 if published is None else published.number
        if self.unpublished(number):
            self._db.execute("PRAGMA query_only = OFF")  # which holds for temporary views as well
            before.cover(self._db, number)
            self._db.execute("PRAGMA query_only = ON")
