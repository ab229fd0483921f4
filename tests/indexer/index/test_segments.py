"""Segments: whatever comes, goes and is tidied, the answer of a full scan, from codes that lie in memory once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from twinscope_client import connect
from twinscope_client.cli.main import main
from twinscope_indexer.hashing.perceptual import RECIPE
from twinscope_indexer.index import segments
from twinscope_indexer.index.frames import FrameIndex
from twinscope_indexer.index.segments import Segments, segment_size
from twinscope_indexer.store.catalog.catalog import Record
from twinscope_indexer.store.reader import Store, StoreWriter, open_writer

Codes = dict[int, bytes]


def code_of(seed: int) -> bytes:
    """Give a code near all others of its kind, of which there are four."""
    code = np.random.default_rng(seed % 4).integers(0, 256, 128, dtype=np.uint8)
    code[seed % 128] ^= 1 << seed % 8
    return code.tobytes()


def arrays(codes: Codes) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    return np.array([*codes], np.int64), np.frombuffer(b"".join(codes.values()), np.uint8).reshape(-1, 128)


def in_parts(codes: Codes, size: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    ids, rows = arrays(codes)
    return ((ids[at : at + size], rows[at : at + size]) for at in range(0, len(ids), size))


def scan(codes: Codes, query: bytes, k: int, limit: int) -> list[tuple[int, int]]:
    wanted = int.from_bytes(query, "big")
    found = sorted(((int.from_bytes(code, "big") ^ wanted).bit_count(), number) for number, code in codes.items())
    return [pair for pair in found if pair[0] <= limit][:k]


def answers(index: Segments, queries: list[bytes], k: int, limit: int) -> list[list[tuple[int, int]]]:
    rows = np.frombuffer(b"".join(queries), np.uint8).reshape(-1, 128)
    return [list(zip(n.distances.tolist(), n.ids.tolist(), strict=True)) for n in index.search(rows, k, limit)]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    steps=st.integers(0, 12),
    size=st.integers(1, 40),
    k=st.integers(1, 60),
    limit=st.sampled_from([0, 2, 300, 1024]),
    most=st.integers(1, 5),
)
def test_answers_are_those_of_a_full_scan_whatever_was_joined_left_out_and_tidied(
    seed: int, steps: int, size: int, k: int, limit: int, most: int
) -> None:
    rng = random.Random(seed)
    held: Codes = {}
    index, states = Segments(), []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(segments, "_MOST", most)
        for step in range(steps):
            changed = [number for number in held if rng.random() < rng.choice([0.0, 0.05, 0.5, 1.0])]
            new = {n: code_of(rng.randrange(10**6)) for n in [*changed[::2], *range(100 * step, 100 * step + 30)]}
            held = {number: code for number, code in held.items() if number not in changed} | new
            index = index.leaving_out(np.array(changed, np.int64)).joined(in_parts(new, size))
            states.append((index, dict(held)))
            while (tidied := index.tidied()) is not index:
                index = tidied
                states.append((index, dict(held)))
            assert len(index.parts) <= max(most, 1)
            stored = sum(len(part.ids) for part in index.parts)
            assert len(index) == len(held) >= 0.9 * stored - 1
    for state, codes in [*states, (Segments(), {})]:  # older ones too: none has been changed by what came later
        queries = [code_of(rng.randrange(10**6)) for _ in range(rng.choice([1, 3]))]
        assert answers(state, queries, k, limit) == [scan(codes, query, k, limit) for query in queries]
    assert index.search(np.empty((0, 128), np.uint8), k, limit) == []


def test_what_is_held_but_not_known_is_missing() -> None:
    index = Segments().joined(in_parts({number: code_of(number) for number in (5, 1, 9, 7, 3)}, 2))
    for known in ([], [1], [1, 3, 5, 7, 9], [0, 2, 5, 9, 12], [100]):
        missing = index.missing(np.array(known, np.int64))
        assert sorted(missing.tolist()) == sorted({1, 3, 5, 7, 9} - set(known))
    assert Segments().missing(np.array([1], np.int64)).tolist() == []


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 40), k=st.integers(1, 60), limit=st.sampled_from([0, 300, 1024]))
def test_an_index_of_some_ids_only_answers_as_one_made_of_them(seed: int, size: int, k: int, limit: int) -> None:
    rng = random.Random(seed)
    codes = {number: code_of(rng.randrange(10**6)) for number in rng.sample(range(200), rng.randrange(80))}
    gone = [number for number in codes if rng.random() < 0.2]
    index = Segments().joined(in_parts(codes, size)).leaving_out(np.array(gone, np.int64))
    known = sorted(number for number in range(-5, 205) if rng.random() < rng.choice([0.0, 0.3, 1.0]))
    left = {number: code for number, code in codes.items() if number in known and number not in gone}
    queries = [code_of(rng.randrange(10**6)) for _ in range(3)]
    only = index.only(np.array(known, np.int64))
    assert len(only) == len(left)
    assert answers(only, queries, k, limit) == [scan(left, query, k, limit) for query in queries]
    assert len(index) == len(codes) - len(gone)


def test_a_segment_is_an_eighth_of_a_large_index_and_all_of_a_small_one() -> None:
    assert segment_size(21_000) >= 21_000
    assert segment_size(1_048_577) == 131_073
    assert segment_size(10_000_000) == 1_250_000


def test_what_stays_is_not_copied() -> None:
    index = Segments().joined(in_parts({number: code_of(number) for number in range(40)}, 10))
    fewer = index.leaving_out(np.arange(10, 15)).joined(in_parts({50: code_of(50)}, 1))
    tidied = fewer.tidied()
    shared = [
        sum(np.shares_memory(one._heads, other._heads) for one in index.parts for other in state.parts)
        for state in (fewer, tidied)
    ]
    assert shared == [4, 3]


# -- a store ------------------------------------------------------------------------------------------------------


def put(writer: StoreWriter, number: int, code: bytes) -> None:
    root_id, root, _ = writer.catalog.root_for(Path("/collection"))
    record = Record(
        number, root, f"{number}.jpg", None, 1, 1, bytes(32), "JPEG", "L", 8, 4, 3, code, None, RECIPE, "Tips", "L9",
        "1", None, "2024-01-01T00:00:00Z", writer.generation,
    )  # fmt: skip
    writer.catalog.put(record, root_id, b"")


@pytest.mark.parametrize("seed", range(6))
def test_a_standing_reader_takes_up_all_that_comes_without_reading_the_index_file_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(segments, "_LEAST", 8)
    monkeypatch.setattr(segments, "_MOST", 5)
    rng, codes = random.Random(seed), {number: code_of(number) for number in range(1, 60)}
    with open_writer(tmp_path, create=True) as writer:
        for number, code in codes.items():
            put(writer, number, code)
        writer.publish()
    files = set()
    with closing(Store(tmp_path)) as standing:
        assert len(standing.view.base.parts) == 8
        monkeypatch.setattr("twinscope_indexer.store.view.read_index", lambda *_: pytest.fail("read again"))
        for _ in range(15):
            with open_writer(tmp_path) as writer:
                gone = [number for number in codes if rng.random() < rng.choice([0.0, 0.02, 0.3])]
                writer.catalog.delete(gone, writer.generation)
                again = gone[::3]
                new = {
                    n: code_of(rng.randrange(10**6)) for n in [*again, *rng.sample(range(1, 300), rng.choice([1, 20]))]
                }
                codes = {number: code for number, code in codes.items() if number not in gone} | new
                for number, code in new.items():
                    put(writer, number, code)
                writer.publish()
            files |= {path.name for path in tmp_path.glob("index-*.faiss")}
            if rng.random() < 0.4:
                continue  # several generations are taken up at once
            view = standing.refresh()
            assert view.count == len(codes)
            for query in (code_of(rng.randrange(10**6)), next(iter(codes.values()))):
                [near] = view.search(np.frombuffer(query, np.uint8)[None], 12, 600)
                assert list(zip(near.distances.tolist(), near.ids.tolist(), strict=True)) == scan(codes, query, 12, 600)
    assert len(files) > 2


def test_a_store_says_which_search_answers_and_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(segments, "_LEAST", 8)
    with open_writer(tmp_path, create=True) as writer:
        for number in range(40):
            put(writer, number, code_of(number))
        writer.publish()
    with connect(tmp_path) as engine:
        kind = engine.stats()["index"]["kind"]
    assert kind.startswith("blocked scan (exact), 5 segments; chosen at every size: faster than FAISS's flat index")
    assert main(["store", "stats", str(tmp_path)]) == 0
    assert f"search: {kind}\n" in capsys.readouterr().out
    assert "one segment" in Segments().kind


@pytest.mark.parametrize("size", [1, 3, 100])
def test_an_index_of_frames_made_in_parts_answers_as_one_made_at_once(size: int) -> None:
    rng = np.random.default_rng(size)
    images = np.sort(rng.choice(1000, 12, replace=False))
    codes = rng.integers(0, 256, (12, 4, 128), np.uint8)
    codes[rng.random((12, 4)) < 0.2] = 0
    whole = FrameIndex(images, codes)
    parts = FrameIndex(images[:0], codes[:0])
    for at in range(0, 12, size):
        parts = parts.joined(images[at : at + size], codes[at : at + size])
    wanted = codes[[2, 5], [1, 3]] ^ np.uint8(1)
    for gone in (images[:0], images[::2], images[:0]):
        parts, whole = parts.leaving_out(gone), whole.leaving_out(gone)
        assert (parts.images, len(parts)) == (whole.images, len(whole))
        assert parts.search(wanted, 20, 600) == whole.search(wanted, 20, 600) != []
