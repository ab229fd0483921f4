"""Compiled functions that find the nearest codes of queries: they compare each query with all codes, block by block.

Each code consists of 16 words. A word is an integer of 64 bits. A block holds 128 codes: the first words of all 128
codes, then the second words, and so on. So vector instructions of the processor can compute the distances of several
codes at the same time. The scan first reads the first eleven words of each code in a block (704 of 1024 bits). If these
bits show that all codes of the block are above the distance limit, the scan does not read the other five words. At the
usual limit of 300 bits, the first eleven words are enough for nearly all blocks of unrelated images.

The scan reads the words of a block one after another, in the order of the memory. If the scan read several words at the
same time, it would need fewer additions. This would be 15 % faster for codes that fit in the cache of the processor.
But 1,000,000 codes do not fit in a cache. For these codes, such a scan would take 1.4 times as long.

A query may contain the hashes of all symmetries of an image (mirrored, rotated or inverted). The scan compares all
these hashes with a code in one step. The 1024 bits of a hash form 32 rows and 32 columns. These bits are divided into
four classes: even rows or odd rows, combined with even columns or odd columns. A symmetry either keeps or inverts all
bits of a class, except a few bits near the median. Therefore the bits of each class are stored together. The scan
counts the different bits of a code in each of the four classes. From these four numbers, the scan estimates the
distance of the code from every symmetry. The error of an estimate is at most the number of the few bits near the
median. The scan computes the exact distance only for codes whose estimated distance is small enough.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

import numpy as np
from numba.extending import intrinsic
from numpy.typing import NDArray

from twinscope_indexer.compute.jit import compiled
from twinscope_indexer.hashing.codes import BYTES

BLOCK: Final = 128
"""Number of codes in a block. The following times are from searches in 1,000,000 codes. With blocks of 32 codes, a
search takes 1.6 times as long as with blocks of 128 codes. With blocks of 64 codes, a search for one query takes as
long as with blocks of 128 codes, but a search for a batch takes 1.2 times as long."""
WORDS: Final = BYTES // 8
"""Number of 64-bit words in a code."""
HEAD: Final = 11
"""Number of words of each code that are read first (704 bits). The bits of unrelated images differ at random. On
average, 352 of the 704 bits differ, with a standard deviation of 13."""
_CLASSES: Final = 4
"""Number of classes of bits: even rows or odd rows, combined with even columns or odd columns. Each word holds bits of
one class: the first word holds the first class, the second word holds the second class, and so on."""
_CLASS_BITS: Final = 8 * BYTES // _CLASSES
"""Number of bits in each class."""
_MAX_DIFFERING: Final = 40
"""Two queries are compared with the codes in one step only if one query is nearly a symmetry of the other query. This
is the maximum number of bits that may then differ. For symmetries of frames of micrographs, the median of this number
is 14 bits, and 1 % of the numbers are larger than 40 bits."""


@compiled()
def by_class(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Change the order of the bits in each code, so that bits of the same class are next to each other.

    Parameters
    ----------
    words : ndarray of uint64, shape (n, 16)
        Codes as a read-only array. Each word contains two rows of 32 bits.

    Returns
    -------
    ndarray of uint64, shape (n, 16)
        Codes with the new order of bits. In each group of four words, the first word has the bits of even rows and even
        columns. The second word has the bits of even rows and odd columns. The third word has the bits of odd rows and
        even columns. The fourth word has the bits of odd rows and odd columns.
    """
    lines = np.ascontiguousarray(words.T)  # so that vector instructions process several codes
    ordered = np.zeros_like(lines)
    for word in range(WORDS):
        position, first = np.uint64(16 * (word % 4)), word // 4 * 4
        for odd in range(2):
            line, aside = lines[word], np.uint64(1 - odd)
            of_even_rows, of_odd_rows = ordered[first + odd], ordered[first + 2 + odd]
            for code in range(len(line)):
                bits = (line[code] >> aside) & np.uint64(0x5555555555555555)
                bits = (bits | (bits >> np.uint64(1))) & np.uint64(0x3333333333333333)
                bits = (bits | (bits >> np.uint64(2))) & np.uint64(0x0F0F0F0F0F0F0F0F)
                bits = (bits | (bits >> np.uint64(4))) & np.uint64(0x00FF00FF00FF00FF)
                bits = (bits | (bits >> np.uint64(8))) & np.uint64(0x0000FFFF0000FFFF)
                of_even_rows[code] |= (bits & np.uint64(0xFFFF)) << position
                of_odd_rows[code] |= (bits >> np.uint64(32)) << position
    return np.ascontiguousarray(ordered.T)


