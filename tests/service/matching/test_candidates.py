"""The nearest references are the same as in a scan of all allowed records; the index search is not extended
needlessly."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matching import Matcher
from PIL import Image
from twinscope_client.demo.micrographs import synthesise
from twinscope_indexer.hashing.perceptual import RECIPE, PHash
from twinscope_indexer.index import segments
from twinscope_indexer.index.blocks import BlockSegment
from twinscope_indexer.index.protocol import Neighbours
from twinscope_indexer.indexing.run import index
from twinscope_indexer.store.catalog.catalog import Catalog, Record
from twinscope_indexer.store.reader import Store, StoreWriter, open_writer
from twinscope_indexer.store.view import View
from twinscope_service.matching.candidates import nearest
from twinscope_service.matching.policy import POLICIES, Policy
from twinscope_service.matching.query import Limits, Query

CATEGORIES = [*["Tips"] * 30, *["Powder"] * 10, *["Fibres"] * 3, "Rare"]
NAMES = ["Tips", "Powder", "Fibres", "Rare", "Films"]
"""The categories of the images, and a category without images."""


def code_of(seed: int) -> bytes:
    """Return a code near all others of its kind; there are four kinds, and some codes are equal."""
    code = np.random.default_rng(seed % 4).integers(0, 256, 128, dtype=np.uint8)
    code[seed % 16] ^= 1 << seed % 8
    return code.tobytes()


def put(writer: StoreWriter, number: int, code: bytes | None, category: str) -> None:
    root_id, root, _ = writer.catalog.root_for(Path("/collection"))
    record = Record(
        number, root, f"{number}.jpg", None, 1, 1, bytes(32), "JPEG", "L", 8, 4, 3, code,
        None if code else "featureless: flat", RECIPE, category, "L1", "1", None, "2024-01-01T00:00:00Z",
        writer.generation,
    )  # fmt: skip
    writer.catalog.put(record, root_id, b"")


def policy(k: int, max_distance: int) -> Policy:
    return POLICIES["default"].adjusted({"k": k, "max_distance": max_distance})


def expected(records: dict[int, Record], code: bytes, wanted: Policy, limits: Limits) -> list[tuple[int, int]]:
    """Return (distance, id) of the nearest allowed records by a plain scan."""
    whole = int.from_bytes(code, "big")
    found = sorted(
        ((int.from_bytes(record.hash, "big") ^ whole).bit_count(), number)
        for number, record in records.items()
        if record.hash and number != limits.without
        if limits.categories is None or record.category in limits.categories
    )
    return [pair for pair in found if pair[0] <= wanted.max_distance][: wanted.k]


def pairs(near: Neighbours) -> list[tuple[int, int]]:
    return list(zip(near.distances.tolist(), near.ids.tolist(), strict=True))


def search_pairs(view: View, codes: list[bytes], wanted: Policy, limits: Limits) -> list[list[tuple[int, int]]]:
    found, records = nearest(view, [PHash(code) for code in codes], wanted, limits)
    assert {number for near in found for number in near.ids.tolist()} <= set(records)
    return [pairs(near) for near in found]


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[tuple[View, dict[int, Record]]]]:
    """Return views and records of a store whose images are added, deleted, made featureless and relabelled."""
    folder, chance = tmp_path_factory.mktemp("store"), random.Random(5)
    with pytest.MonkeyPatch.context() as patched, open_writer(folder, create=True) as writer:
        patched.setattr(segments, "_MIN_SIZE", 64)
        with writer.catalog.transaction():
            for number in range(1, 400):
                put(writer, number, code_of(chance.randrange(999)), chance.choice(CATEGORIES))
        writer.publish()
        found, stores = [], []
        for _ in range(3):
            stores.append(Store(folder))
            found.append((stores[-1].view, stores[-1].records(range(1000))))
            with writer.catalog.transaction():
                writer.catalog.delete(chance.sample(range(1, 400), 3), writer.generation)
                for number in [*chance.sample(range(1, 400), 5), *chance.sample(range(400, 500), 5)]:
                    put(writer, number, code_of(chance.randrange(999)), chance.choice(CATEGORIES))
                put(writer, chance.randrange(1, 400), None, "Rare")
                for record in chance.sample([*writer.catalog.records(range(1, 400)).values()], 3):
                    writer.catalog.relabel(record.id, "Rare", "L2", "1", writer.generation)
            writer.publish()
        assert len(found[0][0].base.segments) > 1
        assert len(found[-1][0].delta)
        yield found
        for store in stores:
            store.close()


@settings(max_examples=300, deadline=None)
@given(
    state=st.integers(0, 2),
    seeds=st.lists(st.integers(0, 999), min_size=1, max_size=5),
    k=st.sampled_from([1, 2, 5, 40, 1000]),
    limit=st.sampled_from([0, 2, 300, 530, 1024]),
    categories=st.none() | st.frozensets(st.sampled_from(NAMES)),
    without=st.none() | st.integers(1, 450),
)
def test_nearest_equals_a_scan_over_allowed_records(
    states: list[tuple[View, dict[int, Record]]],
    state: int,
    seeds: list[int],
    k: int,
    limit: int,
    categories: frozenset[str] | None,
    without: int | None,
) -> None:
    view, records = states[state]
    codes = [code_of(seed) for seed in seeds]
    if without in records:
        codes.append(records[without].hash or codes[0])
    limits, wanted = Limits(categories=categories, without=without), policy(k, limit)
    answers = [expected(records, code, wanted, limits) for code in codes]
    assert search_pairs(view, codes, wanted, limits) == answers
    assert [search_pairs(view, [code], wanted, limits) for code in codes] == [[answer] for answer in answers]


def test_rare_category_needs_no_deeper_index_search(
    states: list[tuple[View, dict[int, Record]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    depths, calls = set(), []
    search, ids = BlockSegment.search, Catalog.of_categories

    def recorded(index: BlockSegment, queries: np.ndarray, k: int, max_distance: int) -> list[Neighbours]:
        depths.add(k)
        return search(index, queries, k, max_distance)

    monkeypatch.setattr(BlockSegment, "search", recorded)
    monkeypatch.setattr(Catalog, "of_categories", lambda *given: (calls.append(given), ids(*given))[1])
    view, records = states[-1]
    codes = [code_of(seed) for seed in range(8)]
    only = Limits(categories=frozenset({"Rare", 'a name, "quoted"'}), without=7)
    for _ in range(3):
        answers = [expected(records, code, policy(3, 1024), only) for code in codes]
        assert search_pairs(view, codes, policy(3, 1024), only) == answers
    assert depths == {4}
    assert len(calls) == 1  # the rows are read once


def test_indexes_of_recent_category_sets_are_cached(
    states: list[tuple[View, dict[int, Record]]],
) -> None:
    view, records = states[1]
    sets = [frozenset(NAMES[:count]) for count in range(6)]
    made = {names: view.restricted_to_categories(names) for names in sets}
    for names, those in made.items():
        assert len(those) == sum(bool(one.hash) and one.category in names for one in records.values())
    assert [view.restricted_to_categories(names) is made[names] for names in reversed(sets)] == [True] * 4 + [False] * 2
    assert view.restricted_to_categories(sets[2]) is made[sets[2]]  # used more recently than the one that was removed
    shared = zip(view.base.segments, made[sets[1]].base.segments, strict=True)
    assert all(np.shares_memory(ours._heads, theirs._heads) for ours, theirs in shared)


def test_relabelled_image_is_found_from_the_next_view_on(tmp_path: Path) -> None:
    rare, wanted = Limits(categories=frozenset({"Rare"})), policy(2, 1024)
    with open_writer(tmp_path, create=True) as writer:
        for number in range(1, 30):
            put(writer, number, code_of(number), "Tips")
        writer.publish()
        with closing(Store(tmp_path)) as store:
            assert search_pairs(store.view, [code_of(1)], wanted, rare) == [[]]
            writer.catalog.relabel(9, "Rare", "L2", "1", writer.generation)
            writer.publish()
            assert search_pairs(store.view, [code_of(1)], wanted, rare) == [[]]
            answers = search_pairs(store.refresh(), [code_of(1)], wanted, rare)
            assert [[number for _, number in answer] for answer in answers] == [[9]]


def test_outdated_snapshot_uses_the_categories_of_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rare, wanted = Limits(categories=frozenset({"Rare"})), policy(2, 1024)
    with open_writer(tmp_path, create=True) as writer:
        for number in range(1, 30):
            put(writer, number, code_of(number), "Tips")
        writer.publish()
        with closing(Store(tmp_path)) as store:
            assert search_pairs(store.view, [code_of(1)], wanted, rare) == [[]]
            writer.catalog.relabel(9, "Rare", "L2", "1", writer.generation)
            writer.publish()
            monkeypatch.setattr(Catalog, "outdated", property(lambda _: True))  # as in a read-only folder
            answers = search_pairs(store.view, [code_of(1)], wanted, rare)
            assert [[number for _, number in answer] for answer in answers] == [[9]]


@pytest.mark.parametrize("copies", [4, 8, 40])
def test_copies_with_one_label_do_not_hide_another_label(tmp_path: Path, copies: int) -> None:
    field = synthesise("Powder", 3, width=160, height=120)
    for number in range(copies):
        save(tmp_path / "labelled" / "Powder" / f"{number}.jpg", field)
    save(tmp_path / "labelled" / "Tips" / "once.jpg", field)
    save(tmp_path / "labelled" / "Fibres" / "other.jpg", synthesise("Fibres", 1, width=160, height=120))
    index([tmp_path / "labelled"], tmp_path / "store", workers=1)
    with closing(Store(tmp_path / "store")) as store:
        answer = Matcher(store).match(Query.of_pixels(field))
    assert answer.grade == "ambiguous"
    assert {"Powder", "Tips"} <= {match.category for match in answer.matches}
    assert len(answer.matches) <= POLICIES["default"].k


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=95)
