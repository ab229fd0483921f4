"""Index that holds the same codes in two engines: one engine for single queries, and one engine for batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from twinscope_indexer.index.protocol import Description

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from twinscope_indexer.index.protocol import CodeBatches, Index, Neighbours


@dataclass(frozen=True, slots=True)
class PairedIndex:
    """Index that holds its codes twice, in two engines.

    Twinscope uses such an index if the faster searches justify the additional memory.

    Attributes
    ----------
    single : Index
        Index that answers a single query.
    batch : Index
        Index that answers several queries together; it holds the same codes as `single`.
    """

    single: Index
    batch: Index

    def __len__(self) -> int:
        """Return the number of codes that searches can find."""
        return len(self.batch)

    @property
    def ids(self) -> NDArray[np.int64]:
        """Ids of the codes that searches can find; see `Index.ids`."""
        return self.batch.ids

    @property
    def nbytes(self) -> int:
        """Memory that both indexes use, in bytes; see `Index.nbytes`."""
        return self.single.nbytes + self.batch.nbytes

    def search(self, queries: NDArray[np.uint8], k: int, max_distance: int) -> list[Neighbours]:
        """Find the k nearest codes of each query; see `Index.search`."""
        index = self.single if len(queries) == 1 else self.batch
        return index.search(queries, k, max_distance)

    def without(self, ids: NDArray[np.int64]) -> PairedIndex:
        """Return an index without the codes whose ids are in `ids`; see `Index.without`."""
        return PairedIndex(self.single.without(ids), self.batch.without(ids))

    def restricted_to(self, ids: NDArray[np.int64]) -> PairedIndex:
        """Return an index that finds only the codes whose ids are in `ids`; see `Index.restricted_to`."""
        return PairedIndex(self.single.restricted_to(ids), self.batch.restricted_to(ids))

    def extended(self, parts: CodeBatches) -> PairedIndex:
        """Return an index with additional codes; see `Index.extended`."""
        single, batch = self.single, self.batch
        for part in parts:
            single, batch = single.extended([part]), batch.extended([part])
        return PairedIndex(single, batch)

    def compacted(self) -> PairedIndex:
        """Return the index with either `single` or `batch` compacted by one step; see `Index.compacted`."""
        single = self.single.compacted()
        if single is not self.single:
            return PairedIndex(single, self.batch)
        batch = self.batch.compacted()
        return self if batch is self.batch else PairedIndex(single, batch)

    def describe(self) -> Description:
        """Return a description of the index."""
        single, batch = self.single.describe(), self.batch.describe()
        kind = f"one query: {single.kind}; several queries: {batch.kind}"
        return Description(f"{single.engine}, {batch.engine}", kind, len(self), batch.segments, self.nbytes)
