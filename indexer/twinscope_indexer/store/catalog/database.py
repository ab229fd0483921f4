"""Database file of a catalog: this module opens the file, runs transactions, and holds the settings of the store."""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from importlib import resources
from typing import TYPE_CHECKING

from twinscope_indexer.errors import StoreError
from twinscope_indexer.files import utc_now
from twinscope_indexer.store.catalog import shadow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEMA_VERSION = "5"
_WITHOUT_PAGES = "4"
"""Earlier schema version, without columns for the pages of stacks. Such a catalog can be read. The catalog is converted
when it is opened for writing."""
_ADD_PAGES = """
BEGIN IMMEDIATE;
ALTER TABLE images ADD COLUMN page INTEGER NOT NULL DEFAULT 0;
ALTER TABLE images ADD COLUMN pages INTEGER NOT NULL DEFAULT 0;
ALTER TABLE images_before ADD COLUMN page INTEGER NOT NULL DEFAULT 0;
ALTER TABLE images_before ADD COLUMN pages INTEGER NOT NULL DEFAULT 0;
ALTER TABLE failures ADD COLUMN page INTEGER NOT NULL DEFAULT 0;
DROP INDEX images_by_source;
CREATE UNIQUE INDEX images_by_source ON images (root_id, path, ifnull(member, ''), page);
DROP INDEX failures_by_source;
CREATE UNIQUE INDEX failures_by_source ON failures (root_id, path, ifnull(member, ''), page);
UPDATE meta SET value = '5' WHERE key = 'schema_version';
COMMIT;
"""
_MAX_LOG = 4 << 20
"""After the whole log of SQLite was copied into the database file, SQLite shortens the log file to this size in
bytes."""


