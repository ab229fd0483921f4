"""Shadow tables: the rows that readers still see, which an unpublished write has changed or removed.

A run of the indexer commits now and then, but its generation is published at the end, or not at all if it is killed.
What it replaces is kept until then in tables beside the others (``images_before`` and so on), so that a store opened
meanwhile answers for the published generation as one that was opened before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

_OF_IMAGES: Final = ("images", "thumbnails", "frames", "instruments")
_TABLES: Final = (*_OF_IMAGES, "meta")


def keep_images(db: sqlite3.Connection, numbers: Iterable[int], generation: int) -> None:
    """Keep images that a write of a generation replaces or removes; those that only this generation has are not."""
    rows = [(number, generation) for number in numbers]
    for table in reversed(_OF_IMAGES):
        _keep(db, table, rows)


def keep_record(db: sqlite3.Connection, number: int, generation: int) -> None:
    """Keep the row of an image that a write of a generation changes, and nothing else of it."""
    _keep(db, "images", [(number, generation)])


def keep_setting(db: sqlite3.Connection, key: str) -> None:
    """Keep the value of a setting, or that it has none."""
    db.execute("INSERT OR IGNORE INTO meta_before SELECT ?1, (SELECT value FROM meta WHERE key = ?1)", (key,))


def forget(db: sqlite3.Connection) -> None:
    """Forget everything: it is published what has replaced it."""
    for table in _TABLES:
        db.execute(f"DELETE FROM {table}_before")


def anything(db: sqlite3.Connection) -> bool:
    """Check whether there are rows that readers see only here."""
    found = " OR ".join(f"EXISTS (SELECT 1 FROM {table}_before)" for table in _TABLES)
    return bool(db.execute(f"SELECT {found}").fetchone()[0])


def cover(db: sqlite3.Connection, published: int) -> None:
    """Let a reader's connection see the published rows under the names of the tables, by temporary views.

    Rows of a generation that is not published are hidden. What belongs to an image is where its row is: the row of a
    relabelled image alone is kept here.
    """
    db.execute(
        f"CREATE TEMP VIEW images AS SELECT * FROM main.images AS now WHERE generation <= {published}"
        " AND NOT EXISTS (SELECT 1 FROM main.images_before AS kept WHERE kept.id = now.id)"
        " UNION ALL SELECT * FROM main.images_before"
    )
    for table in _OF_IMAGES[1:]:
        db.execute(
            f"CREATE TEMP VIEW {table} AS SELECT * FROM main.{table} AS now WHERE EXISTS"
            f" (SELECT 1 FROM main.images AS image WHERE image.id = now.id AND image.generation <= {published})"
            f" UNION ALL SELECT * FROM main.{table}_before"
        )
    db.execute(
        "CREATE TEMP VIEW meta AS SELECT * FROM main.meta AS now"
        " WHERE NOT EXISTS (SELECT 1 FROM main.meta_before AS kept WHERE kept.key = now.key)"
        " UNION ALL SELECT * FROM main.meta_before WHERE value IS NOT NULL"
    )


def _keep(db: sqlite3.Connection, table: str, rows: list[tuple[int, int]]) -> None:
    db.executemany(
        f"INSERT OR IGNORE INTO {table}_before SELECT * FROM {table} WHERE id = ?1"
        " AND EXISTS (SELECT 1 FROM images WHERE id = ?1 AND generation < ?2)",
        rows,
    )
