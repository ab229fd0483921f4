"""Records: the data that a catalog holds about each image."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from twinscope_indexer.errors import StoreError
from twinscope_indexer.image_id import image_id
from twinscope_indexer.metadata.model import NO_METADATA, InstrumentMetadata, pack_verbatim, unpack_verbatim
from twinscope_indexer.sources.location import source_uri
from twinscope_indexer.store.catalog import shadow
from twinscope_indexer.store.catalog.database import restored, stored
from twinscope_indexer.store.catalog.failures import WalkTables

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_ROW: Final = (
    "images.id, roots.path, images.path, member, size, mtime_ns, sha256, format, mode, bits, width, height, hash, "
    "unhashable, recipe, category, code, taxonomy, published_prefix, indexed_at, generation"
)
_MAX_VARIABLES: Final = 500
"""Maximum number of ids in one SQL query."""


@dataclass(frozen=True, slots=True)
class Record:
    """Data that the catalog holds about one reference."""

    id: int
    """Integer of 63 bits that identifies the image. This id does not change while the image is in the store."""
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
    """Hash as 128 bytes, or None if the image is unhashable."""
    unhashable: str | None
    recipe: str
    category: str
    code: str
    taxonomy: str
    published_prefix: str | None
    indexed_at: str
    generation: int
    page: int = 0
    """Number of the page if the image is a page of a stack, counted from 1. 0 if the file is one image."""
    pages: int = field(default=0, compare=False)
    """Number of images in the file. 0 if the images were not counted. This attribute is ignored when two records are
    compared."""

    @property
    def uri(self) -> str:
        """Location of the image: a path, or ``archive!member``, with ``#page=N`` for a page of a stack."""
        return source_uri(self.root, self.path, self.member, self.page)

    @property
    def image_id(self) -> str:
        """Id as 16 hexadecimal digits. Users and clients see the id in this form."""
        return image_id(self.id)