@compiled()
def by_row(ordered: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Sort the bits of codes by row again; this function reverses `by_class`."""
    words = np.zeros_like(ordered)
    for code in range(ordered.shape[0]):
        for word in range(WORDS):
            for odd in range(2):
                first, position = word // 4 * 4 + odd, np.uint64(16 * (word % 4))
                bits = (ordered[code, first] >> position) & np.uint64(0xFFFF)
                bits |= ((ordered[code, first + 2] >> position) & np.uint64(0xFFFF)) << np.uint64(32)
                bits = (bits | (bits << np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
                bits = (bits | (bits << np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
                bits = (bits | (bits << np.uint64(2))) & np.uint64(0x3333333333333333)
                bits = (bits | (bits << np.uint64(1))) & np.uint64(0x5555555555555555)
                words[code, word] |= bits << np.uint64(1 - odd)
    return words


def _count_bits(_typing: Any, word: Any) -> tuple[Any, Callable[..., Any]]:
    """Count the bits of a word that are 1, with the LLVM instruction ``ctpop``; Numba has no function for this."""

    def generated(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return word(word), generated


_bits = cast("Callable[[Any], Any]", intrinsic(_count_bits))


@compiled()
def symmetry_runs(queries: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
    """Divide the queries into runs: a run contains successive queries that are symmetries of the same image.

    Each query of a run equals a symmetry of the first query of the run, except for at most `_MAX_DIFFERING` bits.

    Returns
    -------
    starts : ndarray of int64, shape (runs + 1,)
        Position of the first query of each run. The last element is the number of queries.
    signs : ndarray of int32, shape (n, 4)
        For each query and each class: 1 if the bits are those of the first query of the run, -1 if the bits are
        inverted. In each row of the array, an even number of elements is -1.
    differing : ndarray of int64, shape (n,)
        Number of bits of each query that still differ from the first query of the run, after the inversions.
    """
    count = queries.shape[0]
    starts, runs = np.zeros(count + 1, np.int64), 0
    signs, differing = np.ones((count, _CLASSES), np.int32), np.zeros(count, np.int64)
    for query in range(count):
        parity = 1
        for kind in range(_CLASSES if runs else 0):
            different = 0
            for word in range(kind, WORDS, _CLASSES):
                different += int(_bits(queries[query, word] ^ queries[starts[runs - 1], word]))
            if 2 * different > _CLASS_BITS:
                signs[query, kind], different = -1, _CLASS_BITS - different
                parity = -parity
            differing[query] += different
        if runs == 0 or parity < 0 or differing[query] > _MAX_DIFFERING:
            signs[query], differing[query] = 1, 0
            starts[runs] = query
            runs += 1
    starts[runs] = count
    return starts[: runs + 1], signs, differing


@compiled()
def scan(
    heads: NDArray[np.uint64],
    tails: NDArray[np.uint64],
    ids: NDArray[np.int64],
    left_out: NDArray[np.int64],
    words: NDArray[np.uint64],
    limit: int,
    near_ids: NDArray[np.int64],
    distances: NDArray[np.int32],
    counts: NDArray[np.int64],
) -> None:
    """Find the nearest codes of each query, sorted by distance and then by id.

    The function writes the results to `near_ids`, `distances` and `counts`. `left_out` contains the ids that the search
    ignores, in ascending order. `words` contains the queries as a read-only array, with the bits sorted by row.

    The whole scan is one call of a compiled function. Between two such calls, another thread could take the lock of the
    Python interpreter (GIL), and the scan would have to wait.
    """
    k = near_ids.shape[1]
    queries = by_class(words)
    starts, signs, differing = symmetry_runs(queries)
    sums = np.empty(BLOCK, np.int64)
    classes, furthest = np.empty((_CLASSES, BLOCK), np.int32), np.empty(BLOCK, np.int32)
    for block in range(heads.shape[0]):
        head, tail = heads[block], tails[block]
        numbers = ids[block * BLOCK : (block + 1) * BLOCK]
        for run in range(len(starts) - 1):
            first, end = starts[run], starts[run + 1]
            if end - first == 1:
                # A code with the same distance as the k-th neighbour is accepted if the id of the code is smaller.
                bound = min(limit, distances[first, k - 1]) if counts[first] == k else limit
                if _count(head, tail, queries[first], bound, sums):
                    for code in range(len(numbers)):
                        if sums[code] <= bound and not _holds(left_out, numbers[code]):
                            found = near_ids[first], distances[first], counts[first]
                            counts[first] = _insert(*found, numbers[code], sums[code])
                continue
            widest = 0
            for query in range(first, end):
                bound = min(limit, distances[query, k - 1]) if counts[query] == k else limit
                widest = max(widest, bound + differing[query])
            _count_classes(head, tail, queries[first], classes, furthest)
            for code in range(len(numbers)):
                if furthest[code] < WORDS * 32 - widest:
                    continue
                for query in range(first, end):
                    bound = min(limit, distances[query, k - 1]) if counts[query] == k else limit
                    estimate = WORDS * 32
                    for kind in range(_CLASSES):
                        estimate += signs[query, kind] * classes[kind, code]
                    if estimate > bound + differing[query]:
                        continue
                    distance = _distance(head, tail, queries[query], code)
                    if distance <= bound and not _holds(left_out, numbers[code]):
                        found = near_ids[query], distances[query], counts[query]
                        counts[query] = _insert(*found, numbers[code], distance)


@compiled()
def _count(
    head: NDArray[np.uint64], tail: NDArray[np.uint64], query: NDArray[np.uint64], bound: int, sums: NDArray[np.int64]
) -> bool:
    """Compute the distances between a query and all codes of a block; return False if all distances exceed `bound`."""
    sums[:] = 0
    for word in range(HEAD):
        wanted = query[word]
        for code in range(BLOCK):
            sums[code] += _bits(head[word, code] ^ wanted)
    if sums.min() > bound:
        return False
    for word in range(WORDS - HEAD):
        wanted = query[HEAD + word]
        for code in range(BLOCK):
            sums[code] += _bits(tail[word, code] ^ wanted)
    return bool(sums.min() <= bound)


@compiled()
def _count_classes(
    head: NDArray[np.uint64],
    tail: NDArray[np.uint64],
    query: NDArray[np.uint64],
    classes: NDArray[np.int32],
    furthest: NDArray[np.int32],
) -> None:
    """Count the different bits between a query and each code of a block, separately for each class.

    The function subtracts half the number of bits in a class from each count, and writes the result to `classes`. For
    each code, the function also estimates the distances from all symmetries of the query. `furthest` receives the
    largest difference between such a distance and 512 bits, which is half of all bits. The largest difference is 512
    minus the distance of the nearest symmetry, or the distance of the farthest symmetry minus 512.
    """
    for kind in range(_CLASSES):
        # Words 11 and later are in the tail: the third word of the last class, and the fourth words of all classes.
        first, second, fourth = head[kind], head[_CLASSES + kind], tail[3 * _CLASSES + kind - HEAD]
        third = head[2 * _CLASSES + kind] if 2 * _CLASSES + kind < HEAD else tail[0]
        p, q, r, s = query[kind], query[_CLASSES + kind], query[2 * _CLASSES + kind], query[3 * _CLASSES + kind]
        line = classes[kind]
        for code in range(BLOCK):
            different = (
                _bits(first[code] ^ p) + _bits(second[code] ^ q) + _bits(third[code] ^ r) + _bits(fourth[code] ^ s)
            )
            line[code] = np.int64(different) - _CLASS_BITS // 2
    for code in range(BLOCK):
        a, b, c, d = classes[0, code], classes[1, code], classes[2, code], classes[3, code]
        # This is the largest sum with an even number of inverted signs. With 32 bits, a vector holds eight sums.
        both = np.int32(abs(np.int32(a + b)) + abs(np.int32(c + d)))
        either = np.int32(abs(np.int32(a - b)) + abs(np.int32(c - d)))
        furthest[code] = max(both, either)


@compiled()
def _distance(head: NDArray[np.uint64], tail: NDArray[np.uint64], query: NDArray[np.uint64], code: int) -> int:
    """Compute the distance between a query and one code of a block."""
    distance = 0
    for word in range(HEAD):
        distance += int(_bits(head[word, code] ^ query[word]))
    for word in range(WORDS - HEAD):
        distance += int(_bits(tail[word, code] ^ query[HEAD + word]))
    return distance


@compiled()
def _holds(left_out: NDArray[np.int64], number: int) -> bool:
    """Check whether a sorted array contains an id."""
    position = np.searchsorted(left_out, number)
    return bool(position < len(left_out) and left_out[position] == number)


@compiled()
def _insert(ids: NDArray[np.int64], distances: NDArray[np.int32], count: int, number: int, distance: int) -> int:
    """Insert a neighbour into sorted arrays of `count` neighbours, and return the new number of neighbours.

    If the arrays are full, the farthest neighbour is removed.
    """
    if count == len(ids):
        if (distance, number) >= (distances[count - 1], ids[count - 1]):
            return count
        count -= 1
    position = count
    while position > 0 and (distance, number) < (distances[position - 1], ids[position - 1]):
        ids[position] = ids[position - 1]
        distances[position] = distances[position - 1]
        position -= 1
    ids[position] = number
    distances[position] = distance
    return count + 1
