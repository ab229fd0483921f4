"""The journal of a labelling run: every decision and every written file, so that a run can stop and go on."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from twinscope_indexer.files import write_durably
from twinscope_indexer.sources.corpus import RUN_MARKER

from twinscope_client.errors import OutputError
from twinscope_client.outputs import JOURNAL_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_VERSION: Final = "1"
_KIND: Final = 0x7477_7363
"""SQLite's application id (https://www.sqlite.org/fileformat.html) of a journal: ``twsc``."""
_MARK: Final = b"""\
This folder holds the results of 'twinscope label'. While this file is here, 'twinscope index' and 'twinscope label'
leave the folder out: labelled copies must not become references, and are not labelled again.
"""


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided about one query image, and what was done about it."""

    path: str
    """Absolute path of the query."""
    size: int
    mtime_ns: int
    sha256: str
    """Of the query file, hexadecimal; empty where it could not be read."""
    decided_by: str
    """Everything that the decision depends on besides the image: store, generation, policy."""
    decided_at: str
    """UTC, ISO 8601."""
    grade: str
    """A `Grade`; ``failed`` where the image could not be read."""
    reason: str
    """Why, for people."""
    reasons: str = ""
    """Why, as codes with values: JSON, a list of `Reason.to_dict`; empty where the image could not be read."""
    category: str = ""
    """Of the best candidate; empty without one."""
    code: str = ""
    query_hash: str = ""
    distance: int | None = None
    ssim: float | None = None
    scene_score: float | None = None
    symmetry: str = ""
    """What was done to the query to compare it with the best candidate, such as ``rotated by 90, inverted``; empty:
    nothing."""
    query_frame: str = ""
    """Which part of the query was compared, such as ``bottom 7 % cut``; ``whole`` for all of it, empty without a
    candidate."""
    reference_frame: str = ""
    """The same of the candidate."""
    shift_x: float | None = None
    """By which part of its width the query, so changed, is shifted against the candidate."""
    shift_y: float | None = None
    """The same of its height."""
    match_id: str = ""
    match_source: str = ""
    published_prefix: str = ""
    rival_id: str = ""
    """Of the best candidate of another category; empty without one."""
    rival_source: str = ""
    rival_category: str = ""
    rival_distance: int | None = None
    rival_ssim: float | None = None
    rival_scene_score: float | None = None
    rival_transform: str = ""
    """In which frame and orientation it was compared, for people; empty: as it is."""
    instrument: str = ""
    """What the query's instrument wrote, in one set of units: JSON, as `InstrumentMetadata.to_dict` gives it."""
    contradictions: str = ""
    """Why the instruments of the query and of the best candidate cannot have made one acquisition."""
    p_wrong: float | None = None
    """How likely it is that the best candidate is wrong."""
    p_wrong_low: float | None = None
    """The lower end of its 95 % interval."""
    p_wrong_high: float | None = None
    """The upper end."""
    generation: int = 0
    recipe: str = ""
    taxonomy: str = ""
    policy: str = ""
    output: str = ""
    """Path of the labelled copy below the output folder, as reserved; empty for none."""
    jpeg_output: str = ""
    sidecar: bool = False
    """Whether a JSON file with provenance and metadata is written beside the copy."""
    written: bool = False
    """Whether the outputs are complete."""
    problem: str = ""
    """Why the labelled copy could not be written; empty if it could, or none was wanted."""
    earlier_output: str = ""
    """Copies of earlier runs that are left where they are, though their label or content no longer stands; one a line
    (no name of a copy has a line break)."""

    @property
    def reason_codes(self) -> frozenset[str]:
        """The codes of `reasons`; see `twinscope_service.matching.reasons.ReasonCode`."""
        return frozenset(reason["code"] for reason in json.loads(self.reasons or "[]"))

    @property
    def failed(self) -> bool:
        """Whether the image could not be read."""
        return self.grade == "failed"

    @property
    def labelled(self) -> bool:
        """Whether a labelled copy was written."""
        return bool(self.output) and self.written


