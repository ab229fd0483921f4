"""The fingerprint of an image: the hash and the thumbnail, without the full-size pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from twinscope_indexer.hashing.hashability import Unhashable
from twinscope_indexer.hashing.perceptual import PHash, hash_pixels
from twinscope_indexer.hashing.thumbnail import decode_thumbnail, encode_thumbnail

from twinscope_service.matching.query import Query


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """An image reduced to the data that a search needs.

    Attributes
    ----------
    hashed : PHash or Unhashable
    thumbnail : bytes
        Thumbnail as JPEG, encoded by `encode_thumbnail`; empty if there is no thumbnail.
    """

    hashed: PHash | Unhashable
    thumbnail: bytes = b""

    @classmethod
    def of_pixels(cls, pixels: NDArray[np.uint8]) -> Fingerprint:
        """Compute the fingerprint of a grey image, uint8, shape (height, width)."""
        return cls(hash_pixels(pixels), encode_thumbnail(pixels))

    def query(self) -> Query:
        """Build the query that `Query.of_pixels` would build for the image, but without full-size pixels.

        Raises
        ------
        ImageError
            If the thumbnail is damaged.
        """
        return Query(self.hashed, decode_thumbnail(self.thumbnail) if self.thumbnail else None)
