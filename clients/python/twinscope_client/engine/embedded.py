"""The engine within this process: a store's folder, no server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twinscope_indexer.errors import UnknownImageError
from twinscope_indexer.hashing.codes import BYTES
from twinscope_indexer.hashing.perceptual import RECIPE
from twinscope_indexer.hashing.thumbnail import decode_thumbnail
from twinscope_indexer.store.reader import Store
from twinscope_service.matching.answer import Result
from twinscope_service.matching.query import Query
from twinscope_service.matching.reference_pixels import PIXELS, UPLOADS_FOLDER, ReferencePixels
from twinscope_service.matching.searcher import Searcher

from twinscope_client.engine.arguments import closed, image_number, require_hashes, search_options
from twinscope_client.engine.images import acquisition, grey_pixels

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    import numpy as np
    from numpy.typing import NDArray
    from twinscope_indexer.hashing.perceptual import PHash
    from twinscope_indexer.metadata.reader import InstrumentMetadata
    from twinscope_service.matching.answer import Answer
    from twinscope_service.matching.policy import Policy


class EmbeddedEngine:
    """A store opened in this process; safe to use from several threads.

    Parameters
    ----------
    folder : Path
        The store.
    pixels : int
        Bytes of full-size pixels of references that are kept in memory.

    Raises
    ------
    StoreError
        If there is no store, or it cannot be used.
    """

    def __init__(self, folder: Path, pixels: int = PIXELS) -> None:
        self._store = Store(folder)
        self._searcher = Searcher(self._store, ReferencePixels(pixels, folder / UPLOADS_FOLDER))
        self._closed = False

    def search(
        self,
        image: Any,
        *,
        policy: str | Policy = "default",
        k: int | None = None,
        categories: Sequence[str] = (),
        verify: bool = True,
        instrument: InstrumentMetadata | None = None,
        min_generation: int = 0,
        **thresholds: float | None,
    ) -> Answer:
        """Find the labelled twin of an image; see `Engine.search`."""
        options = search_options(
            policy, {"k": k, **thresholds}, categories, verify=verify, min_generation=min_generation
        )
        self._require_open()
        query = Query.of_pixels(grey_pixels(image), acquisition(image, instrument))
        return self._searcher.answer(query, options).answer

    def search_hashes(
        self,
        hashes: Sequence[PHash],
        *,
        policy: str | Policy = "default",
        k: int | None = None,
        categories: Sequence[str] = (),
        min_generation: int = 0,
        **thresholds: float | None,
    ) -> list[Answer]:
        """Find the nearest references of hashes; see `Engine.search_hashes`."""
        options = search_options(policy, {"k": k, **thresholds}, categories, min_generation=min_generation)
        self._require_open()
        queries = [Query(hashed) for hashed in require_hashes(hashes, RECIPE)]
        results = self._searcher.answer_all(queries, options) if queries else []
        return [result.answer for result in results if isinstance(result, Result)]

    def search_stored(
        self,
        image_id: str,
        *,
        policy: str | Policy = "default",
        k: int | None = None,
        categories: Sequence[str] = (),
        min_generation: int = 0,
        **thresholds: float | None,
    ) -> Answer:
        """Find the nearest references of a stored image; see `Engine.search_stored`."""
        options = search_options(policy, {"k": k, **thresholds}, categories, min_generation=min_generation)
        self._require_open()
        return self._searcher.answer(image_number(image_id), options).answer

    def thumbnail(self, image_id: str) -> NDArray[np.uint8] | None:
        """Give the reduced pixels of a reference; see `Engine.thumbnail`."""
        self._require_open()
        try:
            data = self._store.view.thumbnail(image_number(image_id))
        except UnknownImageError:
            return None
        return None if data is None else decode_thumbnail(data)

    def stats(self) -> dict[str, Any]:
        """Describe the store; see `Engine.stats`."""
        self._require_open()
        return self._searcher.describe()

    @property
    def folder(self) -> Path:
        """The store's folder."""
        return self._store.folder

    @property
    def nbytes(self) -> int:
        """Bytes of codes, and of their ids, that are held in memory."""
        view = self._store.view
        return (len(view.base) + len(view.delta) + sum(map(len, view.frames.base.values()))) * (BYTES + 8)

    @property
    def identity(self) -> str:
        """Name the store and the state it answers from."""
        self._require_open()
        return f"{self._store.store_id}/{self._store.view.generation}"

    def refresh(self) -> None:
        """Answer from the newest published state from now on."""
        self._require_open()
        self._store.refresh()

    def close(self) -> None:
        """Close the store."""
        self._closed = True
        self._store.close()

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _require_open(self) -> None:
        if self._closed:
            raise closed(str(self._store.folder))
