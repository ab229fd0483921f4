"""Stacks in a store: each page is an image of its own, and older stores are updated without loss."""

from __future__ import annotations

import shutil
import sqlite3
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from twinscope_client import connect
from twinscope_client.demo.micrographs import synthesise
from twinscope_indexer.compute import workers
from twinscope_indexer.errors import RemovalError
from twinscope_indexer.hashing.perceptual import PHash, hash_pixels
from twinscope_indexer.indexing import reading
from twinscope_indexer.indexing.run import count_images, index, preview
from twinscope_indexer.sources import location
from twinscope_indexer.store.catalog.catalog import Record
from twinscope_indexer.store.reader import CATALOG_NAME, Store, open_writer

BLANK = np.full((120, 160), 9, np.uint8)


def scene(number: int, category: str = "Tips") -> np.ndarray:
    return np.asarray(synthesise(category, number, width=160, height=120), np.uint8)


def write_stack(target: Any, *pages: np.ndarray) -> None:
    with tifffile.TiffWriter(target) as writer:
        for page in pages:
            writer.write(page, contiguous=False, metadata=None)


def stored(folder: Path) -> dict[str, Record]:
    store = Store(folder)
    try:
        return {record.uri.rpartition("/")[2]: record for record in store.catalog.all_records()}
    finally:
        store.close()


def failed(folder: Path) -> dict[str, str]:
    store = Store(folder)
    try:
        return {failure.uri.rpartition("/")[2]: failure.fault for failure in store.catalog.failures()}
    finally:
        store.close()


def damage(path: Path, page: int) -> None:
    """Change the offset of the pixels of a page to a position after the end of the file."""
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages[page - 1].tags["StripOffsets"].overwrite(1 << 30)


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "Tips"
    folder.mkdir(parents=True)
    write_stack(folder / "s.tif", *(scene(n) for n in range(4)))
    tifffile.imwrite(folder / "single.tif", scene(9))
    return tmp_path / "data"


@pytest.mark.parametrize("processes", [0, 2])
def test_each_page_is_an_image(collection: Path, tmp_path: Path, processes: int) -> None:
    report = index(collection, tmp_path / "store", workers=processes)
    assert (report.counts["added"], report.searchable, count_images([collection])) == (5, 5, 5)
    records = stored(tmp_path / "store")
    assert sorted(records) == ["s.tif#page=1", "s.tif#page=2", "s.tif#page=3", "s.tif#page=4", "single.tif"]
    for number in range(4):
        hashed = hash_pixels(scene(number))
        assert isinstance(hashed, PHash)
        assert records[f"s.tif#page={number + 1}"].hash == hashed.code
    assert len({record.id for record in records.values()}) == 5
    assert len({record.sha256 for record in records.values()}) == 2
    again = index(collection, tmp_path / "store", workers=processes)
    assert (again.counts["unchanged"], again.counts.total(), again.generation) == (5, 5 + 0, report.generation)


def test_a_search_names_the_page(collection: Path, tmp_path: Path) -> None:
    index(collection, tmp_path / "store", workers=0)
    with connect(tmp_path / "store") as engine:
        answer = engine.search(scene(2))
        assert answer.grade == "excellent"
        assert answer.matches[0].source == f"{collection}/Tips/s.tif#page=3"
        of_page = engine.search(f"{collection}/Tips/s.tif#page=2")
        assert (of_page.grade, of_page.matches[0].source) == ("excellent", f"{collection}/Tips/s.tif#page=2")


