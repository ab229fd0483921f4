"""Names of copies and folders that are different on Linux, but would be equal on Windows and macOS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from shelf import Shelf
from twinscope_client.conversion import convert
from twinscope_client.errors import OutputError
from twinscope_client.labelling.folders import CategoryFolders
from twinscope_client.labelling.job import label
from twinscope_client.labelling.journal import Journal
from twinscope_client.outputs import folded
from twinscope_indexer.indexing.run import index
from twinscope_indexer.taxonomy import builtin_taxonomy, load_taxonomy

_CATEGORIES = ("Wires: thin", "Wires? thin", "wires_ THIN")


@pytest.fixture
def lab(shelf: Shelf, tmp_path: Path) -> Path:
    """A store of three categories whose folders would have the same name, with two images of the same name in each."""
    pixels = [shelf.pixels[key] for key in (("Particles", 0), ("Tips", 0), ("Fibres", 0))]
    for number, (category, field) in enumerate(zip(_CATEGORIES, pixels, strict=True)):
        folder = tmp_path / "collection" / category
        folder.mkdir(parents=True)
        Image.fromarray(field).save(folder / f"{number}.png")
        for name in ("One", "one"):
            (tmp_path / "lab" / f"{name}{number}").mkdir(parents=True)
            tifffile.imwrite(tmp_path / "lab" / f"{name}{number}" / f"{name}.tif", field)
    index([tmp_path / "collection"], tmp_path / "store", workers=1, taxonomy=load_taxonomy(None, keep_unknown=True))
    return tmp_path / "lab"


def _copies(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.tif"))


def test_each_category_has_its_own_folder_and_each_copy_its_own_name(lab: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    label(lab, tmp_path / "store", out)
    copies = _copies(out)
    assert len({folded(copy) for copy in copies}) == len(copies) == 6
    folders = {Path(copy).parent.name for copy in copies}
    assert folders == {"Wires_ thin", "Wires_ thin_2", "wires_ THIN_3"}
    journal = Journal(out, create=False)
    by_category = {decision.category: Path(decision.output).parent.name for decision in journal.decisions()}
    assert by_category == {category: CategoryFolders(journal).of(category) for category in _CATEGORIES}
    journal.close()
    page = (out / "report.html").read_text(encoding="utf-8")
    assert all(f'href="{folder.replace(" ", "%20")}/"' in page for folder in folders)
    for category, folder in by_category.items():
        assert {
            (out / folder / name).read_bytes()
            for name in [Path(copy).name for copy in copies if Path(copy).parent.name == folder]
        } == {(lab / f"One{_CATEGORIES.index(category)}" / "One.tif").read_bytes()}


def test_a_second_run_keeps_folders_and_names(lab: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    label(lab / "one2", tmp_path / "store", out)  # in this run, another category comes first
    assert [Path(copy).parent.name for copy in _copies(out)] == ["wires_ THIN"]
    label(lab, tmp_path / "store", out)
    before = _copies(out)
    assert len(before) == 6
    assert {Path(copy).parent.name for copy in before} == {"wires_ THIN", "Wires_ thin_2", "Wires_ thin_3"}
    report = label(lab, tmp_path / "store", out)
    assert (report.counts["written"], _copies(out)) == (0, before)


def test_jpegs_of_one_name_get_numbers(tmp_path: Path) -> None:
    for number, name in enumerate(("A: b/X.tif", "A? b/x.tif", "a_ B/X.TIF")):
        path = tmp_path / "lab" / name
        path.parent.mkdir(parents=True)
        tifffile.imwrite(path, np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * (number + 1))
    for _ in range(2):
        report = convert([tmp_path / "lab"], tmp_path / "jpegs", quality=90)
        written = {path.relative_to(tmp_path / "jpegs").as_posix() for path in (tmp_path / "jpegs").rglob("*.jpg")}
        assert written == {"A_ b/X.jpg", "A_ b/x_2.jpg", "a_ B/X_3.jpg"}
    assert report.counts["kept"] == 3


def test_a_category_of_the_taxonomy_keeps_its_folder(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    folders = CategoryFolders(journal)
    assert [folders.of(one.name) for one in builtin_taxonomy().categories] == [
        one.name for one in builtin_taxonomy().categories
    ]
    assert folders.of("CON") == "_CON"
    journal.close()


def test_only_a_busy_journal_names_another_run(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "busy")
    with pytest.raises(OutputError, match=r"busy cannot be used: another run is writing there; wait until it ends"):
        Journal(tmp_path / "busy", create=False)
    journal.close()
    (tmp_path / "damaged").mkdir()
    data = bytearray((tmp_path / "busy" / "run.sqlite").read_bytes())
    data[4096:] = bytes(len(data) - 4096)
    (tmp_path / "damaged" / "run.sqlite").write_bytes(data)
    with pytest.raises(OutputError) as refused:
        Journal(tmp_path / "damaged", create=False)
    assert "another run" not in str(refused.value)
