"""The catalogue of a store: one SQLite file that is the truth about every image."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscope_indexer.corpus import source_uri
from twinscope_indexer.errors import StoreError
from twinscope_indexer.hashing import BYTES
from twinscope_indexer.vendors.instrument import NO_METADATA, InstrumentMetadata, pack_verbatim, unpack_verbatim

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

SCHEMA_VERSION = "3"
_ROW = (
    "images.id, roots.path, images.path, member, size, mtime_ns, sha256, format, mode, bits, width, height, hash, "
    "unhashable, recipe, category, code, taxonomy, published_prefix, indexed_at, generation"
)
_MAX_VARIABLES = 500


@dataclass(frozen=True, slots=True)
class Record:
    """What the catalogue knows of one image."""

    id: int
    """63-bit number, stable as long as the image stays in the store."""
    root: Path
    path: str
    member: str | None
    size: int
    mtime_ns: int
    sha256: bytes
    format: str
    mode: str
    bits: int
    width: int
    height: int
    hash: bytes | None
    """128 bytes, or None for an unhashable image."""
    unhashable: str | None
    recipe: str
    category: str
    code: str
    taxonomy: str
    published_prefix: str | None
    indexed_at: str
    generation: int

    @property
    def uri(self) -> str:
        """Where the image is: a path, or ``archive!member``."""
        return source_uri(self.root, self.path, self.member)

    @property
    def image_id(self) -> str:
        """The id as 16 hexadecimal digits, the form that leaves the house."""
        return f"{self.id:016x}"


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that could not be indexed."""

    uri: str
    fault: str
    message: str
    at: str


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


