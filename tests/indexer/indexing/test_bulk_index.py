"""Bulk indexing: a store contains every image exactly once, even if files are bad or runs are interrupted."""

from __future__ import annotations

import io
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from interruptible import popen
from PIL import Image
from scipy import ndimage
from twinscope_client.labelling.journal import Journal
from twinscope_indexer.compute.ordered import in_order
from twinscope_indexer.errors import SourceError, StoreError, TaxonomyError
from twinscope_indexer.hashing.perceptual import PHash, hash_pixels
from twinscope_indexer.hashing.thumbnail import decode_thumbnail, thumbnail_shape
from twinscope_indexer.imaging.reader import read_image
from twinscope_indexer.indexing import reading, update
from twinscope_indexer.indexing.run import IndexReport, count_images, index
from twinscope_indexer.store.catalog.catalog import Record
from twinscope_indexer.store.reader import CATALOG_NAME, Store
from twinscope_indexer.taxonomy import Category, Taxonomy, load_taxonomy


def png(seed: int) -> bytes:
    """Return a small PNG with texture. Each seed gives a different image."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((48, 64)), 2)
    pixels = ((field - field.min()) / np.ptp(field) * 255).astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG", compress_level=1)
    return data.getvalue()


def flat() -> bytes:
    data = io.BytesIO()
    Image.new("L", (32, 24), 90).save(data, "PNG")
    return data.getvalue()


def code_of(data: bytes) -> bytes:
    hashed = hash_pixels(read_image(data).pixels)
    assert isinstance(hashed, PHash)
    return hashed.code


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def collection(folder: Path, *names: str, first: int = 0) -> Path:
    """Write images with these names; the seed of each is its position in the list."""
    for seed, name in enumerate(names, start=first):
        put(folder / name, png(seed))
    return folder


@contextmanager
def opened(folder: Path) -> Iterator[Store]:
    store = Store(folder)
    try:
        yield store
    finally:
        store.close()


def records(folder: Path) -> list[Record]:
    with opened(folder) as store:
        return list(store.catalog.all_records())


def labels(folder: Path, below: Path) -> dict[str, str]:
    """Return the code of every image by its path below a folder."""
    return {record.uri.removeprefix(f"{below}/"): record.code for record in records(folder)}


def failures(folder: Path) -> dict[str, str]:
    with opened(folder) as store:
        return {Path(failure.uri).name: failure.fault for failure in store.catalog.failures()}


def found(folder: Path, data: bytes) -> list[str]:
    """Return the names of the images with the same hash as some data."""
    with opened(folder) as store:
        [near] = store.view.search(np.frombuffer(code_of(data), np.uint8)[None], 100, 0)
        rows = store.records(near.ids.tolist())
        assert len(rows) == len(near.ids)
        return sorted(record.uri.rpartition("/")[2] for record in rows.values())


def counted(report: IndexReport) -> dict[str, int]:
    return {outcome: number for outcome, number in report.counts.items() if number}


def tar_bytes(*members: tuple[str, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as stream:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            stream.addfile(info, io.BytesIO(content))
    return data.getvalue()


def forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test if any image is read."""

    def refuse(*_: object) -> None:
        raise AssertionError("an image was read unnecessarily")

    monkeypatch.setattr(update.SourceUpdate, "_read", refuse)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A collection, `data`, of four images, indexed in `store`."""
    collection(tmp_path / "data", "Tips/a.png", "Tips/b.png", "Powder/c.png", "Powder/d.png")
    report = index([tmp_path / "data"], tmp_path / "store", workers=2)
    assert counted(report) == {"added": 4}
    return tmp_path


# -- one run ------------------------------------------------------------------------------------------------------


def test_record_describes_the_file(tmp_path):
    data = png(5)
    path = put(tmp_path / "data" / "Tips" / "L5_x.png", data)
    report = index([tmp_path / "data"], tmp_path / "store")
    [record] = records(tmp_path / "store")
    assert record.uri == str(path)
    assert (record.size, record.mtime_ns) == (len(data), path.stat().st_mtime_ns)
    assert (record.format, record.mode, record.bits, record.width, record.height) == ("PNG", "L", 8, 64, 48)
    assert (record.category, record.code, record.published_prefix) == ("Tips", "L9", "L5")
    assert (record.hash, record.unhashable, record.generation) == (code_of(data), None, 1)
    assert record.indexed_at.endswith("Z")
    assert (report.searchable, report.generation, report.prefixes, report.contradicting_prefixes) == (1, 1, 1, 1)
    with opened(tmp_path / "store") as store:
        thumbnail = store.catalog.thumbnail(record.id)
        assert thumbnail is not None
        assert decode_thumbnail(thumbnail).shape == thumbnail_shape((48, 64))


def test_every_image_is_found_by_its_own_hash(base):
    for seed, name in enumerate(["a.png", "b.png", "c.png", "d.png"]):
        assert found(base / "store", png(seed)) == [name]


def test_archives_folders_and_single_files_are_indexed(tmp_path):
    collection(tmp_path / "data", "Tips/a.png")
    put(tmp_path / "data" / "Powder.tar", tar_bytes(("b.png", png(1)), ("x/c.png", png(2)), ("Fibres/z.png", png(9))))
    with zipfile.ZipFile(tmp_path / "MEMS.zip", "w") as box:
        box.writestr("x/d.png", png(3))
    single = put(tmp_path / "Particles" / "e.png", png(4))
    index([tmp_path / "data", tmp_path / "MEMS.zip", single], tmp_path / "store")
    assert labels(tmp_path / "store", tmp_path) == {
        "data/Powder.tar!x/c.png": "L8",
        "data/Powder.tar!b.png": "L8",
        "data/Tips/a.png": "L9",
        "MEMS.zip!x/d.png": "L3",
        "Particles/e.png": "L5",
    }


def test_single_file_source_ignores_its_neighbours(tmp_path):
    collection(tmp_path / "Tips", "a.png", "b.png")
    assert counted(index([tmp_path / "Tips" / "b.png"], tmp_path / "store")) == {"added": 1}
    assert counted(index([tmp_path / "Tips" / "a.png"], tmp_path / "store")) == {"added": 1}
    assert counted(index([tmp_path / "Tips"], tmp_path / "store")) == {"unchanged": 2}


def test_images_without_structure_are_kept_but_not_searched(tmp_path):
    put(tmp_path / "data" / "Tips" / "flat.png", flat())
    collection(tmp_path / "data", "Tips/a.png")
    report = index([tmp_path / "data"], tmp_path / "store")
    assert counted(report) == {"added": 1, "unhashable": 1}
    assert report.searchable == 1
    assert [record.unhashable for record in records(tmp_path / "store")] == [
        None,
        "featureless: every pixel has the grey value 90",
    ]
    assert counted(index([tmp_path / "data"], tmp_path / "store")) == {"unchanged": 2}


def test_progress_reports_every_image(tmp_path):
    collection(tmp_path / "data", "Tips/a.png", "Tips/b.png", "Cats/c.png")
    put(tmp_path / "data" / "Tips" / "bad.png", b"no image")
    outcomes: list[str] = []
    index([tmp_path / "data"], tmp_path / "store", progress=outcomes.append)
    assert sorted(outcomes) == ["added", "added", "failed", "failed"]
    assert count_images([tmp_path / "data"]) == 4


# -- order does not matter ----------------------------------------------------------------------------------------


def comparable(folder: Path) -> list[Record]:
    return sorted((replace(record, indexed_at="") for record in records(folder)), key=lambda record: record.id)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two collections that share some images, with failures and an archive."""
    root = tmp_path_factory.mktemp("large")
    for number in range(24):
        put(
            root / ("one" if number % 2 else "two") / ("Tips", "Powder")[number % 3 == 0] / f"{number}.png",
            png(number % 20),
        )
    put(root / "one" / "Fibres.tar", tar_bytes(*((f"{n}.png", png(n % 20)) for n in range(24, 34))))
    put(root / "one" / "Tips" / "bad.png", b"no image")
    put(root / "two" / "Tips" / "flat.png", flat())
    return root


