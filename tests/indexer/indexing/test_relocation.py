"""Relocation: a store follows a collection that has moved, if its images are there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from twinscope_indexer.errors import StoreError, StoreLockedError
from twinscope_indexer.indexing.relocation import Relocated, relocate
from twinscope_indexer.indexing.run import index
from twinscope_indexer.store.reader import Store, open_writer


def collection(folder: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 32), dtype=np.uint8)).save(path)
    return folder


def uris(store: Path) -> dict[str, str]:
    opened = Store(store)
    try:
        return {record.uri: record.image_id for record in opened.catalog.all_records()}
    finally:
        opened.close()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A store with two collections, `old` and `other`."""
    collection(tmp_path / "old", "Tips/a.png", "Powder/b.png")
    collection(tmp_path / "other", "Tips/c.png")
    index([tmp_path / "old", tmp_path / "other"], tmp_path / "store", workers=1)
    return tmp_path


def test_moved_images_keep_their_ids_and_are_not_indexed_again(base):
    before = uris(base / "store")
    (base / "old").rename(base / "new")
    assert relocate(base / "store", base / "old", base / "new") == Relocated(looked_at=2, found=2)
    after = uris(base / "store")
    assert after == {uri.replace(f"{base}/old/", f"{base}/new/"): number for uri, number in before.items()}
    report = index([base / "new"], base / "store", workers=1)
    assert report.counts == {"unchanged": 2, "vanished": 0}


def test_a_folder_above_several_collections_moves_them_all(base):
    inside = base / "disk"
    inside.mkdir()
    for name in ("old", "other"):
        (base / name).rename(inside / name)
    assert relocate(base / "store", base, inside).found == 3
    assert all(uri.startswith(f"{inside}/") for uri in uris(base / "store"))


def test_nothing_is_changed_if_no_image_is_found(base):
    before = uris(base / "store")
    (base / "empty").mkdir()
    assert relocate(base / "store", base / "old", base / "empty") == Relocated(looked_at=2, found=0)
    assert uris(base / "store") == before


def test_force_moves_a_collection_without_its_images(base):
    assert relocate(base / "store", base / "old", base / "later", force=True).found == 0
    assert f"{base}/later/Tips/a.png" in uris(base / "store")


def test_images_in_archives_are_checked_by_their_archive(tmp_path):
    import tarfile

    collection(tmp_path, "Tips/a.png")
    (tmp_path / "old").mkdir()
    with tarfile.open(tmp_path / "old" / "Tips.tar", "w") as stream:
        stream.add(tmp_path / "Tips" / "a.png", "a.png")
    index([tmp_path / "old"], tmp_path / "store", workers=1)
    (tmp_path / "old").rename(tmp_path / "new")
    assert relocate(tmp_path / "store", tmp_path / "old", tmp_path / "new") == Relocated(1, 1)
    assert list(uris(tmp_path / "store")) == [f"{tmp_path}/new/Tips.tar!a.png"]


def test_folders_may_be_relative(base, monkeypatch):
    monkeypatch.chdir(base)
    (base / "old").rename(base / "new")
    relocate(Path("store"), Path("x/../old/"), Path("./new"))
    assert f"{base}/new/Tips/a.png" in uris(base / "store")


def test_unknown_folder_is_refused_with_the_known_ones(base):
    with pytest.raises(StoreError) as refused:
        relocate(base / "store", base / "nowhere", base / "new")
    assert str(base / "old") in str(refused.value)
    assert str(base / "other") in str(refused.value)


@pytest.mark.parametrize("new", ["other", "other/below", "."])
def test_a_move_into_another_collection_is_refused(base, new):
    """Otherwise, images of one collection could be indexed again as images of the other collection."""
    before = uris(base / "store")
    with pytest.raises(StoreError, match="one folder contains the other"):
        relocate(base / "store", base / "old", base / new, force=True)
    assert uris(base / "store") == before


def test_a_folder_without_a_store_is_refused(tmp_path):
    with pytest.raises(StoreError, match="holds no Twinscope store"):
        relocate(tmp_path, tmp_path / "a", tmp_path / "b")


def test_a_store_that_is_being_written_is_refused(base):
    with open_writer(base / "store"), pytest.raises(StoreLockedError, match=str(os.getpid())):
        relocate(base / "store", base / "old", base / "new", force=True)
