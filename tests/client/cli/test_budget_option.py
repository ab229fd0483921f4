"""The option --max-megapixels, the environment variable and the key of twinscope.toml."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from shelf import Shelf
from twinscope_client.cli.budget_option import BUDGET
from twinscope_client.cli.main import _COMMANDS, _parser
from twinscope_indexer.errors import ImageError, SettingsError
from twinscope_indexer.imaging.limits import BUDGET_VARIABLE
from twinscope_indexer.imaging.reader import read_image
from twinscope_indexer.indexing.reading import ReadTask
from twinscope_indexer.store.reader import Store
from twinscope_service.matching.reference_pixels import ReferencePixels

_READERS = {"index", "label", "search", "hash", "convert", "calibrate", "report"}


@pytest.fixture
def mosaic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an image of more than a megapixel; without an option, the budget is one megapixel."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(BUDGET_VARIABLE, "1")
    folder = tmp_path / "Tips"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (1100, 1000), np.uint8)
    noise[200:500, 300:600] = 255
    tifffile.imwrite(folder / "mosaic.tif", noise)
    return folder / "mosaic.tif"


def test_each_command_that_reads_images_has_the_option() -> None:
    parsers: Any = next(action.choices for action in _parser()._actions if action.dest == "command")
    options = {name: {action.dest for action in parsers[name]._actions} for name in _COMMANDS}
    assert {name for name in _COMMANDS if BUDGET in options[name]} == _READERS


@pytest.mark.parametrize(
    "command",
    [
        "hash {image}",
        "convert {image} --out jpegs",
        "search {image} --at {store}",
        "label {image} --at {store} --out labelled --dry-run",
        "index {folder} --store new",
    ],
)
def test_the_option_raises_the_budget(
    twinscope: Any, mosaic: Path, shelf: Shelf, no_report: None, command: str
) -> None:
    words = command.format(image=mosaic, folder=mosaic.parent, store=shelf.store).split()
    refused = twinscope(*words)
    assert refused.code == 1
    assert "1000 x 1100 pixels exceed the budget of 1 megapixels" in refused.err + refused.out
    assert "raise the budget to 2 with the option --max-megapixels" in refused.err + refused.out
    assert BUDGET_VARIABLE in refused.err + refused.out
    read = twinscope(*words, "--max-megapixels", "2")
    assert read.code == 0, read.err
    assert os.environ[BUDGET_VARIABLE] == "1"  # the option is only valid for one command


@pytest.mark.parametrize("value", ["0", "-1", "1000001"])
def test_an_impossible_option_is_refused(twinscope: Any, mosaic: Path, value: str) -> None:
    ran = twinscope("hash", mosaic, f"--max-megapixels={value}")
    assert ran.code == 2
    assert "--max-megapixels must be at least 1" in ran.err


@pytest.mark.parametrize(
    "value", ["many", "1.5", "0", "-3", "9" * 5000], ids=["word", "fraction", "zero", "negative", "5000 digits"]
)
def test_an_impossible_variable_is_refused(
    twinscope: Any, mosaic: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv(BUDGET_VARIABLE, value)
    with pytest.raises(SettingsError, match=f"{BUDGET_VARIABLE}.*{value[:40]}"):
        read_image(mosaic)
    ran = twinscope("hash", mosaic)
    assert ran.code == 1
    assert BUDGET_VARIABLE in ran.err.splitlines()[-1]
    assert value[:40] in ran.err.splitlines()[-1]
    assert len(ran.err) < 400


def test_the_variable_is_the_default_in_python(mosaic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImageError, match="--max-megapixels"):
        read_image(mosaic)
    monkeypatch.setenv(BUDGET_VARIABLE, " 2 ")
    assert read_image(mosaic).pixels.shape == (1100, 1000)
    monkeypatch.setenv(BUDGET_VARIABLE, "")  # an empty variable has no effect
    assert read_image(mosaic).pixels.shape == (1100, 1000)
    with pytest.raises(ImageError, match=r"budget of 1\.0999 megapixels"):
        read_image(mosaic, pixel_budget=1_099_900)


def test_the_variable_overrides_the_project_file_and_the_option_overrides_both(
    twinscope: Any, mosaic: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("twinscope.toml").write_text("max_megapixels = 2\n")
    assert twinscope("hash", mosaic).code == 1  # the variable
    assert twinscope("hash", mosaic, "--max-megapixels=2").code == 0
    monkeypatch.delenv(BUDGET_VARIABLE)
    assert twinscope("hash", mosaic).code == 0
    assert twinscope("hash", mosaic, "--max-megapixels=1").code == 1
    assert BUDGET_VARIABLE not in os.environ
    origin = f"file {Path('twinscope.toml').resolve()}"
    assert json.loads(twinscope("config", "--json").out) == {"max_megapixels": {"value": 2, "origin": origin}}
    Path("twinscope.toml").write_text("max_megapixels = 'x'\n")
    assert "max_megapixels must be a whole number" in twinscope("hash", mosaic).err


def test_a_task_of_a_worker_process_carries_the_budget(mosaic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker process that still runs has the environment of an earlier run."""
    item: Any = mosaic
    task = ReadTask(item, {}, "frame")
    monkeypatch.setenv(BUDGET_VARIABLE, "5")
    assert (task.pixel_budget, ReadTask(item, {}, "frame").pixel_budget) == (1_000_000, 5_000_000)


def test_a_reference_is_verified_within_the_budget(
    twinscope: Any, mosaic: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert twinscope("index", mosaic.parent, "--store", "s", "--max-megapixels", "2").code == 0
    with closing(Store(Path("s"))) as store:
        [record] = store.catalog.all_records()
    with pytest.raises(ImageError, match="--max-megapixels"):
        ReferencePixels()(record)
    assert ReferencePixels(pixel_budget=2_000_000)(record).size == 1_100_000  # as the server sets it
    monkeypatch.setenv(BUDGET_VARIABLE, "2")
    assert ReferencePixels()(record).size == 1_100_000
