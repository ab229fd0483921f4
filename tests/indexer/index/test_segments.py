"""Generations share unchanged segments, removed codes are cleared, and a reader of a store loads new generations."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index_contract import Codes, answers, code_of, in_parts, scan
from twinscope_indexer.hashing.perceptual import RECIPE
from twinscope_indexer.index import segments
from twinscope_indexer.index.choice import ENGINE_VARIABLE
from twinscope_indexer.index.engines import ENGINES, engine_index
from twinscope_indexer.index.frames import FrameIndex
from twinscope_indexer.index.segments import segment_size
from twinscope_indexer.store.catalog.catalog import Record
from twinscope_indexer.store.reader import Store, StoreWriter, open_writer


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    steps=st.integers(0, 12),
    size=st.integers(1, 40),
    most=st.integers(1, 5),
    engine=st.sampled_from(list(ENGINES)),
)
def test_compaction_bounds_segments_and_left_out_codes(
    seed: int, steps: int, size: int, most: int, engine: str
) -> None:
    """Several threads search the segments."""
    rng = random.Random(seed)
    held: Codes = {}
    index = engine_index(engine)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(segments, "_MAX_SEGMENTS", most)
        patched.setattr(segments, "_WORTH_A_THREAD", 1)
        for step in range(steps):
            share = rng.choice([0.0, 0.05, 0.5, 1.0])
            changed = [number for number in held if rng.random() < share]
            new = {n: code_of(rng.randrange(10**6)) for n in [*changed[::2], *range(100 * step, 100 * step + 30)]}
            held = {number: code for number, code in held.items() if number not in changed} | new
            index = index.without(np.array(changed, np.int64)).extended(in_parts(new, size))
            while (compacted := index.compacted()) is not index:
                index = compacted
            assert len(index.segments) <= most
            stored = sum(segment.held for segment in index.segments)
            assert len(index) == len(held) >= 0.9 * stored - 1
            query = code_of(rng.randrange(10**6))
            assert answers(index, [query], 20, 300) == [scan(held, query, 20, 300)]


def test_segment_size() -> None:
    assert segment_size(21_000) >= 21_000
    assert segment_size(1_048_577) == 131_073
    assert segment_size(10_000_000) == 1_250_000


@pytest.mark.parametrize("engine", ENGINES)
def test_unchanged_segments_are_not_copied(engine: str) -> None:
    index = engine_index(engine).extended(in_parts({number: code_of(number) for number in range(40)}, 10))
    fewer = index.without(np.arange(10, 15)).extended(in_parts({50: code_of(50)}, 1))

    def parts(segment: object) -> set[int]:
        """Return the `id` of each attribute of a segment, except its lists of image ids."""
        return {id(value) for name, value in vars(segment).items() if name not in {"_ids", "_left_out", "_allowed"}}

    shared = [
        sum(parts(one) == parts(other) for one in index.segments for other in state.segments)
        for state in (fewer, fewer.compacted())
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


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("seed", range(4))
def test_an_open_reader_follows_without_reading_the_index_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, engine: str
) -> None:
    monkeypatch.setattr(segments, "_MIN_SIZE", 8)
    monkeypatch.setattr(segments, "_MAX_SEGMENTS", 5)
    monkeypatch.setattr("twinscope_indexer.store.view._FILE_READ_FROM", 0)
    monkeypatch.setenv(ENGINE_VARIABLE, engine)
    rng, codes = random.Random(seed), {number: code_of(number) for number in range(1, 60)}
    with open_writer(tmp_path, create=True) as writer:
        for number, code in codes.items():
            put(writer, number, code)
        writer.publish()
    files = set()
    with closing(Store(tmp_path)) as store:
        assert store.view.base.describe().segments == 8
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
                continue  # several generations are loaded at once
            view = store.refresh()
            assert view.count == len(codes)
            for query in (code_of(rng.randrange(10**6)), next(iter(codes.values()))):
                [near] = view.search(np.frombuffer(query, np.uint8)[None], 12, 600)
                assert list(zip(near.distances.tolist(), near.ids.tolist(), strict=True)) == scan(codes, query, 12, 600)
    assert len(files) > 2


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_frame_index_built_in_batches_gives_equal_answers(size: int, engine: str) -> None:
    rng = np.random.default_rng(size)
    images = np.sort(rng.choice(1000, 12, replace=False))
    codes = rng.integers(0, 256, (12, 4, 128), np.uint8)
    codes[rng.random((12, 4)) < 0.2] = 0
    parts = FrameIndex(4, engine_index(engine))
    whole = parts.extended(images, codes)
    for at in range(0, 12, size):
        parts = parts.extended(images[at : at + size], codes[at : at + size])
    wanted = codes[[2, 5], [1, 3]] ^ np.uint8(1)
    for gone in (images[:0], images[::2], images[1:4]):
        parts, whole = parts.without(gone), whole.without(gone)
        assert (len(parts.images), len(parts)) == (len(whole.images), len(whole))
        assert parts.search(wanted, 20, 600) == whole.search(wanted, 20, 600) != []
