"""The index: whatever is asked, the answer of a full scan."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from twinscope_indexer.errors import StoreError
from twinscope_indexer.files import file_sha256
from twinscope_indexer.index.blocks import BlockedIndex
from twinscope_indexer.index.faiss_file import read_index, write_index
from twinscope_indexer.index.protocol import Neighbours, merge

NO_IDS = np.empty(0, np.int64)


def scan(
    ids: NDArray[np.int64], codes: NDArray[np.uint8], query: NDArray[np.uint8], k: int, limit: int
) -> list[tuple[int, int]]:
    """Give (distance, id) of the k nearest, the obvious way."""
    bits = np.unpackbits(codes, axis=1) != np.unpackbits(query)
    found = sorted((int(row.sum()), int(number)) for row, number in zip(bits, ids, strict=True))
    return [pair for pair in found if pair[0] <= limit][:k]


def pairs(found: Neighbours) -> list[tuple[int, int]]:
    assert (found.ids.dtype, found.distances.dtype) == (np.int64, np.int32)
    return list(zip(found.distances.tolist(), found.ids.tolist(), strict=True))


def near(query: NDArray[np.uint8], distances: list[int], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Make codes at given distances from a query."""
    codes = np.empty((len(distances), 128), np.uint8)
    for row, distance in enumerate(distances):
        flips = np.zeros(1024, np.uint8)
        flips[rng.choice(1024, distance, replace=False)] = 1
        codes[row] = query ^ np.packbits(flips)
    return codes


def random_index(n: int, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.uint8], BlockedIndex]:
    rng = np.random.default_rng(seed)
    ids = rng.choice(2**62, n, replace=False).astype(np.int64)
    codes = rng.integers(0, 256, (n, 128), dtype=np.uint8)
    return ids, codes, BlockedIndex(ids, codes)


few_distances = st.lists(st.sampled_from([0, 1, 2, 3, 120, 121, 511, 512, 1023, 1024]), min_size=0, max_size=40)


@settings(max_examples=200, deadline=None)
@given(
    distances=few_distances,
    k=st.integers(1, 50),
    limit=st.one_of(st.integers(0, 1024), st.sampled_from([0, 1, 2, 119, 120, 121, 1023, 1024])),
    gone=st.sets(st.integers(0, 45)),
    seed=st.integers(0, 99),
)
def test_search_is_a_full_scan_whatever_the_ties(distances, k, limit, gone, seed):
    rng = np.random.default_rng(seed)
    query = rng.integers(0, 256, 128, dtype=np.uint8)
    codes = near(query, distances, rng)
    ids = rng.permutation(2**62 - 1 - np.arange(len(distances), dtype=np.int64))
    index = BlockedIndex(ids, codes)
    assert len(index) == len(distances)
    assert pairs(index.search(query[None], k, limit)[0]) == scan(ids, codes, query, k, limit)

    left_out = np.array([ids[i] for i in gone if i < len(ids)] + [7], np.int64)  # 7 is none of them
    kept = ~np.isin(ids, left_out)
    fewer = index.leaving_out(left_out)
    assert len(fewer) == int(kept.sum())
    assert pairs(fewer.search(query[None], k, limit)[0]) == scan(ids[kept], codes[kept], query, k, limit)
    # The index that it was made from still has all, and what was left out can come back.
    assert pairs(index.search(query[None], k, limit)[0]) == scan(ids, codes, query, k, limit)
    assert pairs(fewer.leaving_out(NO_IDS).search(query[None], k, limit)[0]) == scan(ids, codes, query, k, limit)


@pytest.mark.parametrize("k", [1, 2, 7, 500, 501, 10_000])
def test_many_queries_at_once_are_answered_each_for_itself(k):
    ids, codes, index = random_index(500)
    queries = np.concatenate([codes[:20], random_index(20, seed=1)[1]])
    found = index.search(queries, k, 520)
    assert [pairs(one) for one in found] == [scan(ids, codes, query, k, 520) for query in queries]


def test_an_index_of_one_hash_finds_it():
    ids, codes, index = random_index(1)
    for k in (1, 2, 100):
        assert pairs(index.search(codes, k, 0)[0]) == [(0, int(ids[0]))]
    assert pairs(index.search(codes ^ np.uint8(1), 1, 127)[0]) == []
    assert pairs(index.search(codes ^ np.uint8(1), 1, 128)[0]) == [(128, int(ids[0]))]


def test_the_last_hash_left_is_found():
    ids, codes, index = random_index(3)
    assert pairs(index.leaving_out(ids[:2]).search(codes[2:], 5, 0)[0]) == [(0, int(ids[2]))]


