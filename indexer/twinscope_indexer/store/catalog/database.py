"""The file of a catalogue: how SQLite opens it, its transactions, and the store's own settings."""

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

SCHEMA_VERSION = "4"
_MAX_LOG = 4 << 20
"""Bytes that SQLite's log may keep on the disk when all of it is in the file."""


class Database:
    """An open catalogue: a connection of one thread.

    Parameters
    ----------
    path : Path
        The SQLite file.
    create : bool
        Make a new catalogue where there is none.
    read_only : bool
        Never write.

    Raises
    ------
    StoreError
        If there is no catalogue, or it is damaged, or of another version.
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
                # A folder that may not be written: SQLite cannot make the files that it coordinates writers with.
                self._frozen = _state(path)
                if self._frozen[2]:
                    msg = f"{path} was not closed by its last writer: open it once where its folder may be written"
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
            if version == SCHEMA_VERSION and not read_only:
                self._db.execute(f"PRAGMA journal_size_limit = {_MAX_LOG}")
            self._identity = _identity(path)
        except sqlite3.Error as error:
            msg = f"{path} is damaged or no catalogue: {error}. Restore it from a backup, or index again elsewhere."
            raise StoreError(msg) from error
        if version != SCHEMA_VERSION:
            msg = (
                f"{path} has schema version {version}, this Twinscope reads {SCHEMA_VERSION}: index the collection "
                "again, into a new store, or use the release that made it"
            )
            raise StoreError(msg)

    def _create(self) -> None:
        script = resources.files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")
        values = {"schema_version": SCHEMA_VERSION, "store_id": os.urandom(8).hex(), "created": utc_now()}
        inserts = "".join(f"INSERT INTO meta VALUES ('{key}', '{value}');" for key, value in values.items())
        self._db.executescript(f"BEGIN IMMEDIATE;{script};{inserts}COMMIT;")

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def frozen(self) -> bool:
        """Whether the file was opened as one that nobody changes, as its folder may not be written."""
        return self._frozen is not None

    @property
    def outdated(self) -> bool:
        """Whether it must be opened again: a frozen file has been changed, though not replaced."""
        if self._frozen is None:
            return False
        try:
            return not self.replaced and self._frozen != _state(self._path)
        except (StoreError, FileNotFoundError):  # what is open can still be read
            return False

    @property
    def replaced(self) -> bool:
        """Whether another file has this one's name by now.

        Raises
        ------
        StoreError
            If none has.
        """
        return _identity(self._path) != self._identity

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def begin(self) -> None:
        """Begin a transaction that `commit` ends, for writes that go on over a whole run."""
        self._db.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Make everything since `begin` durable."""
        if self._db.in_transaction:  # not where an interruption fell between `commit` and `begin`
            self._db.execute("COMMIT")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write all of the body or nothing of it; within another transaction too, whose end makes it durable."""
        begin, undo, end = "BEGIN IMMEDIATE", ["ROLLBACK"], "COMMIT"
        if self._db.in_transaction:
            begin, undo, end = "SAVEPOINT part", ["ROLLBACK TO part", "RELEASE part"], "RELEASE part"
        self._db.execute(begin)
        try:
            yield
        except BaseException:
            for statement in undo:
                if self._db.in_transaction:  # not where SQLite has undone all of it already
                    self._db.execute(statement)
            raise
        self._db.execute(end)

    def checkpoint(self) -> bool:
        """Bring what SQLite's log holds into the file, as far as no reader needs it there; tell whether all of it."""
        _, held, moved = self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return bool(held == moved)

    @property
    def log_size(self) -> int:
        """Bytes of SQLite's log on the disk."""
        try:
            return self._path.with_name(f"{self._path.name}-wal").stat().st_size
        except FileNotFoundError:
            return 0

    def meta(self, key: str) -> str | None:
        """Give a value of the store's own settings, if it is set."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str) -> None:
        """Set a value of the store's own settings; readers see it with the next generation."""
        if self.meta(key) == value:
            return
        with self.transaction():
            shadow.keep_setting(self._db, key)
            self._db.execute(
                "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (key, value)
            )


def _connect(place: str) -> sqlite3.Connection:
    return sqlite3.connect(
        place, isolation_level=None, timeout=60, check_same_thread=False, uri=place.startswith("file:")
    )


def _readable(db: sqlite3.Connection) -> bool:
    try:
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        primary = error.sqlite_errorcode & 0xFF  # the rest says which kind of it
        if primary in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            db.close()
            return False
        raise
    return True


def _state(path: Path) -> tuple[int, int, bool]:
    """Give time and size of a catalogue's file, and whether there is a writer's log beside it."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size, path.with_name(f"{path.name}-wal").exists()


def _identity(path: Path) -> tuple[int, int]:
    """Tell a file from another one of its name; the number of one that is open is not given to a new one."""
    try:
        found = path.stat()
    except OSError as error:
        msg = f"the store {path.parent} is gone ({path.name}: {error.strerror or error}); put it back, or index again"
        raise StoreError(msg) from error
    return found.st_dev, found.st_ino


def stored(text: str | None) -> str | bytes | None:
    """Give a path as SQLite can hold it: text, or bytes where the file system's name is not valid UTF-8."""
    if text is None:
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text)
    return text


def restored(value: str | bytes) -> str:
    """Give a path that `stored` has made fit for SQLite."""
    return os.fsdecode(value)
