"""The engine for a store in a folder. This engine answers queries in this process and needs no server."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from twinscope_indexer.compute.forking import leak, no_fork, protect
from twinscope_indexer.errors import UnknownImageError
from twinscope_indexer.hashing.perceptual import RECIPE
from twinscope_indexer.hashing.thumbnail import decode_thumbnail
from twinscope_indexer.image_id import image_number
from twinscope_indexer.store.reader import Store
from twinscope_service.matching.answer import Result
from twinscope_service.matching.fingerprint import Fingerprint
from twinscope_service.matching.query import Query
from twinscope_service.matching.reference_pixels import PIXELS, UPLOADS_FOLDER, ReferencePixels
from twinscope_service.matching.searcher import Searcher

from twinscope_client.engine.arguments import require_hashes, search_options
from twinscope_client.engine.images import acquisition, grey_pixels
from twinscope_client.engine.many import search_all
from twinscope_client.engine.options import HashOptions, SearchManyOptions, SearchOptions
from twinscope_client.engine.thumbnails import of_image, of_reference, with_thumbnails
from twinscope_client.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import Self, Unpack

    import numpy as np
    from numpy.typing import NDArray
    from twinscope_indexer.errors import ImageError
    from twinscope_indexer.hashing.perceptual import PHash
    from twinscope_indexer.metadata.model import InstrumentMetadata
    from twinscope_service.matching.answer import Answer
    from twinscope_service.matching.options import Options

T = TypeVar("T")


class EmbeddedEngine:
    """An engine for a store in a folder. Several threads can use the engine at the same time.

    A pickle of the engine contains the absolute path of the folder. When the pickle is loaded, the newest generation of
    the store in this folder is opened. A forked process can use the engine of its parent process, too. After a fork,
    both processes open the newest generation of the store.

    Parameters
    ----------
    folder : Path
        The folder of the store.
    pixels : int
        Maximum memory for the cache of the full-size pixels of references, in bytes.

    Raises
    ------
    StoreError
        If the folder contains no store, or if the store in the folder cannot be used.
    """

    def __init__(self, folder: Path, pixels: int = PIXELS) -> None:
        self._store = Store(folder)
        self._pixels = pixels
        self._searcher = Searcher(self._store, ReferencePixels(pixels, folder / UPLOADS_FOLDER))
        self._closed = False
        self._lost = False
        protect(self)

    def search(self, image: Any, **options: Unpack[SearchOptions]) -> Answer:
        """Find the labelled twin of an image; see `Engine.search`."""
        return self._search(image, search_options(options, SearchOptions), options.get("instrument"))

    def search_many(
        self, images: Iterable[T], *, workers: int | None = None, **options: Unpack[SearchManyOptions]
    ) -> Iterator[tuple[T, Answer | ImageError]]:
        """Find the labelled twins of many images; see `Engine.search_many`."""
        chosen = search_options(options, SearchManyOptions)
        self._require_open()
        return search_all(lambda image: self._search(image, chosen, None), images, workers)

    def search_hashes(self, hashes: Sequence[PHash], **options: Unpack[HashOptions]) -> list[Answer]:
        """Find the nearest references of each hash; see `Engine.search_hashes`."""
        chosen = search_options(options, HashOptions)
        with self._operation():
            queries = [Query(hashed) for hashed in require_hashes(hashes, RECIPE)]
            results = self._searcher.answer_all(queries, chosen) if queries else []
        return [result.answer for result in results if isinstance(result, Result)]

    def search_stored(self, image_id: str, **options: Unpack[HashOptions]) -> Answer:
        """Find the nearest references of a stored image; see `Engine.search_stored`."""
        chosen = search_options(options, HashOptions)
        with self._operation():
            answer = self._searcher.answer(image_number(image_id), chosen).answer
        return with_thumbnails(answer, self, of_reference(image_id))

    def thumbnail(self, image_id: str) -> NDArray[np.uint8] | None:
        """Return the thumbnail of a reference; see `Engine.thumbnail`."""
        with self._operation():
            try:
                data = self._store.view.thumbnail(image_number(image_id))
            except UnknownImageError:
                return None
            return None if data is None else decode_thumbnail(data)

    def stats(self) -> dict[str, Any]:
        """Describe the store; see `Engine.stats`."""
        with self._operation():
            return self._searcher.describe()

    @property
    def target(self) -> str:
        """Absolute path of the folder of the store."""
        return str(self.folder.absolute())

    @property
    def folder(self) -> Path:
        """Folder of the store."""
        return self._store.folder

    @property
    def nbytes(self) -> int:
        """Memory for the hashes and the image ids of the index, in bytes."""
        return self._store.view.nbytes

    @property
    def identity(self) -> str:
        """Identifier of the store and of the generation that this engine searches."""
        with self._operation():
            view = self._store.view
            return f"{view.store_id}/{view.generation}"

    def refresh(self) -> None:
        """Open the newest generation of the store, and use this generation from now on."""
        with self._operation():
            self._store.refresh()

    def close(self) -> None:
        """Close the store."""
        self._closed = True
        if not self._lost:
            with no_fork():
                self._store.close()

    def _before_fork(self) -> None:
        """Close the files of the store; see `Forkable._before_fork`."""
        if not self._closed:
            self._store.suspend()

    def _after_fork(self, *, usable: bool) -> None:
        """Refuse all operations in this child process, unless the files of the store were closed before the fork."""
        if not usable and not self._lost:
            self._lost = True
            leak(self._store)

    def __enter__(self) -> Self:
        """Return the engine, so that a program can use the engine in a ``with`` statement."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the store."""
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Store the path of the folder in the pickle instead of the open store."""
        self._require_open()
        return EmbeddedEngine, (Path(self.target), self._pixels)

    def _search(self, image: Any, options: Options, instrument: InstrumentMetadata | None) -> Answer:
        with self._operation():
            pixels = grey_pixels(image)
            fingerprint = Fingerprint.of_pixels(pixels)
            query = replace(fingerprint.query(), pixels=pixels, instrument=acquisition(image, instrument))
            answer = self._searcher.answer(query, options).answer
        return with_thumbnails(answer, self, of_image(image, fingerprint.thumbnail))

    @contextmanager
    def _operation(self) -> Iterator[None]:
        """Check that the engine can be used, and delay forks until the body of the ``with`` statement has ended."""
        with no_fork():
            self._require_open()
            yield

    def _require_open(self) -> None:
        if self._lost:
            raise ClosedError.by_fork(str(self._store.folder))
        if self._closed:
            raise ClosedError(str(self._store.folder))
