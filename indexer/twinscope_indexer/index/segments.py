"""Index that is divided into segments, so that a change never needs a second copy of all codes in memory.

An index of a million codes is built, updated and compacted one segment at a time. If two generations of a store contain
the same segment, this segment is in memory only once. The memory holds all codes, and also removed codes that were not
cleared yet (at most a tenth). A segment usually holds an eighth of the codes. While a segment is built, the codes of
this segment are in memory twice.

Another known method is multi-index hashing: this method looks up parts of a code in several tables. At the distance
limits of Twinscope, multi-index hashing would not be faster. To find all codes at a distance of at most 300 bits, the
method needs 64 tables for parts of 16 bits. In each table, the method must check all entries that differ by at most 4
bits: 2,517 of 65,536 entries. So multi-index hashing would find 2.5 times as many candidates as there are codes. The
tables alone would be twice as large as the codes.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from itertools import starmap
from typing import TYPE_CHECKING, Final

import numpy as np

from twinscope_indexer.compute.forking import in_child
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

_MIN_SIZE: Final = 1 << 16
"""Minimum number of codes in a segment. These codes take 9 MB. Smaller segments would save some memory, but the larger
number of calls would take more time."""
_USUAL: Final = 8
"""Usual number of segments of a large index."""
_MAX_SEGMENTS: Final = 16
"""Maximum number of segments of an index. Each segment adds some microseconds to a search."""
_MAX_LEFT_OUT_SHARE: Final = 0.1
"""Maximum share of removed codes in a segment. If the share is larger, the segment is rebuilt without the removed
codes."""
_WORTH_A_THREAD: Final = 100_000
"""Number of codes for each thread. With fewer codes, waking a thread takes more time than the thread saves."""
_CORES: Final = os.cpu_count() or 1


def segment_size(count: int) -> int:
    """Return the number of codes in each segment of an index over `count` codes."""
    return max(_MIN_SIZE, -(-count // _USUAL))


@dataclass(frozen=True, slots=True)
class SegmentedIndex:
    """Index whose codes are divided among several segments of one engine.

    Attributes
    ----------
    engine : str
        Name of the engine.
    make : type of Segment
        Class of the segments of this engine.
    reason : str
        Reason for the choice of this engine, in words.
    segments : tuple of Segment
        Segments of the index. If several segments contain the same id, the code of this id must be removed from all
        these segments except one.
    """

    engine: str
    make: type[Segment]
    reason: str = ""
    segments: tuple[Segment, ...] = ()

    def __len__(self) -> int:
        """Return the number of codes that searches can find."""
        return sum(map(len, self.segments))

    @property
    def ids(self) -> NDArray[np.int64]:
        """Ids of the codes that searches can find; see `Index.ids`."""
        return np.concatenate([np.empty(0, np.int64), *(segment.ids for segment in self.segments)])

    @property
    def nbytes(self) -> int:
        """Memory that the index uses, in bytes; see `Index.nbytes`."""
        return sum(segment.nbytes for segment in self.segments)

    def extended(self, parts: CodeBatches) -> SegmentedIndex:
        """Return an index with an additional segment for each batch of `parts`; see `Index.extended`."""
        made = starmap(self.make, parts)  # each batch is in memory only while its segment is built
        return replace(self, segments=(*self.segments, *(segment for segment in made if segment.held)))

    def without(self, ids: NDArray[np.int64]) -> SegmentedIndex:
        """Return an index without the codes whose ids are in `ids`; see `Index.without`."""
        if not len(ids):
            return self
        return replace(self, segments=tuple(segment.without(ids) for segment in self.segments))

    def restricted_to(self, ids: NDArray[np.int64]) -> SegmentedIndex:
        """Return an index that finds only the codes whose ids are in `ids`; see `Index.restricted_to`."""
        kept = (segment.without(ids_not_in(segment.ids, ids)) for segment in self.segments)
        return replace(self, segments=tuple(kept))

    def compacted(self) -> SegmentedIndex:
        """Return an index in which one segment was rebuilt, or two segments were merged; see `Index.compacted`."""
        left_out = [1 - len(segment) / segment.held for segment in self.segments]
        worst = max(range(len(left_out)), key=left_out.__getitem__, default=0)
        if left_out and left_out[worst] > _MAX_LEFT_OUT_SHARE:
            return self._rebuilt(self.segments[worst])
        if len(self.segments) > _MAX_SEGMENTS:
            return self._rebuilt(*sorted(self.segments, key=len)[:2])
        return self

    def _rebuilt(self, *old: Segment) -> SegmentedIndex:
        """Return an index with one new segment instead of the segments `old`.

        The new segment holds the codes of `old` that were not removed.
        """
        others = tuple(segment for segment in self.segments if segment not in old)
        ids, codes = zip(*(segment.dump() for segment in old), strict=True)
        whole = np.concatenate(ids), np.concatenate(codes) if len(codes) > 1 else codes[0]
        return replace(self, segments=others).extended([whole])

    def describe(self) -> Description:
        """Return a description of the index."""
        divided = f"{len(self.segments)} segments" if len(self.segments) > 1 else "one segment"
        kind = f"{self.make.title} (exact), {divided}" + (f"; {self.reason}" if self.reason else "")
        return Description(self.engine, kind, len(self), len(self.segments), self.nbytes)

    def search(self, queries: NDArray[np.uint8], k: int, max_distance: int) -> list[Neighbours]:
        """Find the k nearest codes of each query; see `Index.search`.

        For a batch of queries, the segments are searched one after another, and each segment uses several threads. For
        a single query, several threads search different segments if the segments are too small for more than one
        thread.
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


in_child(_pool.cache_clear)  # a forked process has no threads of its parent process
