"""Full-size pixels of references, read where they were indexed, with a bounded cache."""

from __future__ import annotations

import threading
from collections import OrderedDict
from hashlib import sha256
from typing import TYPE_CHECKING

from twinscope_indexer.corpus import read_source
from twinscope_indexer.errors import ImageError
from twinscope_indexer.imaging import read_image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from twinscope_indexer.catalog import Record


class ReferencePixels:
    """Reads the pixels of references; safe to use from several threads.

    Parameters
    ----------
    budget : int
        Bytes of pixels kept in memory; the longest unused go first.
    """

    def __init__(self, budget: int = 256 << 20) -> None:
        self._budget = budget
        self._held = 0
        self._cache: OrderedDict[bytes, NDArray[np.uint8]] = OrderedDict()
        self._lock = threading.Lock()

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
                self._cache.move_to_end(record.sha256)
                return found
        data = read_source(record.root, record.path, record.member)
        if sha256(data).digest() != record.sha256:
            raise ImageError(record.uri, "damaged", "the file has changed since it was indexed; index again")
        pixels = read_image(data, name=record.uri).pixels
        self._keep(record.sha256, pixels)
        return pixels

    def _keep(self, key: bytes, pixels: NDArray[np.uint8]) -> None:
        with self._lock:
            if key in self._cache or pixels.nbytes > self._budget:
                return
            self._cache[key] = pixels
            self._held += pixels.nbytes
            while self._held > self._budget:
                _, oldest = self._cache.popitem(last=False)
                self._held -= oldest.nbytes
