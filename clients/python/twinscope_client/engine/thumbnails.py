"""The two thumbnails that a notebook shows with an answer, fetched only when they are shown."""

from __future__ import annotations

import io
import os
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from PIL import Image
from twinscope_indexer.errors import TwinscopeError
from twinscope_indexer.hashing.thumbnail import encode_thumbnail

from twinscope_client.engine.images import grey_pixels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from twinscope_service.matching.answer import Answer


class Shelf(Protocol):
    """What holds the thumbnails of references: an engine."""

    def thumbnail(self, image_id: str) -> NDArray[np.uint8] | None:
        """Return the reduced pixels of a reference."""


ReadThumbnail = Callable[[Shelf], bytes | None]
"""Makes a thumbnail, a JPEG, when it is wanted; None if there is none."""


def with_thumbnails(answer: Answer, shelf: Shelf, query: ReadThumbnail) -> Answer:
    """Return an answer that can show its thumbnails as long as the engine lives; it does not keep the engine alive.

    Parameters
    ----------
    answer : Answer
    shelf : Shelf
        The engine that answered.
    query : callable
        Makes the thumbnail of the query.
    """
    return replace(answer, thumbnails=_Thumbnails(shelf, query))


def of_image(image: Any, encoded: bytes) -> ReadThumbnail:
    """Return what makes the thumbnail of a query image; a file is read again for it, so that answers stay small.

    Parameters
    ----------
    image : path, bytes, binary file, ndarray or PIL image
    encoded : bytes
        Its thumbnail.
    """
    if isinstance(image, (str, os.PathLike)):
        return lambda _: encode_thumbnail(grey_pixels(image))
    return lambda _: encoded


def of_reference(image_id: str) -> ReadThumbnail:
    """Return what makes the thumbnail of a reference."""

    def read(shelf: Shelf) -> bytes | None:
        pixels = shelf.thumbnail(image_id)
        return None if pixels is None else _jpeg(pixels)

    return read


class _Thumbnails:
    """Of one answer; both methods return a JPEG, or None if it cannot be had any more."""

    def __init__(self, shelf: Shelf, query: ReadThumbnail) -> None:
        self._shelf = weakref.ref(shelf)
        self._query = query

    def query(self) -> bytes | None:
        return self._made(self._query)

    def reference(self, image_id: str) -> bytes | None:
        return self._made(of_reference(image_id))

    def _made(self, read: ReadThumbnail) -> bytes | None:
        shelf = self._shelf()
        with suppress(TwinscopeError):  # closed, unreachable, moved away: the answer itself is shown all the same
            return None if shelf is None else read(shelf)
        return None


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=90)
    return data.getvalue()
