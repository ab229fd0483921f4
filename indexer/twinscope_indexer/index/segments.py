"""An index of segments, so that no change of it needs all codes twice.

An index over a million codes is made, updated and cleared of what is gone one segment after the other, and two states
of a store share the segments that they have in common. In memory are the codes, those that are gone and not cleared yet
(a tenth), and, while a segment is made (an eighth of the codes), that segment twice.

Multi-index hashing would find nothing sooner at the limits that are used here. For all codes within 300 of 1024 bits it
must look, in each of 64 tables of 16 bits, at what is within 4 bits: 2,517 of 65,536 places. That is 2.5 times as many
candidates as there are codes, and the tables alone are twice as large as the codes.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from itertools import starmap
from typing import TYPE_CHECKING, Final

import numpy as np

from twinscope_indexer.index.protocol import (
    NO_NEIGHBOURS,
    Description,
    ids_not_in,
    merge,
    require_codes,
    require_limits,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from twinscope_indexer.index.protocol import CodeBatches, Neighbours
    from twinscope_indexer.index.segment import Segment

_LEAST: Final = 1 << 16
"""Codes of a segment, 9 MB: smaller ones cost more in calls than they save in memory."""
_USUAL: Final = 8
"""Segments of a larger index."""
_MOST: Final = 16
"""Segments; each costs a search some microseconds."""
_MAX_GONE_SHARE: Final = 0.1
"""A segment is made again when more than this share of it is left out."""
_WORTH_A_THREAD: Final = 100_000
"""Codes; to wake a thread for fewer costs more than it saves."""
_CORES: Final = os.cpu_count() or 1


def segment_size(count: int) -> int:
    """Return how many codes a segment of an index over `count` codes has."""
    return max(_LEAST, -(-count // _USUAL))


@dataclass(frozen=True, slots=True)
class SegmentedIndex:
    """An `Index` whose codes are divided among segments of one engine.

    Attributes
    ----------
    engine : str
        Name of the engine.
    make : type of Segment
        Of that engine.
    reason : str
        Why this engine was chosen, for people.
    segments : tuple of Segment
        No id is in two of them, unless all but one leave it out.
    """

    engine: str
    make: type[Segment]
    reason: str = ""
    segments: tuple[Segment, ...] = ()

    def __len__(self) -> int:
        """Count the codes that it may answer with."""
        return sum(map(len, self.segments))

    @property
    def ids(self) -> NDArray[np.int64]:
        """Ids of these codes; see `Index.ids`."""
        return np.concatenate([np.empty(0, np.int64), *(segment.ids for segment in self.segments)])

    @property
    def nbytes(self) -> int:
        """Bytes of memory; see `Index.nbytes`."""
        return sum(segment.nbytes for segment in self.segments)

    def extended(self, parts: CodeBatches) -> SegmentedIndex:
        """Return an index with a further segment for each part; see `Index.extended`."""
        made = starmap(self.make, parts)  # which keeps no part longer than a segment is made of it
        return replace(self, segments=(*self.segments, *(segment for segment in made if segment.held)))

    def without(self, ids: NDArray[np.int64]) -> SegmentedIndex:
        """Return an index that does not answer with some ids either; see `Index.without`."""
        if not len(ids):
            return self
        return replace(self, segments=tuple(segment.without(ids) for segment in self.segments))

    def restricted_to(self, ids: NDArray[np.int64]) -> SegmentedIndex:
        """Return an index that answers with some ids only; see `Index.restricted_to`."""
        kept = (segment.without(ids_not_in(segment.ids, ids)) for segment in self.segments)
        return replace(self, segments=tuple(kept))

    def compacted(self) -> SegmentedIndex:
        """Return an index of which one segment was made again, or two were made one; see `Index.compacted`."""
        gone = [1 - len(segment) / segment.held for segment in self.segments]
        worst = max(range(len(gone)), key=gone.__getitem__, default=0)
        if gone and gone[worst] > _MAX_GONE_SHARE:
            return self._renewed(self.segments[worst])
        if len(self.segments) > _MOST:
            return self._renewed(*sorted(self.segments, key=len)[:2])
        return self

    def _renewed(self, *old: Segment) -> SegmentedIndex:
        """Make one segment of what some of them may answer with."""
        others = tuple(segment for segment in self.segments if segment not in old)
        ids, codes = zip(*(segment.dump() for segment in old), strict=True)
        whole = np.concatenate(ids), np.concatenate(codes) if len(codes) > 1 else codes[0]
        return replace(self, segments=others).extended([whole])

    def describe(self) -> Description:
        """Describe the index."""
        divided = f"{len(self.segments)} segments" if len(self.segments) > 1 else "one segment"
        kind = f"{self.make.title} (exact), {divided}" + (f"; {self.reason}" if self.reason else "")
        return Description(self.engine, kind, len(self), len(self.segments), self.nbytes)

    def search(self, queries: NDArray[np.uint8], k: int, max_distance: int) -> list[Neighbours]:
        """Find the k nearest codes of each query; see `Index.search`.

        A batch is divided among threads within a segment. A single query is divided by segments, if one of them is too
        little work for two threads.
        """
        segments = [segment for segment in self.segments if len(segment)]
        if not segments:
            require_limits(k, max_distance)
            return [NO_NEIGHBOURS] * len(require_codes(queries))

        def answers_of(share: Sequence[Segment]) -> list[list[Neighbours]]:
            return [segment.search(queries, k, max_distance) for segment in share]

        alone = len(queries) == 1 and segments[0].held <= segments[0].one_thread_up_to
        threads = min(_CORES, len(segments), 1 + len(self) // _WORTH_A_THREAD) if alone else 1
        others = [_pool().submit(answers_of, segments[first::threads]) for first in range(1, threads)]
        answers = answers_of(segments[::threads])
        for other in others:
            answers += other.result()
        if len(answers) == 1:
            return answers[0]
        return [merge(near, k) for near in zip(*answers, strict=True)]


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, _CORES - 1), thread_name_prefix="segments")
