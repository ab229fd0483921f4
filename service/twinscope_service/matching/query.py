"""A query: what is looked for, and what is left out."""

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
    """What is looked for: a hash, and as much of the image as is at hand.

    Attributes
    ----------
    hashed : PHash or Unhashable
    thumbnail : ndarray of uint8, shape (height, width), or None
        Reduced pixels, as the store keeps them of references; without them nothing can be ``good``.
    pixels : ndarray of uint8, shape (height, width), or None
        Full-size pixels; without them nothing can be ``excellent``.
    instrument : InstrumentMetadata or None
        What its instrument wrote; None where nothing is known.
    """

    hashed: PHash | Unhashable
    thumbnail: NDArray[np.uint8] | None = None
    pixels: NDArray[np.uint8] | None = None
    instrument: InstrumentMetadata | None = None

    @classmethod
    def of_pixels(cls, pixels: NDArray[np.uint8], instrument: InstrumentMetadata | None = None) -> Query:
        """Make the query of a grey image, uint8, shape (height, width), and of what its instrument wrote."""
        return cls(hash_pixels(pixels), decode_thumbnail(encode_thumbnail(pixels)), pixels, instrument)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a search leaves out.

    Attributes
    ----------
    verify : bool
        False: hash distances only; the grade is ``unverified`` at best.
    categories : frozenset of str or None
        Only references of these categories (names) are looked at; None means all.
    without : int or None
        A reference that must not be answered with: the query itself.
    """

    verify: bool = True
    categories: frozenset[str] | None = None
    without: int | None = None

    def __bool__(self) -> bool:
        """Tell whether any reference is left out."""
        return self.categories is not None or self.without is not None

    def allow(self, number: int, records: dict[int, Record]) -> bool:
        """Tell whether an image, whose record is among these, may be answered with."""
        return number != self.without and (
            self.categories is None or (number in records and records[number].category in self.categories)
        )

    def depth(self, policy: Policy) -> int:
        """Give how many neighbours to ask for: one more where one of them is the query itself."""
        return policy.k + int(self.without is not None)


UNLIMITED: Final = Limits()