class RecordTables(WalkTables):
    """Catalog tables of images, and of the thumbnails, frames and instrument metadata of these images."""

    def find(self, root_id: int, path: str, member: str | None) -> Record | None:
        """Return the record of a source, or None if there is no record. For a stack, return its first page."""
        return next(iter(self.find_pages(root_id, path, member).values()), None)

    def find_pages(self, root_id: int, path: str, member: str | None) -> dict[int, Record]:
        """Return the records of a source, with the numbers of the pages as keys, in ascending order.

        A file that is one image has only the page 0.
        """
        condition = "images.root_id = ? AND images.path = ? AND ifnull(member, '') = ?"
        found = self._records(condition, (root_id, stored(path), stored(member or "")))
        return {record.page: record for record in sorted(found, key=lambda record: record.page)}

    def records(self, ids: Sequence[int]) -> dict[int, Record]:
        """Return the records of images, with the ids as keys; unknown ids are ignored."""
        found: dict[int, Record] = {}
        for start in range(0, len(ids), _MAX_VARIABLES):
            part = [int(number) for number in ids[start : start + _MAX_VARIABLES]]
            condition = f"images.id IN ({','.join('?' * len(part))})"
            found.update((record.id, record) for record in self._records(condition, part))
        return found

    def all_records(self) -> Iterator[Record]:
        """Yield all records, ordered by root and path."""
        return self._records(f"1 ORDER BY images.root_id, images.path, member{', page' if self.paged else ''}", ())

    def page(self, after: int, size: int) -> list[Record]:
        """Return at most `size` records with ids greater than `after`, ordered by id."""
        return list(self._records("images.id > ? ORDER BY images.id LIMIT ?", (after, size)))

    def digests(self, root_id: int) -> set[bytes]:
        """Return the SHA-256 of each image of a root, including replaced images that readers still see."""
        query = "SELECT sha256 FROM {} WHERE root_id = ?"
        tables = ("images", "images_before")
        return {bytes(row[0]) for table in tables for row in self._db.execute(query.format(table), (root_id,))}

    def _records(self, condition: str, values: Sequence[object]) -> Iterator[Record]:
        pages = "page, pages" if self.paged else "0, 0"
        query = f"SELECT {_ROW}, {pages} FROM images JOIN roots ON roots.id = images.root_id WHERE {condition}"
        for row in self._db.execute(query, values):
            number, root, path, member, *rest = row
            yield Record(number, _folder(root), restored(path), None if member is None else restored(member), *rest)

    def new_id(self, root: Path, path: str, member: str | None, page: int = 0) -> int:
        """Return an id for a new image.

        The id is computed from the name of the root, from the path of the image relative to the root, and from the
        number of the page. So the id does not depend on the order in which images are indexed. For a file that is one
        image, and for the first page of a stack, `page` is 0.
        """
        name = os.fsencode(f"{root.name}\0{path}\0{member or ''}" + (f"\0{page}" if page else ""))
        for salt in range(1 << 16):
            digest = blake2b(name, digest_size=8, salt=salt.to_bytes(2, "big")).digest()
            number = int.from_bytes(digest, "big") >> 1
            if self._db.execute("SELECT 1 FROM images WHERE id = ?", (number,)).fetchone() is None:
                return number
        msg = f"no free id for {root / path}: the store has too many sources with this name"
        raise StoreError(msg)

    def put(
        self,
        record: Record,
        root_id: int,
        thumbnail: bytes,
        frames: bytes = b"",
        instrument: InstrumentMetadata = NO_METADATA,
    ) -> None:
        """Insert or replace an image, and delete an earlier failure of the same source.

        Parameters
        ----------
        record : Record
        root_id : int
        thumbnail : bytes
            Encoded thumbnail; empty if the image has no thumbnail.
        frames : bytes
            Codes of all frames, one after another; empty if there are no codes.
        instrument : InstrumentMetadata
            Instrument metadata; `NO_METADATA` if the image has no instrument metadata.
        """
        values = (
            record.id, root_id, stored(record.path), stored(record.member), record.size, record.mtime_ns,
            record.sha256, record.format, record.mode, record.bits, record.width, record.height, record.hash,
            record.unhashable, record.recipe, record.category, record.code, record.taxonomy, record.published_prefix,
            record.indexed_at, record.generation, record.page, record.pages,
        )  # fmt: skip
        with self.transaction():
            shadow.keep_images(self._db, [record.id], record.generation)
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
            self.forget_failure(root_id, record.path, record.member, record.page)

    def touch(self, number: int, size: int, mtime_ns: int) -> None:
        """Record that the file of an image has a new modification time but the same content."""
        self._db.execute("UPDATE images SET size = ?, mtime_ns = ? WHERE id = ?", (size, mtime_ns, number))

    def set_page(self, number: int, page: int, pages: int, generation: int) -> None:
        """Change the number of the page of an image, and the number of images in its file.

        Readers see the change when `generation` is published.
        """
        with self.transaction():
            shadow.keep_record(self._db, number, generation)
            self._db.execute("UPDATE images SET page = ?, pages = ? WHERE id = ?", (page, pages, number))

    def relabel(self, number: int, category: str, code: str, taxonomy: str, generation: int) -> None:
        """Change the category of an image; readers see the new category when `generation` is published.

        The new category does not change the index.
        """
        with self.transaction():
            shadow.keep_record(self._db, number, generation)
            values = (category, code, taxonomy, number)
            self._db.execute("UPDATE images SET category = ?, code = ?, taxonomy = ? WHERE id = ?", values)

    def delete(self, numbers: Iterable[int], generation: int) -> None:
        """Remove images; readers see the removal when `generation` is published."""
        rows = [(number, generation) for number in numbers]
        with self.transaction():  # without it, an interruption could leave an image that is in no index
            shadow.keep_images(self._db, [number for number, _ in rows], generation)
            self._db.executemany("INSERT OR IGNORE INTO deletions VALUES (?, ?)", rows)
            for table in ("images", "thumbnails", "frames", "instruments"):
                self._db.executemany(f"DELETE FROM {table} WHERE id = ?", [(number,) for number, _ in rows])

    def thumbnail(self, number: int) -> bytes | None:
        """Return the encoded thumbnail of an image, or None if no thumbnail is stored."""
        row = self._db.execute("SELECT data FROM thumbnails WHERE id = ?", (number,)).fetchone()
        return None if row is None else bytes(row[0])

    def instruments(self, numbers: Sequence[int]) -> dict[int, InstrumentMetadata]:
        """Return the instrument metadata of images, with the ids as keys; images without metadata are ignored.

        The units are the same for all instruments.

        Raises
        ------
        StoreError
            If the stored metadata are damaged.
        """
        marks = ",".join("?" * len(numbers))
        rows = self._db.execute(f"SELECT id, metadata FROM instruments WHERE id IN ({marks})", list(numbers))
        return {number: InstrumentMetadata.from_dict(json.loads(text)) for number, text in rows}

    def verbatim(self, number: int) -> dict[str, Any]:
        """Return the original instrument metadata of an image, without conversion; empty if there are no metadata."""
        row = self._db.execute("SELECT verbatim FROM instruments WHERE id = ?", (number,)).fetchone()
        return {} if row is None else unpack_verbatim(row[0])


@lru_cache(maxsize=1024)
def _folder(root: str | bytes) -> Path:
    """Return the path of a root.

    A store has few roots, but every record needs the path of a root. Therefore the results are kept in memory.
    """
    return Path(restored(root))
