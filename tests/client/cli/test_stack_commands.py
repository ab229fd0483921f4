"""Stacks and files of more than 2 GiB at the command line: all commands read them in the same way."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import imagehash
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps
from shelf import Shelf
from twinscope_client.cli.main import main

Called = tuple[int, str, str]
BLANK = np.full((240, 320), 9, np.uint8)


def hashed(pixels: np.ndarray) -> str:
    even = ImageOps.autocontrast(ImageOps.equalize(Image.fromarray(pixels)))
    return str(imagehash.phash(even, hash_size=32))


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Called]:
    """Return a function that calls the command, and returns the exit code, the output and the messages."""

    def run(*arguments: object) -> Called:
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def stack(shelf: Shelf, tmp_path: Path) -> Path:
    path = tmp_path / "lab" / "s.tif"
    path.parent.mkdir()
    with tifffile.TiffWriter(path) as writer:
        for page in (BLANK, shelf.pixels["Tips", 0], shelf.pixels["Particles", 0]):
            writer.write(page, contiguous=False, metadata=None)
    return path


def test_search_answers_for_each_page(call: Callable[..., Called], shelf: Shelf, stack: Path) -> None:
    code, out, _ = call("search", stack, "--at", shelf.store, "--json")
    found = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [(one["query"], one["grade"], one["category"]) for one in found] == [
        (f"{stack}#page=1", "unhashable", None),
        (f"{stack}#page=2", "excellent", "Tips"),
        (f"{stack}#page=3", "excellent", "Particles"),
    ]
    code, out, _ = call("search", f"{stack}#page=3", "--at", shelf.store)
    assert out.startswith(f"{stack}#page=3: excellent -> Particles")
    code, out, _ = call("search", stack, "--at", shelf.store, "--pages", "first")
    assert out.startswith(f"{stack}: excellent -> Tips")


def test_hash_and_convert_treat_each_page(
    call: Callable[..., Called], shelf: Shelf, stack: Path, tmp_path: Path
) -> None:
    code, out, err = call("hash", stack.parent)
    expected = [f"{hashed(shelf.pixels[name, 0])}  {stack}#page={n}" for n, name in ((2, "Tips"), (3, "Particles"))]
    assert (code, out.splitlines()) == (3, expected)
    assert f"{stack}#page=1: unhashable" in err
    code, _, _ = call("convert", stack.parent, "--out", tmp_path / "jpegs")
    assert code == 0
    assert sorted(path.name for path in (tmp_path / "jpegs").iterdir()) == [f"s_page{n}.jpg" for n in (1, 2, 3)]
    call("convert", stack, "--out", tmp_path / "first", "--pages", "first")
    assert [path.name for path in (tmp_path / "first").iterdir()] == ["s.jpg"]


def test_index_and_export_name_the_pages(call: Callable[..., Called], stack: Path, tmp_path: Path) -> None:
    folder = stack.parent.rename(tmp_path / "Tips")
    code, _, err = call("index", folder, "--store", tmp_path / "store")
    assert (code, "2 images searchable" in err) == (0, True)
    _, out, _ = call("store", "export", tmp_path / "store")
    rows = list(csv.DictReader(out.splitlines()))
    assert [(row["uri"], row["page"]) for row in rows] == [(f"{folder}/s.tif#page={n}", str(n)) for n in (1, 2, 3)]


@pytest.fixture
def large(shelf: Shelf, tmp_path: Path) -> Path:
    """A file of more than 2 GiB, with a picture at its beginning; most of it takes no place on the disk."""
    path = tmp_path / "large" / "Tips" / "large.tif"
    path.parent.mkdir(parents=True)
    tifffile.imwrite(path, shelf.pixels["Tips", 0], bigtiff=True)
    os.truncate(path, (2 << 30) + 4096)
    return path


def test_a_large_file_is_searched_hashed_and_converted(
    call: Callable[..., Called], shelf: Shelf, large: Path, tmp_path: Path
) -> None:
    code, out, _ = call("search", large, "--at", shelf.store)
    assert (code, out.splitlines()[0].startswith(f"{large}: excellent -> Tips")) == (0, True)
    code, out, _ = call("hash", large)
    assert (code, out) == (0, f"{hashed(shelf.pixels['Tips', 0])}  {large}\n")
    assert call("convert", large, "--out", tmp_path / "jpegs")[0] == 0
    with Image.open(tmp_path / "jpegs" / "large.jpg") as image:
        assert image.size == (320, 240)


@pytest.mark.slow
@pytest.mark.parametrize("link", ["sym", "hard"])
def test_a_large_file_is_labelled_and_indexed(
    call: Callable[..., Called], shelf: Shelf, large: Path, tmp_path: Path, link: str
) -> None:
    assert call("label", large, "--at", shelf.store, "--out", tmp_path / "out", "--link", link)[0] == 0
    with (tmp_path / "out" / "matches.csv").open(encoding="utf-8", newline="") as stream:
        [row] = list(csv.DictReader(stream))
    assert (row["grade"], row["category"], row["output_path"]) == ("excellent", "Tips", "Tips/L9_large.tif")
    assert (tmp_path / "out" / "Tips" / "L9_large.tif").samefile(large)
    assert call("index", large.parent.parent, "--store", tmp_path / "store")[0] == 0
    code, out, _ = call("search", shelf.reference("Tips", 0), "--at", tmp_path / "store")
    assert (code, "excellent -> Tips" in out) == (0, True)
