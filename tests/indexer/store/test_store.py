"""The store: only the catalog is authoritative, the index file can be built again, and views never change."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import filelock
import numpy as np
import pytest
from twinscope_indexer.errors import RecipeError, StoreError, StoreLockedError
from twinscope_indexer.hashing.perceptual import RECIPE
from twinscope_indexer.indexing.label_rules import remember
from twinscope_indexer.indexing.relocation import relocate
from twinscope_indexer.metadata.reader import InstrumentMetadata
from twinscope_indexer.store.catalog.catalog import Catalog, Record
from twinscope_indexer.store.reader import CATALOG_NAME, Store, StoreWarning, StoreWriter, View, open_writer
from twinscope_indexer.taxonomy import Category, Taxonomy

Codes = dict[int, bytes]
"""The expected content: codes by id."""


@pytest.fixture(autouse=True)
def files_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read small stores from their index files, like large stores."""
    monkeypatch.setattr("twinscope_indexer.store.view._FILE_READ_FROM", 0)


def code_of(seed: int) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, 128, dtype=np.uint8).tobytes()


def put(writer: StoreWriter, number: int, code: bytes | None, name: str | None = None) -> None:
    """Put a new or changed image into the store."""
    root_id, root, _ = writer.catalog.root_for(Path("/collection"))
    record = Record(
        id=number, root=root, path=name or f"Tips/{number}.jpg", member=None, size=1, mtime_ns=1, sha256=bytes(32),
        format="JPEG", mode="L", bits=8, width=4, height=3, hash=code, unhashable=None if code else "featureless: flat",
        recipe=RECIPE, category="Tips", code="L9", taxonomy="1", published_prefix=None,
        indexed_at="2024-01-01T00:00:00Z", generation=writer.generation,
    )  # fmt: skip
    writer.catalog.put(record, root_id, b"thumbnail")


def filled(folder: Path, n: int) -> Codes:
    """Make a store of n images with ids 1 to n, in one generation."""
    codes = {number: code_of(number) for number in range(1, n + 1)}
    with open_writer(folder, create=True) as writer:
        writer.catalog.root_for(Path("/collection"))
        with writer.catalog.transaction():
            for number, code in codes.items():
                put(writer, number, code)
        writer.publish()
    return codes


@contextmanager
def opened(folder: Path) -> Iterator[Store]:
    store = Store(folder)
    try:
        yield store
    finally:
        store.close()


def answers(store: Store, query: bytes, k: int = 10, limit: int = 1024) -> list[tuple[int, int]]:
    [found] = store.view.search(np.frombuffer(query, np.uint8)[None], k, limit)
    return list(zip(found.distances.tolist(), found.ids.tolist(), strict=True))


def scan(codes: Codes, query: bytes, k: int = 10, limit: int = 1024) -> list[tuple[int, int]]:
    wanted = np.unpackbits(np.frombuffer(query, np.uint8))
    found = sorted((int((np.unpackbits(np.frombuffer(c, np.uint8)) != wanted).sum()), i) for i, c in codes.items())
    return [pair for pair in found if pair[0] <= limit][:k]


def index_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("index-*"))


# -- views and generations ---------------------------------------------------------------------------------------


def test_base_delta_and_deletions_answer_like_a_full_scan(tmp_path):
    """Many small runs add, change, delete and restore images; after each, old and new readers agree with a scan."""
    chance = random.Random(7)
    codes = filled(tmp_path, 60)
    seen_with_delta = False
    with opened(tmp_path) as reader:
        for run in range(12):
            with open_writer(tmp_path) as writer, writer.catalog.transaction():
                for _ in range(chance.randint(1, 4)):
                    number, action = chance.randint(1, 70), chance.random()
                    if action < 0.4:
                        writer.catalog.delete([number], writer.generation)
                        codes.pop(number, None)
                    elif action < 0.5:
                        put(writer, number, None)  # became featureless
                        codes.pop(number, None)
                    else:
                        # Some new codes are equal to codes of other images, so that base and delta contain equal
                        # distances.
                        codes[number] = code_of(chance.choice([number % 5, 1000 + run]))
                        put(writer, number, codes[number])
                generation = writer.generation
            with open_writer(tmp_path) as writer:
                assert writer.publish() == generation
            reader.refresh()
            seen_with_delta |= len(reader.view.delta) > 0 and len(reader.view.base) > 0
            with opened(tmp_path) as fresh:
                for store in (reader, fresh):
                    assert store.view.generation == generation
                    assert store.view.count == len(codes)
                    for query in [code_of(1), code_of(1000 + run), chance.choice(list(codes.values()))]:
                        for k, limit in ((1, 1024), (3, 0), (7, 500), (100, 1024)):
                            assert answers(store, query, k, limit) == scan(codes, query, k, limit)
    assert seen_with_delta


