"""A run that would remove or relabel many images of a store is refused and undone."""

from __future__ import annotations

import io
import pickle
import shutil
import sqlite3
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from twinscope_indexer.errors import RemovalError, SourceError
from twinscope_indexer.indexing.foresight import require_few_losses
from twinscope_indexer.indexing.report import IndexReport
from twinscope_indexer.indexing.run import index, preview
from twinscope_indexer.store.reader import CATALOG_NAME, Store
from twinscope_indexer.taxonomy import Category, Taxonomy

FIRST = {"Fibres": 12, "Powder": 12, "Tips": 12}


def png(seed: int) -> bytes:
    pixels = np.kron(np.random.default_rng(seed).integers(0, 256, (6, 8), np.uint8), np.ones((8, 8), np.uint8))
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG", compress_level=1)
    return data.getvalue()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("removals")
    for number in range(36):
        path = root / "data" / sorted(FIRST)[number % 3] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))
    index(root / "data", root / "store", workers=0)
    return root


@pytest.fixture
def base(made: Path, tmp_path: Path) -> Path:
    """A collection of 36 images, `data`, indexed in `store`."""
    shutil.copytree(made, tmp_path / "lab")
    with sqlite3.connect(tmp_path / "lab/store" / CATALOG_NAME) as db:
        db.execute("UPDATE roots SET path = ?", (str(tmp_path / "lab/data"),))
    db.close()
    return tmp_path / "lab"


