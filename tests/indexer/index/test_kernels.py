"""The scan of blocks, with bits sorted by class and with symmetric queries, gives the same answers as a full scan."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from twinscope_indexer.hashing.frames import VIEWS, frame_codes
from twinscope_indexer.hashing.symmetry import SYMMETRIES
from twinscope_indexer.index.blocks import BlockSegment
from twinscope_indexer.index.kernels import by_class, by_row, symmetry_runs

CLASSES = [(row, column) for row in (0, 1) for column in (0, 1)]


def words(codes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    view = np.ascontiguousarray(codes).view(np.uint64)
    view.flags.writeable = False
    return view


def inverted(code: NDArray[np.uint8], classes: tuple[int, ...], flips: list[int]) -> NDArray[np.uint8]:
    """Invert all bits of some classes, then the bits at `flips`, of a code of shape (128,)."""
    bits = np.unpackbits(code).reshape(32, 32)
    for kind in classes:
        row, column = CLASSES[kind]
        bits[row::2, column::2] ^= 1
    bits.ravel()[flips] ^= 1
    return np.packbits(bits)


def scanned(
    ids: NDArray[np.int64], codes: NDArray[np.uint8], query: NDArray[np.uint8], k: int, limit: int
) -> list[tuple[int, int]]:
    """Return (distance, id) of the k nearest codes, by counting all bits."""
    distances = (np.unpackbits(codes, axis=1) != np.unpackbits(query)).sum(axis=1).tolist()
    return [pair for pair in sorted(zip(distances, ids.tolist(), strict=True)) if pair[0] <= limit][:k]


def require_full_scan(
    index: BlockSegment,
    held: tuple[NDArray[np.int64], NDArray[np.uint8]],
    queries: NDArray[np.uint8],
    k: int,
    limit: int,
) -> int:
    """Compare all answers with a full scan; return the number of neighbours."""
    found = index.search(queries, k, limit)
    answers = [list(zip(one.distances.tolist(), one.ids.tolist(), strict=True)) for one in found]
    assert answers == [scanned(*held, query, k, limit) for query in queries]
    return sum(map(len, answers))


def test_words_hold_one_class_and_the_order_is_reversible() -> None:
    codes = np.random.default_rng(0).integers(0, 256, (50, 128), dtype=np.uint8)
    ordered = by_class(words(codes))
    bits = np.unpackbits(codes, axis=1).reshape(-1, 32, 32)
    for number, (row, column) in enumerate(CLASSES):
        counted = np.bitwise_count(ordered[:, number::4]).sum(axis=1)
        assert counted.tolist() == bits[:, row::2, column::2].sum(axis=(1, 2), dtype=int).tolist()
    assert (by_row(words(ordered.view(np.uint8))).view(np.uint8) == codes).all()
    for bit in (0, 1, 31, 32, 500, 1023):
        one = np.packbits(np.arange(1024) == bit)[None]
        assert np.bitwise_count(by_class(words(one))).sum() == 1
    differences = np.bitwise_count(ordered[:1] ^ ordered).sum(axis=1)
    assert differences.tolist() == np.bitwise_count(codes[:1] ^ codes).sum(axis=1).tolist()


def test_symmetries_of_a_frame_are_searched_together() -> None:
    y, x = np.mgrid[:144, :192]
    thumbnail = np.clip(128 + 60 * np.sin(x / 9 + y / 31) + 40 * np.cos(x * y / 900), 0, 255).astype(np.uint8)
    codes = frame_codes(thumbnail, VIEWS, SYMMETRIES)
    starts, signs, differing = symmetry_runs(by_class(words(codes)))
    assert len(starts) - 1 < len(codes) / 4
    bits = np.unpackbits(codes, axis=1).reshape(-1, 32, 32)
    for first, end in pairwise(starts.tolist()):
        for query in range(first, end):
            different = bits[query] ^ bits[first]
            for number, (row, column) in enumerate(CLASSES):
                different[row::2, column::2] ^= signs[query, number] < 0
            assert different.sum() == differing[query] <= 40
            assert signs[query].prod() == 1


def test_unrelated_queries_are_searched_separately() -> None:
    codes = np.random.default_rng(1).integers(0, 256, (20, 128), dtype=np.uint8)
    starts, signs, differing = symmetry_runs(by_class(words(codes)))
    assert starts.tolist() == list(range(21))
    assert (signs == 1).all()
    assert not differing.any()


@pytest.mark.parametrize(("classes", "flips", "together"), [
    ((), 0, True), ((), 40, True), ((), 41, False), ((0, 1), 40, True), ((0, 1), 41, False), ((0, 1, 2, 3), 3, True),
    ((2,), 0, False), ((0, 1, 3), 0, False),
])  # fmt: skip
def test_which_queries_are_searched_together(classes: tuple[int, ...], flips: int, together: bool) -> None:
    rng = np.random.default_rng(2)
    code = rng.integers(0, 256, 128, dtype=np.uint8)
    other = inverted(code, classes, rng.choice(1024, flips, replace=False).tolist())
    starts, _, _ = symmetry_runs(by_class(words(np.stack([code, other]))))
    assert len(starts) == (2 if together else 3)


@settings(max_examples=150, deadline=None)
@given(
    kinds=st.lists(st.sampled_from([(), (0, 1), (2, 3), (0, 2), (1, 3), (0, 1, 2, 3), (1,), (0, 2, 3)]), max_size=9),
    flips=st.sampled_from([0, 1, 14, 40, 60]),
    distances=st.lists(st.sampled_from([0, 1, 250, 299, 300, 301, 351, 352, 390, 430, 431, 470, 512]), max_size=300),
    k=st.sampled_from([1, 3, 36]),
    limit=st.sampled_from([0, 300, 351, 352, 430, 512, 1024]),
    gone=st.booleans(),
    seed=st.integers(0, 99),
)
def test_symmetries_get_the_answers_of_a_full_scan(
    kinds: list[tuple[int, ...]], flips: int, distances: list[int], k: int, limit: int, gone: bool, seed: int
) -> None:
    """The codes have chosen distances from the queries, and some distances are equal. The test therefore detects a
    bound that is wrong by one."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 256, 128, dtype=np.uint8)
    queries = np.stack(
        [first, *(inverted(first, one, rng.choice(1024, flips, replace=False).tolist()) for one in kinds)]
    )
    codes = np.empty((len(distances), 128), np.uint8)
    for row, distance in enumerate(distances):
        bits = rng.choice(1024, distance, replace=False).tolist()
        codes[row] = inverted(queries[rng.integers(len(queries))], (), bits)
    ids = rng.permutation(10_000)[: len(codes)].astype(np.int64)
    index, kept = BlockSegment(ids, codes), np.ones(len(ids), bool)
    if gone and len(ids):
        kept[rng.choice(len(ids), len(ids) // 3, replace=False)] = False
        index = index.without(ids[~kept])
    require_full_scan(index, (ids[kept], codes[kept]), queries, k, limit)


@pytest.mark.parametrize("limit", [300, 430, 480])
@pytest.mark.parametrize("k", [2, 36])
def test_frame_symmetries_get_the_answers_of_a_full_scan(k: int, limit: int) -> None:
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:144, :192]
    thumbnails = [
        np.clip(128 + 70 * np.sin(x / a + y / b) + 9 * rng.normal(size=x.shape), 0, 255).astype(np.uint8)
        for a, b in rng.uniform(4, 30, (40, 2))
    ]
    codes = np.concatenate([frame_codes(thumbnail, VIEWS) for thumbnail in thumbnails])
    ids = rng.permutation(len(codes)).astype(np.int64)
    queries = np.concatenate(
        [frame_codes(thumbnails[0][::-1, ::-1], VIEWS, SYMMETRIES), frame_codes(thumbnails[1], VIEWS)]
    )
    assert require_full_scan(BlockSegment(ids, codes), (ids, codes), queries, k, limit) > 5


def test_dump_returns_the_original_codes() -> None:
    rng = np.random.default_rng(6)
    ids, codes = np.arange(300, dtype=np.int64), rng.integers(0, 256, (300, 128), dtype=np.uint8)
    held_ids, held = BlockSegment(ids, codes).without(ids[::3]).dump()
    kept = ids % 3 != 0
    assert held_ids.tolist() == ids[kept].tolist()
    assert (held == codes[kept]).all()
