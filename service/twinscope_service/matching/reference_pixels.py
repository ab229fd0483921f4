"""Full-size pixels of references. The pixels are read from the indexed files and kept in a cache of limited size."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from twinscope_indexer.errors import ImageError
from twinscope_indexer.imaging.reader import read_image
from twinscope_indexer.sources.location import Content, opened_source

from twinscope_service.matching.answer import UPLOADS

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import numpy as np
    from numpy.typing import NDArray
    from twinscope_indexer.store.catalog.catalog import Record


_Key = tuple[Path, str, str | None, int, bytes]
"""Key of the cache: root, path and archive member of a file, the page, and the SHA-256 of the content of the file."""

PIXELS: Final = 256 << 20
"""Default size of the cache, in bytes of pixels."""


UPLOADS_FOLDER: Final = "uploads"
"""Name of the folder, inside the folder of a store, that contains the uploaded files."""


class ReferencePixels:
    """Reader of the full-size pixels of references, with a cache. Several threads can use one reader.

    Parameters
    ----------
    budget : int
        Size of the cache, in bytes of pixels. The least recently used images are removed first.
    uploads : Path, optional
        Folder of the uploaded files. The name of an uploaded file is its SHA-256.
    pixel_budget : int, optional
        Maximum number of pixels of a reference, as for `read_image`. Larger references cannot be verified.

    Attributes
    ----------
    hits, misses : int
        Number of requests for pixels that were in the cache, and number of requests for pixels that were not in the
        cache.
    """

    def __init__(self, budget: int = PIXELS, uploads: Path | None = None, *, pixel_budget: int | None = None) -> None:
        self._uploads = uploads
        self._pixel_budget = pixel_budget
        self._budget = budget
        self._held = 0
        self.hits = 0
        self.misses = 0
        self._cache: OrderedDict[_Key, NDArray[np.uint8]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Number of bytes of pixels in the cache."""
        return self._held

    def __call__(self, record: Record) -> NDArray[np.uint8]:
        """Return the grey pixels of a reference, uint8, shape (height, width).

        Raises
        ------
        ImageError
            If the file is missing, if the file cannot be read, or if it has changed since it was indexed.
        """
        # The SHA-256 alone is not a safe cache key. For an image, a client could declare the SHA-256 of another image.
        # The client would then get the pixels of the other image.
        key = record.root, record.path, record.member, record.page, record.sha256
        if record.root == UPLOADS:
            self._require_upload(record)
        with self._lock:
            found = self._cache.get(key)
            if found is not None:
                self.hits += 1
                self._cache.move_to_end(key)
                return found
            self.misses += 1
        with self._opened(record) as content:
            if content.sha256() != record.sha256:
                raise ImageError(record.uri, "damaged", "the file has changed since it was indexed; index it again")
            pixels = read_image(
                content.stream, name=record.uri, page=record.page, pixel_budget=self._pixel_budget
            ).pixels
        self._keep(key, pixels)
        return pixels

    def _opened(self, record: Record) -> AbstractContextManager[Content]:
        if record.root != UPLOADS:
            return opened_source(record.root, record.path, record.member, record.page)
        return opened_source(self._require_upload(record), record.sha256.hex(), None, record.page)

    def _require_upload(self, record: Record) -> Path:
        """Return the folder that contains the file of an uploaded image."""
        if self._uploads is None or not any(record.sha256) or not (self._uploads / record.sha256.hex()).exists():
            raise ImageError(record.uri, "missing", "the image was stored without its file, or has since been replaced")
        return self._uploads

    def _keep(self, key: _Key, pixels: NDArray[np.uint8]) -> None:
        with self._lock:
            if key in self._cache or pixels.nbytes > self._budget:
                return
            self._cache[key] = pixels
            self._held += pixels.nbytes
            while self._held > self._budget:
                _, oldest = self._cache.popitem(last=False)
                self._held -= oldest.nbytes
