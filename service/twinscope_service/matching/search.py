"""A search: one query, the store to search, and the rules of the search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from twinscope_service.matching.full_size import PixelComparison

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray
    from twinscope_indexer.hashing.perceptual import PHash
    from twinscope_indexer.store.catalog.catalog import Record
    from twinscope_indexer.store.view import View

    from twinscope_service.matching.policy import Policy
    from twinscope_service.matching.query import Limits, Query
    from twinscope_service.matching.reference_pixels import ReferencePixels


@dataclass(slots=True)
class Search:
    """One image and the store in which a twin is searched for.

    Attributes
    ----------
    query : Query
    hashed : PHash
        The hash of the query.
    view : View
        The state of the store that answers.
    policy : Policy
    limits : Limits
    pixels : ReferencePixels
        Source of the full-size pixels of references.
    records : dict
        The records of references that are known so far, by number. All searches of a batch share it.
    """

    query: Query
    hashed: PHash
    view: View
    policy: Policy
    limits: Limits
    pixels: ReferencePixels
    records: dict[int, Record]

    @property
    def thumbnail(self) -> NDArray[np.uint8] | None:
        """The thumbnail of the query; None if the query is a bare hash."""
        return self.query.thumbnail

    @property
    def full_size(self) -> PixelComparison | None:
        """The full-size comparison; None if the query came without its pixels."""
        return None if self.query.pixels is None else PixelComparison(self.query.pixels, self.pixels, self.records)

    def learn(self, records: Mapping[int, Record]) -> None:
        """Add records that a stage has read."""
        self.records.update(records)
