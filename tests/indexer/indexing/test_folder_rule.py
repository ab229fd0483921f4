"""The category of an image comes from the right one of the folders between the source and the image."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from twinscope_indexer.errors import TaxonomyError
from twinscope_indexer.indexing.foresight import foresee
from twinscope_indexer.indexing.label_rules import label_rule
from twinscope_indexer.indexing.run import preview
from twinscope_indexer.sources.corpus import scope_of
from twinscope_indexer.taxonomy import load_taxonomy

NOTHING = "left out"


def laid(folder: Path, *names: str) -> None:
    """Make empty image files. An archive is written as ``box.zip!member``."""
    members: dict[str, list[str]] = {}
    for name in names:
        archive, _, member = name.partition("!")
        if member:
            members.setdefault(archive, []).append(member)
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    for archive, inside in members.items():
        (folder / archive).parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(folder / archive, "w") as box:
            for member in inside:
                box.writestr(member, b"")


def counts(folder: Path, *sources: str, keep: bool) -> dict[str, int]:
    """Return the number of images of each category that a run would give; files and folders are below `folder`."""
    report = preview([folder / source for source in sources], folder / "none.store", keep_unknown=keep)
    left = report.unknown_categories.total()
    return report.categories | ({NOTHING: left} if left else {})


@pytest.mark.parametrize(
    ("files", "sources", "known", "kept"),
    [
        # the first folder below the source, never a deeper folder
        (["c/Drähte/2023/a.jpg", "c/Drähte/2024/b.jpg", "c/Pulver/2023/c.jpg"], ["c"], {NOTHING: 3},
         {"Drähte": 2, "Pulver": 1}),
        (["c/Particles/batch 1/x/a.jpg", "c/Größe/klein/b.jpg"], ["c"], {"Particles": 1, NOTHING: 1},
         {"Particles": 1, "Größe": 1}),
        # a known name counts at any level
        (["c/2023/Tips/a.jpg", "c/2023/Powder/deep/b.jpg"], ["c"], *[{"Tips": 1, "Powder": 1}] * 2),
        # two names of one category, and names of two categories
        (["c/Powder/powders/a.jpg"], ["c"], *[{"Powder": 1}] * 2),
        (["c/Tips/Powder/a.jpg", "c/Tips/b.jpg"], ["c"], *[{"Tips": 1, NOTHING: 1}] * 2),
        # an image directly in the source
        (["c/a.jpg", "c/Tips/b.jpg"], ["c"], *[{"Tips": 1, NOTHING: 1}] * 2),
        (["c/a.jpg"], ["c"], *[{NOTHING: 1}] * 2),
        # the source is a category
        (["Tips/a.jpg", "Tips/2023/b.jpg"], ["Tips"], *[{"Tips": 2}] * 2),
        (["mems/Tips/a.jpg", "mems/Cats/b.jpg", "mems/c.jpg"], ["mems"], {"Tips": 1, NOTHING: 2},
         {"Tips": 1, "Cats": 1, NOTHING: 1}),
        (["Tips/a.jpg"], ["Tips/a.jpg"], *[{"Tips": 1}] * 2),
        (["Drähte/a.jpg"], ["Drähte/a.jpg"], *[{NOTHING: 1}] * 2),
        # archives below the source are folders
        (["c/Drähte.zip!2023/a.jpg", "c/Drähte.zip!b.jpg", "c/Pulver/2023.zip!c.jpg"], ["c"], {NOTHING: 3},
         {"Drähte": 2, "Pulver": 1}),
        (["c/Tips.zip!x/a.jpg", "c/all.zip!Powder/b.jpg"], ["c"], *[{"Tips": 1, "Powder": 1}] * 2),
        # an archive as the source
        (["c.zip!Drähte/2023/a.jpg", "c.zip!Pulver/2023/b.jpg"], ["c.zip"], {NOTHING: 2}, {"Drähte": 1, "Pulver": 1}),
        (["c.zip!c/Drähte/2023/a.jpg", "c.zip!c/Pulver/b.jpg"], ["c.zip"], {NOTHING: 2}, {"Drähte": 1, "Pulver": 1}),
        (["Drähte.zip!a.jpg", "Drähte.zip!b.jpg"], ["Drähte.zip"], {NOTHING: 2}, {"Drähte": 2}),
        (["export.zip!Drähte/a.jpg", "export.zip!Drähte/b.jpg"], ["export.zip"], {NOTHING: 2}, {"Drähte": 2}),
        (["c.zip!Drähte/a.jpg", "c.zip!b.jpg"], ["c.zip"], {NOTHING: 2}, {"Drähte": 1, NOTHING: 1}),
        (["Tips.zip!a.jpg", "Tips.zip!2023/b.jpg"], ["Tips.zip"], *[{"Tips": 2}] * 2),
        (["Tips/box.zip!2023/a.jpg"], ["Tips/box.zip"], *[{"Tips": 1}] * 2),
        (["c.zip!Tips\\2023\\a.jpg", "c.zip!Powder\\b.jpg"], ["c.zip"], *[{"Tips": 1, "Powder": 1}] * 2),
        # several sources: if several of them contain a folder of one unknown name, its meaning is not certain
        (["c/Drähte/2023/a.jpg", "c/Pulver/2023/b.jpg", "c/Pulver/x/c.jpg"], ["c/Drähte", "c/Pulver"], {NOTHING: 3},
         {"x": 1, NOTHING: 2}),
        (["a/Tips/a.jpg", "b/Tips/b.jpg"], ["a", "b"], *[{"Tips": 2}] * 2),
        # a source above another source: the rule starts at the upper source
        (["c/Drähte/2023/a.jpg", "c/Pulver/2023/b.jpg"], ["c/Drähte", "c"], {NOTHING: 2}, {"Drähte": 1, "Pulver": 1}),
        # hidden folders, and the same folder twice
        (["c/Drähte/a.jpg"], ["c", "c/."], {NOTHING: 1}, {"Drähte": 1}),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_layouts(tmp_path, files, sources, known, kept):
    laid(tmp_path, *files)
    assert counts(tmp_path, *sources, keep=False) == known
    assert counts(tmp_path, *sources, keep=True) == kept


def test_folders_that_name_no_category_are_named(tmp_path):
    laid(tmp_path, "Drähte/2023/a.jpg", "Drähte/2023/b.jpg", "2024/Tips/c.jpg", "Tips/new/d.jpg", "Fibres/e.jpg")
    report = preview(tmp_path, tmp_path / "none.store", keep_unknown=True)
    assert report.remarks == {
        "Drähte/2023: category Drähte; the folder 2023 below it is not a category": 2,
        "2024/Tips: category Tips; the folder 2024 is not a category": 1,
        "Tips/new: category Tips; the folder new below it is not a category": 1,
    }
    assert not preview(tmp_path, tmp_path / "none.store").remarks


def test_causes_are_few_and_messages_name_the_image(tmp_path):
    laid(tmp_path, *(f"c/{n}.jpg" for n in range(3)), "c/Tips/Powder/a.jpg", "c/Patterned surface (neu)/x/b.jpg")
    report = preview(tmp_path / "c", tmp_path / "none.store")
    assert report.unknown_categories == {
        "directly in the source, in no folder of a category": 3,
        "in folders of two categories (Tips/Powder)": 1,
        "'Patterned surface (neu)' is not a category; did you mean Patterned_surface (L6)?": 1,
    }
    assert "Tips (L9)" in report.known_categories


def test_the_folders_above_the_source_do_not_count(tmp_path):
    laid(tmp_path, "Tips/x/a.jpg")
    assert counts(tmp_path, "Tips/x", keep=False) == {NOTHING: 1}


@pytest.mark.parametrize("name", ["\n", "--", "a\x00b".replace("\x00", "\x07")])
def test_a_name_that_cannot_be_a_folder_of_copies_is_not_kept(tmp_path, name):
    laid(tmp_path, f"c/{name}/a.jpg")
    assert counts(tmp_path, "c", keep=True) == {NOTHING: 1}


def test_a_damaged_archive_is_no_reason_to_fail(tmp_path):
    (tmp_path / "c.zip").write_bytes(b"PK no archive")
    report = foresee(
        None, [scope_of(tmp_path / "c.zip")], tmp_path / "none.store", "folder", load_taxonomy(), "all", prune=False
    )
    assert [path for path, _ in report.unreadable] == [str(tmp_path / "c.zip")]


def test_a_preview_reads_no_image_and_writes_nothing(tmp_path):
    laid(tmp_path, "c/Tips/a.jpg")
    before = sorted(tmp_path.iterdir())
    report = preview(tmp_path / "c", tmp_path / "none.store", keep_unknown=True)
    assert (report.counts["added"], report.generation) == (1, 0)
    assert sorted(tmp_path.iterdir()) == before


def test_a_bad_table_is_refused_by_the_rule(tmp_path):
    with pytest.raises(TaxonomyError, match=r"none\.csv"):
        label_rule(str(tmp_path / "none.csv"), load_taxonomy())
