"""The engine within this process: a store's folder, no server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twinscope_indexer.hashing import RECIPE
from twinscope_indexer.store import Store
from twinscope_indexer.thumbnail import decode_thumbnail
from twinscope_service.matcher import Matcher, Query
from twinscope_service.policy import Policy, named_policy

from twinscope_client.pixels import grey_pixels

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    import numpy as np
    from numpy.typing import NDArray
    from twinscope_service.answer import Answer


class EmbeddedEngine:
    """A store opened in this process; safe to use from several threads.

    Parameters
    ----------
    folder : Path
        The store.

    Raises
    ------
    StoreError
        If there is no store, or it cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self._store = Store(folder)
        self._matcher = Matcher(self._store)

    def search(
        self, image: Any, *, policy: str | Policy = "default", k: int | None = None, **thresholds: float | None
    ) -> Answer:
        """Find the labelled twin of an image; see `Engine.search`."""
        chosen = named_policy(policy) if isinstance(policy, str) else policy
        return self._matcher.match(Query.of_pixels(grey_pixels(image)), chosen.adjusted({"k": k, **thresholds}))

    def thumbnail(self, image_id: str) -> NDArray[np.uint8] | None:
        """Give the reduced pixels of a reference; see `Engine.thumbnail`."""
        try:
            data = self._store.catalog.thumbnail(int(image_id, 16))
        except (ValueError, OverflowError):
            return None
        return None if data is None else decode_thumbnail(data)

    def stats(self) -> dict[str, Any]:
        """Describe the store; see `Engine.stats`."""
        view, catalog = self._store.view, self._store.catalog
        return {
            "store": str(self._store.folder),
            "store_id": self._store.store_id,
            "generation": view.generation,
            "recipe": RECIPE,
            "index": {"kind": "IndexBinaryFlat (exact)", "base": len(view.base), "delta": len(view.delta)},
            "created": catalog.meta("created"),
            "roots": [str(path) for path in catalog.roots().values()],
        } | catalog.counts()

    @property
    def identity(self) -> str:
        """Name the store and the state it answers from."""
        return f"{self._store.store_id}/{self._store.view.generation}"

    def refresh(self) -> None:
        """Answer from the newest published state from now on."""
        self._store.refresh()

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
