"""Full-size pixels of references, read where they were indexed, with a bounded cache."""

from __future__ import annotations

import threading
from collections import OrderedDict
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

from twinscope_indexer.corpus import read_source
from twinscope_indexer.errors import ImageError
from twinscope_indexer.imaging import read_image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from twinscope_indexer.catalog import Record


UPLOADS: Final = Path("uploads:")
"""The root of images that came through a server; no folder, so no path of the server is ever meant."""

UPLOADS_FOLDER: Final = "uploads"
"""Where a store keeps the files of such images."""


class ReferencePixels:
    """Reads the pixels of references; safe to use from several threads.

    Parameters
    ----------
    budget : int
        Bytes of pixels kept in memory; the longest unused go first.
    uploads : Path, optional
        Folder of the files that came through a server, by their SHA-256.

    Attributes
    ----------
    hits, misses : int
        How often pixels were asked for and were in memory, or had to be read.
    """

    def __init__(self, budget: int = 256 << 20, uploads: Path | None = None) -> None:
        self._uploads = uploads
        self._budget = budget
        self._held = 0
        self.hits = 0
        self.misses = 0
        self._cache: OrderedDict[bytes, NDArray[np.uint8]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes of pixels in memory."""
        return self._held

    def __call__(self, record: Record) -> NDArray[np.uint8]:
        """Give the grey pixels of a reference, uint8, shape (height, width).

        Raises
        ------
        ImageError
            If the file is gone, unreadable, or no longer the one that was indexed.
        """
        with self._lock:
            found = self._cache.get(record.sha256)
            if found is not None:
                self.hits += 1
                self._cache.move_to_end(record.sha256)
                return found
            self.misses += 1
        data = self._file(record)
        if sha256(data).digest() != record.sha256:
            raise ImageError(record.uri, "damaged", "the file has changed since it was indexed; index again")
        pixels = read_image(data, name=record.uri).pixels
        self._keep(record.sha256, pixels)
        return pixels

    def _file(self, record: Record) -> bytes:
        if record.root != UPLOADS:
            return read_source(record.root, record.path, record.member)
        if self._uploads is None or not any(record.sha256):
            raise ImageError(record.uri, "missing", "it was stored without its file")
        return read_source(self._uploads, record.sha256.hex(), None)

    def _keep(self, key: bytes, pixels: NDArray[np.uint8]) -> None:
        with self._lock:
            if key in self._cache or pixels.nbytes > self._budget:
                return
            self._cache[key] = pixels
            self._held += pixels.nbytes
            while self._held > self._budget:
                _, oldest = self._cache.popitem(last=False)
                self._held -= oldest.nbytes