def test_only_changes_make_a_new_generation(tmp_path):
    filled(tmp_path, 20)
    with open_writer(tmp_path) as writer:
        assert (writer.generation, writer.publish()) == (2, 1)
        put(writer, 21, code_of(21))
        assert writer.publish() == 2
        assert writer.publish() == 2
        writer.catalog.delete([21], writer.generation)
        assert writer.publish() == 3
        writer.catalog.relabel(1, "Powder", "L8", "1", writer.generation)
        assert writer.publish() == 4
        assert writer.publish() == 4


def test_an_empty_store_publishes_a_generation(tmp_path):
    filled(tmp_path, 0)
    with opened(tmp_path) as store:
        assert (store.view.generation, store.view.count) == (1, 0)
        assert answers(store, code_of(1)) == []


def test_a_store_of_one_image_finds_it(tmp_path):
    codes = filled(tmp_path, 1)
    with opened(tmp_path) as store:
        assert answers(store, codes[1]) == [(0, 1)]


def test_only_many_new_images_write_a_new_index_file(tmp_path):
    filled(tmp_path, 40)
    assert index_files(tmp_path) == ["index-1.faiss"]
    with open_writer(tmp_path) as writer:
        put(writer, 101, code_of(101))
        writer.publish()
        assert index_files(tmp_path) == ["index-1.faiss"]
        for number in range(200, 210):
            put(writer, number, code_of(number))
        writer.publish()
        assert index_files(tmp_path) == ["index-3.faiss"]


def test_a_reader_sees_a_new_generation_only_after_refresh(tmp_path):
    filled(tmp_path, 30)
    new = code_of(99)
    with opened(tmp_path) as store:
        held = store.view
        with open_writer(tmp_path) as writer:
            put(writer, 31, new)
            writer.publish()
        assert answers(store, new, limit=0) == []
        assert store.view is held
        assert store.refresh().generation == 2
        assert answers(store, new) == [(0, 31), *answers(store, new)[1:]]
        assert held.search(np.frombuffer(new, np.uint8)[None], 1, 0)[0].ids.size == 0  # the old view has not changed


def test_an_unpublished_generation_is_not_seen(tmp_path):
    """Rows of an unpublished run (the writer is still working, or was killed) do not change the view."""
    codes = filled(tmp_path, 30)
    with open_writer(tmp_path) as writer:
        put(writer, 31, code_of(31))
        put(writer, 1, code_of(1001))
        writer.catalog.relabel(3, "Powder", "L8", "1", writer.generation)
        with opened(tmp_path) as fresh:
            assert fresh.view.generation == 1
            assert answers(fresh, codes[1], limit=0) == [(0, 1)]
            assert answers(fresh, codes[3], limit=0) == [(0, 3)]
            assert answers(fresh, code_of(31), limit=0) == answers(fresh, code_of(1001), limit=0) == []
            writer.publish()
            fresh.refresh()
            assert answers(fresh, codes[1], limit=0) == []
            assert answers(fresh, code_of(1001), limit=0) == [(0, 1)]
            assert answers(fresh, code_of(31), limit=0) == [(0, 31)]


def test_an_image_of_the_delta_is_found_while_relabelled(tmp_path):
    filled(tmp_path, 40)
    with open_writer(tmp_path) as writer:
        put(writer, 41, code_of(41))
        writer.publish()
        writer.catalog.relabel(41, "Powder", "L8", "1", writer.generation)
        with opened(tmp_path) as fresh:
            assert fresh.view.file == "index-1.faiss"
            assert answers(fresh, code_of(41), limit=0) == [(0, 41)]