def test_only_the_first_page_on_request(collection: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert index(collection, store, pages="first", workers=0).counts["added"] == 2
    first = stored(store)["s.tif"]
    assert index(collection, store, workers=0).counts["unchanged"] == 2  # the option is saved in the store
    assert count_images([collection], "first") == 2
    more = index(collection, store, pages="all", workers=0)
    assert (more.counts["added"], more.counts["unchanged"], more.searchable) == (3, 2, 5)
    assert stored(store)["s.tif#page=1"].id == first.id
    fewer = index(collection, store, pages="first", workers=0)
    assert (fewer.counts["removed"], fewer.counts["unchanged"], fewer.searchable) == (3, 2, 2)
    assert stored(store)["s.tif"].id == first.id


def test_many_pages_are_not_taken_out_by_accident(collection: Path, tmp_path: Path) -> None:
    write_stack(collection / "Tips" / "s.tif", *(scene(n) for n in range(13)))
    index(collection, tmp_path / "store", workers=0)
    foreseen = preview(collection, tmp_path / "store", pages="first")
    assert (foreseen.counts["unchanged"], foreseen.counts["removed"]) == (2, 12)
    assert foreseen.categories == {"Tips": 2}
    before = stored(tmp_path / "store")
    with pytest.raises(RemovalError, match="12 images whose files or pages no longer exist"):
        index(collection, tmp_path / "store", workers=0, pages="first")
    assert stored(tmp_path / "store") == before
    assert +index(collection, tmp_path / "store", workers=0).counts == {"unchanged": 14}
    allowed = index(collection, tmp_path / "store", workers=0, pages="first", allow_removals=True)
    assert (+allowed.counts, allowed.searchable) == (+foreseen.counts, 2)


def test_a_preview_counts_what_the_run_counts(collection: Path, tmp_path: Path) -> None:
    store, stack = tmp_path / "store", collection / "Tips" / "s.tif"
    for pages in (4, 6, 2, 1, 3):
        write_stack(stack, *(scene(n + pages) for n in range(pages)))
        foreseen = preview(collection, store)
        report = index(collection, store, workers=0)
        assert +foreseen.counts == +report.counts
        assert foreseen.categories == report.categories == {"Tips": pages + 1}
    stack.unlink()
    foreseen = preview(collection, store, prune=True)
    assert +foreseen.counts == +index(collection, store, workers=0, prune=True).counts


def test_pages_come_and_go_with_the_file(collection: Path, tmp_path: Path) -> None:
    store, path = tmp_path / "store", collection / "Tips" / "s.tif"
    index(collection, store, workers=0)
    ids = {name: record.id for name, record in stored(store).items()}
    write_stack(path, scene(0), scene(7))
    report = index(collection, store, workers=0)
    assert (report.counts["changed"], report.counts["removed"], report.searchable) == (2, 2, 3)
    write_stack(path, scene(0))
    assert index(collection, store, workers=0).searchable == 2
    assert stored(store)["s.tif"].id == ids["s.tif#page=1"]
    write_stack(path, *(scene(n) for n in range(4)))
    index(collection, store, workers=0)
    assert {name: record.id for name, record in stored(store).items()} == ids


@pytest.mark.parametrize("processes", [0, 2])
def test_a_damaged_page_is_listed_and_tried_again(collection: Path, tmp_path: Path, processes: int) -> None:
    store, path = tmp_path / "store", collection / "Tips" / "s.tif"
    whole = path.read_bytes()
    damage(path, 2)
    report = index(collection, store, workers=processes)
    assert (report.counts["added"], report.counts["failed"]) == (4, 1)
    assert [uri for uri, _ in report.failures] == [f"{path}#page=2"]
    assert failed(store) == {"s.tif#page=2": "truncated"}
    again = index(collection, store, workers=processes)
    assert (again.counts["unchanged"], again.counts["failed"]) == (4, 1)
    path.write_bytes(whole)
    repaired = index(collection, store, workers=processes)
    assert (repaired.searchable, repaired.counts["failed"]) == (5, 0)
    assert failed(store) == {}


def test_a_stack_that_is_cut_off_is_listed(collection: Path, tmp_path: Path) -> None:
    path = collection / "Tips" / "s.tif"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 300])
    report = index(collection, tmp_path / "store", workers=0)
    assert (report.counts["failed"], report.searchable) == (2, 3)
    assert failed(tmp_path / "store") == {"s.tif#page=3": "truncated", "s.tif#page=4": "truncated"}


def test_a_blank_page_is_named(collection: Path, tmp_path: Path) -> None:
    write_stack(collection / "Tips" / "s.tif", BLANK, scene(1), scene(2))
    report = index(collection, tmp_path / "store", workers=0)
    assert (report.counts["unhashable"], report.counts["added"]) == (1, 3)
    assert stored(tmp_path / "store")["s.tif#page=1"].unhashable


