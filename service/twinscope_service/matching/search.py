"""A search: the query, the store, and the thresholds and restrictions that apply."""

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
    """The search for the twin of one query in a store.

    Attributes
    ----------
    query : Query
    hashed : PHash
        Hash of the query.
    view : View
        State of the store in which the search runs.
    policy : Policy
    limits : Limits
    pixels : ReferencePixels
        Source of the full-size pixels of references.
    records : dict
        Records of references that were read before; the keys are the numbers of the references. All searches of one
        batch use the same dictionary.
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
        """The thumbnail of the query; None if the query is a hash without an image."""
        return self.query.thumbnail

    @property
    def full_size(self) -> PixelComparison | None:
        """The comparison of full-size pixels; None if the query has no full-size pixels."""
        return None if self.query.pixels is None else PixelComparison(self.query.pixels, self.pixels, self.records)

    def learn(self, records: Mapping[int, Record]) -> None:
        """Add the records of references that a stage has read."""
        self.records.update(records)
