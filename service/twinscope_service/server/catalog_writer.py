"""Writing of images by the server. The server acknowledges an image only after the catalog has stored it durably."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from typing import TYPE_CHECKING, Literal

from twinscope_indexer.errors import TwinscopeError
from twinscope_indexer.indexing.ingest import DescribedImage, Origin, describe, put_image, record_of
from twinscope_indexer.indexing.pages import first_hashable_page
from twinscope_indexer.sources.location import Content
from twinscope_indexer.store.frames import stored_reach
from twinscope_indexer.store.reader import StoreWriter, open_writer
from twinscope_indexer.store.settings import taxonomy_of

from twinscope_service.matching.answer import UPLOADS
from twinscope_service.matching.new_image import Description, NewImage, Upload
from twinscope_service.matching.reference_pixels import UPLOADS_FOLDER
from twinscope_service.server.upload_files import Uploads

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from twinscope_indexer.store.catalog.catalog import Record
    from twinscope_indexer.store.reader import Store
    from twinscope_indexer.taxonomy import Category, Taxonomy

Change = Literal["created", "replaced", "unchanged"]


@dataclass(frozen=True, slots=True)
class Stored:
    """The result for an image that was stored: its number, and what the write changed."""

    number: int
    change: Change


class Writes:
    """Writer of images into a store. Only one write at a time is possible, across all processes.

    Parameters
    ----------
    store : Store
        The store. Every write ends with a refresh of the store, so that searches see the change.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._uploads = Uploads(store.folder / UPLOADS_FOLDER)
        self._one = threading.Lock()

    def upsert(
        self, images: Sequence[NewImage | TwinscopeError], *, partly: bool
    ) -> tuple[list[Stored | TwinscopeError], int]:
        """Insert or replace images in the store.

        Parameters
        ----------
        images : sequence of NewImage or TwinscopeError
            The images to store. An error in this sequence stands for an image that was already refused.
        partly : bool
            If true, store all images that can be stored. If false and one image is refused, store none and raise the
            error of the refused image.

        Returns
        -------
        results : list of Stored or TwinscopeError
            One result for each image.
        generation : int
            The first generation that contains the change.

        Raises
        ------
        StoreLockedError
            If another process is writing.
        TaxonomyError
            If a category is unknown and `partly` is false.
        """
        if not partly:
            for image in images:
                if isinstance(image, TwinscopeError):
                    raise image
        with self._writing() as write:
            checked = [_checked(image, write.taxonomy) for image in images]
            if not partly:
                for one in checked:
                    if isinstance(one, TwinscopeError):
                        raise one
            with write.catalog.transaction():
                results = [one if isinstance(one, TwinscopeError) else write.put(*one) for one in checked]
            return results, write.publish()

    def upload(self, upload: Upload, data: bytes, pixel_budget: int) -> tuple[Stored, int]:
        """Insert or replace an image that was uploaded as a file; the store keeps the file.

        Raises
        ------
        ImageError
            If the file cannot be read.
        TaxonomyError
            If the category is unknown.
        StoreLockedError
            If another process is writing.
        """
        self._store.view.taxonomy.resolve(upload.description.category)  # an unknown category fails before the slow work
        name = upload.description.source
        page = first_hashable_page(data, name=name, pixel_budget=pixel_budget)
        content = Content(BytesIO(data), name)
        image = describe(
            content, content.sha256(), name=name, page=page, mtime_ns=upload.mtime_ns, pixel_budget=pixel_budget
        )
        with self._writing() as write:
            category = write.taxonomy.resolve(upload.description.category)
            with self._uploads.keeping(image.file.sha256, data), write.catalog.transaction():
                stored = write.put(upload.description, image, category)
            return stored, write.publish()

    def delete(self, numbers: Sequence[int]) -> tuple[list[int], int]:
        """Remove images; return the numbers that no image has, and the first generation without the removed images."""
        with self._writing() as write:
            known = write.catalog.records(list(dict.fromkeys(numbers)))
            write.delete(known)
            return [number for number in numbers if number not in known], write.publish()

    @contextmanager
    def _writing(self) -> Iterator[_Write]:
        """Lock the store while the body of the ``with`` statement writes, then refresh the store for searches.

        The threads of this process write one after the other.
        """
        with self._one:
            with open_writer(self._store.folder) as writer:
                root_id, _, _ = writer.catalog.root_for(UPLOADS)
                self._uploads.sweep(lambda: writer.catalog.digests(root_id))
                yield _Write(writer, root_id, self._uploads)
            self._store.refresh()


class _Write:
    """One write in progress, with the catalog and the files that it changes."""

    def __init__(self, writer: StoreWriter, root_id: int, uploads: Uploads) -> None:
        self.catalog = writer.catalog
        self.taxonomy = taxonomy_of(writer.catalog)
        self._writer = writer
        self._root_id = root_id
        self._uploads = uploads

    def put(self, description: Description, image: DescribedImage, category: Category) -> Stored:
        known = self.catalog.find(self._root_id, description.source, None)
        number = self.catalog.new_id(UPLOADS, description.source, None) if known is None else known.id
        record = record_of(
            image,
            Origin(self._root_id, UPLOADS, description.source, None, description.published_name, pages=1),
            category,
            self.taxonomy.version,
            number=number,
            generation=self._writer.generation,
        )
        if known is not None and replace(record, indexed_at=known.indexed_at, generation=known.generation) == known:
            return Stored(number, "unchanged")
        put_image(self.catalog, record, self._root_id, image, image.frames(stored_reach(self.catalog)))
        self._release([] if known is None else [known])
        return Stored(number, "created" if known is None else "replaced")

    def delete(self, records: dict[int, Record]) -> None:
        self.catalog.delete(records, self._writer.generation)
        self._release(records.values())

    def publish(self) -> int:
        return self._writer.publish()

    def _release(self, records: Iterable[Record]) -> None:
        self._uploads.release(record.sha256 for record in records if record.root == UPLOADS)


def _checked(
    image: NewImage | TwinscopeError, taxonomy: Taxonomy
) -> tuple[Description, DescribedImage, Category] | TwinscopeError:
    """Return the values to store for a new image, or the error with which the image is refused."""
    if isinstance(image, TwinscopeError):
        return image
    try:
        category = taxonomy.resolve(image.description.category)
    except TwinscopeError as error:
        return error
    fingerprint = image.fingerprint
    return image.description, DescribedImage(image.file, fingerprint.hashed, fingerprint.thumbnail), category
