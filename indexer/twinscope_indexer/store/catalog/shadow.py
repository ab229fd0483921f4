"""Shadow tables: rows that an unpublished write has changed or removed but readers still see.

An indexing run commits periodically, but publishes its generation at the end, or never if it is killed. Until then,
shadow tables (``images_before`` and so on) keep the rows that it replaces. So a store that is opened meanwhile answers
for the published generation, like a store that was opened earlier.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

_OF_IMAGES: Final = ("images", "thumbnails", "frames", "instruments")
_TABLES: Final = (*_OF_IMAGES, "meta")


def keep_images(db: sqlite3.Connection, numbers: Iterable[int], generation: int) -> None:
    """Keep images that a write of a generation replaces or removes, unless the same generation wrote them."""
    rows = [(number, generation) for number in numbers]
    for table in reversed(_OF_IMAGES):
        _keep(db, table, rows)


def keep_record(db: sqlite3.Connection, number: int, generation: int) -> None:
    """Keep only the row of an image that a write of a generation changes, not its thumbnail, frames or metadata."""
    _keep(db, "images", [(number, generation)])


def keep_setting(db: sqlite3.Connection, key: str) -> None:
    """Keep the value of a setting, or the fact that it has none."""
    db.execute("INSERT OR IGNORE INTO meta_before SELECT ?1, (SELECT value FROM meta WHERE key = ?1)", (key,))


def forget(db: sqlite3.Connection) -> None:
    """Delete all shadow rows, after the rows that replaced them were published."""
    for table in _TABLES:
        db.execute(f"DELETE FROM {table}_before")


def anything(db: sqlite3.Connection) -> bool:
    """Check whether there are shadow rows."""
    found = " OR ".join(f"EXISTS (SELECT 1 FROM {table}_before)" for table in _TABLES)
    return bool(db.execute(f"SELECT {found}").fetchone()[0])


def cover(db: sqlite3.Connection, published: int) -> None:
    """Hide unpublished rows from a reader's connection, with temporary views that have the names of the tables.

    Thumbnail, frames and metadata of an image come from the shadow tables only if the write has replaced or removed the
    image; if the image was only relabelled, its row is the only one in a shadow table.
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