@pytest.mark.parametrize(
    ("sources", "workers"), [(("one", "two"), 4), (("two", "one"), 1), (("two", "one"), 4)], ids=str
)
def test_workers_and_source_order_do_not_change_the_store(large, tmp_path, sources, workers):
    index([large / "one", large / "two"], tmp_path / "plain", workers=1)
    index([large / name for name in sources], tmp_path / "other", workers=workers)
    assert comparable(tmp_path / "other") == comparable(tmp_path / "plain")
    assert failures(tmp_path / "other") == failures(tmp_path / "plain") == {"bad.png": "unsupported"}
    queries = np.stack([np.frombuffer(code_of(png(seed)), np.uint8) for seed in range(22)])
    answers = []
    for name in ("plain", "other"):
        with opened(tmp_path / name) as store:
            answers.append([(n.ids.tolist(), n.distances.tolist()) for n in store.view.search(queries, 3, 1024)])
    assert answers[0] == answers[1]


def test_several_runs_build_the_same_store_as_one(large, tmp_path):
    index([large / "one", large / "two"], tmp_path / "plain")
    for source in (large / "two", large / "one", large / "two"):
        index([source], tmp_path / "other", workers=3)
    strip = [replace(record, generation=0) for record in comparable(tmp_path / "plain")]
    assert [replace(record, generation=0) for record in comparable(tmp_path / "other")] == strip


# -- repeated runs -------------------------------------------------------------------------------------------------


def test_unchanged_files_are_not_read_again(base, monkeypatch):
    forbid_reading(monkeypatch)
    report = index([base / "data"], base / "store")
    assert counted(report) == {"unchanged": 4}
    assert report.generation == 1


def test_touched_file_with_same_content_is_read_only_once(base, monkeypatch):
    os.utime(base / "data/Tips/a.png", (1, 1))
    report = index([base / "data"], base / "store")
    assert counted(report) == {"unchanged": 4}
    assert report.generation == 1
    forbid_reading(monkeypatch)
    assert counted(index([base / "data"], base / "store")) == {"unchanged": 4}


