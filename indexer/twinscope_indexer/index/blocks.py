"""Index engine "scan": it compares each query with all codes, on several processor cores.

If all codes of a block are too far from the query, the engine skips the rest of the block; see `kernels`.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from twinscope_indexer.compute.forking import in_child
from twinscope_indexer.index.kernels import BLOCK, HEAD, WORDS, by_class, by_row, scan
from twinscope_indexer.index.protocol import Neighbours, merge
from twinscope_indexer.index.segment import Segment

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CORES: Final = os.cpu_count() or 1
_COMPARISONS_PER_THREAD: Final = 250_000
"""Number of comparisons for each thread; one comparison compares one code with one query. These comparisons take about
one millisecond. With fewer comparisons, waking a thread takes more time than the thread saves."""


class BlockSegment(Segment):
    """Segment that stores its codes in blocks; compiled functions search the blocks."""

    title: ClassVar = "blocked scan"
    one_thread_up_to: ClassVar = _COMPARISONS_PER_THREAD

    _heads: NDArray[np.uint64]
    """First 11 words (64-bit integers) of each code, shape (blocks, 11, 128)."""
    _tails: NDArray[np.uint64]
    """Last 5 words of each code, shape (blocks, 5, 128). The unused positions at the end of the last block are zero."""

    def _build(self, codes: NDArray[np.uint8]) -> None:
        """Store the codes in blocks.

        The bits of each code are first sorted by class; see `by_class`. A block stores the first words of all its
        codes, then the second words, and so on.
        """
        count = -(-len(codes) // BLOCK)
        self._heads = np.zeros((count, HEAD, BLOCK), np.uint64)
        self._tails = np.zeros((count, WORDS - HEAD, BLOCK), np.uint64)
        words = _read_only(codes.view(np.uint64))
        for block in range(count):
            lines = by_class(words[block * BLOCK : (block + 1) * BLOCK]).T
            self._heads[block, :, : lines.shape[1]] = lines[:HEAD]
            self._tails[block, :, : lines.shape[1]] = lines[HEAD:]

    @property
    def _code_bytes(self) -> int:
        return self._heads.nbytes + self._tails.nbytes

    def _codes_at(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        blocks, positions = np.divmod(rows, BLOCK)
        words = np.concatenate((self._heads[blocks, :, positions], self._tails[blocks, :, positions]), axis=1)
        return by_row(_read_only(words)).view(np.uint8)

    def _nearest(self, queries: NDArray[np.uint8], k: int, max_distance: int) -> list[Neighbours]:
        """Compare the queries with all codes; if there is enough work, several threads share the blocks."""
        words = _read_only(queries.view(np.uint64))
        threads = min(_CORES, 1 + len(queries) * len(self._ids) // _COMPARISONS_PER_THREAD, len(self._heads))
        bounds = [len(self._heads) * i // threads for i in range(threads + 1)]
        mine, *others = pairwise(bounds)
        scans = [_pool().submit(self._scan, words, k, max_distance, *span) for span in others]
        found = [self._scan(words, k, max_distance, *mine), *(scan.result() for scan in scans)]
        if len(found) == 1:
            return found[0]
        return [merge(answers, k) for answers in zip(*found, strict=True)]

    def _scan(self, words: NDArray[np.uint64], k: int, limit: int, first: int, end: int) -> list[Neighbours]:
        """Scan the blocks with the numbers `first` to `end` - 1."""
        ids = self._ids[first * BLOCK : end * BLOCK]
        k = min(k, len(ids))
        near_ids = np.empty((len(words), k), np.int64)
        distances = np.empty((len(words), k), np.int32)
        counts = np.zeros(len(words), np.int64)
        codes = (self._heads[first:end], self._tails[first:end], ids, self._left_out)
        scan(*codes, words, limit, near_ids, distances, counts)
        return [Neighbours(i[:n], d[:n]) for i, d, n in zip(near_ids, distances, counts.tolist(), strict=True)]


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, _CORES - 1), thread_name_prefix="scan")


in_child(_pool.cache_clear)  # a forked process has no threads of its parent process


def _read_only(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a read-only view of an array.

    Numba compiles a function separately for writable arrays and for read-only arrays. If all arrays are read-only, each
    function is compiled only once.
    """
    view = words.view()
    view.flags.writeable = False
    return view