def test_readers_see_only_complete_generations(tmp_path):
    """Generation g has images 1 to 20 and 3 (g - 1) others with one code; other numbers show a partial generation."""
    filled(tmp_path, 20)
    shared_code = code_of(5000)
    wrong: list[object] = []
    done = threading.Event()

    def read() -> None:
        store = Store(tmp_path)
        while not done.is_set():
            view = store.refresh()
            number = len(view.search(np.frombuffer(shared_code, np.uint8)[None], 1000, 0)[0].ids)
            if number != 3 * (view.generation - 1) or view.count != 20 + number:
                wrong.append((view.generation, number, view.count))
        store.close()

    readers = [threading.Thread(target=read, daemon=True) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        with open_writer(tmp_path) as writer:
            for run in range(12):
                for i in range(3):
                    put(writer, 1000 + 3 * run + i, shared_code)  # each row is committed separately
                    time.sleep(0.001)
                writer.publish()
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert wrong == []


# -- rows and codes of one moment --------------------------------------------------------------------------------


def whole(view: View) -> dict[str, object]:
    """Return everything that can be read from a view."""
    numbers = [record.id for record in view.snapshot.page(-1, 1000)]
    queries = np.array([np.frombuffer(code_of(seed), np.uint8) for seed in (*range(8), 1001, 1002)])
    near = view.search(queries, 100, 1024)
    everything = range(1, 100)
    description = view.snapshot.description()
    del description["failures"]  # this value belongs to a run, not to a generation
    return {
        "generation": view.generation,
        "near": [(one.ids.tolist(), one.distances.tolist()) for one in near],
        "listed": numbers,
        "records": view.records(everything),
        "thumbnails": {number: view.thumbnail(number) for number in everything},
        "instruments": view.instruments(everything),
        "categories": view.snapshot.categories(),
        "taxonomy": view.taxonomy,
        "calibration": view.calibration,
        "reach": view.frames.reach,
        "description": description,
    }


def write_anything(writer: StoreWriter, chance: random.Random) -> None:
    catalog = writer.catalog
    root_id, root, _ = catalog.root_for(Path("/collection"))
    for _ in range(chance.randint(1, 12)):
        number, action = chance.randint(1, 40), chance.random()
        if action < 0.3:
            catalog.delete([number], writer.generation)
        elif action < 0.5:
            catalog.relabel(number, chance.choice(["Powder", "Fibres"]), "L8", "1", writer.generation)
        elif action < 0.6:
            categories = (Category("X", f"Unheard of {chance.randint(1, 3)}"),)
            remember(catalog, "folder", Taxonomy("other/1", categories))
        elif action < 0.65:
            writer.set_calibration(str(chance.random()))
        elif action < 0.7:
            catalog.set_meta("reach", chance.choice(["views", "windows"]))
            catalog.set_meta("frames_recipe", "unknown")
        else:
            code = chance.choice([code_of(number), code_of(1001), None])
            instrument = InstrumentMetadata(instrument=str(chance.random()))
            record = Record(
                id=number, root=root, path=f"Tips/{number}.jpg", member=None, size=1, mtime_ns=1, sha256=bytes(32),
                format="JPEG", mode="L", bits=8, width=4, height=3, hash=code,
                unhashable=None if code else "featureless: flat", recipe=RECIPE, category="Tips", code="L9",
                taxonomy="1", published_prefix=None, indexed_at=str(chance.random()), generation=writer.generation,
            )  # fmt: skip
            thumbnail = chance.choice([b"", chance.randbytes(9)])
            catalog.put(record, root_id, thumbnail, b"", chance.choice([InstrumentMetadata(), instrument]))


@pytest.mark.parametrize("seed", range(6))
def test_a_generation_never_changes_its_answers(tmp_path, seed):
    """All readers see only published rows: old readers, readers opened during a write, and readers opened after a
    writer was killed."""
    chance = random.Random(seed)
    filled(tmp_path, 30)
    with opened(tmp_path) as reader:
        for _ in range(8):
            expected = whole(reader.view)
            held = reader.view
            for _ in range(chance.randint(1, 3)):  # the writers end without publishing
                with open_writer(tmp_path) as writer:
                    for _ in range(3):
                        write_anything(writer, chance)
                        with opened(tmp_path) as fresh:
                            assert whole(fresh.view) == expected
                        assert reader.refresh() is held
                with opened(tmp_path) as fresh:
                    assert whole(fresh.view) == expected
                assert whole(reader.view) == expected
            with open_writer(tmp_path) as writer:
                changed = writer.publish() > held.generation
            assert whole(held) == expected
            reader.refresh()
            with opened(tmp_path) as fresh:
                assert whole(fresh.view) == whole(reader.view)
            assert (reader.view is held) != changed
            with sqlite3.connect(tmp_path / CATALOG_NAME) as db:  # the stored tables, not the SQL views
                rows = dict(db.execute("SELECT id, category FROM images").fetchall())
                kept = db.execute("SELECT (SELECT count(*) FROM images_before), (SELECT count(*) FROM meta_before)")
                assert kept.fetchone() == (0, 0)
            db.close()
            assert {n: one.category for n, one in reader.records(range(1, 100)).items()} == rows


def test_a_damaged_index_file_after_a_killed_writer(tmp_path):
    codes = filled(tmp_path, 30)
    with open_writer(tmp_path) as writer:
        writer.catalog.delete([1], writer.generation)
        put(writer, 2, code_of(1002))
    flipped(tmp_path / "index-1.faiss")
    for _ in range(2):
        with pytest.warns(StoreWarning):
            repaired = Store(tmp_path)
        with closing(repaired) as store:
            assert answers(store, codes[1], limit=0) == [(0, 1)]
            assert answers(store, codes[2], limit=0) == [(0, 2)]
    with open_writer(tmp_path) as writer:
        writer.publish()
    with pytest.warns(StoreWarning), opened(tmp_path) as store:
        assert answers(store, codes[1], limit=0) == []
    with opened(tmp_path) as store:
        assert answers(store, code_of(1002), limit=0) == [(0, 2)]


def test_changed_settings_make_a_generation(tmp_path):
    filled(tmp_path, 3)
    own = Taxonomy("own/1", (Category("W", "Wires"),))
    for _ in range(2):
        with open_writer(tmp_path) as writer:
            remember(writer.catalog, "folder", own)
            assert writer.publish() == 2
    with opened(tmp_path) as store:
        assert store.view.taxonomy == own


def test_a_relocated_collection_makes_a_generation(tmp_path):
    filled(tmp_path, 3)
    with opened(tmp_path) as store:
        relocate(tmp_path, Path("/collection"), Path("/elsewhere"), force=True)
        assert store.records([1])[1].uri == "/collection/Tips/1.jpg"
        assert store.refresh().generation == 2
        assert store.records([1])[1].uri == "/elsewhere/Tips/1.jpg"


def test_refreshing_keeps_the_log_small(tmp_path, monkeypatch):
    """SQLite can reuse its log only if a view was loaded when all of the log had been copied into the database file."""
    monkeypatch.setattr("twinscope_indexer.store.reader._LONG_LOG", 1 << 20)
    filled(tmp_path, 10)
    log = tmp_path / f"{CATALOG_NAME}-wal"
    largest = 0
    with opened(tmp_path) as store:
        for number in range(60):
            with open_writer(tmp_path) as writer:
                root_id, _, _ = writer.catalog.root_for(Path("/collection"))
                [record] = writer.catalog.records([1]).values()
                changed = dataclasses.replace(record, size=number + 2, generation=writer.generation)
                writer.catalog.put(changed, root_id, random.Random(number).randbytes(200_000))
                writer.publish()
            assert store.refresh().records([1])[1].size == number + 2
            store.refresh()  # as the server does periodically
            assert store.view.records([1])[1].size == number + 2
            largest = max(largest, log.stat().st_size)
    assert largest < 4 << 20  # 12 MB were written


# -- stores that are replaced in place ---------------------------------------------------------------------------


def test_another_store_in_the_folder_is_loaded_completely(tmp_path):
    """Codes, rows and id come from the new store, even if its generation has a lower number."""
    folder, other = tmp_path / "store", tmp_path / "other"
    codes = filled(folder, 30)
    with open_writer(folder) as writer:
        put(writer, 99, code_of(99))
        writer.publish()
    with open_writer(other, create=True) as writer:
        put(writer, 1, code_of(501), "Tips/other.jpg")
        writer.publish()
    with opened(folder) as store:
        first, held = store.store_id, store.view
        assert store.catalog.meta("store_id") == first
        folder.rename(tmp_path / "away")
        with pytest.raises(StoreError, match="is missing"):
            store.refresh()
        assert answers(store, codes[3], limit=0) == [(0, 3)]
        assert store.records([3])[3].path == "Tips/3.jpg"
        other.rename(folder)
        assert store.refresh().generation == 1
        assert store.store_id != first
        assert store.view.store_id == store.catalog.meta("store_id") == store.store_id
        assert answers(store, codes[3], limit=0) == []
        assert answers(store, code_of(501), limit=0) == [(0, 1)]
        assert {n: one.path for n, one in store.records(range(100)).items()} == {1: "Tips/other.jpg"}
        assert len(held.records(range(100))) == 31  # a running query keeps its view
        with open_writer(folder) as writer:
            put(writer, 2, code_of(502))
            writer.publish()
        assert store.refresh().count == 2
        folder.rename(tmp_path / "away again")
        (tmp_path / "away").rename(folder)
        assert store.refresh().count == 31
        assert store.store_id == first


def test_a_recreated_store_is_used_after_it_has_published(tmp_path):
    folder = tmp_path / "store"
    codes = filled(folder, 30)
    with opened(folder) as store:
        shutil.rmtree(folder)
        with open_writer(folder, create=True) as writer:
            put(writer, 7, code_of(77))
            assert store.refresh().count == 30
            assert answers(store, codes[7], limit=0) == [(0, 7)]
            writer.publish()
            assert store.refresh().count == 1
            assert answers(store, code_of(77), limit=0) == [(0, 7)]
            put(writer, 8, code_of(78))
            writer.publish()
        assert answers(store, code_of(77), limit=0) == [(0, 7)]
        assert store.refresh().count == 2


def test_records_of_unknown_images_are_left_out(tmp_path):
    filled(tmp_path, 600)
    with opened(tmp_path) as store:
        found = store.records([*range(1, 601), 9999])
        assert set(found) == set(range(1, 601))
        assert found[5].uri == "/collection/Tips/5.jpg"
        assert found[5].image_id == f"{5:016x}"
        assert store.view.thumbnail(5) == b"thumbnail"
        assert store.view.thumbnail(9999) is None


def test_an_image_put_without_a_thumbnail_has_none(tmp_path):
    filled(tmp_path, 2)
    with open_writer(tmp_path) as writer:
        root_id, _, _ = writer.catalog.root_for(Path("/collection"))
        [record] = writer.catalog.records([1]).values()
        writer.catalog.put(record, root_id, b"")
    with opened(tmp_path) as store:
        assert store.catalog.thumbnail(1) is None
        assert store.catalog.thumbnail(2) == b"thumbnail"


def test_a_store_answers_in_every_thread(tmp_path):
    codes = filled(tmp_path, 20)
    wrong = []
    with opened(tmp_path) as store:

        def ask() -> None:
            for number, code in codes.items():
                if answers(store, code, 1) != [(0, number)] or set(store.records([number])) != {number}:
                    wrong.append(number)

        threads = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_connections_of_ended_threads_are_closed(tmp_path):
    filled(tmp_path, 3)
    made: list[Catalog] = []

    def in_a_thread() -> None:
        made.append(store.catalog)
        assert store.catalog is made[-1]

    def is_open(catalog: Catalog) -> bool:
        try:
            return bool(catalog.meta("store_id"))
        except sqlite3.ProgrammingError:
            return False

    stay = threading.Event()
    living = threading.Thread(target=lambda: (in_a_thread(), stay.wait()), daemon=True)
    with opened(tmp_path) as store:
        in_a_thread()
        living.start()
        while len(made) < 2:
            time.sleep(0.001)
        for _ in range(5):
            thread = threading.Thread(target=in_a_thread)
            thread.start()
            thread.join()
        assert len(made) == 7
        assert [is_open(catalog) for catalog in made] == [True, True, *[False] * 4, True]
        assert store.catalog is made[0]
        stay.set()
        living.join()


@pytest.mark.parametrize("n", [0, 3])
def test_queries_of_another_recipe_or_shape_are_refused(tmp_path, n):
    filled(tmp_path, n)
    with opened(tmp_path) as store:
        with pytest.raises(RecipeError):
            store.view.search(np.zeros((1, 128), np.uint8), 1, 10, recipe="other/1")
        with pytest.raises(ValueError, match="uint8 of shape"):
            store.view.search(np.zeros((1, 64), np.uint8), 1, 10)
        with pytest.raises(ValueError, match="k must be"):
            store.view.search(np.zeros((1, 128), np.uint8), 0, 10)


def test_a_store_of_another_recipe_is_refused(tmp_path):
    filled(tmp_path, 3)
    with sqlite3.connect(tmp_path / CATALOG_NAME) as db:
        db.execute("UPDATE generations SET recipe = 'other/1'")
    db.close()
    with pytest.raises(RecipeError, match="other/1"):
        Store(tmp_path)
    with pytest.raises(RecipeError), open_writer(tmp_path):
        pass


# -- index files that are lost or damaged ------------------------------------------------------------------------


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-500])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def replaced(path: Path) -> None:
    path.write_bytes(b"something else")