def test_a_changed_file_is_replaced_under_its_id(base):
    before = {record.path: record.id for record in records(base / "store")}
    put(base / "data/Tips/a.png", png(77))
    report = index([base / "data"], base / "store")
    assert counted(report) == {"changed": 1, "unchanged": 3}
    assert report.generation == 2
    assert {record.path: record.id for record in records(base / "store")} == before
    assert found(base / "store", png(77)) == ["a.png"]
    assert found(base / "store", png(0)) == []


def test_file_that_became_unhashable_is_no_longer_searched(base):
    put(base / "data/Tips/a.png", flat())
    assert counted(index([base / "data"], base / "store")) == {"unhashable": 1, "unchanged": 3}
    assert found(base / "store", png(0)) == []


def test_a_vanished_file_is_reported_and_kept(base):
    (base / "data/Tips/a.png").unlink()
    for _ in range(2):
        report = index([base / "data"], base / "store")
        assert counted(report) == {"unchanged": 3, "vanished": 1}
        assert report.vanished == [str(base / "data/Tips/a.png")]
    assert found(base / "store", png(0)) == ["a.png"]


def test_vanished_file_is_pruned_and_can_come_back(base):
    (base / "data/Tips/a.png").unlink()
    report = index([base / "data"], base / "store", prune=True)
    assert counted(report) == {"unchanged": 3, "vanished": 1, "removed": 1}
    assert report.searchable == 3
    assert found(base / "store", png(0)) == []
    put(base / "data/Tips/a.png", png(0))
    assert counted(index([base / "data"], base / "store", prune=True)) == {"unchanged": 3, "added": 1}
    assert found(base / "store", png(0)) == ["a.png"]


def test_only_the_source_that_was_walked_is_pruned(base):
    collection(base / "more", "Tips/e.png", first=9)
    index([base / "more"], base / "store")
    (base / "data/Tips/a.png").unlink()
    (base / "data/Powder/c.png").unlink()
    (base / "more/Tips/e.png").unlink()
    assert counted(index([base / "data/Tips"], base / "store", prune=True)) == {
        "unchanged": 1, "vanished": 1, "removed": 1,
    }  # fmt: skip
    assert [Path(uri).name for uri in labels(base / "store", base)] == ["c.png", "d.png", "b.png", "e.png"]


def test_pruning_refuses_a_source_without_any_image(base):
    for path in (base / "data").rglob("*.png"):
        path.unlink()
    with pytest.raises(SourceError, match="mounted"):
        index([base / "data"], base / "store", prune=True)
    assert found(base / "store", png(0)) == ["a.png"]


def test_images_below_an_unreadable_folder_are_not_vanished(base, monkeypatch):
    (base / "data/Powder/d.png").unlink()
    listing = os.scandir

    def guarded(path: Path) -> object:
        if Path(path).name == "Tips":
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", guarded)
    report = index([base / "data"], base / "store", prune=True)
    assert counted(report) == {"unchanged": 1, "vanished": 1, "removed": 1}
    assert report.unreadable == [(str(base / "data/Tips"), "no permission to read it")]
    assert failures(base / "store") == {"Tips": "unreadable"}
    monkeypatch.undo()
    assert counted(index([base / "data"], base / "store", prune=True)) == {"unchanged": 3}
    assert failures(base / "store") == {}


def test_images_lost_in_a_damaged_archive_are_not_vanished(tmp_path):
    whole = tar_bytes(*((f"{seed}.png", png(seed)) for seed in range(4)))
    box = put(tmp_path / "data" / "Tips.tar", whole)
    index([tmp_path / "data"], tmp_path / "store")
    put(box, whole[: whole.index(b"2.png")])
    report = index([tmp_path / "data"], tmp_path / "store", prune=True)
    assert report.counts["removed"] == 0
    assert [path for path, _ in report.unreadable] == [str(box)]
    assert found(tmp_path / "store", png(3)) == ["Tips.tar!3.png"]
    put(box, whole)
    index([tmp_path / "data"], tmp_path / "store", prune=True)
    assert failures(tmp_path / "store") == {}
    assert len(records(tmp_path / "store")) == 4


def test_members_that_left_their_archive_have_vanished(tmp_path):
    box = put(tmp_path / "data" / "Tips.tar", tar_bytes(("a.png", png(0)), ("b.png", png(1))))
    index([tmp_path / "data"], tmp_path / "store")
    put(box, tar_bytes(("b.png", png(1)), ("c.png", png(2))))
    report = index([tmp_path / "data"], tmp_path / "store", prune=True)
    assert counted(report) == {"unchanged": 1, "added": 1, "vanished": 1, "removed": 1}
    assert found(tmp_path / "store", png(0)) == []


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_last_of_members_with_the_same_name_is_indexed(tmp_path, kind):
    data = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(data, "w") as box:
            for seed in (0, 1):
                box.writestr("a.png", png(seed))
        content = data.getvalue()
    else:
        content = tar_bytes(("a.png", png(0)), ("a.png", png(1)))
    put(tmp_path / "data" / f"Tips.{kind}", content)
    assert counted(index([tmp_path / "data"], tmp_path / "store", workers=4)) == {"added": 1}
    assert found(tmp_path / "store", png(1)) == [f"Tips.{kind}!a.png"]
    with sqlite3.connect(tmp_path / "store" / CATALOG_NAME) as db:
        assert db.execute("SELECT (SELECT count(*) FROM images), (SELECT count(*) FROM thumbnails)").fetchone() == (
            1,
            1,
        )
    db.close()


