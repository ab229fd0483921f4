"""The index that answers: an exact scan that gives up a code as soon as it is too far, by all cores.

It looks at all codes block by block; see `scan`.

The results are those of FAISS's flat index, with ties put in order; `benchmarks/speed.py` compares the times.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twinscope_indexer.index.kernels import BLOCK, HEAD, WORDS, by_class, by_row, scan
from twinscope_indexer.index.protocol import (
    NO_NEIGHBOURS,
    Neighbours,
    merge,
    require_codes,
    require_ids,
    require_limits,
)

_TOGETHER: Final = 256
"""Queries of one pass over the codes; bounds the memory for their results."""
_GATHERED: Final = 4096
"""Codes that are put together again at a time; bounds the memory for it."""
_CORES: Final = os.cpu_count() or 1
_COMPARISONS_PER_THREAD: Final = 250_000
"""Codes times queries, about a millisecond of work, below which waking a thread costs more than it gives."""


class BlockedIndex:
    """An exact index in memory; see the module.

    Parameters
    ----------
    ids : ndarray of int64, shape (n,)
        Distinct.
    codes : ndarray of uint8, shape (n, 128)
        Copied.

    Raises
    ------
    ValueError
        If a shape or a type is wrong.
    """

    def __init__(self, ids: NDArray[np.int64], codes: NDArray[np.uint8]) -> None:
        codes = require_codes(codes)
        self._ids = require_ids(ids, codes).copy()
        self._heads, self._tails = _blocks(codes)
        self._left_out = np.empty(0, np.int64)

    def leaving_out(self, ids: NDArray[np.int64]) -> BlockedIndex:
        """Give an index over the same codes, not copied, that never answers with some ids."""
        made = BlockedIndex.__new__(BlockedIndex)
        made._ids, made._heads, made._tails = self._ids, self._heads, self._tails
        made._left_out = np.intersect1d(self._ids, ids)
        return made

    def missing(self, known: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give the ids held that are not among others; see `Segments.missing`."""
        if not len(known):
            return self._ids
        same: NDArray[np.int64] = known.take(np.searchsorted(known, self._ids), mode="clip")
        strange: NDArray[np.bool_] = self._ids != same
        return self._ids[strange]

    @property
    def ids(self) -> NDArray[np.int64]:
        """Ids of all codes held, int64 (n,), those left out included."""
        return self._ids

    @property
    def left_out(self) -> NDArray[np.int64]:
        """Ids of codes held that it never answers with, int64 (n,), in ascending order."""
        return self._left_out

    def held(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Give ids, int64 (n,), and codes, uint8 (n, 128), without those left out: what it could be made of anew."""
        rows = np.flatnonzero(~np.isin(self._ids, self._left_out))
        words = np.empty((len(rows), WORDS), np.uint64)
        for start in range(0, len(rows), _GATHERED):
            blocks, places = np.divmod(rows[start : start + _GATHERED], BLOCK)
            some = np.concatenate((self._heads[blocks, :, places], self._tails[blocks, :, places]), axis=1)
            words[start : start + _GATHERED] = by_row(_frozen(some))
        return self._ids[rows], words.view(np.uint8)

    def __len__(self) -> int:
        """Count the codes that it may answer with."""
        return len(self._ids) - len(self._left_out)

    def search(self, queries: NDArray[np.uint8], k: int, max_distance: int) -> list[Neighbours]:
        """Find the k nearest codes of each query; see `HammingIndex.search`."""
        words = _frozen(require_codes(queries).view(np.uint64))
        require_limits(k, max_distance)
        if len(self) == 0 or len(queries) == 0:
            return [NO_NEIGHBOURS] * len(queries)
        found: list[Neighbours] = []
        for start in range(0, len(words), _TOGETHER):
            found += self._pass(words[start : start + _TOGETHER], min(k, len(self)), max_distance)
        return found

    def _pass(self, queries: NDArray[np.uint64], k: int, limit: int) -> list[Neighbours]:
        """Scan all codes once, divided among threads where that is worth their waking."""
        threads = min(_CORES, 1 + len(queries) * len(self._ids) // _COMPARISONS_PER_THREAD, len(self._heads))
        bounds = [len(self._heads) * i // threads for i in range(threads + 1)]
        mine, *others = pairwise(bounds)
        scans = [_pool().submit(self._part, queries, k, limit, *part) for part in others]
        parts = [self._part(queries, k, limit, *mine), *(scan.result() for scan in scans)]
        if len(parts) == 1:
            return parts[0]
        return [merge(list(answers), k) for answers in zip(*parts, strict=True)]

    def _part(self, queries: NDArray[np.uint64], k: int, limit: int, first: int, end: int) -> list[Neighbours]:
        """Scan the blocks in [`first`, `end`)."""
        ids = self._ids[first * BLOCK : end * BLOCK]
        k = min(k, len(ids))
        near_ids = np.empty((len(queries), k), np.int64)
        distances = np.empty((len(queries), k), np.int32)
        counts = np.zeros(len(queries), np.int64)
        codes = (self._heads[first:end], self._tails[first:end], ids, self._left_out)
        scan(*codes, queries, limit, near_ids, distances, counts)
        return [Neighbours(i[:n], d[:n]) for i, d, n in zip(near_ids, distances, counts.tolist(), strict=True)]


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, _CORES - 1), thread_name_prefix="scan")


def _blocks(codes: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Store codes in blocks, word by word, their bits by class.

    Returns
    -------
    heads : ndarray of uint64, shape (blocks, 11, 128)
    tails : ndarray of uint64, shape (blocks, 5, 128)
        The codes that the last block lacks are zero.
    """
    count = -(-len(codes) // BLOCK)
    heads = np.zeros((count, HEAD, BLOCK), np.uint64)
    tails = np.zeros((count, WORDS - HEAD, BLOCK), np.uint64)
    words = _frozen(codes.view(np.uint64))
    for block in range(count):
        part = by_class(words[block * BLOCK : (block + 1) * BLOCK]).T
        heads[block, :, : part.shape[1]] = part[:HEAD]
        tails[block, :, : part.shape[1]] = part[HEAD:]
    return heads, tails


def _frozen(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Give a read-only view: one compiled variant serves writable and read-only arrays."""
    view = words.view()
    view.flags.writeable = False
    return view