@pytest.mark.parametrize("left_out", [False, True])
def test_an_empty_index_answers_with_nothing(left_out):
    ids, codes, index = random_index(2)
    empty = index.leaving_out(ids) if left_out else BlockedIndex(NO_IDS, np.empty((0, 128), np.uint8))
    assert len(empty) == 0
    assert [pairs(one) for one in empty.search(codes, 5, 1024)] == [[], []]


def test_no_queries_have_no_answers():
    assert random_index(3)[2].search(np.empty((0, 128), np.uint8), 1, 1024) == []


def test_a_thousand_equal_codes_are_cut_by_id():
    code = random_index(1)[1]
    ids = np.random.default_rng(3).permutation(1000).astype(np.int64)
    index = BlockedIndex(ids, np.repeat(code, 1000, axis=0))
    assert pairs(index.search(code, 3, 0)[0]) == [(0, 0), (0, 1), (0, 2)]


def test_codes_need_not_lie_one_after_the_other_in_memory():
    ids, codes, _ = random_index(40)
    index = BlockedIndex(ids[::2], np.asfortranarray(codes)[::2])
    query = np.asfortranarray(codes)[4:5]
    assert pairs(index.search(query, 9, 1024)[0]) == scan(ids[::2], codes[::2], codes[4], 9, 1024)


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
def test_codes_of_another_shape_or_type_are_refused(codes):
    index = random_index(3)[2]
    for holder in (index, index.leaving_out(NO_IDS), BlockedIndex(NO_IDS, np.empty((0, 128), np.uint8))):
        with pytest.raises(ValueError, match="uint8 of shape"):
            holder.search(codes, 1, 100)
    with pytest.raises(ValueError, match="uint8 of shape"):
        BlockedIndex(np.zeros(1, np.int64), codes)


@pytest.mark.parametrize(("k", "limit"), [(0, 100), (-1, 100), (1, -1), (1, 1025)])
def test_limits_out_of_range_are_refused(k, limit):
    with pytest.raises(ValueError, match=r"k must be|max_distance must be"):
        random_index(3)[2].search(np.zeros((1, 128), np.uint8), k, limit)


def test_every_code_needs_one_id():
    with pytest.raises(ValueError, match="2 codes need as many ids"):
        BlockedIndex(np.zeros(3, np.int64), np.zeros((2, 128), np.uint8))


