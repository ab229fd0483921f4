"""The query of a search, and the restrictions of the search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from twinscope_indexer.hashing.hashability import Unhashable
from twinscope_indexer.hashing.perceptual import PHash, hash_pixels
from twinscope_indexer.hashing.thumbnail import decode_thumbnail, encode_thumbnail

if TYPE_CHECKING:
    from twinscope_indexer.metadata.reader import InstrumentMetadata
    from twinscope_indexer.store.catalog.catalog import Record

    from twinscope_service.matching.policy import Policy


@dataclass(frozen=True, slots=True)
class Query:
    """The image whose twin is searched for: its hash and, if available, its thumbnail, pixels and metadata.

    Attributes
    ----------
    hashed : PHash or Unhashable
    thumbnail : ndarray of uint8, shape (height, width), or None
        Small grey version of the image, like the thumbnails of references in the store. Without a thumbnail, no answer
        can be ``good``.
    pixels : ndarray of uint8, shape (height, width), or None
        Full-size pixels. Without full-size pixels, no answer can be ``excellent``.
    instrument : InstrumentMetadata or None
        Metadata that the instrument recorded for the image; None if they are unknown.
    """

    hashed: PHash | Unhashable
    thumbnail: NDArray[np.uint8] | None = None
    pixels: NDArray[np.uint8] | None = None
    instrument: InstrumentMetadata | None = None

    @classmethod
    def of_pixels(cls, pixels: NDArray[np.uint8], instrument: InstrumentMetadata | None = None) -> Query:
        """Build a query from a grey image, uint8, shape (height, width), and the metadata of its instrument."""
        return cls(hash_pixels(pixels), decode_thumbnail(encode_thumbnail(pixels)), pixels, instrument)


@dataclass(frozen=True, slots=True)
class Limits:
    """Restrictions of a search.

    Attributes
    ----------
    verify : bool
        Whether pixels are compared. If `verify` is False, only distances are computed, and the best possible grade is
        ``unverified``.
    categories : frozenset of str or None
        Names of the categories to which the search is restricted; None means all categories.
    without : int or None
        If the query is an image of the store: its number. This image is excluded from the results.
    """

    verify: bool = True
    categories: frozenset[str] | None = None
    without: int | None = None

    def __bool__(self) -> bool:
        """Return whether any reference is excluded."""
        return self.categories is not None or self.without is not None

    def allow(self, number: int, records: dict[int, Record]) -> bool:
        """Return whether an image may be a match. `records` maps the number of each image to its record."""
        return number != self.without and (
            self.categories is None or (number in records and records[number].category in self.categories)
        )

    def depth(self, policy: Policy) -> int:
        """Return the number of neighbours to search for; one more if the query can find itself."""
        return policy.k + int(self.without is not None)


UNLIMITED: Final = Limits()