class Database:
    """Connection of one thread to the database file of a catalog.

    Parameters
    ----------
    path : Path
        Path of the SQLite file.
    create : bool
        If true, and if there is no catalog, a new catalog is created.
    read_only : bool
        If true, the catalog cannot be changed.

    Raises
    ------
    StoreError
        If there is no catalog, or if the catalog is damaged or has another schema version.
    """

    def __init__(self, path: Path, *, create: bool = False, read_only: bool = False) -> None:
        if not create and not path.exists():
            msg = f"{path.parent} holds no Twinscope store (no {path.name}); make one with 'twinscope index'"
            raise StoreError(msg)
        self._path = path
        self._frozen: tuple[int, int, bool] | None = None
        try:
            self._db = _connect(str(path))
            if read_only and not _readable(self._db):
                # The folder cannot be written, so SQLite cannot create the files that coordinate readers and writers.
                self._frozen = _state(path)
                if self._frozen[2]:
                    msg = f"{path} was not closed by its last writer; open it once with write access to its folder"
                    raise StoreError(msg)
                self._db = _connect(f"{path.absolute().as_uri()}?immutable=1")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._db.execute("PRAGMA synchronous = FULL")
            if create and self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._create()
            if read_only:
                self._db.execute("PRAGMA query_only = ON")
            version = self.meta("schema_version")
            if version == _WITHOUT_PAGES and not read_only:
                self._db.executescript(_ADD_PAGES)
                version = self.meta("schema_version")
            if version == SCHEMA_VERSION and not read_only:
                self._db.execute(f"PRAGMA journal_size_limit = {_MAX_LOG}")
            self._paged = version == SCHEMA_VERSION
            self._identity = _identity(path)
        except sqlite3.Error as error:
            msg = f"{path} is damaged or not a catalog: {error}. Restore a backup, or index into a new store."
            raise StoreError(msg) from error
        if version not in (SCHEMA_VERSION, _WITHOUT_PAGES):
            msg = (
                f"{path} has schema version {version}, but this Twinscope reads {SCHEMA_VERSION}; index the collection "
                "again into a new store, or use the release of Twinscope that made the store"
            )
            raise StoreError(msg)

    def _create(self) -> None:
        script = resources.files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")
        values = {"schema_version": SCHEMA_VERSION, "store_id": os.urandom(8).hex(), "created": utc_now()}
        inserts = "".join(f"INSERT INTO meta VALUES ('{key}', '{value}');" for key, value in values.items())
        self._db.executescript(f"BEGIN IMMEDIATE;{script};{inserts}COMMIT;")

    @property
    def path(self) -> Path:
        """Path of the SQLite file."""
        return self._path

    @property
    def frozen(self) -> bool:
        """True if the folder cannot be written; the file is then opened as immutable."""
        return self._frozen is not None

    @property
    def outdated(self) -> bool:
        """True if the file was opened as immutable and has changed since then; the file must then be opened again.

        If the file was replaced by another file, the result is False.
        """
        if self._frozen is None:
            return False
        try:
            return not self.replaced and self._frozen != _state(self._path)
        except (StoreError, FileNotFoundError):  # the open file can still be read
            return False

    @property
    def replaced(self) -> bool:
        """True if another file is now at the path of the catalog.

        Raises
        ------
        StoreError
            If there is no file at the path.
        """
        return _identity(self._path) != self._identity

    @property
    def paged(self) -> bool:
        """True if the tables have columns for the pages of stacks; see `_WITHOUT_PAGES`."""
        if not self._paged:  # a writer may have converted the catalog in the meantime
            self._paged = self.meta("schema_version") == SCHEMA_VERSION
        return self._paged

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def begin(self) -> None:
        """Begin a transaction for the writes of a whole indexing run; `commit` ends the transaction."""
        self._db.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Save everything that was written since `begin` permanently on the disk."""
        if self._db.in_transaction:  # no transaction is open after an interruption between `commit` and `begin`
            self._db.execute("COMMIT")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the body of the ``with`` statement as a transaction: if it fails, none of its writes has an effect.

        If this transaction is inside another transaction, the writes are saved permanently when the outer transaction
        ends.
        """
        begin, undo, end = "BEGIN IMMEDIATE", ["ROLLBACK"], "COMMIT"
        if self._db.in_transaction:
            begin, undo, end = "SAVEPOINT part", ["ROLLBACK TO part", "RELEASE part"], "RELEASE part"
        self._db.execute(begin)
        try:
            yield
        except BaseException:
            for statement in undo:
                if self._db.in_transaction:  # no transaction is left if SQLite has already rolled back everything
                    self._db.execute(statement)
            raise
        self._db.execute(end)

    def checkpoint(self) -> bool:
        """Copy SQLite's log into the database file; return True if the whole log was copied.

        While readers are open, SQLite may be unable to copy the newest part of the log.
        """
        _, held, moved = self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return bool(held == moved)

    @property
    def log_size(self) -> int:
        """Size of SQLite's log on the disk, in bytes."""
        try:
            return self._path.with_name(f"{self._path.name}-wal").stat().st_size
        except FileNotFoundError:
            return 0

    def meta(self, key: str) -> str | None:
        """Return the value of a setting of the store, or None if the setting has no value."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str) -> None:
        """Set the value of a setting of the store; readers see the value when the next generation is published."""
        if self.meta(key) == value:
            return
        with self.transaction():
            shadow.keep_setting(self._db, key)
            self._db.execute(
                "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (key, value)
            )


def _connect(target: str) -> sqlite3.Connection:
    return sqlite3.connect(
        target, isolation_level=None, timeout=60, check_same_thread=False, uri=target.startswith("file:")
    )


def _readable(db: sqlite3.Connection) -> bool:
    try:
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        primary = error.sqlite_errorcode & 0xFF  # the higher bits hold the extended error code
        if primary in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            db.close()
            return False
        raise
    return True


def _state(path: Path) -> tuple[int, int, bool]:
    """Return the modification time and size of a catalog file, and whether the file has a write-ahead log."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size, path.with_name(f"{path.name}-wal").exists()


def _identity(path: Path) -> tuple[int, int]:
    """Return the device number and the inode number, which identify the file at a path.

    While a file is open, no other file gets its inode number.
    """
    try:
        found = path.stat()
    except OSError as error:
        msg = f"the store {path.parent} is missing ({path.name}: {error.strerror or error}); restore it or index again"
        raise StoreError(msg) from error
    return found.st_dev, found.st_ino


def stored(text: str | None) -> str | bytes | None:
    """Convert a path for storage in SQLite: the result is text, or bytes if the path is not valid UTF-8."""
    if text is None:
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text)
    return text


def restored(value: str | bytes) -> str:
    """Return the path that the function `stored` has converted to this value."""
    return os.fsdecode(value)