# -- failures ------------------------------------------------------------------------------------------------------


def test_bad_files_do_not_stop_the_others(tmp_path):
    collection(tmp_path / "data", "Tips/a.png", "Tips/z.png")
    put(tmp_path / "data/Tips/empty.png", b"")
    put(tmp_path / "data/Tips/text.jpg", b"not an image")
    put(tmp_path / "data/Tips/cut.png", png(3)[:700])
    (tmp_path / "data/Tips/nowhere.png").symlink_to("nothing")
    report = index([tmp_path / "data"], tmp_path / "store")
    assert counted(report) == {"added": 2, "failed": 3}
    assert sorted(Path(uri).name for uri, _ in report.failures) == ["cut.png", "empty.png", "text.jpg"]
    assert failures(tmp_path / "store") == {
        "cut.png": "truncated", "empty.png": "empty", "text.jpg": "unsupported", "nowhere.png": "unreadable",
    }  # fmt: skip


def test_failures_are_retried_and_forgotten_when_fixed_or_gone(base):
    put(base / "data/Tips/fixed.png", b"broken")
    put(base / "data/Tips/gone.png", b"broken")
    put(base / "data/Tips/still.png", b"broken")
    for _ in range(2):
        assert counted(index([base / "data"], base / "store")) == {"unchanged": 4, "failed": 3}
        assert set(failures(base / "store")) == {"fixed.png", "gone.png", "still.png"}
    put(base / "data/Tips/fixed.png", png(8))
    (base / "data/Tips/gone.png").unlink()
    assert counted(index([base / "data"], base / "store")) == {"unchanged": 4, "added": 1, "failed": 1}
    assert set(failures(base / "store")) == {"still.png"}


def test_failures_outside_the_source_are_not_forgotten(base):
    put(base / "data/Powder/bad.png", b"broken")
    index([base / "data"], base / "store")
    index([base / "data/Tips"], base / "store")
    assert set(failures(base / "store")) == {"bad.png"}


def test_image_that_became_unreadable_is_no_longer_searched(base):
    put(base / "data/Tips/a.png", b"overwritten by something else")
    assert counted(index([base / "data"], base / "store")) == {"unchanged": 3, "failed": 1}
    assert found(base / "store", png(0)) == []
    put(base / "data/Tips/a.png", png(0))
    assert counted(index([base / "data"], base / "store")) == {"unchanged": 3, "added": 1}
    assert found(base / "store", png(0)) == ["a.png"]
    assert failures(base / "store") == {}


@pytest.mark.parametrize("error", [TypeError("odd tag"), MemoryError()], ids=["unexpected", "memory"])
def test_unexpected_decoder_error_costs_one_image(tmp_path, monkeypatch, error):
    collection(tmp_path / "data", "Tips/a.png", "Tips/b.png")
    real = reading.describe

    def weak(*content: object, name: str, **options: object) -> object:
        if name.endswith("a.png"):
            raise error
        return real(*content, name=name, **options)

    monkeypatch.setattr(reading, "describe", weak)
    assert counted(index([tmp_path / "data"], tmp_path / "store", workers=0)) == {"added": 1, "failed": 1}
    assert set(failures(tmp_path / "store")) == {"a.png"}


def test_report_lists_are_limited_but_the_store_is_complete(tmp_path):
    for number in range(45):
        put(tmp_path / "data/Tips" / f"{number}.png", b"x")
    report = index([tmp_path / "data"], tmp_path / "store")
    assert report.counts["failed"] == len(failures(tmp_path / "store")) == 45
    assert len(report.failures) < 45


def test_names_of_any_bytes_are_indexed_or_listed(tmp_path):
    odd = os.fsdecode(b"\xff\xfe caf\xe9")
    try:
        put(tmp_path / "data" / "Tips" / f"{odd}.png", png(0))
    except OSError:
        pytest.skip("the file system takes only UTF-8 names")
    put(tmp_path / "data" / odd / "b.png", png(1))
    put(tmp_path / "data" / f"{odd}.tar", b"no archive")
    put(tmp_path / "data" / "Tips" / "new\nline 'quoted\".png", png(2))
    for keep in (False, True):
        report = index([tmp_path / "data"], tmp_path / f"store{keep}", taxonomy=load_taxonomy(keep_unknown=keep))
        assert counted(report) == {"added": 2, "failed": 1}
        assert len(report.unreadable) == 1
        assert found(tmp_path / f"store{keep}", png(0)) == [f"{odd}.png"]
        assert counted(index([tmp_path / "data"], tmp_path / f"store{keep}")) == {"unchanged": 2, "failed": 1}


