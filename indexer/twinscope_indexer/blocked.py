"""The index that answers: an exact scan that gives up a code as soon as it is too far, by all cores.

Codes are stored in blocks, word by word: the first words of 128 codes lie one after the other, then their second
words, so that the distances of a whole block are counted by vector instructions. When a block's first eleven words
(704 of 1024 bits) already exceed the limit for all its codes, which is so for nearly all blocks of unrelated images at
the usual limit of 300 bits, its other five are not even read.

The results are those of FAISS's flat index, with ties put in order; `benchmarks/stages.py` compares the times.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any, Final, cast

import numpy as np
from numba.extending import intrinsic
from numpy.typing import NDArray

from twinscope_indexer.compiled import compiled
from twinscope_indexer.hamming import (
    NO_NEIGHBOURS,
    Neighbours,
    merge,
    require_codes,
    require_ids,
    require_limits,
)
from twinscope_indexer.hashing import BYTES

_BLOCK: Final = 128
"""Codes of a block. At 1,000,000 codes, blocks of 32 take 1.6 times as long, of 64 as long; batches 1.2."""
_WORDS: Final = BYTES // 8
_HEAD: Final = 11
"""Words looked at first. The bits of unrelated images differ like coins: over 704 bits by 352, give or take 13."""
_TOGETHER: Final = 256
"""Queries of one pass over the codes; bounds the memory for their results."""
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

    def __len__(self) -> int:
        """Count the codes that it may answer with."""
        return len(self._ids) - len(self._left_out)

    def search(self, queries: NDArray[np.uint8], k: int, max_distance: int) -> list[Neighbours]:
        """Find the k nearest codes of each query; see `HammingIndex.search`."""
        words = require_codes(queries).view(np.uint64)
        words.flags.writeable = False  # one compiled variant for writable and read-only queries
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
        ids = self._ids[first * _BLOCK : end * _BLOCK]
        k = min(k, len(ids))
        near_ids = np.empty((len(queries), k), np.int64)
        distances = np.empty((len(queries), k), np.int32)
        counts = np.zeros(len(queries), np.int64)
        codes = (self._heads[first:end], self._tails[first:end], ids, self._left_out)
        _scan(*codes, queries, limit, near_ids, distances, counts)
        return [Neighbours(i[:n], d[:n]) for i, d, n in zip(near_ids, distances, counts.tolist(), strict=True)]


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, _CORES - 1), thread_name_prefix="scan")


def _blocks(codes: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Store codes in blocks, word by word.

    Returns
    -------
    heads : ndarray of uint64, shape (blocks, 11, 128)
    tails : ndarray of uint64, shape (blocks, 5, 128)
        The codes that the last block lacks are zero.
    """
    count = -(-len(codes) // _BLOCK)
    heads = np.zeros((count, _HEAD, _BLOCK), np.uint64)
    tails = np.zeros((count, _WORDS - _HEAD, _BLOCK), np.uint64)
    words = codes.view(np.uint64)
    for block in range(count):
        part = words[block * _BLOCK : (block + 1) * _BLOCK].T
        heads[block, :, : part.shape[1]] = part[:_HEAD]
        tails[block, :, : part.shape[1]] = part[_HEAD:]
    return heads, tails


def _count_bits(_typing: Any, word: Any) -> tuple[Any, Callable[..., Any]]:
    """Count the set bits of a word, by LLVM's ``ctpop``; Numba has no name for it."""

    def generated(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return word(word), generated


_bits = cast("Callable[[Any], Any]", intrinsic(_count_bits))


@compiled()
def _scan(
    heads: NDArray[np.uint64],
    tails: NDArray[np.uint64],
    ids: NDArray[np.int64],
    left_out: NDArray[np.int64],
    queries: NDArray[np.uint64],
    limit: int,
    near_ids: NDArray[np.int64],
    distances: NDArray[np.int32],
    counts: NDArray[np.int64],
) -> None:
    """Find the nearest codes of each query, ordered; `left_out` is sorted."""
    k = near_ids.shape[1]
    sums = np.empty(_BLOCK, np.int64)
    for block in range(heads.shape[0]):
        codes = min(_BLOCK, len(ids) - block * _BLOCK)
        for query in range(queries.shape[0]):
            # At a distance equal to the k-th, a smaller id would still be taken.
            bound = min(limit, distances[query, k - 1]) if counts[query] == k else limit
            sums[:] = 0
            for word in range(_HEAD):
                wanted = queries[query, word]
                for code in range(_BLOCK):
                    sums[code] += _bits(heads[block, word, code] ^ wanted)
            if sums.min() > bound:
                continue
            for word in range(_WORDS - _HEAD):
                wanted = queries[query, _HEAD + word]
                for code in range(_BLOCK):
                    sums[code] += _bits(tails[block, word, code] ^ wanted)
            for code in range(codes):
                if sums[code] > bound:
                    continue
                number = ids[block * _BLOCK + code]
                place = np.searchsorted(left_out, number)
                if place < len(left_out) and left_out[place] == number:
                    continue
                counts[query] = _insert(near_ids[query], distances[query], counts[query], number, sums[code])


@compiled()
def _insert(ids: NDArray[np.int64], distances: NDArray[np.int32], count: int, number: int, distance: int) -> int:
    """Put a neighbour in its place among `count`, the last one falling out where all places are taken."""
    if count == len(ids):
        if (distance, number) >= (distances[count - 1], ids[count - 1]):
            return count
        count -= 1
    place = count
    while place > 0 and (distance, number) < (distances[place - 1], ids[place - 1]):
        ids[place] = ids[place - 1]
        distances[place] = distances[place - 1]
        place -= 1
    ids[place] = number
    distances[place] = distance
    return count + 1
