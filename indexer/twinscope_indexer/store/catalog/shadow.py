"""Shadow tables: copies of published rows that a writer has changed or removed since the last generation.

An indexing run commits its writes periodically, but publishes its generation only at the end. If the run is killed, the
generation is never published. Shadow tables (``images_before`` and so on) keep the rows that the run replaces until the
generation is published. So readers see only the published generation, even if they open the store during the run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

_OF_IMAGES: Final = ("images", "thumbnails", "frames", "instruments")
_TABLES: Final = (*_OF_IMAGES, "meta")


def keep_images(db: sqlite3.Connection, numbers: Iterable[int], generation: int) -> None:
    """Copy images to the shadow tables, before a write of `generation` replaces or removes the images.

    An image that was written by the same generation is not copied.
    """
    rows = [(number, generation) for number in numbers]
    for table in reversed(_OF_IMAGES):
        _keep(db, table, rows)


def keep_record(db: sqlite3.Connection, number: int, generation: int) -> None:
    """Copy the row of an image to its shadow table, before a write of `generation` changes the row.

    The thumbnail, the frames and the metadata of the image are not copied.
    """
    _keep(db, "images", [(number, generation)])


def keep_setting(db: sqlite3.Connection, key: str) -> None:
    """Copy the value of a setting to its shadow table; if there is no value, record that the setting has no value."""
    db.execute("INSERT OR IGNORE INTO meta_before SELECT ?1, (SELECT value FROM meta WHERE key = ?1)", (key,))


def forget(db: sqlite3.Connection) -> None:
    """Delete all rows of the shadow tables; call this function after the new rows were published."""
    for table in _TABLES:
        db.execute(f"DELETE FROM {table}_before")


def losses(db: sqlite3.Connection) -> tuple[int, dict[tuple[str, str], int]]:
    """Count the images of the last generation that later writes have removed or relabelled.

    Returns
    -------
    lost : int
        Number of images that were removed or can no longer be searched.
    relabelled : dict
        Number of images for each old and new name of their category, if the two names differ.
    """
    both = "FROM images_before AS kept LEFT JOIN images AS now ON now.id = kept.id"
    lost = db.execute(f"SELECT count(*) {both} WHERE now.id IS NULL OR kept.hash IS NOT NULL AND now.hash IS NULL")
    changed = "SELECT kept.category, now.category, count(*)"
    relabelled = db.execute(f"{changed} {both} WHERE now.category <> kept.category GROUP BY 1, 2")
    return int(lost.fetchone()[0]), {(old, new): number for old, new, number in relabelled}


def restore(db: sqlite3.Connection, published: int) -> None:
    """Undo all writes since the generation `published`, with the rows of the shadow tables.

    The list of failures is not changed. Call this function within a transaction.
    """
    newer = "SELECT id FROM images WHERE generation > ?"
    for table in _OF_IMAGES[1:]:
        db.execute(f"DELETE FROM {table} WHERE id IN ({newer})", (published,))
    db.execute("DELETE FROM images WHERE generation > ?", (published,))
    for table in _OF_IMAGES:
        db.execute(f"REPLACE INTO {table} SELECT * FROM {table}_before")
    db.execute("DELETE FROM meta WHERE key IN (SELECT key FROM meta_before)")
    db.execute("INSERT INTO meta SELECT * FROM meta_before WHERE value IS NOT NULL")
    db.execute("DELETE FROM deletions WHERE generation > ?", (published,))
    forget(db)


def anything(db: sqlite3.Connection) -> bool:
    """Check whether any shadow table has rows."""
    found = " OR ".join(f"EXISTS (SELECT 1 FROM {table}_before)" for table in _TABLES)
    return bool(db.execute(f"SELECT {found}").fetchone()[0])


def cover(db: sqlite3.Connection, published: int) -> None:
    """Hide unpublished rows from a reader: temporary SQL views with the same names replace the tables.

    If a write has replaced or removed an image, the views show the row, the thumbnail, the frames and the metadata from
    the shadow tables. If the image was only relabelled, only its row comes from a shadow table.
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