class Catalog:
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
        except sqlite3.Error as error:
            msg = f"{path} is damaged or no catalogue: {error}. Restore it from a backup, or index again elsewhere."
            raise StoreError(msg) from error
        if version != SCHEMA_VERSION:
            msg = f"{path} has schema version {version}, this Twinscope reads {SCHEMA_VERSION}: use a matching release"
            raise StoreError(msg)

    def _create(self) -> None:
        script = resources.files("twinscope_indexer").joinpath("schema.sql").read_text(encoding="utf-8")
        values = {"schema_version": SCHEMA_VERSION, "store_id": os.urandom(8).hex(), "created": utc_now()}
        inserts = "".join(f"INSERT INTO meta VALUES ('{key}', '{value}');" for key, value in values.items())
        self._db.executescript(f"BEGIN IMMEDIATE;{script};{inserts}COMMIT;")

    @property
    def outdated(self) -> bool:
        """Whether the file was opened as one that nobody changes, but has been changed: open it again."""
        return self._frozen is not None and self._frozen != _state(self._path)

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
        """Write all of the body or nothing of it."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let everything read in the body come from one moment."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("COMMIT")

    def meta(self, key: str) -> str | None:
        """Give a value of the store's own settings, if it is set."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str) -> None:
        """Set a value of the store's own settings."""
        self._db.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (key, value)
        )

    # -- roots ---------------------------------------------------------------------------------------------------

    def roots(self) -> dict[int, Path]:
        """Give all roots by id."""
        return {
            number: Path(_text(path)) for number, path in self._db.execute("SELECT id, path FROM roots ORDER BY id")
        }

    def root_for(self, folder: Path) -> tuple[int, Path, str]:
        """Give the root that holds `folder`, made where there is none.

        One file must not enter twice because it was named through two folders: a root above `folder` is used, and
        roots below it are taken into it.

        Returns
        -------
        tuple
            Its id, its folder, and the path of `folder` below it ("" for itself).
        """
        roots = self.roots()
        for number, path in roots.items():
            if folder == path or path in folder.parents:
                below = folder.relative_to(path).as_posix()
                return number, path, "" if below == "." else below
        with self.transaction():
            number = int(
                self._db.execute("INSERT INTO roots (path) VALUES (?)", (_stored(str(folder)),)).lastrowid or 0
            )
            for other, path in roots.items():
                if folder in path.parents:
                    self._take_in(other, number, path.relative_to(folder).as_posix())
        return number, folder, ""

    def _take_in(self, other: int, number: int, below: str) -> None:
        for table in ("images", "failures"):
            rows = self._db.execute(f"SELECT rowid, path FROM {table} WHERE root_id = ?", (other,))
            moved = [(number, _stored(f"{below}/{_text(path)}"), rowid) for rowid, path in rows]
            self._db.executemany(f"UPDATE {table} SET root_id = ?, path = ? WHERE rowid = ?", moved)
        self._db.execute("DELETE FROM roots WHERE id = ?", (other,))

    def move_root(self, number: int, folder: Path) -> None:
        """Let a root be another folder."""
        try:
            self._db.execute("UPDATE roots SET path = ? WHERE id = ?", (_stored(str(folder)), number))
        except sqlite3.IntegrityError as error:
            msg = f"{folder} is a root of this store already"
            raise StoreError(msg) from error

    # -- images --------------------------------------------------------------------------------------------------

    def find(self, root_id: int, path: str, member: str | None) -> Record | None:
        """Give the record of a source, if there is one."""
        where = "images.root_id = ? AND images.path = ? AND ifnull(member, '') = ?"
        return next(self._records(where, (root_id, _stored(path), _stored(member or ""))), None)

    def records(self, ids: Sequence[int]) -> dict[int, Record]:
        """Give the records of some images by id; ids that are not stored are left out."""
        found: dict[int, Record] = {}
        for start in range(0, len(ids), _MAX_VARIABLES):
            part = [int(number) for number in ids[start : start + _MAX_VARIABLES]]
            where = f"images.id IN ({','.join('?' * len(part))})"
            found.update((record.id, record) for record in self._records(where, part))
        return found

    def all_records(self) -> Iterator[Record]:
        """Give every record, in the order of root and path."""
        return self._records("1 ORDER BY images.root_id, images.path, member", ())

    def page(self, after: int, size: int) -> list[Record]:
        """Give the next records behind an id, in the order of their ids."""
        return list(self._records("images.id > ? ORDER BY images.id LIMIT ?", (after, size)))

    def _records(self, where: str, values: Sequence[object]) -> Iterator[Record]:
        query = f"SELECT {_ROW} FROM images JOIN roots ON roots.id = images.root_id WHERE {where}"
        for row in self._db.execute(query, values):
            number, root, path, member, *rest = row
            yield Record(number, _folder(root), _text(path), None if member is None else _text(member), *rest)

    def new_id(self, root: Path, path: str, member: str | None) -> int:
        """Make the id of a new image from its name below its root, so that it does not depend on any order."""
        name = os.fsencode(f"{root.name}\0{path}\0{member or ''}")
        for salt in range(1 << 16):
            digest = blake2b(name, digest_size=8, salt=salt.to_bytes(2, "big")).digest()
            number = int.from_bytes(digest, "big") >> 1
            if self._db.execute("SELECT 1 FROM images WHERE id = ?", (number,)).fetchone() is None:
                return number
        msg = f"no free id for {root / path}; that many sources with one name cannot be in one store"
        raise StoreError(msg)

    def put(
        self,
        record: Record,
        root_id: int,
        thumbnail: bytes,
        frames: bytes = b"",
        instrument: InstrumentMetadata = NO_METADATA,
    ) -> None:
        """Insert or replace an image, and forget an earlier failure of its source.

        Parameters
        ----------
        record : Record
        root_id : int
        thumbnail : bytes
            Encoded; empty where there is none.
        frames : bytes
            Codes of its frames, one after the other; empty where there are none.
        instrument : InstrumentMetadata
            What its instrument wrote; false where there is nothing.
        """
        values = (
            record.id, root_id, _stored(record.path), _stored(record.member), record.size, record.mtime_ns,
            record.sha256, record.format, record.mode, record.bits, record.width, record.height, record.hash,
            record.unhashable, record.recipe, record.category, record.code, record.taxonomy, record.published_prefix,
            record.indexed_at, record.generation,
        )  # fmt: skip
        for table, data in (("thumbnails", thumbnail), ("frames", frames)):
            if data:
                self._db.execute(f"REPLACE INTO {table} VALUES (?, ?)", (record.id, data))
            else:
                self._db.execute(f"DELETE FROM {table} WHERE id = ?", (record.id,))
        if instrument:
            texts = json.dumps(instrument.normalised.to_dict()), pack_verbatim(instrument)
            self._db.execute("REPLACE INTO instruments VALUES (?, ?, ?)", (record.id, *texts))
        else:
            self._db.execute("DELETE FROM instruments WHERE id = ?", (record.id,))
        self._db.execute(f"REPLACE INTO images VALUES ({','.join('?' * len(values))})", values)
        self.forget_failure(root_id, record.path, record.member)

    def touch(self, number: int, size: int, mtime_ns: int) -> None:
        """Note that the file of an image has a new time but the same content."""
        self._db.execute("UPDATE images SET size = ?, mtime_ns = ? WHERE id = ?", (size, mtime_ns, number))

    def relabel(self, number: int, category: str, code: str, taxonomy: str, generation: int) -> None:
        """Give an image another category; `generation` will tell of it, though the index has not changed."""
        self._db.execute(
            "UPDATE images SET category = ?, code = ?, taxonomy = ? WHERE id = ?", (category, code, taxonomy, number)
        )
        self.set_meta("relabelled", str(generation))

    def delete(self, numbers: Iterable[int], generation: int) -> None:
        """Remove images, as from `generation`; within a transaction."""
        rows = [(number, generation) for number in numbers]
        self._db.execute("SAVEPOINT deletion")  # an interruption must not leave an image that no index answers with
        try:
            self._db.executemany("INSERT OR IGNORE INTO deletions VALUES (?, ?)", rows)
            for table in ("images", "thumbnails", "frames", "instruments"):
                self._db.executemany(f"DELETE FROM {table} WHERE id = ?", [(number,) for number, _ in rows])
        except BaseException:
            self._db.execute("ROLLBACK TO deletion")
            raise
        finally:
            self._db.execute("RELEASE deletion")

    def thumbnail(self, number: int) -> bytes | None:
        """Give the encoded thumbnail of an image, if it is stored."""
        row = self._db.execute("SELECT data FROM thumbnails WHERE id = ?", (number,)).fetchone()
        return None if row is None else bytes(row[0])

    def instruments(self, numbers: Sequence[int]) -> dict[int, InstrumentMetadata]:
        """Give what the instruments of some images wrote, in one set of units; images without are left out.

        Raises
        ------
        StoreError
            If what is stored is damaged.
        """
        marks = ",".join("?" * len(numbers))
        rows = self._db.execute(f"SELECT id, metadata FROM instruments WHERE id IN ({marks})", list(numbers))
        return {number: InstrumentMetadata.from_dict(json.loads(text)) for number, text in rows}

    def verbatim(self, number: int) -> dict[str, Any]:
        """Give what the instrument of an image wrote, as it was written; empty where there is nothing."""
        row = self._db.execute("SELECT verbatim FROM instruments WHERE id = ?", (number,)).fetchone()
        return {} if row is None else unpack_verbatim(row[0])

    # -- codes, for the index --------------------------------------------------------------------------------------

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

    # -- generations -----------------------------------------------------------------------------------------------

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
        """Let readers see everything up to a generation; forget deletions that its index file has applied."""
        self._db.execute(
            "REPLACE INTO generations VALUES (?, ?, ?, ?, ?, ?)",
            (
                generation.number,
                generation.images,
                generation.recipe,
                generation.file,
                generation.sha256,
                generation.at,
            ),
        )
        if generation.file is not None:
            self._db.execute("UPDATE generations SET file = NULL, sha256 = NULL WHERE number < ?", (generation.number,))
            self._db.execute("DELETE FROM deletions WHERE generation <= ?", (generation.number,))

    def unpublished(self, generation: int) -> bool:
        """Tell whether anything was written after a generation."""
        return bool(
            self._db.execute(
                "SELECT EXISTS (SELECT 1 FROM images WHERE generation > ?1)"
                " OR EXISTS (SELECT 1 FROM deletions WHERE generation > ?1)"
                " OR EXISTS (SELECT 1 FROM meta WHERE key IN ('relabelled', 'reframed', 'calibrated')"
                " AND CAST(value AS INTEGER) > ?1)",
                (generation,),
            ).fetchone()[0]
        )

    # -- failures ----------------------------------------------------------------------------------------------------

    def put_failure(self, root_id: int, path: str, member: str | None, fault: str, message: str) -> None:
        """Remember that a source could not be indexed; only between `begin_walk` and the end of the walk."""
        readable = message.encode("utf-8", "backslashreplace").decode()  # it may quote a name that is not valid UTF-8
        values = (root_id, _stored(path), _stored(member), fault, readable, utc_now())
        self.forget_failure(root_id, path, member)
        rowid = self._db.execute("INSERT INTO failures VALUES (?, ?, ?, ?, ?, ?)", values).lastrowid
        self._db.execute("INSERT OR IGNORE INTO seen_failures VALUES (?)", (rowid,))

    def forget_failure(self, root_id: int, path: str, member: str | None) -> None:
        """Forget the failure of a source, if there was one."""
        self._db.execute(
            "DELETE FROM failures WHERE root_id = ? AND path = ? AND ifnull(member, '') = ?",
            (root_id, _stored(path), _stored(member or "")),
        )

    def failures(self) -> Iterator[Failure]:
        """Give all failures that still stand."""
        query = (
            "SELECT roots.path, failures.path, member, fault, message, at FROM failures"
            " JOIN roots ON roots.id = root_id ORDER BY root_id, failures.path, member"
        )
        for root, path, member, *rest in self._db.execute(query):
            yield Failure(source_uri(Path(_text(root)), _text(path), None if member is None else _text(member)), *rest)

    # -- one walk against what is stored --------------------------------------------------------------------------

    def begin_walk(self) -> None:
        """Start to note which images a walk meets; kept on disk, so that the memory stays bounded."""
        self._db.execute("PRAGMA temp_store = FILE")
        self._db.executescript(
            "CREATE TEMP TABLE IF NOT EXISTS seen (id INTEGER PRIMARY KEY);"
            "CREATE TEMP TABLE IF NOT EXISTS seen_failures (rowid INTEGER PRIMARY KEY);"
            "DELETE FROM seen; DELETE FROM seen_failures;"
        )

    def note_seen(self, number: int) -> None:
        """Note that the walk met an image."""
        self._db.execute("INSERT OR IGNORE INTO seen VALUES (?)", (number,))

    def unseen(self, root_id: int, prefix: str) -> Iterator[tuple[int, str]]:
        """Give id and path of the images below a prefix that the walk did not meet."""
        query = "SELECT id, path FROM images WHERE root_id = ? AND id NOT IN (SELECT id FROM seen)"
        for number, path in self._db.execute(query, (root_id,)):
            if _below(_text(path), prefix):
                yield number, _text(path)

    def forget_unseen_failures(self, root_id: int, prefix: str) -> None:
        """Forget failures below a prefix that the walk did not meet again."""
        query = "SELECT rowid, path FROM failures WHERE root_id = ? AND rowid NOT IN (SELECT rowid FROM seen_failures)"
        gone = [(rowid,) for rowid, path in self._db.execute(query, (root_id,)) if _below(_text(path), prefix)]
        self._db.executemany("DELETE FROM failures WHERE rowid = ?", gone)

    # -- statistics --------------------------------------------------------------------------------------------------

    def categories(self) -> frozenset[str]:
        """Give the names of all categories that images have."""
        return frozenset(row[0] for row in self._db.execute("SELECT DISTINCT category FROM images"))

    def counts(self) -> dict[str, Any]:
        """Count images by category and by format, unhashable ones, failures, and contradicting prefixes."""
        grouped = {
            name: dict(self._db.execute(f"SELECT {name}, count(*) FROM images GROUP BY 1 ORDER BY 1").fetchall())
            for name in ("category", "format", "bits")
        }
        single = {
            "with_instrument": "SELECT count(*) FROM instruments",
            "images": "SELECT count(*) FROM images",
            "searchable": "SELECT count(*) FROM images WHERE hash IS NOT NULL",
            "unhashable": "SELECT count(*) FROM images WHERE hash IS NULL",
            "failures": "SELECT count(*) FROM failures",
            "prefixes": "SELECT count(*) FROM images WHERE published_prefix IS NOT NULL",
            "contradicting_prefixes": "SELECT count(*) FROM images WHERE published_prefix <> code",
        }
        return {name: self._db.execute(query).fetchone()[0] for name, query in single.items()} | grouped


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


def utc_now() -> str:
    """Give the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _stored(text: str | None) -> str | bytes | None:
    """Give a path as SQLite can hold it: text, or bytes where the file system's name is not valid UTF-8."""
    if text is None:
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text)
    return text


def _below(path: str, prefix: str) -> bool:
    return not prefix or path == prefix or path.startswith(f"{prefix}/")


def _text(value: str | bytes) -> str:
    return os.fsdecode(value)


@lru_cache(maxsize=1024)
def _folder(root: str | bytes) -> Path:
    """Give a root as a path; a store has few, and every record has one."""
    return Path(_text(root))
