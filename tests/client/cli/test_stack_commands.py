"""Stacks and files of more than 2 GiB at the command line: all commands read them in the same way."""

from __future__ import annotations

import csv
import io
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
    *found, _ = [json.loads(line) for line in out.splitlines()]
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


def named(out: str) -> list[str]:
    """Return the paths in the JSON lines of a command, without its summary."""
    *found, summary = [json.loads(line) for line in out.splitlines()]
    assert summary["type"] == "summary"
    return [one["path"] for one in found]


def test_pages_are_found_in_folders_and_lists(
    call: Callable[..., Called], shelf: Shelf, stack: Path, tmp_path: Path
) -> None:
    pages = [f"{stack}#page={n}" for n in (1, 2, 3)]
    target = "--at", shelf.store, "--json"
    assert named(call("search", stack.parent, *target)[1]) == pages
    assert named(call("search", stack.parent, *target, "--pages", "first")[1]) == [str(stack)]
    listed = tmp_path / "list.txt"
    listed.write_text(f"{pages[2]}\n{stack.parent}/gone.tif#page=2\n", encoding="utf-8")
    code, out, _ = call("search", "--from-file", listed, *target)
    assert (code, named(out)) == (3, [pages[2], f"{stack.parent}/gone.tif#page=2"])
    assert named(call("hash", "--from-file", listed, "--json")[1])[0] == pages[2]
    assert sorted(named(call("convert", stack.parent, "--out", tmp_path / "jpegs", "--json")[1])) == pages


def test_a_stack_on_stdin_is_hashed_page_by_page(
    call: Callable[..., Called], shelf: Shelf, stack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for options, expected in (((), ["-#page=1", "-#page=2", "-#page=3"]), (("--pages", "first"), ["-"])):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stack.read_bytes())))
        assert named(call("hash", "-", "--json", *options)[1]) == expected
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stack.read_bytes())))
    assert named(call("search", "-", "--at", shelf.store, "--json")[1]) == ["-"]


def test_labels_of_pages_are_json_lines(call: Callable[..., Called], shelf: Shelf, stack: Path, tmp_path: Path) -> None:
    with tifffile.TiffWriter(stack) as writer:
        for page in (BLANK, shelf.pixels["Tips", 0], shelf.pixels["Tips", 1]):
            writer.write(page, contiguous=False, metadata=None)
    _, out, _ = call("label", stack, "--at", shelf.store, "--out", tmp_path / "out", "--json")
    *pages, summary = [json.loads(line) for line in out.splitlines()]
    assert [(one["path"], one["category"], one["written"]) for one in pages] == [
        (f"{stack}#page=1", None, False), (f"{stack}#page=2", "Tips", True), (f"{stack}#page=3", "Tips", True)
    ]  # fmt: skip
    assert pages[1]["output"] == pages[2]["output"] == "Tips/L9_s.tif"
    assert summary["counts"]["written"] == 1


def test_an_index_run_names_pages_and_foresees_them(call: Callable[..., Called], stack: Path, tmp_path: Path) -> None:
    folder = stack.parent.parent / "Tips"
    stack.parent.rename(folder)
    pages = [f"{folder / stack.name}#page={n}" for n in (1, 2, 3)]
    words = folder.parent / "Tips", "--store", tmp_path / "own.store", "--json"

    def counts(*options: str) -> dict[str, int]:
        summary = json.loads(call("index", *words, *options)[1].splitlines()[-1])
        return {name: number for name, number in summary["counts"].items() if number}

    assert counts("--dry-run") == {"added": 3}
    code, out, _ = call("index", *words)
    assert (code, named(out)) == (0, pages)
    assert counts("--dry-run") == {"unchanged": 3}
    assert counts("--dry-run", "--pages", "first") == {"unchanged": 1, "removed": 2}
    assert counts("--pages", "first") == {"unchanged": 1, "removed": 2}
    assert counts("--dry-run") == {"unchanged": 1}
    assert counts("--dry-run", "--pages", "all") == {"unchanged": 1, "added": 2}
    assert named(call("index", *words[:-1], "--json", "--pages", "all")[1]) == pages
    assert named(call("index", pages[1], *words[1:])[1]) == [pages[1]]


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
    """A file of more than 2 GiB with a picture at the beginning. The file is sparse, so it needs little disk space."""
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
