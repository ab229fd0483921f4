"""The contract of every index. A test class inherits from `IndexContract` and creates the empty index to test.

The oracle is a dict of codes, searched by counting all bits.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from twinscope_indexer.index.protocol import Index, Neighbours

Codes = dict[int, bytes]
_MOST_ID = 2**63 - 1
_properties = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.differing_executors])


def code_of(seed: int) -> bytes:
    """Return a code that is near a quarter of all other codes, often at the same distance."""
    code = np.random.default_rng(seed % 4).integers(0, 256, 128, dtype=np.uint8)
    code[seed % 128] ^= 1 << seed % 8
    return code.tobytes()


def random_codes(count: int, seed: int = 0) -> Codes:
    rng = np.random.default_rng(seed)
    ids = rng.choice(_MOST_ID, count, replace=False).tolist()
    return {number: rng.bytes(128) for number in ids}


def arrays(codes: Codes) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    return np.array([*codes], np.int64), rows(codes.values())


def rows(codes: object) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(codes), np.uint8).reshape(-1, 128)  # type: ignore[arg-type]


def in_parts(codes: Codes, size: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    ids, packed = arrays(codes)
    return ((ids[at : at + size], packed[at : at + size]) for at in range(0, len(ids), size))


def near(code: bytes, distance: int, rng: np.random.Generator) -> bytes:
    """Return a code at a given distance from another code."""
    flips = np.zeros(1024, np.uint8)
    flips[rng.choice(1024, distance, replace=False)] = 1
    return (np.frombuffer(code, np.uint8) ^ np.packbits(flips)).tobytes()


def scan(codes: Codes, query: bytes, k: int, limit: int) -> list[tuple[int, int]]:
    """Return (distance, id) of the k nearest codes, by counting all bits."""
    wanted = int.from_bytes(query, "big")
    found = sorted(((int.from_bytes(code, "big") ^ wanted).bit_count(), number) for number, code in codes.items())
    return [pair for pair in found if pair[0] <= limit][:k]


def pairs(found: Neighbours) -> list[tuple[int, int]]:
    assert (found.ids.dtype, found.distances.dtype) == (np.int64, np.int32)
    return list(zip(found.distances.tolist(), found.ids.tolist(), strict=True))


def answers(index: Index, queries: list[bytes], k: int, limit: int) -> list[list[tuple[int, int]]]:
    return [pairs(one) for one in index.search(rows(queries), k, limit)]


class IndexContract:
    """Tests of one index; see the docstring of the module."""

    def empty(self) -> Index:
        raise NotImplementedError

    def filled(self, codes: Codes, size: int = 50) -> Index:
        return self.empty().extended(in_parts(codes, size))

    # -- search ---------------------------------------------------------------------------------------------------

    @_properties
    @given(
        distances=st.lists(st.sampled_from([0, 1, 2, 3, 120, 299, 300, 301, 351, 352, 430, 431, 512, 1023, 1024])),
        k=st.integers(1, 50),
        limit=st.one_of(st.integers(0, 1024), st.sampled_from([0, 1, 2, 119, 120, 299, 300, 430, 1023, 1024])),
        gone=st.sets(st.integers(0, 45)),
        size=st.sampled_from([1, 7, 100]),
        seed=st.integers(0, 99),
    )
    def test_answers_equal_a_full_scan_with_ties(
        self, distances: list[int], k: int, limit: int, gone: set[int], size: int, seed: int
    ) -> None:
        rng = np.random.default_rng(seed)
        query = rng.bytes(128)
        ids = rng.permutation(_MOST_ID - np.arange(len(distances), dtype=np.int64)).tolist()
        codes = {number: near(query, distance, rng) for number, distance in zip(ids, distances, strict=True)}
        index = self.filled(codes, size)
        assert len(index) == len(codes)
        assert answers(index, [query], k, limit) == [scan(codes, query, k, limit)]
        absent = [number for position, number in enumerate(ids) if position in gone]
        left = {number: code for number, code in codes.items() if number not in absent}
        fewer = index.without(np.array([*absent, 7], np.int64))  # 7 is not in the index
        assert len(fewer) == len(left)
        assert answers(fewer, [query], k, limit) == [scan(left, query, k, limit)]
        assert answers(index, [query], k, limit) == [scan(codes, query, k, limit)]  # it has not changed

    @pytest.mark.parametrize("count", [0, 1, 2, 300])
    @pytest.mark.parametrize("k", [1, 7, 299, 300, 10_000])
    def test_each_query_of_a_batch_is_answered_separately(self, count: int, k: int) -> None:
        codes = random_codes(count)
        index = self.filled(codes, 130)
        queries = [*list(codes.values())[:5], *random_codes(5, seed=1).values()]
        for limit in (0, 520, 1024):
            assert answers(index, queries, k, limit) == [scan(codes, query, k, limit) for query in queries]

    def test_a_batch_may_be_large(self) -> None:
        codes, queries = random_codes(100), [*random_codes(700, seed=1).values()]
        found = answers(self.filled(codes, 60), queries, 3, 1024)
        assert found == [scan(codes, query, 3, 1024) for query in queries]

    def test_no_queries_give_no_answers(self) -> None:
        for index in (self.empty(), self.filled(random_codes(3))):
            assert index.search(np.empty((0, 128), np.uint8), 1, 1024) == []

    @pytest.mark.parametrize("k", [1, 3, 500, 999, 1000, 1001])
    def test_equal_codes_are_cut_by_id(self, k: int) -> None:
        [code] = random_codes(1).values()
        ids = np.random.default_rng(3).permutation(1000).tolist()
        index = self.filled(dict.fromkeys(ids, code), 300)
        assert answers(index, [code], k, 0) == [[(0, number) for number in range(1000)][:k]]
        assert answers(index, [code, code], k, 1024) == [[(0, number) for number in range(1000)][:k]] * 2

    def test_any_64_bit_integer_can_be_an_id(self) -> None:
        ids = [_MOST_ID, -(2**63), 0, -1, 2**31, 2**32 + 1]
        codes = dict(zip(ids, random_codes(6).values(), strict=True))
        index = self.filled(codes, 2)
        assert sorted(index.ids.tolist()) == sorted(ids)
        for number, code in codes.items():
            assert answers(index, [code], 1, 0) == [[(0, number)]]
            assert answers(index.without(np.array([number])), [code], 1, 0) == [[]]

    def test_codes_need_not_be_contiguous_in_memory(self) -> None:
        ids, packed = arrays(random_codes(40))
        index = self.empty().extended([(ids[::2], np.asfortranarray(packed)[::2])])
        codes = dict(zip(ids[::2].tolist(), (row.tobytes() for row in packed[::2]), strict=True))
        [found] = index.search(np.asfortranarray(packed)[4:5], 9, 1024)
        assert pairs(found) == scan(codes, packed[4].tobytes(), 9, 1024)

    def test_input_arrays_may_change_afterwards(self) -> None:
        codes = random_codes(200)
        ids, packed = (array.copy() for array in arrays(codes))
        index = self.empty().extended([(ids, packed)])
        ids[:], packed[:] = 0, 0
        query = next(iter(codes.values()))
        assert answers(index, [query], 5, 1024) == [scan(codes, query, 5, 1024)]

    def test_threads_can_search_at_the_same_time(self) -> None:
        codes = random_codes(300)
        index = self.filled(codes, 100)
        fewer = index.without(np.array(list(codes)[:100], np.int64))
        left = dict(list(codes.items())[100:])
        queries = list(codes.values())[:30]
        whole, some = ([scan(held, query, 5, 1024) for query in queries] for held in (codes, left))
        wrong: list[bytes] = []

        def ask() -> None:
            for query, *expected in zip(queries, whole, some, strict=True):
                found = [*answers(index, [query], 5, 1024), *answers(fewer, [query], 5, 1024)]
                wrong.extend([query] if found != expected else [])

        threads = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []

    # -- what is refused ------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "codes",
        [
            np.zeros(128, np.uint8),
            np.zeros((1, 127), np.uint8),
            np.zeros((1, 1024), np.uint8),
            np.zeros((0, 8), np.uint8),
            np.zeros((1, 128), np.int8),
            np.zeros((1, 128), bool),
            np.zeros((1, 1, 128), np.uint8),
        ],
        ids=["one axis", "127 bytes", "bits", "none of 8", "signed", "bool", "three axes"],
    )
    def test_codes_of_wrong_shape_or_type_are_refused(self, codes: NDArray[np.uint8]) -> None:
        index = self.filled(random_codes(3))
        for one in (index, index.without(index.ids), self.empty()):
            with pytest.raises(ValueError, match="uint8 of shape"):
                one.search(codes, 1, 100)
            with pytest.raises(ValueError, match="uint8 of shape"):
                one.extended([(np.zeros(len(codes), np.int64), codes)])

    @pytest.mark.parametrize("ids", [np.zeros(3, np.int64), np.zeros(0, np.int64), np.zeros((2, 1), np.int64)])
    def test_a_wrong_number_of_ids_is_refused(self, ids: NDArray[np.int64]) -> None:
        with pytest.raises(ValueError, match=r"int64 of shape \(2,\), one for each code"):
            self.empty().extended([(ids, np.zeros((2, 128), np.uint8))])

    @pytest.mark.parametrize("kind", [np.uint64, np.float64])
    def test_ids_of_wrong_type_are_refused(self, kind: type) -> None:
        with pytest.raises(ValueError, match="ids must be int64"):
            self.empty().extended([(np.zeros(2, kind), np.zeros((2, 128), np.uint8))])

    @pytest.mark.parametrize(("k", "limit"), [(0, 100), (-1, 100), (1, -1), (1, 1025)])
    def test_limits_out_of_range_are_refused(self, k: int, limit: int) -> None:
        for index in (self.empty(), self.filled(random_codes(3))):
            with pytest.raises(ValueError, match=r"k must be|max_distance must be"):
                index.search(np.zeros((1, 128), np.uint8), k, limit)

    # -- changes --------------------------------------------------------------------------------------------------

    @_properties
    @given(
        seed=st.integers(0, 10**6),
        steps=st.integers(0, 8),
        size=st.integers(1, 20),
        k=st.integers(1, 60),
        limit=st.sampled_from([0, 2, 300, 430, 1024]),
    )
    def test_answers_equal_a_full_scan_after_changes(
        self, seed: int, steps: int, size: int, k: int, limit: int
    ) -> None:
        rng = random.Random(seed)
        held: Codes = {}
        index, states = self.empty(), [(self.empty(), Codes())]
        for step in range(steps):
            share = rng.choice([0.0, 0.05, 0.5, 1.0])
            changed = [number for number in held if rng.random() < share]
            new = {n: code_of(rng.randrange(10**6)) for n in [*changed[::2], *range(100 * step, 100 * step + 10)]}
            held = {number: code for number, code in held.items() if number not in changed} | new
            index = index.without(np.array(changed, np.int64)).extended(in_parts(new, size))
            states.append((index, held))
            if rng.random() < 0.5:
                while (compacted := index.compacted()) is not index:
                    index = compacted
                    states.append((index, held))
        for state, codes in states:  # changes do not affect earlier states
            assert len(state) == len(codes)
            assert sorted(state.ids.tolist()) == sorted(codes)
            queries = [code_of(rng.randrange(10**6)) for _ in range(rng.choice([1, 3]))]
            assert answers(state, queries, k, limit) == [scan(codes, query, k, limit) for query in queries]

    @_properties
    @given(seed=st.integers(0, 10**6), size=st.integers(1, 40), k=st.integers(1, 60), limit=st.sampled_from([0, 1024]))
    def test_a_restricted_index_answers_like_one_of_those_ids(self, seed: int, size: int, k: int, limit: int) -> None:
        rng = random.Random(seed)
        codes = {number: code_of(rng.randrange(10**6)) for number in rng.sample(range(200), rng.randrange(80))}
        gone = [number for number in codes if rng.random() < 0.2]
        index = self.filled(codes, size).without(np.array(gone, np.int64))
        share = rng.choice([0.0, 0.3, 1.0])
        known = sorted(number for number in range(-5, 205) if rng.random() < share)
        left = {number: code for number, code in codes.items() if number in known and number not in gone}
        queries = [code_of(rng.randrange(10**6)) for _ in range(3)]
        only = index.restricted_to(np.array(known, np.int64))
        assert len(only) == len(left)
        assert answers(only, queries, k, limit) == [scan(left, query, k, limit) for query in queries]
        assert len(index) == len(codes) - len(gone)
        later = only.extended(in_parts({500: queries[0]}, 1))
        left[500] = queries[0]
        assert answers(later, queries, k, limit) == [scan(left, query, k, limit) for query in queries]

    def test_leaving_out_unknown_ids_changes_nothing(self) -> None:
        codes = random_codes(30)
        index = self.filled(codes)
        for ids in ([], [1, 2, 3]):
            same = index.without(np.array(ids, np.int64))
            assert sorted(same.ids.tolist()) == sorted(codes)

    def test_a_replaced_code_is_found_as_it_is_now(self) -> None:
        codes = random_codes(40)
        [first, *_] = codes
        index = self.filled(codes).without(np.array([first]))
        codes[first] = code_of(1)
        index = index.extended(in_parts({first: code_of(1)}, 1))
        assert answers(index, [code_of(1)], 50, 1024) == [scan(codes, code_of(1), 50, 1024)]
        assert len(index.without(np.array([first]))) == 39

    def test_a_compacted_index_needs_no_additional_memory(self) -> None:
        codes = random_codes(3000)
        index = self.filled(codes, 1200)
        left = dict(list(codes.items())[::3])
        fewer = index.without(np.array([number for number in codes if number not in left], np.int64))
        for _ in range(20):
            fewer = fewer.compacted()
        assert fewer.compacted() is fewer
        assert fewer.nbytes < 1.3 * self.filled(left, 1000).nbytes
        assert fewer.nbytes < index.nbytes

    # -- description ----------------------------------------------------------------------------------------------

    def test_description(self) -> None:
        index = self.filled(random_codes(2000), 1000)
        described = index.describe()
        assert (described.codes, described.nbytes) == (2000, index.nbytes)
        assert described.nbytes >= 2000 * (128 + 8)
        assert described.segments >= 1
        assert described.engine
        assert described.kind
        assert len(index.without(index.ids[:5])) == index.without(index.ids[:5]).describe().codes == 1995
        assert self.empty().nbytes < 1000
