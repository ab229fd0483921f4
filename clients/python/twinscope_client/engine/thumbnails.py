"""The thumbnails that a notebook shows with an answer. Twinscope reads a thumbnail only when a notebook shows it."""

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


class ThumbnailSource(Protocol):
    """An object that returns the thumbnails of references, for example an engine."""

    def thumbnail(self, image_id: str) -> NDArray[np.uint8] | None:
        """Return the thumbnail of a reference, or None if the reference is not in the store.

        The thumbnail is an array of uint8 with the shape (height, width).
        """


ReadThumbnail = Callable[[ThumbnailSource], bytes | None]
"""A function that returns a thumbnail as the bytes of a JPEG, or None if there is no thumbnail."""


def with_thumbnails(answer: Answer, source: ThumbnailSource, query: ReadThumbnail) -> Answer:
    """Return a copy of an answer that can show thumbnails as long as the engine exists.

    The copy holds only a weak reference to the engine, so that the engine can be garbage-collected.

    Parameters
    ----------
    answer : Answer
    source : ThumbnailSource
        The engine that gave the answer.
    query : callable
        Function that returns the thumbnail of the query.
    """
    return replace(answer, thumbnails=_Thumbnails(source, query))


def of_image(image: Any, encoded: bytes) -> ReadThumbnail:
    """Return a function that reads the thumbnail of a query.

    If the query is a file, the function reads the file again, so that the answer does not keep the thumbnail in memory.

    Parameters
    ----------
    image : path, bytes, binary file, ndarray or PIL image
        The query.
    encoded : bytes
        The thumbnail of the query, as a JPEG.
    """
    if isinstance(image, (str, os.PathLike)):
        return lambda _: encode_thumbnail(grey_pixels(image))
    return lambda _: encoded


def of_reference(image_id: str) -> ReadThumbnail:
    """Return a function that reads the thumbnail of the reference with this id."""

    def read(source: ThumbnailSource) -> bytes | None:
        pixels = source.thumbnail(image_id)
        return None if pixels is None else _jpeg(pixels)

    return read


class _Thumbnails:
    """The thumbnails of one answer. Both methods return a JPEG, or None if the thumbnail is no longer available."""

    def __init__(self, source: ThumbnailSource, query: ReadThumbnail) -> None:
        self._source = weakref.ref(source)
        self._query = query

    def query(self) -> bytes | None:
        return self._read(self._query)

    def reference(self, image_id: str) -> bytes | None:
        return self._read(of_reference(image_id))

    def _read(self, read: ReadThumbnail) -> bytes | None:
        source = self._source()
        with suppress(TwinscopeError):  # if the store is closed, moved or unreachable, the answer has no thumbnails
            return None if source is None else read(source)
        return None


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=90)
    return data.getvalue()
