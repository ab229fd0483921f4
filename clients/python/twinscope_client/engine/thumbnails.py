"""The thumbnails that a notebook shows with an answer. They are fetched only when they are shown."""

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
    """A source of the thumbnails of references: an engine."""

    def thumbnail(self, image_id: str) -> NDArray[np.uint8] | None:
        """Return the thumbnail of a reference, uint8 (height, width), or None if it is not in the store."""


ReadThumbnail = Callable[[ThumbnailSource], bytes | None]
"""A function that returns a thumbnail as a JPEG, or None if there is none."""


def with_thumbnails(answer: Answer, source: ThumbnailSource, query: ReadThumbnail) -> Answer:
    """Return an answer that can show its thumbnails while the engine exists; it does not keep the engine alive.

    Parameters
    ----------
    answer : Answer
    source : ThumbnailSource
        The engine that answered.
    query : callable
        Returns the thumbnail of the query.
    """
    return replace(answer, thumbnails=_Thumbnails(source, query))


def of_image(image: Any, encoded: bytes) -> ReadThumbnail:
    """Return the function that reads the thumbnail of a query. A file is read again, so that answers stay small.

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
    """Return the function that reads the thumbnail of a reference."""

    def read(source: ThumbnailSource) -> bytes | None:
        pixels = source.thumbnail(image_id)
        return None if pixels is None else _jpeg(pixels)

    return read


class _Thumbnails:
    """The thumbnails of one answer. Both methods return a JPEG, or None if it is no longer available."""

    def __init__(self, source: ThumbnailSource, query: ReadThumbnail) -> None:
        self._source = weakref.ref(source)
        self._query = query

    def query(self) -> bytes | None:
        return self._read(self._query)

    def reference(self, image_id: str) -> bytes | None:
        return self._read(of_reference(image_id))

    def _read(self, read: ReadThumbnail) -> bytes | None:
        source = self._source()
        with suppress(TwinscopeError):  # closed, unreachable or moved: show the answer without thumbnails
            return None if source is None else read(source)
        return None


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=90)
    return data.getvalue()
