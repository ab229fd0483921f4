"""The journal of a labelling run: it records all decisions and written files, so that a stopped run can continue."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import contextmanager
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from twinscope_indexer.files import write_durably
from twinscope_indexer.sources.corpus import RUN_MARKER

from twinscope_client.errors import OutputError
from twinscope_client.labelling.decision import STACK_CONFLICT, Decision
from twinscope_client.outputs import JOURNAL_NAME, folded_order

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["JOURNAL_NAME", "STACK_CONFLICT", "Decision", "Journal", "is_journal"]

_VERSION: Final = "3"
_KIND: Final = 0x7477_7363
"""Application id ``twsc`` in the SQLite header of every journal; see https://www.sqlite.org/fileformat.html."""
_MARK: Final = b"""\
This folder holds the results of 'twinscope label'. While this file exists, 'twinscope index' and 'twinscope label'
skip the folder. Therefore, labelled copies do not become references and are not labelled again.
"""


_COLUMNS = [field.name for field in fields(Decision)]
_PAGES = "CREATE TABLE IF NOT EXISTS pages (path PRIMARY KEY, size, mtime_ns, numbers) WITHOUT ROWID"
_values = attrgetter(*_COLUMNS)
_FIND = f"SELECT {', '.join(_COLUMNS)} FROM decisions WHERE path = ? AND page = ?"
_PUT = f"REPLACE INTO decisions ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"