def test_searches_from_several_threads_agree():
    ids, codes, index = random_index(300)
    fewer = index.leaving_out(ids[:100])
    expected = [scan(ids[100:], codes[100:], query, 5, 1024) for query in codes[:40]]
    wrong = []

    def ask() -> None:
        for query, answer in zip(codes[:40], expected, strict=True):
            if pairs(fewer.search(query[None], 5, 1024)[0]) != answer:
                wrong.append(query)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@given(st.lists(few_distances, min_size=1, max_size=3), st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_merged_answers_of_parts_are_those_of_the_whole(parts, k):
    rng = np.random.default_rng(0)
    query = rng.integers(0, 256, 128, dtype=np.uint8)
    codes = [near(query, distances, rng) for distances in parts]
    numbers = rng.permutation(sum(map(len, parts))).astype(np.int64)
    ids = np.split(numbers, np.cumsum([len(part) for part in parts])[:-1])
    answers = [BlockedIndex(i, c).search(query[None], k, 600)[0] for i, c in zip(ids, codes, strict=True)]
    assert pairs(merge(answers, k)) == scan(numbers, np.concatenate(codes), query, k, 600)


# -- files --------------------------------------------------------------------------------------------------------


def written(path: Path, ids: NDArray[np.int64], codes: NDArray[np.uint8], size: int = 7) -> str:
    """Write an index file in parts."""
    return write_index(path, len(ids), parts_of(ids, codes, size))


def parts_of(
    ids: NDArray[np.int64], codes: NDArray[np.uint8], size: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    return ((ids[at : at + size], codes[at : at + size]) for at in range(0, len(ids), size))


def read(path: Path, digest: str, size: int = 7) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Read an index file in parts, and put them together."""
    parts = list(read_index(path, digest, size))
    assert all(len(ids) == len(codes) == size for ids, codes in parts[:-1])
    found = zip(*parts, strict=True) if parts else ([NO_IDS], [np.empty((0, 128), np.uint8)])
    ids, codes = map(np.concatenate, found)
    return ids, codes


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("n", [0, 1, 300])
def test_a_written_index_is_read_back_alike_and_written_again_identical(tmp_path, n, size):
    ids, codes, _ = random_index(n)
    path, again = tmp_path / "a.faiss", tmp_path / "b.faiss"
    digest = written(path, ids, codes, size)
    assert digest == file_sha256(path) == sha256(path.read_bytes()).hexdigest()
    read_ids, read_codes = read(path, digest, size)
    np.testing.assert_array_equal(read_ids, ids)
    np.testing.assert_array_equal(read_codes, codes)
    assert written(again, read_ids, read_codes) == digest
    assert path.read_bytes() == again.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.faiss", "b.faiss"]


@pytest.mark.parametrize("n", [0, 1, 300])
def test_the_file_is_the_one_that_faiss_writes_and_reads(tmp_path, n):
    ids, codes, ours = random_index(n)
    index = faiss.IndexBinaryIDMap2(faiss.IndexBinaryFlat(1024))
    if n:
        index.add_with_ids(codes, ids)
    faiss.write_index_binary(index, str(tmp_path / "theirs.faiss"))
    written(tmp_path / "ours.faiss", ids, codes)
    assert (tmp_path / "ours.faiss").read_bytes() == (tmp_path / "theirs.faiss").read_bytes()

    reread = faiss.read_index_binary(str(tmp_path / "ours.faiss"))
    assert reread.ntotal == n
    if n:
        distances, found = reread.search(codes[:5], 1)
        near = ours.search(codes[:5], 1, 1024)
        assert found.ravel().tolist() == [int(one.ids[0]) for one in near]
        assert distances.ravel().tolist() == [int(one.distances[0]) for one in near]


def test_an_index_file_of_another_number_of_codes_than_was_said_is_not_written(tmp_path):
    ids, codes, _ = random_index(5)
    for count in (4, 6):
        with pytest.raises(ValueError, match=f"5 codes were given for an index file of {count}"):
            write_index(tmp_path / "a.faiss", count, parts_of(ids, codes, 2))
    assert not list(tmp_path.iterdir())


def test_one_set_of_codes_gives_one_file(tmp_path):
    digests = {written(tmp_path / name, *random_index(50)[:2]) for name in ("a", "b")}
    assert len(digests) == 1


@pytest.mark.parametrize("byte", [0, 4, 60, -1])
def test_one_wrong_byte_in_a_file_is_noticed(tmp_path, byte):
    path = tmp_path / "a.faiss"
    digest = written(path, *random_index(20)[:2])
    content = bytearray(path.read_bytes())
    content[byte] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        read(path, digest)


def test_a_truncated_file_is_noticed(tmp_path):
    path = tmp_path / "a.faiss"
    digest = written(path, *random_index(20)[:2])
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(StoreError, match="damaged"):
        read(path, digest)


def test_a_missing_file_is_told_by_name(tmp_path):
    with pytest.raises(StoreError, match=r"none\.faiss"):
        read(tmp_path / "none.faiss", "0" * 64)


def other_index(kind: str, path: Path) -> None:
    codes = np.zeros((4, 128), np.uint8)
    if kind == "flat without ids":
        index = faiss.IndexBinaryFlat(1024)
        index.add(codes)
        faiss.write_index_binary(index, str(path))
    elif kind == "other width":
        index = faiss.IndexBinaryIDMap2(faiss.IndexBinaryFlat(64))
        faiss.write_index_binary(index, str(path))
    elif kind == "floats":
        faiss.write_index(faiss.IndexFlatL2(8), str(path))
    else:
        path.write_text("no index at all")


@pytest.mark.parametrize("kind", ["flat without ids", "other width", "floats", "text"])
def test_a_whole_file_with_another_kind_of_index_is_refused(tmp_path, kind):
    path = tmp_path / "a.faiss"
    other_index(kind, path)
    with pytest.raises(StoreError, match=r"a\.faiss holds"):
        read(path, file_sha256(path))


def test_an_index_over_another_kind_of_inner_index_is_refused(tmp_path):
    path = tmp_path / "a.faiss"
    faiss.write_index_binary(faiss.IndexBinaryIDMap2(faiss.IndexBinaryHNSW(1024)), str(path))
    with pytest.raises(StoreError, match="holds"):
        read(path, file_sha256(path))


def test_a_file_that_cannot_be_written_is_told_and_leaves_nothing_behind(tmp_path):
    (tmp_path / "taken.faiss").mkdir()
    with pytest.raises(StoreError, match=r"taken\.faiss cannot be written"):
        written(tmp_path / "taken.faiss", *random_index(2)[:2])
    assert [path.name for path in tmp_path.iterdir()] == ["taken.faiss"]
    with pytest.raises(StoreError, match="cannot be written"):
        written(tmp_path / "none" / "a.faiss", *random_index(2)[:2])


def test_a_file_is_replaced_not_written_into(tmp_path):
    path = tmp_path / "a.faiss"
    written(path, *random_index(20)[:2])
    with path.open("rb") as held:
        before = held.read()
        written(path, *random_index(30, seed=1)[:2])
        held.seek(0)
        assert held.read() == before != path.read_bytes()