def emptied(path: Path) -> None:
    path.write_bytes(b"")


DAMAGE = [Path.unlink, truncated, flipped, replaced, emptied]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("with_delta", [False, True])
def test_a_damaged_index_file_is_repaired_with_a_warning(tmp_path, damage, with_delta):
    codes = filled(tmp_path, 30)
    if with_delta:
        with open_writer(tmp_path) as writer:
            put(writer, 31, code_of(31))
            codes[31] = code_of(31)
            writer.catalog.delete([2], writer.generation)
            del codes[2]
            writer.publish()
    damage(tmp_path / "index-1.faiss")
    with pytest.warns(StoreWarning, match="rebuilt from the catalog") as warned:
        repaired = Store(tmp_path)
    with closing(repaired) as store:
        for query in [codes[1], code_of(2), code_of(31)]:
            assert answers(store, query) == scan(codes, query)
    assert len(warned) == 1
    with opened(tmp_path) as again:  # in tests, a warning would be an error
        assert answers(again, codes[1]) == scan(codes, codes[1])
        assert again.view.file == index_files(tmp_path)[0]
    assert len(index_files(tmp_path)) == 1


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_small_store_is_read_from_its_catalog(tmp_path, damage, monkeypatch):
    monkeypatch.setattr("twinscope_indexer.store.view._FILE_READ_FROM", 31)
    codes = filled(tmp_path, 30)
    with open_writer(tmp_path) as writer:
        put(writer, 31, code_of(31))
        writer.catalog.delete([2], writer.generation)
        put(writer, 3, code_of(300))
        writer.publish()
    del codes[2]
    codes |= {31: code_of(31), 3: code_of(300)}
    assert index_files(tmp_path) == ["index-1.faiss"]
    damage(tmp_path / "index-1.faiss")
    with opened(tmp_path) as store:  # without a warning
        assert store.view.file is None
        assert (len(store.view.base), len(store.view.delta)) == (28, 2)
        for query in [codes[1], code_of(2), code_of(3), codes[3], codes[31]]:
            assert answers(store, query) == scan(codes, query)