class Journal:
    """The open journal of an output folder.

    Parameters
    ----------
    folder : Path
        The output folder. If the folder does not exist, it is created.

    Raises
    ------
    OutputError
        If the journal cannot be written, another run is writing to the folder, or a different file has the name of
        the journal.
    """

    def __init__(self, folder: Path, *, create: bool = True) -> None:
        self.folder = folder
        path = folder / JOURNAL_NAME
        try:
            if create:
                folder.mkdir(parents=True, exist_ok=True)
            elif not path.exists():
                msg = f"{folder} holds no labelling run: {JOURNAL_NAME} is missing; run 'twinscope label' first"
                raise OutputError(msg)
            _require_journal(path)
            if not (folder / RUN_MARKER).exists():
                write_durably(folder / RUN_MARKER, _MARK)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=1)
            self._db.create_collation("folded", folded_order)
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("BEGIN IMMEDIATE")
            if self._db.execute("PRAGMA application_id").fetchone()[0] != _KIND:
                self._create()
            self._db.execute(_PAGES)
            for column in ("output", "jpeg_output"):
                self._db.execute(f"CREATE INDEX IF NOT EXISTS f_{column} ON decisions ({column} COLLATE folded)")
            stored: dict[str, str] = dict(self._db.execute("SELECT key, value FROM meta"))
            version, self._mark = stored.get("version"), stored.get("finished")
            self._db.execute("COMMIT")
        except OSError as error:
            msg = f"the output folder {folder} cannot be used: {error.strerror or error}"
            raise OutputError(msg) from error
        except sqlite3.Error as error:
            busy = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            why = "another run is writing there; wait until it ends, or stop it" if busy else str(error)
            msg = f"the output folder {folder} cannot be used: {why}"
            raise OutputError(msg) from error
        if version != _VERSION:
            msg = (
                f"the journal {path} has version {version}, but this Twinscope reads version {_VERSION}; "
                "choose another output folder"
            )
            raise OutputError(msg)

    def _create(self) -> None:
        """Create the tables of a new journal."""
        self._db.execute(f"PRAGMA application_id = {_KIND}")
        self._db.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")
        self._db.execute(f"CREATE TABLE decisions ({', '.join(_COLUMNS)}, PRIMARY KEY (path, page)) WITHOUT ROWID")
        self._db.execute("INSERT INTO meta VALUES ('version', ?), ('finished', 'no')", (_VERSION,))

    def close(self) -> None:
        """Close the journal."""
        self._db.close()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Collect the changes that are made in a ``with`` block, and save these changes at the end of the block.

        The method `save` saves the changes earlier. If the block raises an error, the changes are also saved, because
        every changed row is complete.

        Raises
        ------
        OutputError
            If the journal cannot be written.
        """
        self._write("BEGIN")
        try:
            yield
        finally:
            if self._db.in_transaction:  # if the disk is full, SQLite can end the transaction
                self._write("COMMIT")

    def save(self) -> None:
        """Save the changes of the current batch to the disk, and continue the batch."""
        self._write("COMMIT")
        self._write("BEGIN")

    def find(self, path: str, page: int = 0) -> Decision | None:
        """Return the decision about a query; None if there is no decision."""
        return next(self._select("path = ? AND page = ?", (_stored(path), page)), None)

    def of_file(self, path: str) -> list[Decision]:
        """Return the decisions about all pages of a file. If the file is one image, there is at most one decision."""
        return list(self._select("path = ? ORDER BY page", (_stored(path),)))

    def page_numbers(self, path: str, size: int, mtime_ns: int) -> tuple[int, ...] | None:
        """Return the numbers of the pages of a file, as an earlier run found them; empty if the file is no stack.

        The result is None if they are unknown, if the size or the modification time of the file has changed, or if an
        image of the file could not be read: the cause may be gone.
        """
        row = self._db.execute(
            "SELECT numbers FROM pages WHERE (path, size, mtime_ns) = (?1, ?2, ?3)"
            " AND NOT EXISTS (SELECT 1 FROM decisions WHERE path = ?1 AND grade = 'failed')",
            (_stored(path), size, mtime_ns),
        ).fetchone()
        return None if row is None else tuple(json.loads(row[0]))

    def put_page_numbers(self, path: str, size: int, mtime_ns: int, numbers: tuple[int, ...]) -> None:
        """Record the numbers of the pages of a file, so that the next run need not open the file to find them.

        Unchanged numbers are not written again.
        """
        row = (_stored(path), size, mtime_ns, json.dumps(numbers))
        if self._db.execute("SELECT * FROM pages WHERE path = ?", row[:1]).fetchone() != row:
            self._write("REPLACE INTO pages VALUES (?, ?, ?, ?)", row)

    def forget(self, decision: Decision) -> None:
        """Remove the decision about a page that the file no longer has."""
        self._set_mark("no")
        self._write("DELETE FROM decisions WHERE path = ? AND page = ?", (_stored(decision.path), decision.page))

    def put(self, decision: Decision) -> None:
        """Insert or replace a decision. An unchanged decision is not written again."""
        row = tuple(_stored(value) if isinstance(value, str) else value for value in _values(decision))
        if self._db.execute(_FIND, (_stored(decision.path), decision.page)).fetchone() != row:
            self._set_mark("no")
            self._write(_PUT, row)

    @property
    def finished(self) -> bool:
        """Whether the last run that changed decisions or settings was completed."""
        return self._mark == "yes"

    def finish(self) -> None:
        """Mark the run as finished. A new decision or changed settings remove this mark."""
        self._set_mark("yes")

    def _set_mark(self, mark: str) -> None:
        if self._mark == mark:
            return
        self._write("REPLACE INTO meta VALUES ('finished', ?)", (mark,))
        self._mark = mark
        if mark == "no" and self._db.in_transaction:
            self.save()  # otherwise, a run that is stopped early would lose the mark and its first rows

    def owner(self, output: str) -> str | None:
        """Return the path of the query for which an output path is reserved; None if there is no such query.

        Paths that differ only in upper and lower case are the same path; see `outputs.folded`.
        """
        where = "{} COLLATE folded = ?1 COLLATE folded"
        chosen = (f"SELECT path FROM decisions WHERE {where.format(name)}" for name in ("output", "jpeg_output"))
        row = self._db.execute(" UNION ".join(chosen), (_stored(output),)).fetchone()
        return None if row is None else os.fsdecode(row[0])

    def decisions(self, where: str = "1", order: str = "path, page") -> Iterator[Decision]:
        """Yield the decisions that meet a condition, in a sort order.

        The condition `where` and the sort order `order` are SQL expressions. In these expressions, each attribute of
        `Decision` is a column. By default, all decisions are yielded, sorted by path and page.
        """
        return self._select(f"{where} ORDER BY {order}", ())

    def scalar(self, expression: str, where: str = "1") -> Any:
        """Calculate an SQL expression, such as ``count(*)``, for all decisions that meet the condition `where`."""
        return self._db.execute(f"SELECT {expression} FROM decisions WHERE {where}").fetchone()[0]

    def counts(self, column: str, where: str = "1") -> dict[str, int]:
        """Return the number of decisions for each value of a column."""
        return dict(self._db.execute(f"SELECT {column}, count(*) FROM decisions WHERE {where} GROUP BY 1 ORDER BY 1"))

    def count_reason(self, code: str, where: str = "1") -> int:
        """Count the decisions that have a reason with this code; see `ReasonCode`."""
        has = f"EXISTS (SELECT 1 FROM json_each(reasons) WHERE json_extract(value, '$.code') = '{code}')"
        return int(self.scalar("count(*)", f"reasons <> '' AND {has} AND {where}"))

    def settings(self) -> dict[str, Any]:
        """Return the settings of the last run."""
        row = self._db.execute("SELECT value FROM meta WHERE key = 'settings'").fetchone()
        return {} if row is None else dict(json.loads(row[0]))

    def set_settings(self, settings: dict[str, Any]) -> None:
        """Record the settings of a run."""
        if self.settings() != settings:
            self._set_mark("no")
            self._write("REPLACE INTO meta VALUES ('settings', ?)", (json.dumps(settings),))

    def _write(self, statement: str, values: Sequence[object] = ()) -> None:
        try:
            self._db.execute(statement, values)
        except sqlite3.Error as error:
            msg = f"{self.folder / JOURNAL_NAME} cannot be written: {error}. Run the same command again to continue."
            raise OutputError(msg) from error

    def _select(self, where: str, values: tuple[object, ...]) -> Iterator[Decision]:
        for row in self._db.execute(f"SELECT {', '.join(_COLUMNS)} FROM decisions WHERE {where}", values):
            texts = (os.fsdecode(value) if isinstance(value, bytes) else value for value in row)
            named: dict[str, Any] = dict(zip(_COLUMNS, texts, strict=True))
            named["written"], named["sidecar"] = bool(named["written"]), bool(named["sidecar"])
            yield Decision(**named)


def is_journal(path: Path) -> bool:
    """Check whether a file is a journal. Only the header is read, so another process can have the file open.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    if not path.is_file():  # to open a named pipe would wait until another process writes to the pipe
        return False
    with path.open("rb") as stream:
        header = stream.read(72)
    return header.startswith(b"SQLite format 3\0") and header[68:] == _KIND.to_bytes(4, "big")


def _require_journal(path: Path) -> None:
    """Raise an error if a file has the name of the journal but is not a journal.

    An empty file is accepted, because a run that is stopped during its start can leave an empty file.
    """
    if os.path.lexists(path) and not is_journal(path) and not (path.is_file() and path.stat().st_size == 0):
        msg = (
            f"the output folder {path.parent} cannot be used: its {path.name} is not the journal of a labelling run; "
            "choose another output folder"
        )
        raise OutputError(msg)


def _stored(text: str) -> str | bytes:
    """Prepare a text for SQLite: a text that is not valid UTF-8, such as some file names, is converted to bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text)
    return text
