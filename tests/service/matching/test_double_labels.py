"""An image with two categories is found as a double label; look-alikes are not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shelf import Shelf
from twinscope_client.demo.micrographs import synthesise
from twinscope_indexer.indexing.run import index
from twinscope_indexer.store.reader import Store
from twinscope_service.matching.double_labels import DoubleLabel, double_labels


def found(store: Path, numbers: list[int] | None = None, workers: int = 1) -> list[DoubleLabel]:
    opened = Store(store)
    try:
        every = opened.catalog.searchable().tolist()
        return double_labels(opened, every if numbers is None else numbers, workers)
    finally:
        opened.close()


def save(path: Path, pixels: np.ndarray, **options: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def planted(shelf: Shelf, tmp_path: Path) -> Path:
    """A collection with changed copies of two Tips under other categories, and one copy under the same category."""
    for (category, number), pixels in shelf.pixels.items():
        save(tmp_path / "c" / category / f"{number}.jpg", pixels, quality=95)
    first, second = shelf.pixels["Tips", 0], shelf.pixels["Tips", 1]
    small = Image.fromarray(first).resize((240, 180))
    noisy = np.clip(second + np.random.default_rng(1).normal(0, 6, second.shape), 0, 255).astype(np.uint8)
    save(tmp_path / "c/Fibres/small.jpg", np.asarray(small), quality=80)
    save(tmp_path / "c/Powder/noisy.png", noisy)
    save(tmp_path / "c/Tips/copy.png", first)
    return tmp_path


def test_copies_under_another_category_are_found(planted):
    report = index(planted / "c", planted / "store", workers=0)
    pairs = found(planted / "store", report.written.tolist())
    c = planted / "c"
    assert {(pair.one, pair.other) for pair in pairs} == {
        (str(c / "Fibres/small.jpg"), str(c / "Tips/0.jpg")),
        (str(c / "Fibres/small.jpg"), str(c / "Tips/copy.png")),
        (str(c / "Powder/noisy.png"), str(c / "Tips/1.jpg")),
    }
    for pair in pairs:
        assert Path(pair.one).parent.name == pair.category
        assert Path(pair.other).parent.name == pair.other_category == "Tips"
        assert pair.scene_score >= 0.9
    assert pairs == found(planted / "store", workers=4)
    assert len(found(planted / "store", report.written.tolist() * 2)) == len(pairs)


def test_only_the_given_images_are_compared_with_all_others(planted):
    index(planted / "c", planted / "store", workers=0)
    assert index(planted / "c", planted / "store", workers=0).written.tolist() == []
    assert found(planted / "store", []) == []
    data = io.BytesIO()
    Image.open(planted / "c/Tips/0.jpg").save(data, "PNG")
    (planted / "c/Particles/new.png").write_bytes(data.getvalue())
    report = index(planted / "c", planted / "store", workers=0)
    pairs = found(planted / "store", report.written.tolist())
    assert len(report.written) == 1
    assert {Path(pair.other).name for pair in pairs} | {Path(pair.one).name for pair in pairs} == {
        "new.png", "0.jpg", "small.jpg", "copy.png",
    }  # fmt: skip
    assert all("Particles" in (pair.category, pair.other_category) for pair in pairs)


def test_a_relabelled_image_is_compared_again(planted):
    index(planted / "c", planted / "store", workers=0)
    table = planted / "labels.csv"
    table.write_text("file;category\nTips/copy.png;Particles\n" + "".join(
        f"{path.relative_to(planted / 'c')};{path.parent.name}\n"
        for path in (planted / "c").rglob("*.*") if path.name != "copy.png"
    ))  # fmt: skip
    report = index(planted / "c", planted / "store", labels=str(table), workers=0)
    assert report.relabelled == {("Tips", "Particles"): 1}
    assert len(found(planted / "store", report.written.tolist())) == 2


def test_different_fields_of_one_kind_are_no_double_labels(tmp_path):
    for number in range(12):
        pixels = synthesise("Particles", number, width=240, height=180).astype(np.uint8)
        save(tmp_path / "c" / ("Tips", "Powder")[number % 2] / f"{number}.png", pixels)
    index(tmp_path / "c", tmp_path / "store", workers=0)
    assert found(tmp_path / "store") == []


def test_a_store_of_one_category_has_no_double_label(tmp_path, shelf):
    for number in range(2):
        save(tmp_path / "c/Tips" / f"{number}.png", shelf.pixels["Tips", 0])
    save(tmp_path / "c/Powder/blank.png", np.full((48, 64), 7, np.uint8))
    index(tmp_path / "c", tmp_path / "store", workers=0)
    assert found(tmp_path / "store") == []