def test_a_writer_replaces_a_missing_index_file(tmp_path):
    codes = filled(tmp_path, 30)
    (tmp_path / "index-1.faiss").unlink()
    with open_writer(tmp_path) as writer:
        assert writer.publish() == 1  # nothing has changed, but the file is written again
    with opened(tmp_path) as store:
        assert answers(store, codes[7]) == scan(codes, codes[7])


def test_a_damaged_store_answers_while_it_is_written(tmp_path):
    codes = filled(tmp_path, 30)
    replaced(tmp_path / "index-1.faiss")
    with open_writer(tmp_path):
        with pytest.warns(StoreWarning), opened(tmp_path) as store:
            assert answers(store, codes[3]) == scan(codes, codes[3])
        assert (tmp_path / "index-1.faiss").read_bytes() == b"something else"  # the writer must replace it


def test_an_open_reader_does_not_need_the_index_file(tmp_path):
    codes = filled(tmp_path, 40)
    with opened(tmp_path) as store:
        (tmp_path / "index-1.faiss").unlink()
        assert answers(store, codes[3]) == scan(codes, codes[3])
        with open_writer(tmp_path) as writer:
            put(writer, 41, code_of(41))
            writer.publish()
        store.refresh()
        assert answers(store, code_of(41), 1) == [(0, 41)]