_COLUMNS = [field.name for field in fields(Decision)]
_values = attrgetter(*_COLUMNS)
_FIND = f"SELECT {', '.join(_COLUMNS)} FROM decisions WHERE path = ?"
_PUT = f"REPLACE INTO decisions ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"


class Journal:
    """The open journal of an output folder.

    Parameters
    ----------
    folder : Path
        The output folder; made where there is none.

    Raises
    ------
    OutputError
        If it cannot be written, another run is writing there, or something else has the journal's name.
    """

    def __init__(self, folder: Path, *, create: bool = True) -> None:
        self.folder = folder
        path = folder / JOURNAL_NAME
        try:
            if create:
                folder.mkdir(parents=True, exist_ok=True)
            elif not path.exists():
                msg = f"{folder} holds no labelling run (no {JOURNAL_NAME}); 'twinscope label' makes one"
                raise OutputError(msg)
            _require_ours(path)
            if not (folder / RUN_MARKER).exists():
                write_durably(folder / RUN_MARKER, _MARK)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=1)
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("BEGIN IMMEDIATE")
            if self._db.execute("PRAGMA application_id").fetchone()[0] != _KIND:
                self._make()
            stored: dict[str, str] = dict(self._db.execute("SELECT key, value FROM meta"))
            version, self._mark = stored.get("version"), stored.get("finished")
            self._db.execute("COMMIT")
        except OSError as error:
            msg = f"the output folder {folder} cannot be used: {error.strerror or error}"
            raise OutputError(msg) from error
        except sqlite3.Error as error:
            msg = f"the output folder {folder} cannot be used: {error} (is another run writing there?)"
            raise OutputError(msg) from error
        if version != _VERSION:
            msg = f"{path} has version {version}, this Twinscope reads {_VERSION}: give another output folder"
            raise OutputError(msg)

    def _make(self) -> None:
        """Make the tables of a new journal."""
        self._db.execute(f"PRAGMA application_id = {_KIND}")
        self._db.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")
        self._db.execute(f"CREATE TABLE decisions ({', '.join(_COLUMNS)}, PRIMARY KEY (path)) WITHOUT ROWID")
        for column in ("output", "jpeg_output"):
            self._db.execute(f"CREATE INDEX by_{column} ON decisions ({column})")
        self._db.execute("INSERT INTO meta VALUES ('version', ?), ('finished', 'no')", (_VERSION,))

    def close(self) -> None:
        """Close the journal."""
        self._db.close()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Collect what the body writes until `save`; at its end, by an error too, all is saved: each row is whole.

        Raises
        ------
        OutputError
            If the journal cannot be written.
        """
        self._write("BEGIN")
        try:
            yield
        finally:
            if self._db.in_transaction:  # a full disk may have ended it
                self._write("COMMIT")

    def save(self) -> None:
        """Make what the current batch has written durable, and go on with the batch."""
        self._write("COMMIT")
        self._write("BEGIN")

    def find(self, path: str) -> Decision | None:
        """Give the decision about a query, if there is one."""
        return next(self._select("path = ?", (_stored(path),)), None)

    def put(self, decision: Decision) -> None:
        """Insert or replace a decision; one that is there already is not written again."""
        row = tuple(_stored(value) if isinstance(value, str) else value for value in _values(decision))
        if self._db.execute(_FIND, (_stored(decision.path),)).fetchone() != row:
            self._set_mark("no")
            self._write(_PUT, row)

    @property
    def finished(self) -> bool:
        """Whether the last run that had anything new came to its end."""
        return self._mark == "yes"

    def finish(self) -> None:
        """Note that all images were looked at; until there is a new decision, or are other settings."""
        self._set_mark("yes")

    def _set_mark(self, mark: str) -> None:
        if self._mark == mark:
            return
        self._write("REPLACE INTO meta VALUES ('finished', ?)", (mark,))
        self._mark = mark
        if mark == "no" and self._db.in_transaction:
            self.save()  # else it would be lost with the first rows of a run that is killed

    def owner(self, output: str) -> str | None:
        """Give the path of the query that an output is reserved for, if there is one."""
        row = self._db.execute(
            "SELECT path FROM decisions WHERE output = ?1 UNION SELECT path FROM decisions WHERE jpeg_output = ?1",
            (_stored(output),),
        ).fetchone()
        return None if row is None else os.fsdecode(row[0])

    def decisions(self, where: str = "1", order: str = "path") -> Iterator[Decision]:
        """Give decisions, streamed; `where` and `order` are SQL over the attributes of `Decision`."""
        return self._select(f"{where} ORDER BY {order}", ())

    def scalar(self, expression: str, where: str = "1") -> Any:
        """Give one aggregate, such as ``count(*)``, over decisions."""
        return self._db.execute(f"SELECT {expression} FROM decisions WHERE {where}").fetchone()[0]

    def counts(self, column: str, where: str = "1") -> dict[str, int]:
        """Count decisions by the values of a column."""
        return dict(self._db.execute(f"SELECT {column}, count(*) FROM decisions WHERE {where} GROUP BY 1 ORDER BY 1"))

    def count_reason(self, code: str, where: str = "1") -> int:
        """Count decisions that have a reason of a code; see `ReasonCode`."""
        has = f"EXISTS (SELECT 1 FROM json_each(reasons) WHERE json_extract(value, '$.code') = '{code}')"
        return int(self.scalar("count(*)", f"reasons <> '' AND {has} AND {where}"))

    def settings(self) -> dict[str, Any]:
        """Give the settings that the run was last started with."""
        row = self._db.execute("SELECT value FROM meta WHERE key = 'settings'").fetchone()
        return {} if row is None else dict(json.loads(row[0]))

    def set_settings(self, settings: dict[str, Any]) -> None:
        """Remember the settings of a run."""
        if self.settings() != settings:
            self._set_mark("no")
            self._write("REPLACE INTO meta VALUES ('settings', ?)", (json.dumps(settings),))

    def _write(self, statement: str, values: Sequence[object] = ()) -> None:
        try:
            self._db.execute(statement, values)
        except sqlite3.Error as error:
            msg = f"{self.folder / JOURNAL_NAME} cannot be written: {error}. The same command goes on from there."
            raise OutputError(msg) from error

    def _select(self, where: str, values: tuple[object, ...]) -> Iterator[Decision]:
        for row in self._db.execute(f"SELECT {', '.join(_COLUMNS)} FROM decisions WHERE {where}", values):
            texts = (os.fsdecode(value) if isinstance(value, bytes) else value for value in row)
            named: dict[str, Any] = dict(zip(_COLUMNS, texts, strict=True))
            named["written"], named["sidecar"] = bool(named["written"]), bool(named["sidecar"])
            yield Decision(**named)


def is_journal(path: Path) -> bool:
    """Check whether a file is the journal of a run, by its header; it may be open elsewhere.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    if not path.is_file():  # opening a pipe would wait for its writer
        return False
    with path.open("rb") as stream:
        header = stream.read(72)
    return header.startswith(b"SQLite format 3\0") and header[68:] == _KIND.to_bytes(4, "big")


def _require_ours(path: Path) -> None:
    """Refuse another file, folder or database of the journal's name; an empty file is what a killed start leaves."""
    if os.path.lexists(path) and not is_journal(path) and not (path.is_file() and path.stat().st_size == 0):
        msg = (
            f"the output folder {path.parent} cannot be used: its {path.name} is no journal of a labelling run; give "
            "another output folder"
        )
        raise OutputError(msg)


def _stored(text: str) -> str | bytes:
    """Give a text as SQLite can hold it: bytes where a name in it, from the file system, is not valid UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text)
    return text
