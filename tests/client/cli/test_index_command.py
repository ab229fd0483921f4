"""The messages of the command ``twinscope index``, before and after it changes a store."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from shelf import Shelf
from twinscope_client.cli.console import counted
from twinscope_client.cli.main import main

Run = Callable[..., Any]


def pictures(folder: Path, names: list[str]) -> None:
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = np.random.default_rng(seed).integers(0, 256, (6, 8), np.uint8)
        Image.fromarray(np.kron(coarse, np.ones((8, 8), np.uint8))).save(path)


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    def call(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in ("index", *words)])
        shown = capfd.readouterr()
        return code, shown.out, shown.err

    return call


@pytest.fixture
def own(tmp_path: Path) -> Path:
    days = [f"own/{name}/{year}/{n}.png" for name in ("Drähte", "Pulver") for year in (2023, 2024) for n in range(6)]
    pictures(tmp_path, [*days, "own/loose.png"])
    return tmp_path


def test_kept_categories_are_the_first_level_and_are_printed(own, run):
    code, out, err = run(own / "own", "--store", own / "s", "--unknown-category", "keep", "--workers", 1)
    assert (code, out) == (3, "")
    assert "24 added; 24 images searchable (generation 1)" in err
    assert "Categories: Drähte 12, Pulver 12.\n" in err
    assert "  Drähte/2023: category Drähte; the folder 2023 below it is not a category\n" in err
    assert "1 image was left out" in err
    assert "  1 image: directly in the source, in no folder of a category\n" in err


def test_a_dry_run_writes_nothing(own, run):
    before = sorted(own.rglob("*"))
    code, out, err = run(own / "own", "--store", own / "s", "--unknown-category", "keep", "--dry-run")
    assert (code, out, sorted(own.rglob("*"))) == (3, "", before)
    assert "the command would give: 24 added, none taken out. Nothing was written." in err
    assert "Categories: Drähte 12, Pulver 12.\n" in err


def test_a_refused_command_says_what_to_do_and_changes_nothing(own, run):
    words = (own / "own", "--store", own / "s", "--workers", 1)
    run(*words, "--unknown-category", "keep")
    table = own / "labels.csv"
    table.write_text("file;category\nwrong/0.png;Tips\n")
    catalog = (own / "s/catalog.sqlite").read_bytes()
    code, out, err = run(*words, "--labels", table)
    assert (code, out) == (1, "")
    assert err.startswith(f"twinscope index: {own / 's'} has 24 images; this run would take out 24 images that have no")
    assert err.count("\n") == 1
    code, _, err = run(*words, "--labels", table, "--dry-run")
    assert code == 1
    assert "the command would give: 24 taken out. Nothing was written." in err
    assert "Without --yes, the command is refused" in err
    assert (own / "s/catalog.sqlite").read_bytes() == catalog
    shutil.rmtree(own / "own/Pulver")
    assert run(*words, "--prune")[0] == 1
    code, _, err = run(*words, "--prune", "--yes")
    assert "12 unchanged, 12 taken out; 12 images searchable" in err
    assert "Categories: Drähte 12.\n" in err


def test_left_out_images_are_summed_with_suggestions(tmp_path, run):
    names = [f"c/Other/{n}.png" for n in range(3)] + ["c/Patterned surface (neu)/a.png", "c/Tips/b.png"]
    pictures(tmp_path, names)
    code, _, err = run(tmp_path / "c", "--store", tmp_path / "s", "--workers", 1)
    assert code == 3
    lines = err.splitlines()
    start = lines.index("4 images were left out, because the category is not known:")
    assert lines[start + 1 : start + 3] == [
        "  3 images: 'Other' is not a category",
        "  1 image: 'Patterned surface (neu)' is not a category; did you mean Patterned_surface (L6)?",
    ]
    assert err.count("Known categories: ") == 1
    (tmp_path / "lab.toml").write_text(
        'extends = "sem-majority/1"\n[[category]]\ncode = "L6"\naliases = ["Patterned surface (neu)"]\n'
        '[[category]]\ncode = "O"\nname = "Other"\n'
    )
    words = (tmp_path / "c", "--store", tmp_path / "s", "--workers", 1)
    code, _, err = run(*words, "--taxonomy", tmp_path / "lab.toml")
    assert code == 0
    assert "Categories: Other 3, Patterned_surface 1, Tips 1." in err
    for name in ("builtin", "default", "sem-majority/1"):
        assert "Categories: Tips 1." in run(*words, "--taxonomy", name)[2]


def test_a_picture_under_two_categories_is_reported(shelf: Shelf, tmp_path, run):
    c, table = tmp_path / "c", tmp_path / "pairs.csv"
    shutil.copytree(shelf.references, c)
    shutil.copy(shelf.reference("Tips", 0), c / "Fibres" / "again.jpg")
    code, _, err = run(c, "--store", tmp_path / "s", "--workers", 1, "--contradictions", table)
    assert code == 0
    pair = f"  {c / 'Fibres/again.jpg'} (Fibres)  and  {c / 'Tips/L9_0.jpg'} (Tips)\n"
    assert "1 pair of images shows the same field but the two images have different categories." in err
    assert pair in err
    with table.open(newline="") as stream:
        [row] = csv.DictReader(stream)
    assert row == {
        "image": str(c / "Fibres/again.jpg"), "category": "Fibres", "other_image": str(c / "Tips/L9_0.jpg"),
        "other_category": "Tips", "distance": "0", "scene_score": "1.0",
    }  # fmt: skip
    written = table.read_bytes()
    code, _, err = run(c, "--store", tmp_path / "s", "--contradictions", table)
    assert (code, table.read_bytes()) == (1, written)
    assert "already exists" in err
    code, _, err = run(c, "--store", tmp_path / "s", "--contradictions", tmp_path / "none" / "x.csv")
    assert (code, "there is no folder" in err) == (1, True)
    assert "pair" not in run(c, "--store", tmp_path / "s")[2]


def test_numbers_agree_with_their_nouns():
    assert [counted(n, "image was", "images were") for n in (0, 1, 2)] == [
        "0 images were", "1 image was", "2 images were",
    ]  # fmt: skip