def test_a_writer_killed_while_publishing_leaves_a_valid_store(tmp_path, monkeypatch):
    codes = filled(tmp_path, 10)
    with open_writer(tmp_path) as writer:
        for number in range(11, 20):
            put(writer, number, code_of(number))
        monkeypatch.setattr(Catalog, "publish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            writer.publish()
        monkeypatch.undo()
    with opened(tmp_path) as store:
        assert answers(store, codes[3]) == scan(codes, codes[3])
    with open_writer(tmp_path) as writer:
        assert writer.publish() == 2
    with opened(tmp_path) as store:
        assert store.view.count == 19
    assert index_files(tmp_path) == ["index-2.faiss"]


def test_an_interrupted_deletion_deletes_nothing(tmp_path, monkeypatch):
    codes = filled(tmp_path, 30)
    with open_writer(tmp_path) as writer:
        writer.catalog.begin()

        def numbers() -> Iterator[int]:
            yield 1

        class Interrupted:
            """A connection whose second statement of a deletion is interrupted."""

            def __init__(self, db: sqlite3.Connection) -> None:
                self._db = db

            def __getattr__(self, name: str) -> object:
                return getattr(self._db, name)

            def executemany(self, sql: str, rows: object) -> object:
                if "DELETE FROM images" in sql:
                    raise KeyboardInterrupt
                return self._db.executemany(sql, rows)

        monkeypatch.setattr(writer.catalog, "_db", Interrupted(writer.catalog._db))
        with pytest.raises(KeyboardInterrupt):
            writer.catalog.delete(numbers(), writer.generation)
        monkeypatch.undo()
        writer.catalog.commit()
        writer.publish()
    with opened(tmp_path) as store:
        assert answers(store, codes[1], limit=0) == [(0, 1)]


def test_a_second_commit_raises_no_error(tmp_path):
    with open_writer(tmp_path, create=True) as writer:
        writer.catalog.begin()
        writer.catalog.commit()
        writer.catalog.commit()  # as at the end of an interrupted run


# -- catalogs -----------------------------------------------------------------------------------------------------


def test_a_folder_without_a_store_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(StoreError, match="twinscope index"):
            Store(folder)
        with pytest.raises(StoreError, match="twinscope index"), open_writer(folder):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_files_does_not_become_a_store(tmp_path):
    (tmp_path / "thesis.doc").write_text("years of work")
    with pytest.raises(StoreError, match="not empty"), open_writer(tmp_path, create=True):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.doc"]


def test_a_store_cannot_replace_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError, match="cannot be created"), open_writer(folder, create=True):
            pass


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100, b"SQLite format 3\0" + bytes(4080)])
def test_a_file_that_is_not_a_catalog_is_refused(tmp_path, content):
    (tmp_path / CATALOG_NAME).write_bytes(content)
    with pytest.raises(StoreError, match="damaged or not a catalog"):
        Store(tmp_path)


def test_an_incomplete_catalog_is_completed_by_the_next_run(tmp_path):
    """A process killed while it creates the store leaves an empty file, or a database in WAL mode without tables."""
    (tmp_path / CATALOG_NAME).write_bytes(b"")
    with open_writer(tmp_path, create=True) as writer:
        put(writer, 1, code_of(1))
        writer.publish()
    other = tmp_path / "other"
    other.mkdir()
    db = sqlite3.connect(other / CATALOG_NAME)
    db.execute("PRAGMA journal_mode = WAL")
    db.close()
    codes = filled(other, 5)
    for folder, number in ((tmp_path, 1), (other, 5)):
        with opened(folder) as store:
            assert store.view.count == number
            assert answers(store, codes[1], 1) == [(0, 1)]


def test_an_unpublished_store_is_empty(tmp_path):
    with open_writer(tmp_path, create=True):
        pass
    with opened(tmp_path) as store:
        assert (store.view.generation, store.view.count, answers(store, code_of(1))) == (0, 0, [])


def test_a_catalog_of_another_schema_is_refused(tmp_path):
    filled(tmp_path, 1)
    with sqlite3.connect(tmp_path / CATALOG_NAME) as db:
        db.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    db.close()
    for refused in (lambda: Store(tmp_path), lambda: open_writer(tmp_path).__enter__()):
        with pytest.raises(StoreError, match="schema version 99, but this Twinscope reads 5; index the collection"):
            refused()


