"""Catalog tables of the generations of a store, and of the codes that the indexes hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from twinscope_indexer.hashing.codes import BYTES
from twinscope_indexer.store.catalog import shadow
from twinscope_indexer.store.catalog.database import Database

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from numpy.typing import NDArray

_ROWS: Final = 1024
"""Number of rows that are read from the catalog at a time. These rows are then copied into an array."""
_FRAMED: Final = (
    "FROM frames JOIN images USING (id)"
    " WHERE generation > ?2 AND generation <= ?3 AND hash IS NOT NULL AND length(codes) >= ?1"
)


@dataclass(frozen=True, slots=True)
class Generation:
    """Published version of a store."""

    number: int
    images: int
    """Number of images with a hash. Searches can find only these images."""
    recipe: str
    file: str | None
    """Name of the index file, or None if the generation has no index file."""
    sha256: str | None
    """SHA-256 of the index file, in hexadecimal."""
    at: str


class GenerationTables(Database):
    """Catalog tables of generations, and of the codes in each generation."""

    def codes(self, *, above: int, upto: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Return the ids and codes of images, ordered by id.

        The result contains only images whose generation is greater than `above` and at most `upto`. The ids are int64
        of shape (n,); the codes are uint8 of shape (n, 128).
        """
        count = self.count_hashed(above=above, upto=upto)
        nothing = np.empty(0, np.int64), np.empty((0, BYTES), np.uint8)
        return next(self.code_batches(max(1, count), above=above, upto=upto), nothing)

    def code_batches(
        self, size: int, *, above: int, upto: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
        """Yield the result of `codes` in batches of at most `size` codes; only one batch is in memory at a time."""
        query = "SELECT id, hash FROM images WHERE generation > ? AND generation <= ? AND hash IS NOT NULL ORDER BY id"
        yield from _arrays(self._db.execute(query, (above, upto)), size, BYTES)

    def frames(self, count: int, *, above: int, upto: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Return the ids of images and the codes of the first `count` frames of each image, ordered by id.

        `above` and `upto` select the generations, as in `codes`. The ids are int64 of shape (n,); the codes are uint8
        of shape (n, count, 128).
        """
        size = max(1, self.count_framed(count, above=above, upto=upto))
        nothing = np.empty(0, np.int64), np.empty((0, count, BYTES), np.uint8)
        return next(self.frame_parts(count, size, above=above, upto=upto), nothing)

    def frame_parts(
        self, count: int, size: int, *, above: int, upto: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
        """Yield the result of `frames` in batches of at most `size` images; only one batch is in memory at a time."""
        query = f"SELECT id, substr(codes, 1, ?1) {_FRAMED} ORDER BY id"
        for ids, codes in _arrays(self._db.execute(query, (count * BYTES, above, upto)), size, count * BYTES):
            yield ids, codes.reshape(-1, count, BYTES)

    def count_framed(self, count: int, *, above: int, upto: int) -> int:
        """Count the images that `frames` returns."""
        return int(self._db.execute(f"SELECT count(*) {_FRAMED}", (count * BYTES, above, upto)).fetchone()[0])

    def without_frames(self, count: int) -> Iterator[tuple[int, bytes]]:
        """Yield the ids and thumbnails of hashed images that have fewer than `count` frames in the catalog."""
        rows: list[tuple[int, bytes]] = [(-1, b"")]
        while rows:  # in batches, because the caller writes to the table at the same time
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
        """Remove the codes of all frames; call this method within a transaction."""
        self._db.execute("DELETE FROM frames")

    def changed_since(self, generation: int, *, upto: int) -> NDArray[np.int64]:
        """Return the ids of images that were added, changed or deleted after `generation`, but not after `upto`.

        For these images, an index file of `generation` is out of date.
        """
        query = (
            "SELECT id FROM images WHERE generation > ?1 AND generation <= ?2"
            " UNION SELECT id FROM deletions WHERE generation > ?1 AND generation <= ?2"
        )
        return np.fromiter((row[0] for row in self._db.execute(query, (generation, upto))), np.int64)

    def hashed(self, *, upto: int) -> NDArray[np.int64]:
        """Return the ids of the searchable images that have not changed after the generation `upto`.

        The ids are int64 of shape (n,), in ascending order.
        """
        query = "SELECT id FROM images WHERE generation <= ? AND hash IS NOT NULL ORDER BY id"
        rows = self._db.execute(query, (upto,))
        return np.fromiter((row[0] for row in rows), np.int64, self.count_hashed(upto=upto))

    def count_hashed(self, *, above: int = 0, upto: int) -> int:
        """Count the searchable images whose generation is greater than `above` and at most `upto`."""
        query = "SELECT count(*) FROM images WHERE generation > ? AND generation <= ? AND hash IS NOT NULL"
        return int(self._db.execute(query, (above, upto)).fetchone()[0])

    def published(self) -> Generation | None:
        """Return the newest published generation, or None if nothing was published."""
        row = self._db.execute("SELECT * FROM generations ORDER BY number DESC LIMIT 1").fetchone()
        return None if row is None else Generation(*row)

    def newest_file(self) -> Generation | None:
        """Return the newest generation that has an index file, or None if no generation has an index file."""
        row = self._db.execute(
            "SELECT * FROM generations WHERE file IS NOT NULL ORDER BY number DESC LIMIT 1"
        ).fetchone()
        return None if row is None else Generation(*row)

    def publish(self, generation: Generation) -> None:
        """Publish everything that was written up to a generation, and delete the copies of replaced rows.

        A new index file does not contain the deleted images. So if the generation has an index file, the list of
        deleted images is cleared.
        """
        values = (
            generation.number, generation.images, generation.recipe, generation.file, generation.sha256, generation.at,
        )  # fmt: skip
        with self.transaction():
            self._db.execute("REPLACE INTO generations VALUES (?, ?, ?, ?, ?, ?)", values)
            shadow.forget(self._db)
            if generation.file is not None:
                older = "UPDATE generations SET file = NULL, sha256 = NULL WHERE number < ?"
                self._db.execute(older, (generation.number,))
                self._db.execute("DELETE FROM deletions WHERE generation <= ?", (generation.number,))

    def unpublished(self, generation: int) -> bool:
        """Check whether anything was written after a generation."""
        written = (
            "SELECT EXISTS (SELECT 1 FROM images WHERE generation > ?1)"
            " OR EXISTS (SELECT 1 FROM deletions WHERE generation > ?1)"
        )
        return bool(self._db.execute(written, (generation,)).fetchone()[0]) or shadow.anything(self._db)

    def losses(self) -> tuple[int, dict[tuple[str, str], int]]:
        """Return how many published images the unpublished writes take away and relabel; see `shadow.losses`."""
        return shadow.losses(self._db)

    def discard(self, generation: int) -> None:
        """Undo everything that was written after a published generation; see `shadow.restore`."""
        with self.transaction():
            shadow.restore(self._db, generation)

    def hold(self) -> None:
        """Begin a transaction in which this connection shows only the rows that are published at this moment.

        The transaction lasts until the connection is closed. Only readers call this method.
        """
        self._db.execute("BEGIN")
        published = self.published()
        number = 0 if published is None else published.number
        if self.unpublished(number):
            self._db.execute("PRAGMA query_only = OFF")  # `query_only` also forbids temporary views
            shadow.cover(self._db, number)
            self._db.execute("PRAGMA query_only = ON")


def _arrays(rows: sqlite3.Cursor, size: int, width: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Yield the ids and the data of at most `size` rows at a time, as two arrays.

    The data of each row have `width` bytes.
    """
    filled = size
    while filled == size:
        numbers, data = np.empty(size, np.int64), np.empty((size, width), np.uint8)
        filled = 0
        while filled < size and (some := rows.fetchmany(min(_ROWS, size - filled))):
            end = filled + len(some)
            numbers[filled:end] = [row[0] for row in some]
            data[filled:end] = np.frombuffer(b"".join(row[1] for row in some), np.uint8).reshape(-1, width)
            filled = end
        if filled:
            yield numbers[:filled], data[:filled]
