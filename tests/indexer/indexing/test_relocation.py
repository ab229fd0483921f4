"""Collections that have moved: the store follows, if they are really there."""

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
def place(tmp_path: Path) -> Path:
    """A store of one collection, `old`, and of another one, `other`."""
    collection(tmp_path / "old", "Tips/a.png", "Powder/b.png")
    collection(tmp_path / "other", "Tips/c.png")
    index([tmp_path / "old", tmp_path / "other"], tmp_path / "store", workers=1)
    return tmp_path


def test_after_a_move_images_have_new_places_and_their_old_ids_and_nothing_is_indexed_again(place):
    before = uris(place / "store")
    (place / "old").rename(place / "new")
    assert relocate(place / "store", place / "old", place / "new") == Relocated(looked_at=2, found=2)
    after = uris(place / "store")
    assert after == {uri.replace(f"{place}/old/", f"{place}/new/"): number for uri, number in before.items()}
    report = index([place / "new"], place / "store", workers=1)
    assert report.counts == {"unchanged": 2, "vanished": 0}


def test_a_folder_above_several_collections_moves_them_all(place):
    inside = place / "disk"
    inside.mkdir()
    for name in ("old", "other"):
        (place / name).rename(inside / name)
    assert relocate(place / "store", place, inside).found == 3
    assert all(uri.startswith(f"{inside}/") for uri in uris(place / "store"))


def test_nothing_is_changed_where_no_image_is_found(place):
    before = uris(place / "store")
    (place / "empty").mkdir()
    assert relocate(place / "store", place / "old", place / "empty") == Relocated(looked_at=2, found=0)
    assert uris(place / "store") == before


def test_with_force_it_is_changed_all_the_same(place):
    assert relocate(place / "store", place / "old", place / "later", force=True).found == 0
    assert f"{place}/later/Tips/a.png" in uris(place / "store")


def test_images_in_archives_are_looked_for_by_their_archive(tmp_path):
    import tarfile

    collection(tmp_path, "Tips/a.png")
    (tmp_path / "old").mkdir()
    with tarfile.open(tmp_path / "old" / "Tips.tar", "w") as stream:
        stream.add(tmp_path / "Tips" / "a.png", "a.png")
    index([tmp_path / "old"], tmp_path / "store", workers=1)
    (tmp_path / "old").rename(tmp_path / "new")
    assert relocate(tmp_path / "store", tmp_path / "old", tmp_path / "new") == Relocated(1, 1)
    assert list(uris(tmp_path / "store")) == [f"{tmp_path}/new/Tips.tar!a.png"]


def test_places_may_be_named_from_the_current_folder(place, monkeypatch):
    monkeypatch.chdir(place)
    (place / "old").rename(place / "new")
    relocate(Path("store"), Path("x/../old/"), Path("./new"))
    assert f"{place}/new/Tips/a.png" in uris(place / "store")


def test_a_place_the_store_does_not_know_is_refused_and_the_known_ones_are_named(place):
    with pytest.raises(StoreError) as refused:
        relocate(place / "store", place / "nowhere", place / "new")
    assert str(place / "old") in str(refused.value)
    assert str(place / "other") in str(refused.value)


@pytest.mark.parametrize("new", ["other", "other/below", "."])
def test_collections_are_not_laid_into_each_other(place, new):
    """The images of one would be indexed a second time as those of the other."""
    before = uris(place / "store")
    with pytest.raises(StoreError, match="one within the other"):
        relocate(place / "store", place / "old", place / new, force=True)
    assert uris(place / "store") == before


def test_a_folder_without_a_store_is_refused(tmp_path):
    with pytest.raises(StoreError, match="holds no Twinscope store"):
        relocate(tmp_path, tmp_path / "a", tmp_path / "b")


def test_a_store_that_is_being_written_is_refused(place):
    with open_writer(place / "store"), pytest.raises(StoreLockedError, match=str(os.getpid())):
        relocate(place / "store", place / "old", place / "new", force=True)