def test_a_reader_cannot_write_the_catalog(tmp_path):
    filled(tmp_path, 3)
    with opened(tmp_path) as store, pytest.raises(sqlite3.OperationalError, match="readonly"):
        store.catalog.set_meta("store_id", "x")


def test_a_full_disk_is_a_store_error(tmp_path):
    filled(tmp_path, 3)

    def fill_up() -> None:
        with open_writer(tmp_path) as writer:
            pages = writer.catalog._db.execute("PRAGMA page_count").fetchone()[0]
            writer.catalog._db.execute(f"PRAGMA max_page_count = {pages}")
            for number in range(10, 400):
                put(writer, number, code_of(number))

    with pytest.raises(StoreError, match="disk is full"):
        fill_up()
    with opened(tmp_path) as store:
        assert store.view.count == 3


def test_the_id_of_an_image_comes_from_its_name_and_is_unused(tmp_path):
    filled(tmp_path, 3)
    with open_writer(tmp_path) as writer:
        catalog = writer.catalog
        number = catalog.new_id(Path("/a/data"), "x.jpg", None)
        assert 0 <= number < 2**63
        assert number == catalog.new_id(Path("/b/data"), "x.jpg", None)
        assert number != catalog.new_id(Path("/a/data"), "y.jpg", None)
        assert number != catalog.new_id(Path("/a/data"), "x.jpg", "m.jpg")
        put(writer, number, code_of(1), "x.jpg")
        assert catalog.new_id(Path("/b/data"), "x.jpg", None) != number


@pytest.mark.parametrize("raw", [b"caf\xe9.jpg", b"new\nline.jpg", "größe 日本.jpg".encode()])
def test_paths_of_any_bytes_are_stored_and_found(tmp_path, raw):
    name = os.fsdecode(raw)
    with open_writer(tmp_path, create=True) as writer:
        put(writer, 1, code_of(1), name)
        writer.catalog.begin_walk()
        root_id, _, _ = writer.catalog.root_for(Path("/collection"))
        writer.catalog.put_failure(root_id, f"{name}.tif", None, "damaged", f"{name} is broken")
        writer.publish()
    with opened(tmp_path) as store:
        assert store.records([1])[1].path == name
        [failure] = store.catalog.failures()
        assert os.fsencode(failure.uri).endswith(raw + b".tif")


# -- one writer ---------------------------------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from twinscope_indexer.store import open_writer
with open_writer(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_by_another_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLD, str(folder), "nightly run"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        try:
            yield holder
        finally:
            holder.kill()


def test_a_second_writer_is_refused_and_the_first_is_named(tmp_path):
    codes = filled(tmp_path, 5)
    with held_by_another_process(tmp_path) as holder:
        with pytest.raises(StoreLockedError) as refused, open_writer(tmp_path):
            pass
        assert str(tmp_path) in str(refused.value)
        assert f"process {holder.pid} on " in str(refused.value)
        assert "nightly run" in str(refused.value)
        with opened(tmp_path) as store:  # readers are not locked out
            assert answers(store, codes[1], 1) == [(0, 1)]
        holder.kill()
        holder.wait()
        with open_writer(tmp_path):  # a killed writer holds no lock
            pass


def test_a_second_writer_in_the_same_process_is_refused(tmp_path):
    filled(tmp_path, 1)
    with open_writer(tmp_path), pytest.raises(StoreLockedError, match=str(os.getpid())), open_writer(tmp_path):
        pass
    with open_writer(tmp_path):
        pass


@pytest.mark.parametrize("content", ["", "no json", "[]", '{"pid": 5}'])
def test_a_lock_without_a_readable_name_still_locks(tmp_path, content):
    filled(tmp_path, 1)
    with filelock.FileLock(tmp_path / "writer.lock"):
        (tmp_path / "writer.json").write_text(content)
        with pytest.raises(StoreLockedError, match="another process"), open_writer(tmp_path):
            pass


def test_a_drive_without_locks_is_reported(tmp_path, monkeypatch):
    filled(tmp_path, 1)

    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "_acquire", no_locks)
    with pytest.raises(StoreError, match="cannot be locked: No locks available") as refused, open_writer(tmp_path):
        pass
    assert not isinstance(refused.value, StoreLockedError)


# -- read-only folders ------------------------------------------------------------------------------------------


@pytest.fixture
def shared() -> Iterator[Path]:
    """Provide a folder that every user can open, because other users cannot open the folders of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="twinscope-"))
    folder.chmod(0o755)
    yield folder
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755)
    shutil.rmtree(folder)


def make_read_only(folder: Path) -> None:
    for path in [folder, *folder.iterdir()]:
        path.chmod(stat.S_IMODE(path.stat().st_mode) & 0o555)


READ = """
import json, os, sys, warnings
from pathlib import Path
import faiss
import filelock
import numpy as np
from twinscope_indexer.errors import StoreError
from twinscope_indexer.index.engines import engine_index
from twinscope_indexer.store import Store, open_writer, view
view._FILE_READ_FROM = 0
code = np.zeros((1, 128), np.uint8)
engine_index("scan").extended([(np.zeros(1, np.int64), code)]).search(code, 1, 0)  # import all modules while possible
if os.geteuid() == 0:  # permissions do not restrict root
    os.setgid(65534)
    os.setuid(65534)
