"""Roots of a catalog: the paths of images are relative to these folders."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from twinscope_indexer.errors import StoreError
from twinscope_indexer.store.catalog.database import Database, restored, stored


class RootTable(Database):
    """Catalog table of roots."""

    def roots(self) -> dict[int, Path]:
        """Return the folders of all roots, with the ids of the roots as keys."""
        return {
            number: Path(restored(path)) for number, path in self._db.execute("SELECT id, path FROM roots ORDER BY id")
        }

    def root_for(self, folder: Path) -> tuple[int, Path, str]:
        """Return the root that contains `folder`; add a new root if no root contains it.

        A file must be in the catalog only once, even if the file is in two indexed folders. Therefore an existing root
        is used if it contains `folder`. Existing roots inside `folder` are merged into the new root.

        Returns
        -------
        tuple
            Id of the root, folder of the root, and path of `folder` relative to the root ("" if `folder` is the root).
        """
        roots = self.roots()
        for number, path in roots.items():
            if folder == path or path in folder.parents:
                below = folder.relative_to(path).as_posix()
                return number, path, "" if below == "." else below
        with self.transaction():
            number = int(self._db.execute("INSERT INTO roots (path) VALUES (?)", (stored(str(folder)),)).lastrowid or 0)
            for other, path in roots.items():
                if folder in path.parents:
                    self._merge(other, number, path.relative_to(folder).as_posix())
        return number, folder, ""

    def _merge(self, other: int, number: int, below: str) -> None:
        for table in ("images", "images_before", "failures"):
            rows = self._db.execute(f"SELECT rowid, path FROM {table} WHERE root_id = ?", (other,))
            moved = [(number, stored(f"{below}/{restored(path)}"), rowid) for rowid, path in rows]
            self._db.executemany(f"UPDATE {table} SET root_id = ?, path = ? WHERE rowid = ?", moved)
        self._db.execute("DELETE FROM roots WHERE id = ?", (other,))

    def move_root(self, number: int, folder: Path) -> None:
        """Change the folder of a root."""
        try:
            self._db.execute("UPDATE roots SET path = ? WHERE id = ?", (stored(str(folder)), number))
        except sqlite3.IntegrityError as error:
            msg = f"{folder} is already a root of this store"
            raise StoreError(msg) from error