@pytest.mark.parametrize("processes", [0, 2])
def test_stacks_in_archives(collection: Path, tmp_path: Path, processes: int) -> None:
    packed = tmp_path / "packed.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for name in ("s.tif", "single.tif"):
            archive.write(collection / "Tips" / name, f"Tips/{name}")
    index(packed, tmp_path / "store", workers=processes)
    index(collection, tmp_path / "plain", workers=0)
    names = {"packed.zip!Tips/" + name: record.hash for name, record in stored(tmp_path / "plain").items()}
    found = {f"packed.zip!Tips/{name}": record.hash for name, record in stored(tmp_path / "store").items()}
    assert found == names
    with connect(tmp_path / "store") as engine:
        answer = engine.search(scene(3))
        assert (answer.grade, answer.matches[0].source) == ("excellent", f"{packed}!Tips/s.tif#page=4")
    assert index(packed, tmp_path / "store", workers=processes).counts["unchanged"] == 5


@pytest.mark.parametrize("processes", [0, 2])
def test_many_pages_are_read_in_parts(
    collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    parts: list[int] = []
    read_by = reading.read_by

    def counted(pool: Any, task: Any) -> Any:
        outcome = read_by(pool, task)
        parts.append(len(outcome.images))
        return outcome

    monkeypatch.setattr("twinscope_indexer.indexing.update.read_by", counted)
    write_stack(collection / "Tips" / "s.tif", *(scene(n) for n in range(35)))
    report = index(collection, tmp_path / "store", workers=processes)
    assert report.counts["added"] == 36
    assert sorted(parts) == [1, 3, 16, 16]
    assert index(collection, tmp_path / "store", workers=processes).counts["unchanged"] == 36


def test_an_interrupted_stack_is_completed(collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_stack(collection / "Tips" / "s.tif", *(scene(n) for n in range(20)))

    def stop(outcome: str) -> None:
        done.append(outcome)
        if len(done) == 5:
            raise KeyboardInterrupt

    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        index(collection, tmp_path / "store", workers=0, progress=stop)
    report = index(collection, tmp_path / "store", workers=0)
    assert (report.counts["unchanged"], report.counts["added"], report.searchable) == (5, 16, 21)


def test_one_page_of_a_stack(collection: Path, tmp_path: Path) -> None:
    path = collection / "Tips" / "s.tif"
    assert index(f"{path}#page=3", tmp_path / "store", workers=0).counts["added"] == 1
    assert list(stored(tmp_path / "store")) == ["s.tif#page=3"]
    index(path, tmp_path / "store", workers=0)
    assert len(stored(tmp_path / "store")) == 4
    index(f"{path}#page=3", tmp_path / "store", workers=0)
    assert len(stored(tmp_path / "store")) == 4


def test_a_crash_costs_one_page(collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_page = reading.read_page

    def call(_: Any, function: Any, task: Any) -> Any:
        if function is reading.read and task.item.name == "s.tif":
            raise workers.WorkerLostError("crashed")
        if function is read_page and task.numbers[task.begin] == 2:
            raise workers.WorkerLostError("crashed again")
        return function(task)

    monkeypatch.setattr(workers.Workers, "call", call)
    report = index(collection, tmp_path / "store", workers=1)
    assert (report.counts["added"], report.counts["failed"]) == (4, 1)
    assert report.failures == [(f"{collection}/Tips/s.tif#page=2", "the process that read it crashed again")]


def test_large_files_are_read_in_parts(collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index(collection, tmp_path / "whole", workers=0)
    monkeypatch.setattr(location, "_READ_WHOLE", 0)
    index(collection, tmp_path / "parts", workers=0)
    before, after = stored(tmp_path / "whole"), stored(tmp_path / "parts")
    assert {name: (one.hash, one.sha256, one.id) for name, one in before.items()} == {
        name: (one.hash, one.sha256, one.id) for name, one in after.items()
    }
    with connect(tmp_path / "parts") as engine:
        assert engine.search(scene(9)).grade == "excellent"


# -- stores from before -------------------------------------------------------------------------------------------


def without_pages(folder: Path) -> None:
    """Turn a store into one of schema version 4."""
    with sqlite3.connect(folder / CATALOG_NAME) as db:
        db.executescript(
            "DROP INDEX images_by_source; DROP INDEX failures_by_source;"
            "ALTER TABLE images DROP COLUMN page; ALTER TABLE images DROP COLUMN pages;"
            "ALTER TABLE images_before DROP COLUMN page; ALTER TABLE images_before DROP COLUMN pages;"
            "ALTER TABLE failures DROP COLUMN page;"
            "CREATE UNIQUE INDEX images_by_source ON images (root_id, path, ifnull(member, ''));"
            "CREATE UNIQUE INDEX failures_by_source ON failures (root_id, path, ifnull(member, ''));"
            "UPDATE meta SET value = '4' WHERE key = 'schema_version';"
            "DELETE FROM meta WHERE key = 'pages';"
        )
    db.close()


@pytest.fixture
def old_store(collection: Path, tmp_path: Path) -> Path:
    (collection / "Tips" / "broken.tif").write_bytes(b"II*\0")
    index(collection, tmp_path / "store", pages="first", workers=0)
    without_pages(tmp_path / "store")
    return tmp_path / "store"


def test_a_store_without_pages_is_searched(old_store: Path, collection: Path) -> None:
    assert sorted(stored(old_store)) == ["s.tif", "single.tif"]
    assert failed(old_store) == {"broken.tif": "truncated"}
    with connect(old_store) as engine:
        answer = engine.search(scene(0))
        assert (answer.grade, answer.matches[0].source) == ("excellent", f"{collection}/Tips/s.tif")


def test_a_store_without_pages_gets_them_when_it_is_indexed(old_store: Path, collection: Path) -> None:
    ids = {name: record.id for name, record in stored(old_store).items()}
    report = index(collection, old_store, workers=0)
    assert (report.counts["added"], report.counts["unchanged"], report.counts["failed"]) == (3, 2, 1)
    now = {name: record.id for name, record in stored(old_store).items()}
    assert (now["s.tif#page=1"], now["single.tif"], len(now)) == (ids["s.tif"], ids["single.tif"], 5)


def test_a_reader_that_is_open_sees_the_conversion(old_store: Path, collection: Path) -> None:
    store = Store(old_store)
    try:
        assert len(list(store.catalog.all_records())) == 2
        index(collection, old_store, workers=0)
        assert len(store.view.records([one.id for one in store.catalog.all_records()])) == 2
        assert {one.page for one in store.catalog.all_records()} == {0, 1, 2, 3, 4}
        store.refresh()
        assert len(store.view.records([one.id for one in store.catalog.all_records()])) == 5
    finally:
        store.close()


def test_a_conversion_keeps_unpublished_rows_apart(old_store: Path, collection: Path) -> None:
    """A run on the old store was killed before it published; readers still see the old rows after the conversion."""
    shutil.copytree(old_store, old_store.with_name("copy"))
    with open_writer(old_store) as writer:
        [record] = [one for one in writer.catalog.all_records() if one.path.endswith("single.tif")]
        writer.catalog.relabel(record.id, "Fibres", "L9", record.taxonomy, writer.generation)
    store = Store(old_store)
    try:
        assert store.view.records([record.id])[record.id].category == "Tips"
    finally:
        store.close()


def test_a_new_catalog_equals_a_converted_one(old_store: Path, tmp_path: Path) -> None:
    with open_writer(old_store):
        pass
    index(tmp_path / "data", tmp_path / "new", workers=0)
    columns = []
    for folder in (old_store, tmp_path / "new"):
        with sqlite3.connect(folder / CATALOG_NAME) as db:
            tables = ("images", "images_before", "failures")
            columns.append([[row[1] for row in db.execute(f"PRAGMA table_info({table})")] for table in tables])
        db.close()
    assert columns[0] == columns[1]