# -- categories ----------------------------------------------------------------------------------------------------


def test_images_of_an_unknown_category_fail_with_its_name(tmp_path):
    collection(tmp_path / "data", "Tips/a.png", "Cats/b.png", "Cats/c.png")
    report = index([tmp_path / "data"], tmp_path / "store")
    assert counted(report) == {"added": 1, "failed": 2}
    [(message, number)] = report.unknown_categories.items()
    assert number == 2
    assert message == "'Cats' is not a category"
    assert "Tips (L9)" in report.known_categories
    with opened(tmp_path / "store") as store:
        assert all("Tips (L9)" in failure.message for failure in store.catalog.failures())
    assert failures(tmp_path / "store") == {"b.png": "no_category", "c.png": "no_category"}


def test_unknown_categories_can_be_kept_and_then_known(tmp_path):
    collection(tmp_path / "data", "Tips/a.png", "Cats/b.png")
    index([tmp_path / "data"], tmp_path / "store")
    report = index([tmp_path / "data"], tmp_path / "store", taxonomy=load_taxonomy(keep_unknown=True))
    assert counted(report) == {"unchanged": 1, "added": 1}
    assert labels(tmp_path / "store", tmp_path / "data") == {"Cats/b.png": "Cats", "Tips/a.png": "L9"}
    assert failures(tmp_path / "store") == {}
    own = Taxonomy("own/1", (Category("C", "Cats"), Category("T", "Tips")))
    assert counted(index([tmp_path / "data"], tmp_path / "store", taxonomy=own)) == {"relabelled": 2}
    assert labels(tmp_path / "store", tmp_path / "data") == {"Cats/b.png": "C", "Tips/a.png": "T"}
    assert {record.taxonomy for record in records(tmp_path / "store")} == {"own/1"}


def test_many_unknown_categories_do_not_fill_the_report(tmp_path):
    collection(tmp_path / "data", *(f"unknown{number}/a.png" for number in range(230)))
    report = index([tmp_path / "data"], tmp_path / "store", workers=0)
    assert report.unknown_categories.total() == report.counts["failed"] == 230
    assert len(report.unknown_categories) < 230


def test_relabelling_reads_no_image_and_makes_a_generation(base, monkeypatch):
    table = put(base / "labels.csv", b"file,category\nTips/a.png,Fibres\nb.png,L9\nPowder/c.png,L8\nPowder/d.png,L8\n")
    files = sorted((base / "store").glob("index-*"))
    with opened(base / "store") as store:
        forbid_reading(monkeypatch)
        report = index([base / "data"], base / "store", labels=str(table))
        assert counted(report) == {"relabelled": 1, "unchanged": 3}
        assert report.generation == store.refresh().generation == 2
    assert labels(base / "store", base / "data")["Tips/a.png"] == "L1"
    assert sorted((base / "store").glob("index-*")) == files
    assert found(base / "store", png(0)) == ["a.png"]
    assert index([base / "data"], base / "store", labels=str(table)).generation == 2


def test_image_with_withdrawn_label_is_no_longer_searched(base):
    """Otherwise, the store would keep a wrong label after the table was corrected."""
    table = put(base / "labels.csv", b"file,category\na.png,Tips\nb.png,Tips\nc.png,Powder\n")
    report = index([base / "data"], base / "store", labels=str(table))
    assert counted(report) == {"unchanged": 3, "failed": 1, "withdrawn": 1}
    assert found(base / "store", png(3)) == []
    assert failures(base / "store") == {"d.png": "no_category"}
    again = index([base / "data"], base / "store", labels="folder")
    assert counted(again) == {"unchanged": 3, "added": 1}


def test_prefixes_label_only_on_request(tmp_path):
    collection(tmp_path / "data", "Tips/L5_a.png", "Tips/L9_b.png", "Tips/c.png")
    report = index([tmp_path / "data"], tmp_path / "store")
    assert set(labels(tmp_path / "store", tmp_path).values()) == {"L9"}
    assert (report.prefixes, report.contradicting_prefixes) == (2, 1)
    report = index([tmp_path / "data"], tmp_path / "other", labels="prefix")
    assert counted(report) == {"added": 2, "failed": 1}
    assert labels(tmp_path / "other", tmp_path / "data") == {"Tips/L5_a.png": "L5", "Tips/L9_b.png": "L9"}
    assert report.contradicting_prefixes == 0


