"""Deciding: queries are read in worker processes, decided as without them, and a crash costs one image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import crashing
import pytest
from PIL import Image
from serving import serving
from shelf import Shelf
from twinscope_client import connect
from twinscope_client.demo.micrographs import synthesise
from twinscope_client.engine.images import DecodedFile, acquisition, grey_pixels
from twinscope_client.labelling import decide as deciding
from twinscope_client.labelling.journal import Decision, Journal
from twinscope_client.labelling.run import LabelReport, LabelSettings, label
from twinscope_indexer.metadata.reader import acquisition_of


@pytest.fixture
def lab(tmp_path: Path, shelf: Shelf) -> Path:
    """TIFFs of some references, one of none, and one that is no image."""
    folder = tmp_path / "lab"
    folder.mkdir()
    for (category, number), pixels in list(shelf.pixels.items())[:5]:
        Image.fromarray(pixels).save(folder / f"{category}_{number}.tif")
    Image.fromarray(synthesise("Tips", 77, width=320, height=240)).save(folder / "stranger.tif")
    (folder / "rubbish.tif").write_bytes(b"II*\0 rubbish")
    return folder


def decided(lab: Path, store: Path | str, out: Path, workers: int) -> tuple[LabelReport, list[Decision]]:
    journal = Journal(out)
    try:
        with connect(store) as engine:
            report = label([lab], engine, journal, out, LabelSettings(workers=workers))
        return report, [replace(one, decided_at="") for one in journal.decisions()]
    finally:
        journal.close()


def copies(out: Path) -> dict[Path, bytes]:
    return {path.relative_to(out): path.read_bytes() for path in out.rglob("*.tif")}


@pytest.mark.parametrize("remote", [False, True], ids=["embedded", "server"])
def test_decisions_are_the_same_by_processes(lab: Path, shelf: Shelf, tmp_path: Path, remote: bool) -> None:
    alone = decided(lab, shelf.store, tmp_path / "alone", 0)
    if remote:
        with serving(shelf.store) as target:
            together = decided(lab, target, tmp_path / "together", 2)
    else:
        together = decided(lab, shelf.store, tmp_path / "together", 2)
    assert together[1] == alone[1]
    assert together[0].counts == alone[0].counts
    assert alone[0].counts["excellent"] == 5
    assert alone[0].counts["failed"] == 1
    assert copies(tmp_path / "together") == copies(tmp_path / "alone")
    assert len(copies(tmp_path / "alone")) == 5


@pytest.mark.parametrize("remote", [False, True], ids=["embedded", "server"])
def test_a_decoder_that_crashes_costs_one_image_which_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, lab: Path, shelf: Shelf, tmp_path: Path, remote: bool
) -> None:
    (lab / "stranger.tif").rename(lab / "crash.tif")
    monkeypatch.setattr(deciding, "read_query", crashing.read_query)
    if remote:
        with serving(shelf.store) as target:
            report, found = decided(lab, target, tmp_path / "out", 2)
    else:
        report, found = decided(lab, shelf.store, tmp_path / "out", 2)
    assert (report.counts["excellent"], report.counts["failed"]) == (5, 2)
    reasons = {Path(one.path).name: one.reason for one in found}
    assert reasons["crash.tif"] == "the process that read it crashed (SIGSEGV)"
    monkeypatch.undo()
    report, found = decided(lab, shelf.store, tmp_path / "out", 2)
    assert report.counts["failed"] == 1
    assert {Path(one.path).name: one.grade for one in found}["crash.tif"] == "none"


def test_a_decoded_file_is_what_the_file_is(lab: Path) -> None:
    path = lab / "stranger.tif"
    decoded = DecodedFile(path, grey_pixels(path))
    assert grey_pixels(decoded) is decoded.pixels
    assert acquisition(decoded) == acquisition_of(path)