folder = Path(sys.argv[1])
warned = []
warnings.showwarning = lambda message, kind, *_: warned.append(kind.__name__)
try:
    store = Store(folder)
except StoreError as error:
    sys.exit(str(error))
for line in sys.stdin:
    view = store.refresh()
    [near] = view.search(np.frombuffer(bytes.fromhex(line.strip()), np.uint8)[None], 10, 1024)
    found = [[d, i] for d, i in zip(near.distances.tolist(), near.ids.tolist())]
    known = sorted(store.records([i for _, i in found])) == sorted(i for _, i in found)
    print(json.dumps([view.count, found, known, warned]), flush=True)
try:
    with open_writer(folder):
        sys.exit("a read-only store was opened for writing")
except StoreError:
    store.close()
"""
"""Program that answers queries (hexadecimal lines) as a user without write permission; it exits with the error."""


@contextmanager
def unprivileged_reader(folder: Path) -> Iterator[Callable[[bytes], object]]:
    command = [sys.executable, "-c", READ, str(folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None

        def ask(query: bytes) -> object:
            reader.stdin.write(f"{query.hex()}\n")
            reader.stdin.flush()
            return json.loads(reader.stdout.readline())

        try:
            yield ask
            _, errors = reader.communicate(timeout=240)
            assert reader.returncode == 0, errors
        finally:
            reader.kill()


def found_by_scan(codes: Codes, query: bytes) -> list[list[int]]:
    return [list(pair) for pair in scan(codes, query)]


def test_a_store_in_a_read_only_folder_is_read(shared):
    folder = shared / "store #1?"
    codes = filled(folder, 30)
    make_read_only(folder)
    with unprivileged_reader(folder) as ask:
        assert ask(codes[1]) == [30, found_by_scan(codes, codes[1]), True, []]


def test_a_damaged_read_only_store_answers_with_a_warning(shared):
    folder = shared / "store"
    codes = filled(folder, 30)
    flipped(folder / "index-1.faiss")
    make_read_only(folder)
    with unprivileged_reader(folder) as ask:
        for _ in range(2):
            assert ask(codes[1]) == [30, found_by_scan(codes, codes[1]), True, ["StoreWarning"]]


def test_a_reader_without_write_permission_follows_a_writer(shared):
    if os.geteuid() != 0:
        pytest.skip("needs two users")
    folder = shared / "store"
    codes = filled(folder, 30)
    with unprivileged_reader(folder) as ask:
        assert ask(codes[1]) == [30, found_by_scan(codes, codes[1]), True, []]
        for number in (31, 32, 33):
            codes[number] = code_of(number)
            with open_writer(folder) as writer:
                put(writer, number, codes[number])
                writer.publish()
                if number != 32:  # in the first round, the reader makes no query while the writer works
                    assert ask(codes[number]) == [number, found_by_scan(codes, codes[number]), True, []]
            assert ask(codes[number]) == [number, found_by_scan(codes, codes[number]), True, []]


def test_a_read_only_copy_of_an_open_catalog_is_refused(shared):
    """Otherwise, the content of the write-ahead log would be missing without a message."""
    folder, copied = shared / "store", shared / "copy"
    filled(folder, 3)
    copied.mkdir()
    with open_writer(folder) as writer:
        put(writer, 4, code_of(4))
        for name in (CATALOG_NAME, f"{CATALOG_NAME}-wal"):
            shutil.copyfile(folder / name, copied / name)
    make_read_only(copied)
    with pytest.raises(AssertionError, match="last writer"), unprivileged_reader(copied):
        pass


CLOSE = """
import sys, threading
from pathlib import Path
from twinscope_indexer.errors import StoreError
from twinscope_indexer.store import Store
store, stop = Store(Path(sys.argv[1])), threading.Event()
numbers = [number for number in store.view.base.ids.tolist()] * 20

def ask():
    while not stop.is_set():
        try:
            assert len(store.records(numbers)) == 60
            store.catalog.records(numbers)
        except StoreError as error:
            assert "was closed" in str(error)

threads = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
for thread in threads:
    thread.start()
for _ in range(100):
    closing, store = store, Store(Path(sys.argv[1]))
    closing.catalog.records(numbers[:1])
    closing.close()
    closing.close()
    try:
        closing.records(numbers)
        print("a closed store answers")
    except StoreError:
        pass
stop.set()
for thread in threads:
    thread.join()
print("alive")
"""


def test_a_store_can_be_closed_during_queries(tmp_path: Path) -> None:
    filled(tmp_path / "store", 60)
    command = [sys.executable, "-c", CLOSE, str(tmp_path / "store")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "alive\n", "")