def test_bad_table_or_source_is_refused_without_making_a_store(tmp_path):
    collection(tmp_path / "data", "Tips/a.png")
    with pytest.raises(TaxonomyError):
        index([tmp_path / "data"], tmp_path / "store", labels=str(tmp_path / "none.csv"))
    with pytest.raises(SourceError):
        index([tmp_path / "data", tmp_path / "none"], tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


# -- sources that overlap ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "runs",
    [
        [["data/Tips"], ["data"]],
        [["data"], ["data/Tips"]],
        [["data/Tips", "data"]],
        [["data", "data/Tips", "data"]],
        [["data/Tips/a.png"], ["data/Tips"], ["data"], ["."]],
        [["data/Tips"], ["data/Powder"], ["data"]],
    ],
    ids=str,
)
def test_overlapping_sources_index_no_image_twice(tmp_path, runs):
    collection(tmp_path / "lab/data", "Tips/a.png", "Tips/deep/b.png", "Powder/c.png")
    put(tmp_path / "lab/data/Tips/bad.png", b"broken")
    for sources in runs:
        index([tmp_path / "lab" / source for source in sources], tmp_path / "store")
    assert labels(tmp_path / "store", tmp_path / "lab/data") == {
        "Powder/c.png": "L8", "Tips/a.png": "L9", "Tips/deep/b.png": "L9",
    }  # fmt: skip
    with opened(tmp_path / "store") as store:
        assert len(list(store.catalog.failures())) == 1
        assert store.view.count == 3


def test_images_keep_their_ids_when_a_folder_above_is_indexed(base):
    before = {record.uri: record.id for record in records(base / "store")}
    report = index([base], base.parent / f"{base.name}-x", workers=1)  # a different store
    assert report.counts["added"] == 4
    assert counted(index([base], base / "store")) == {"unchanged": 4}
    assert {record.uri: record.id for record in records(base / "store")} == before


def test_subfolder_takes_its_category_from_a_known_parent(tmp_path):
    collection(tmp_path / "data", "Tips/2019/a.png")
    assert counted(index([tmp_path / "data/Tips/2019"], tmp_path / "store")) == {"failed": 1}
    index([tmp_path / "data"], tmp_path / "store")
    assert counted(index([tmp_path / "data/Tips/2019"], tmp_path / "store")) == {"unchanged": 1}
    assert failures(tmp_path / "store") == {}


def test_table_paths_are_relative_to_the_source(tmp_path):
    collection(tmp_path / "data", "Tips/a.png", "new/x/b.png", "new/b.png")
    index([tmp_path / "data/Tips"], tmp_path / "store")
    index([tmp_path / "data"], tmp_path / "store")
    table = put(tmp_path / "labels.csv", b"file,category\nx/b.png,Fibres\nb.png,Powder\n")
    index([tmp_path / "data/new"], tmp_path / "store", labels=str(table))
    assert labels(tmp_path / "store", tmp_path / "data") == {"Tips/a.png": "L9", "new/b.png": "L8", "new/x/b.png": "L1"}


def test_two_collections_in_one_store_stay_separate(base):
    collection(base / "other/data", "Tips/a.png", first=50)  # the same names below another folder
    assert counted(index([base / "other/data"], base / "store", prune=True)) == {"added": 1}
    assert len(records(base / "store")) == 5
    assert found(base / "store", png(0)) == ["a.png"]
    assert found(base / "store", png(50)) == ["a.png"]
    assert counted(index([base / "data"], base / "store", prune=True)) == {"unchanged": 4}


@pytest.mark.parametrize("named", ["data/store", "data/../data/store", "data/link"])
def test_a_store_within_its_source_is_not_indexed(tmp_path, monkeypatch, named):
    collection(tmp_path / "data", "Tips/a.png")
    (tmp_path / "data/store").mkdir()
    (tmp_path / "data/link").symlink_to("store")
    monkeypatch.chdir(tmp_path)
    index(["data"], Path(named))
    put(tmp_path / "data/store/image.png", png(5))
    report = index(["data"], Path(named), taxonomy=load_taxonomy(keep_unknown=True))
    assert counted(report) == {"unchanged": 1}
    assert report.ignored == {}


@pytest.mark.parametrize("source", ["store", "store/Tips", "store/Tips/a.png", "link"])
def test_a_store_cannot_be_a_source(tmp_path, source):
    collection(tmp_path / "store", "Tips/a.png")
    (tmp_path / "link").symlink_to("store/Tips")
    with pytest.raises(SourceError, match="within the store"):
        index([tmp_path / source], tmp_path / "store")
    assert not (tmp_path / "store" / CATALOG_NAME).exists()


def test_a_folder_of_images_does_not_become_a_store(base):
    with pytest.raises(StoreError, match="not empty"):
        index([base / "data/Tips"], base / "data/Powder")
    assert sorted(path.name for path in (base / "data/Powder").iterdir()) == ["c.png", "d.png"]


# -- memory --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 3])
def test_in_order_is_ordered_and_lazy(workers):
    taken, lead = 0, 0

    def pieces() -> Iterator[int]:
        nonlocal taken
        for number in range(200):
            taken += 1
            yield number

    def late(number: int) -> int:
        time.sleep(random.Random(number).random() / 2000)
        return number * number

    answers = []
    for answer in in_order(late, pieces(), workers):
        answers.append(answer)
        lead = max(lead, taken - len(answers))
    assert answers == [number * number for number in range(200)]
    assert lead <= 4 * workers + 1
    assert list(in_order(late, [], workers)) == []


