"""Fixtures for the tests of the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from shelf import Shelf
from twinscope_client.cli.main import main


class Ran:
    """The exit code and the output of a call of `main`."""

    def __init__(self, code: int, captured: Any) -> None:
        self.code, self.out, self.err = code, captured.out, captured.err


@pytest.fixture
def twinscope(capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that calls the command in this process."""

    def call(*arguments: object) -> Ran:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse
            code = stop.code if isinstance(stop.code, int) else 1
        return Ran(code, capsys.readouterr())

    return call


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labelling runs write no report, because its plots take seconds. Other tests check the plots."""
    monkeypatch.setattr("twinscope_client.labelling.job.write_report", lambda *_: None)
    monkeypatch.setattr("twinscope_client.labelling.report.write_report", lambda *_: None)


@pytest.fixture
def lab(shelf: Shelf, tmp_path: Path) -> Path:
    """A folder, named like a category, with a twin, a blank image and a truncated image."""
    folder = tmp_path / "Tips"
    folder.mkdir()
    tifffile.imwrite(folder / "twin.tif", shelf.pixels["Tips", 0])
    tifffile.imwrite(folder / "blank.tif", np.full((64, 64), 7, np.uint8))
    (folder / "broken.tif").write_bytes((folder / "twin.tif").read_bytes()[:5000])
    return folder