def state(store: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return every row of a store, except the failures of single files."""
    with sqlite3.connect(store / CATALOG_NAME) as db:
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {name: db.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall() for name in names}
    db.close()
    return {name: found for name, found in rows.items() if name != "failures"}


def seen(store: Path) -> Counter[str]:
    """Return the number of images of each category that a reader of the store finds."""
    opened = Store(store)
    try:
        found = opened.records(opened.catalog.searchable().tolist())
        return Counter(record.category for record in found.values())
    finally:
        opened.close()


def table(base: Path, rows: dict[str, str]) -> str:
    path = base / "labels.csv"
    path.write_text("file,category\n" + "".join(f"{name},{label}\n" for name, label in rows.items()))
    return str(path)


def renamed(names: dict[str, str]) -> Taxonomy:
    return Taxonomy("own/1", tuple(Category(new[:2], new, aliases=(old,)) for old, new in names.items()))


def unmounted(base: Path, *categories: str) -> None:
    for category in categories:
        shutil.rmtree(base / "data" / category)


SLIPS = {
    "a table whose paths do not fit": lambda base: {"labels": table(base, {"other/00.png": "Tips"})},
    "a table with other labels": lambda base: {"labels": table(base, {f"{n:02}.png": "Porous" for n in range(36)})},
    "prefixes that are not there": lambda _: {"labels": "prefix"},
    "a taxonomy without most categories": lambda _: {"taxonomy": renamed({"Tips": "Tips"})},
    "a taxonomy with another name": lambda _: {
        "taxonomy": renamed({"Tips": "Needles", "Powder": "Powder", "Fibres": "Fibres"})
    },
    "a part of the disk is not mounted": lambda base: unmounted(base, "Tips") or {"prune": True},
    "everything at once": lambda base: unmounted(base, "Tips") or {
        "prune": True, "labels": table(base, {f"{n:02}.png": "Powder" for n in range(6)})
    },
}  # fmt: skip


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_refused_and_changes_nothing(base, slip):
    options = SLIPS[slip](base)
    before, reader = state(base / "store"), Store(base / "store")
    with pytest.raises(RemovalError, match=r"store has 36 images; this run would .*--yes") as refused:
        index(base / "data", base / "store", workers=0, **options)
    error = refused.value
    assert error.images == 36
    assert error.withdrawn + error.removed + error.relabelled > 10
    assert state(base / "store") == before
    assert reader.refresh().generation == 1
    reader.close()
    assert seen(base / "store") == FIRST
    foreseen = preview(base / "data", base / "store", **options)
    assert state(base / "store") == before
    done = index(base / "data", base / "store", workers=0, allow_removals=True, **options)
    agree(foreseen, done)
    assert seen(base / "store") == done.categories != FIRST


def agree(foreseen: IndexReport, done: IndexReport) -> None:
    assert +foreseen.counts == +done.counts
    assert foreseen.categories == done.categories
    assert foreseen.relabelled == done.relabelled
    assert foreseen.unknown_categories == done.unknown_categories
    assert foreseen.vanished == done.vanished


def test_a_refusal_names_what_would_change(base):
    taxonomy = renamed({"Tips": "Needles", "Powder": "Powder", "Fibres": "Fibres"})
    with pytest.raises(RemovalError, match=r"give another category to 12 images .'Tips' becomes 'Needles'.") as refused:
        index(base / "data", base / "store", taxonomy=taxonomy)
    assert vars(pickle.loads(pickle.dumps(refused.value))) == vars(refused.value)
    other_codes = Taxonomy("own/2", tuple(Category(name[:1], name) for name in FIRST))
    assert index(base / "data", base / "store", taxonomy=other_codes, workers=0).counts["relabelled"] == 36


def test_small_changes_need_no_leave(base):
    for number in range(0, 9, 3):
        (base / "data/Fibres" / f"{number:02}.png").unlink()
    (base / "data/Tips/extra.png").write_bytes(png(99))
    (base / "data/Tips/02.png").rename(base / "data/Powder/02.png")
    foreseen = preview(base / "data", base / "store", prune=True)
    done = index(base / "data", base / "store", prune=True, workers=0)
    agree(foreseen, done)
    assert done.counts["removed"] == 4
    assert seen(base / "store") == {"Fibres": 9, "Powder": 13, "Tips": 12}


@pytest.mark.parametrize(
    ("images", "lost", "refused"),
    [(36, 10, False), (36, 11, True), (110, 11, False), (109, 11, True), (1000, 100, False), (1000, 101, True)],
)
def test_the_limit_is_ten_images_and_a_tenth(images, lost, refused):
    for parts in ({"withdrawn": lost}, {"removed": lost}, {"withdrawn": 1, "removed": lost - 3, "relabelled": 2}):
        relabelled = {("a", "b"): parts.pop("relabelled", 0)}
        try:
            require_few_losses(Path("s"), images, relabelled=relabelled, **parts)
        except RemovalError:
            assert refused
        else:
            assert not refused


@pytest.mark.parametrize("content", [b"version https://git-lfs.github.com/spec/v1\n", None], ids=["pointers", "blank"])
def test_files_that_turn_out_to_be_damaged_do_not_empty_a_store(base, content):
    if content is None:
        blank = io.BytesIO()
        Image.new("L", (64, 48), 7).save(blank, "PNG")
        content = blank.getvalue()
    (base / "data/Tips/new.png").write_bytes(png(50))
    for path in sorted((base / "data/Powder").iterdir()):
        path.write_bytes(content)
    before = state(base / "store")
    with pytest.raises(RemovalError, match="take out 12 images that have no category or can no longer be read"):
        index(base / "data", base / "store", workers=0, reach="windows")
    assert {**state(base / "store"), "frames": []} == {**before, "frames": []}
    assert seen(base / "store") == FIRST
    done = index(base / "data", base / "store", workers=0, allow_removals=True)
    assert done.counts["added"] == 1
    assert seen(base / "store") == {"Fibres": 12, "Tips": 13}


def test_a_killed_run_is_undone_too(base):
    """The interrupted run published nothing. A refusal restores the state that includes these writes."""
    options = {"labels": table(base, {f"{n:02}.png": "Tips" for n in range(3)})}
    code = "UPDATE images SET category = 'Porous_Sponge' WHERE id IN (SELECT id FROM images LIMIT 2)"
    with sqlite3.connect(base / "store" / CATALOG_NAME) as db:
        db.execute("INSERT INTO images_before SELECT * FROM images LIMIT 2")
        db.execute(code)
    db.close()
    assert seen(base / "store") == FIRST
    with pytest.raises(RemovalError):
        index(base / "data", base / "store", workers=0, **options)
    assert seen(base / "store") == FIRST


def test_an_empty_source_among_several_changes_nothing(base):
    other = base / "other/Tips"
    other.mkdir(parents=True)
    (other / "x.png").write_bytes(png(70))
    index([base / "data", base / "other"], base / "store", workers=0)
    before = state(base / "store")
    (other / "x.png").unlink()
    (base / "data/Tips/new.png").write_bytes(png(71))
    for allow in (False, True):
        with pytest.raises(SourceError, match="mounted"):
            index([base / "data", base / "other"], base / "store", prune=True, allow_removals=allow, workers=0)
        assert state(base / "store") == before


def test_kept_names_stay_when_the_taxonomy_changes(base):
    (base / "data/Cats").mkdir()
    (base / "data/Cats/x.png").write_bytes(png(80))
    index(base / "data", base / "store", keep_unknown=True, workers=0)
    own = Taxonomy("own/3", tuple(Category(name[:1], name) for name in FIRST))
    assert index(base / "data", base / "store", taxonomy=own, workers=0).categories == FIRST | {"Cats": 1}
    assert index(base / "data", base / "store", keep_unknown=False, workers=0).categories == FIRST


def test_labels_of_the_deepest_folder_are_mended(tmp_path):
    """Earlier releases took the deepest folder as the category."""
    for number in range(24):
        path = tmp_path / "own" / ("Drähte", "Pulver")[number % 2] / "2023" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))
    index(tmp_path / "own", tmp_path / "store", keep_unknown=True, workers=0)
    with sqlite3.connect(tmp_path / "store" / CATALOG_NAME) as db:
        db.execute("UPDATE images SET category = '2023', code = '2023'")
    db.close()
    with pytest.raises(RemovalError, match="'2023' becomes 'Drähte', '2023' becomes 'Pulver'"):
        index(tmp_path / "own", tmp_path / "store")
    done = index(tmp_path / "own", tmp_path / "store", allow_removals=True, workers=0)
    assert done.relabelled == {("2023", "Drähte"): 12, ("2023", "Pulver"): 12}
    assert seen(tmp_path / "store") == {"Drähte": 12, "Pulver": 12}


def test_the_report_names_unhashable_images_and_the_export_lists_them(tmp_path):
    (tmp_path / "c/Tips").mkdir(parents=True)
    Image.new("L", (64, 48), 7).save(tmp_path / "c/Tips/blank.png")
    report = index(tmp_path / "c", tmp_path / "store", workers=0)
    expected = (str(tmp_path / "c/Tips/blank.png"), "featureless: every pixel has the grey value 7")
    assert report.unhashable == [expected]
    store = Store(tmp_path / "store")
    [failure] = store.catalog.unhashable()
    store.close()
    assert (failure.uri, failure.message, failure.fault) == (*expected, "unhashable")