def test_in_order_raises_an_error_in_order_and_ends_its_threads():
    def fail(number: int) -> int:
        if number == 3:
            raise KeyError(number)
        return number

    before = threading.active_count()
    answers = []
    with pytest.raises(KeyError):  # noqa: PT012  the earlier results must have been returned
        for answer in in_order(fail, iter(range(100)), 2):
            answers.append(answer)
    assert answers == [0, 1, 2]
    assert threading.active_count() == before


def test_in_order_closed_early_ends_its_threads():
    before = threading.active_count()
    answers = in_order(abs, iter(range(10_000)), 2)
    assert next(answers) == 0
    answers.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_a_run_holds_few_images_at_a_time(tmp_path, monkeypatch):
    for number in range(60):
        put(tmp_path / "data/Tips" / f"{number:02}.png", b"x")
    walked, done, lead = 0, 0, 0
    real = update.walk

    def counting(*args: object, **options: object) -> Iterator[object]:
        nonlocal walked
        for item in real(*args, **options):
            walked += 1
            yield item

    def step(_: str) -> None:
        nonlocal done, lead
        done += 1
        lead = max(lead, walked - done)

    monkeypatch.setattr(update, "walk", counting)
    index([tmp_path / "data"], tmp_path / "store", workers=2, progress=step)
    assert done == 60
    assert lead <= 10


# -- interrupted processes -----------------------------------------------------------------------------------------

HALTING = """
import sys, time
from twinscope_client.cli.main import main
from twinscope_indexer.indexing.update import SourceUpdate
write, written = SourceUpdate._write_outcome, []
def halting(self, *args):
    write(self, *args)
    written.append(args)
    if len(written) == 10:
        self._catalog.commit()
        self._catalog.begin()
        while True:  # a signal just before a single long sleep would be handled only after the sleep
            time.sleep(0.1)
SourceUpdate._write_outcome = halting
sys.exit(main(sys.argv[1:]))
"""
"""Program that runs the command, but halts after ten committed images."""

MANY, HALT = 120, 10


@contextmanager
def halted(source: Path, store: Path, until: Callable[[], bool]) -> Iterator[subprocess.Popen[str]]:
    """Start the halting ``twinscope index`` and wait until `until` returns True."""
    command = [sys.executable, "-c", HALTING, "index", str(source), "--store", str(store), "--workers", "1"]
    with popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            while not until():
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.02)
            yield process
        finally:
            process.kill()


def committed(store: Path) -> int:
    try:
        with sqlite3.connect(f"file:{store / CATALOG_NAME}?mode=ro", uri=True) as db:
            number = int(db.execute("SELECT count(*) FROM images").fetchone()[0])
        db.close()
    except sqlite3.OperationalError:
        return 0
    return number


def many(folder: Path) -> Path:
    return collection(folder, *(f"Tips/{number:03}.png" for number in range(MANY)))


def finished(source: Path, store: Path) -> str:
    command = [sys.executable, "-m", "twinscope_client.cli.main", "index", str(source), "--store", str(store)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def check_whole(store: Path) -> None:
    """Check that every image is in the store and its index exactly once."""
    rows = records(store)
    assert len(rows) == len({record.uri for record in rows}) == MANY
    with opened(store) as open_store:
        assert open_store.view.count == MANY
        codes = np.stack([np.frombuffer(record.hash or b"", np.uint8) for record in rows])
        nearest = open_store.view.search(codes, 2, 0)
        assert [near.ids.tolist() for near in nearest] == [[record.id] for record in rows]
        assert all(open_store.catalog.thumbnail(record.id) for record in rows)
    with sqlite3.connect(store / CATALOG_NAME) as db:
        assert db.execute("SELECT count(*) FROM thumbnails").fetchone() == (MANY,)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM], ids=lambda stop: stop.name)
def test_interrupted_run_keeps_finished_images_and_resumes(tmp_path, stop):
    source, store = many(tmp_path / "data"), tmp_path / "store"
    with halted(source, store, lambda: committed(store) >= HALT) as process:
        process.send_signal(stop)
        _, stderr = process.communicate()
    assert process.returncode == 130, stderr
    assert "kept" in stderr
    assert "Traceback" not in stderr
    rows = records(store)
    assert len(rows) == HALT
    with opened(store) as open_store:
        assert (open_store.view.generation, open_store.view.count) == (1, len(rows))
    assert found(store, png(0)) == ["000.png"]
    assert f"{MANY - HALT} added, {HALT} unchanged" in finished(source, store)
    check_whole(store)


def test_killed_run_loses_little_and_can_be_resumed(tmp_path):
    source, store = many(tmp_path / "data"), tmp_path / "store"
    with halted(source, store, lambda: committed(store) >= HALT) as process:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    with opened(store) as open_store:  # nothing was published, so no image is visible and none is damaged
        assert open_store.view.count == 0
    assert committed(store) == HALT
    assert f"{MANY - HALT} added, {HALT} unchanged" in finished(source, store)
    check_whole(store)


