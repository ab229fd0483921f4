"""Writing through the server: images to catalogue rows, durable before they are acknowledged."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Literal

from twinscope_indexer.catalog import Record, utc_now
from twinscope_indexer.errors import TwinscopeError
from twinscope_indexer.frameindex import stored_reach
from twinscope_indexer.hashing import RECIPE, PHash, hash_pixels
from twinscope_indexer.imaging import read_image
from twinscope_indexer.indexfile import sync_folder
from twinscope_indexer.metadata import NO_METADATA, InstrumentMetadata, read_metadata
from twinscope_indexer.reframing import encoded_frames
from twinscope_indexer.store import StoreWriter, open_writer
from twinscope_indexer.taxonomy import builtin_taxonomy, published_prefix
from twinscope_indexer.thumbnail import encode_thumbnail

from twinscope_service.pixels import UPLOADS, UPLOADS_FOLDER
from twinscope_service.wire.queries import Fingerprint
from twinscope_service.wire.records import FileFacts
from twinscope_service.wire.upserts import Description, NewImage, Upload

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from twinscope_indexer.hashing import Unhashable
    from twinscope_indexer.store import Store
    from twinscope_indexer.taxonomy import Category

Change = Literal["created", "replaced", "unchanged"]


@dataclass(frozen=True, slots=True)
class Stored:
    """An image that was stored."""

    number: int
    change: Change


class Writes:
    """Writes images into a store; one write at a time, over all processes.

    Parameters
    ----------
    store : Store
        Refreshed after every write, so that searches see it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._uploads = store.folder / UPLOADS_FOLDER
        self._one = threading.Lock()

    def upsert(
        self, images: Sequence[NewImage | TwinscopeError], *, partly: bool
    ) -> tuple[list[Stored | TwinscopeError], int]:
        """Insert or replace images.

        Parameters
        ----------
        images : sequence of NewImage or TwinscopeError
            An error stands for an image that was refused already.
        partly : bool
            Store those that can be stored; otherwise the first refusal is raised, and nothing is stored.

        Returns
        -------
        results : list of Stored or TwinscopeError
            One for each image.
        generation : int
            The first that shows the change.

        Raises
        ------
        StoreLockedError
            If another process is writing.
        TaxonomyError
            If a category is unknown and `partly` is False.
        """
        checked = [self._checked(image) for image in images]
        if not partly:
            for one in checked:
                if isinstance(one, TwinscopeError):
                    raise one
        with self._writing() as (writer, root_id):
            with writer.catalog.transaction():
                results = [one if isinstance(one, TwinscopeError) else _put(writer, root_id, *one) for one in checked]
            generation = writer.publish()
        return results, generation

    def upload(self, upload: Upload, data: bytes, pixel_budget: int) -> tuple[Stored, int]:
        """Insert or replace an image by its file, which is kept in the store.

        Raises
        ------
        ImageError
            If the file cannot be read.
        TaxonomyError
            If the category is unknown.
        StoreLockedError
            If another process is writing.
        """
        category = self._category(upload.description)
        image = read_image(data, name=upload.description.source, pixel_budget=pixel_budget)
        fingerprint = Fingerprint(hash_pixels(image.pixels), encode_thumbnail(image.pixels))
        instrument = read_metadata(data, name=upload.description.source)
        digest = sha256(data).digest()
        facts = FileFacts(
            size=len(data), mtime_ns=upload.mtime_ns, sha256=digest, format=image.format, mode=image.mode,
            bits=image.bits, width=image.width, height=image.height,
        )  # fmt: skip
        _keep(data, self._uploads / digest.hex())
        with self._writing() as (writer, root_id):
            with writer.catalog.transaction():
                new = NewImage(upload.description, fingerprint, facts)
                stored = _put(writer, root_id, new, category, instrument)
            generation = writer.publish()
        return stored, generation

    def delete(self, numbers: Sequence[int]) -> tuple[list[int], int]:
        """Remove images; gives those that were not stored, and the first generation without the others."""
        with self._writing() as (writer, _):
            known = writer.catalog.records(list(dict.fromkeys(numbers)))
            with writer.catalog.transaction():
                writer.catalog.delete(known, writer.generation)
            generation = writer.publish()
        return [number for number in numbers if number not in known], generation

    @contextmanager
    def _writing(self) -> Iterator[tuple[StoreWriter, int]]:
        """Hold the store for one write, and show the write to searches; threads of this process wait for each other."""
        with self._one:
            with open_writer(self._store.folder) as writer:
                root_id, _, _ = writer.catalog.root_for(UPLOADS)
                yield writer, root_id
            self._store.refresh()

    def _checked(self, image: NewImage | TwinscopeError) -> tuple[NewImage, Category] | TwinscopeError:
        if isinstance(image, TwinscopeError):
            return image
        try:
            return image, self._category(image.description)
        except TwinscopeError as error:
            return error

    def _category(self, description: Description) -> Category:
        return builtin_taxonomy().resolve(description.category)


def _put(
    writer: StoreWriter,
    root_id: int,
    image: NewImage,
    category: Category,
    instrument: InstrumentMetadata = NO_METADATA,
) -> Stored:
    catalog = writer.catalog
    known = catalog.find(root_id, image.description.source, None)
    record = _record(image, category, 0 if known is None else known.id)
    if known is not None and replace(record, indexed_at=known.indexed_at, generation=known.generation) == known:
        return Stored(known.id, "unchanged")
    number = catalog.new_id(UPLOADS, record.path, None) if known is None else known.id
    thumbnail = image.fingerprint.thumbnail
    hashed = record.hash is not None and thumbnail
    frames = encoded_frames(thumbnail, stored_reach(catalog)) if hashed else b""
    catalog.put(replace(record, id=number, generation=writer.generation), root_id, thumbnail, frames, instrument)
    return Stored(number, "created" if known is None else "replaced")


def _record(image: NewImage, category: Category, number: int) -> Record:
    hashed: PHash | Unhashable = image.fingerprint.hashed
    facts = image.file
    return Record(
        id=number,
        root=UPLOADS,
        path=image.description.source,
        member=None,
        size=facts.size,
        mtime_ns=facts.mtime_ns,
        sha256=facts.sha256 or bytes(32),
        format=facts.format,
        mode=facts.mode,
        bits=facts.bits,
        width=facts.width,
        height=facts.height,
        hash=hashed.code if isinstance(hashed, PHash) else None,
        unhashable=None if isinstance(hashed, PHash) else f"{hashed.reason}: {hashed.detail}",
        recipe=RECIPE,
        category=category.name,
        code=category.code,
        taxonomy=builtin_taxonomy().version,
        published_prefix=published_prefix(image.description.published_name),
        indexed_at=utc_now(),
        generation=0,
    )


def _keep(data: bytes, path: Path) -> None:
    """Write a file under the name of its content, durable before it is named."""
    if path.exists():
        return
    path.parent.mkdir(exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.{id(data)}.part")
    try:
        part.write_bytes(data)
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)
