"""Segments: the codes of a store in several blocked indexes, so that no change of it needs all of them twice.

An index over a million codes is made, brought up to date and cleared of what is gone one segment after the other, and
two states of a store share the segments that they have in common. What lies in memory is the codes, what is gone of
them and not cleared yet (a tenth), and while one segment is made (an eighth of the codes) that one twice.

There is one kind of search at every size; what depends on the size is how it is divided. One core of an AVX2 machine
needs, against FAISS's flat index, a fifth to a half of the time for one query and a quarter for 64, from some 3,000
codes on; below, where a query takes both less than a tenth of a millisecond, FAISS is ahead by a few hundredths, less
than what it would take to put its answers in order (`benchmarks/scans.py`). Multi-index hashing finds nothing sooner at
the limits that are asked here: for all codes within 300 of 1024 bits it must look, in each of 64 tables of 16 bits, at
what is within 4 bits, 2,517 of 65,536 places: 2.5 times as many candidates as there are codes, and the tables alone are
twice as large as the codes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from twinscope_indexer.hashing.codes import BYTES
from twinscope_indexer.index.blocks import BlockedIndex
from twinscope_indexer.index.protocol import merge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twinscope_indexer.index.protocol import Neighbours

Parts = Iterable[tuple[NDArray[np.int64], NDArray[np.uint8]]]
"""Ids, shape (n,), and codes, shape (n, 128), of one part after the other."""

_LEAST: Final = 1 << 16
"""Codes of a segment, 9 MB: fewer would cost more in calls than they save in memory."""
_USUAL: Final = 8
"""Segments of a larger index."""
_MOST: Final = 16
"""Segments; every one costs a search some microseconds."""
_MAX_GONE_SHARE: Final = 0.1
"""A segment is made anew when more than this share of it is left out."""
_FASTER_FROM: Final = 3_000
"""Codes; see the module."""
_FEW: Final = 250_000
"""Codes up to which the scan of one query through a segment is one thread's work; see `blocked`."""
_CORES: Final = os.cpu_count() or 1


def segment_size(count: int) -> int:
    """Give the codes of a segment of an index over `count` codes."""
    return max(_LEAST, -(-count // _USUAL))


@dataclass(frozen=True, slots=True)
class Segments:
    """An immutable index of several segments, which no id is in twice; answers like one over all their codes.

    Attributes
    ----------
    parts : tuple of BlockedIndex
    """

    parts: tuple[BlockedIndex, ...] = ()

    def __len__(self) -> int:
        """Count the codes that it may answer with."""
        return sum(map(len, self.parts))

    @property
    def ids(self) -> NDArray[np.int64]:
        """Ids of all codes held, int64 (n,), those left out included."""
        return np.concatenate([part.ids for part in self.parts] or [_EMPTY.ids])

    def joined(self, parts: Parts) -> Segments:
        """Give an index over these codes, not copied, and others; one part of these is in memory at a time."""
        return Segments((*self.parts, *(BlockedIndex(ids, codes) for ids, codes in parts if len(ids))))

    def leaving_out(self, ids: NDArray[np.int64]) -> Segments:
        """Give an index over the same codes, not copied, that never answers with some ids, nor with those left out."""
        if not len(ids):
            return self
        return Segments(tuple(part.leaving_out(np.union1d(part.left_out, ids)) for part in self.parts))

    def only(self, ids: NDArray[np.int64]) -> Segments:
        """Give an index over the same codes, not copied, that answers with none but some ids, less those left out.

        Parameters
        ----------
        ids : ndarray of int64, shape (n,)
            In ascending order.
        """
        return Segments(tuple(part.leaving_out(np.union1d(part.left_out, part.missing(ids))) for part in self.parts))

    def missing(self, known: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give the ids held, those left out included, that are not among others.

        Parameters
        ----------
        known : ndarray of int64, shape (n,)
            In ascending order.
        """
        return np.concatenate([part.missing(known) for part in self.parts] or [_EMPTY.ids])

    def tidied(self) -> Segments:
        """Give an index with the same answers of which one segment is made anew, or two of them are made one.

        To be called again until nothing is left to do, which is when it gives itself; whoever puts each in the place of
        the last has at no time more than one segment twice.
        """
        gone = [1 - len(part) / len(part.ids) for part in self.parts]
        worst = max(range(len(gone)), key=gone.__getitem__, default=0)
        if gone and gone[worst] > _MAX_GONE_SHARE:
            return self._with(self.parts[worst])
        if len(self.parts) > _MOST:
            return self._with(*sorted(self.parts, key=len)[:2])
        return self

    def _with(self, *renewed: BlockedIndex) -> Segments:
        """Put what is held of some segments into one."""
        others = tuple(part for part in self.parts if part not in renewed)
        ids, codes = zip(*(part.held() for part in renewed), strict=True)
        return Segments(others).joined([(np.concatenate(ids), np.concatenate(codes) if len(codes) > 1 else codes[0])])

    @property
    def kind(self) -> str:
        """Which search answers, and why that, for people."""
        divided = f"{len(self.parts)} segments" if len(self.parts) > 1 else "one segment"
        reason = f"faster than FAISS's flat index from about {_FASTER_FROM:,} hashes on"
        return f"blocked scan (exact), {divided}; chosen at every size: {reason}"

    def search(self, queries: NDArray[np.uint8], k: int, max_distance: int) -> list[Neighbours]:
        """Find the k nearest codes of each query; see `HammingIndex.search`.

        A batch is divided among threads within a segment, a single query by segments: one of them is too little work
        for two.
        """
        parts = [part for part in self.parts if len(part)]
        if not parts:
            return _EMPTY.search(queries, k, max_distance)

        def answers_of(share: Sequence[BlockedIndex]) -> list[list[Neighbours]]:
            return [part.search(queries, k, max_distance) for part in share]

        threads = min(_CORES, len(parts)) if len(queries) == 1 and len(parts[0]) <= _FEW else 1
        others = [_pool().submit(answers_of, parts[first::threads]) for first in range(1, threads)]
        answers = answers_of(parts[::threads])
        for other in others:
            answers += other.result()
        if len(answers) == 1:
            return answers[0]
        return [merge(list(near), k) for near in zip(*answers, strict=True)]


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, _CORES - 1), thread_name_prefix="segments")


_EMPTY: Final = BlockedIndex(np.empty(0, np.int64), np.empty((0, BYTES), np.uint8))