def test_killed_update_keeps_the_published_generation_intact(tmp_path):
    source, store = many(tmp_path / "data"), tmp_path / "store"
    finished(source, store)
    before = {record.uri: record.hash for record in records(store)}
    for number in range(MANY):
        put(source / "Tips" / f"{number:03}.png", png(1000 + number))

    def changed() -> bool:
        return sum(before[record.uri] != record.hash for record in records(store)) >= HALT

    with halted(source, store, changed) as process:
        process.kill()
        process.communicate()
    with opened(store) as open_store:
        assert (open_store.view.generation, open_store.view.count) == (1, MANY)
        codes = np.stack([np.frombuffer(code or b"", np.uint8) for code in before.values()])
        assert all(len(near.ids) == 1 for near in open_store.view.search(codes, 2, 0))
    finished(source, store)
    check_whole(store)
    assert found(store, png(3)) == []
    assert found(store, png(1003)) == ["003.png"]


def test_second_run_on_a_store_fails_and_names_the_first(tmp_path):
    source, store = many(tmp_path / "data"), tmp_path / "store"
    with halted(source, store, lambda: committed(store) >= HALT) as process:
        command = [sys.executable, "-m", "twinscope_client.cli.main", "index", str(source), "--store", str(store)]
        second = subprocess.run(command, capture_output=True, text=True, check=False)
        assert second.returncode == 1
        assert f"is being written by process {process.pid} on " in second.stderr
        assert process.poll() is None


def test_a_store_remembers_how_it_was_labelled(base):
    """Otherwise, a second run without these options would relabel every image without a message."""
    table = put(base / "labels.csv", b"file,category\nTips/a.png,Fibres\nb.png,Fibres\nc.png,Fibres\nd.png,Fibres\n")
    index([base / "data"], base / "store", labels=str(table))
    assert counted(index([base / "data"], base / "store")) == {"unchanged": 4}
    index([base / "data"], base / "store", labels="folder")
    assert labels(base / "store", base / "data")["Tips/a.png"] == "L9"


def test_kept_unknown_categories_stay_kept(tmp_path):
    collection(tmp_path / "data/Odd", "a.png")
    index([tmp_path / "data"], tmp_path / "store", keep_unknown=True)
    assert counted(index([tmp_path / "data"], tmp_path / "store")) == {"unchanged": 1}


def test_base_name_shared_by_two_images_labels_neither(tmp_path):
    put(tmp_path / "data/one/x.png", png(1))
    put(tmp_path / "data/two/x.png", png(2))
    put(tmp_path / "data/two/y.png", png(3))
    table = put(tmp_path / "labels.csv", b"file,category\nx.png,Tips\ny.png,Powder\n")
    report = index([tmp_path / "data"], tmp_path / "store", labels=str(table))
    assert counted(report) == {"added": 1, "failed": 2}
    assert report.unknown_categories == {"several images have the file name in the table of labels": 2}


def test_labelled_copies_never_become_references(tmp_path):
    collection(tmp_path / "data/Tips", "a.png")
    put(tmp_path / "data/out/Tips/L9_b.png", png(7))
    Journal(tmp_path / "data/out").close()
    report = index([tmp_path / "data"], tmp_path / "store")
    assert counted(report) == {"added": 1}
    assert report.runs == [str(tmp_path / "data/out")]


@pytest.mark.parametrize("run_folder", ["data/Tips", "data"])
def test_pruning_keeps_images_below_a_folder_marked_as_a_run(base, run_folder):
    (base / "data/Powder/d.png").unlink()
    Journal(base / run_folder).close()
    report = index([base / "data"], base / "store", prune=True)
    elsewhere = {"unchanged": 1, "vanished": 1, "removed": 1} if run_folder == "data/Tips" else {}
    assert counted(report) == elsewhere
    assert report.runs == [str(base / run_folder)]
    assert found(base / "store", png(0)) == ["a.png"]
    (base / run_folder / ".twinscope-run").unlink()
    assert index([base / "data"], base / "store", prune=True).counts["unchanged"] == 3


@pytest.mark.parametrize("kind", ["text", "folder"])
def test_file_named_like_a_journal_does_not_hide_images(base, kind):
    path = base / "data/Tips/run.sqlite"
    path.mkdir() if kind == "folder" else path.write_text("mine")
    report = index([base / "data"], base / "store", prune=True)
    assert counted(report) == {"unchanged": 4}
    assert report.runs == []


def test_labelled_copies_do_not_make_a_base_name_ambiguous(tmp_path):
    put(tmp_path / "data/one/x.png", png(1))
    put(tmp_path / "data/out/Tips/x.png", png(1))
    Journal(tmp_path / "data/out").close()
    table = put(tmp_path / "labels.csv", b"file,category\nx.png,Tips\n")
    assert counted(index([tmp_path / "data"], tmp_path / "store", labels=str(table))) == {"added": 1}
