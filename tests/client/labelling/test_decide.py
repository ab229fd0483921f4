"""Decisions with worker processes are the same as without. If a worker process crashes, only one image fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import crashing
import pytest
import tifffile
from PIL import Image
from serving import serving
from shelf import Shelf
from twinscope_client import connect
from twinscope_client.demo.micrographs import synthesise
from twinscope_client.engine.images import DecodedFile, acquisition, grey_pixels
from twinscope_client.labelling import decide as deciding
from twinscope_client.labelling.journal import Decision, Journal
from twinscope_client.labelling.run import LabelReport, LabelSettings, label
from twinscope_indexer.compute import workers
from twinscope_indexer.metadata.reader import acquisition_of


@pytest.fixture
def lab(tmp_path: Path, shelf: Shelf) -> Path:
    """TIFFs of some references, an unrelated TIFF, and a file that is not an image."""
    folder = tmp_path / "lab"
    folder.mkdir()
    for (category, number), pixels in list(shelf.pixels.items())[:5]:
        Image.fromarray(pixels).save(folder / f"{category}_{number}.tif")
    Image.fromarray(synthesise("Tips", 77, width=320, height=240)).save(folder / "unrelated.tif")
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
def test_worker_processes_change_no_decision(lab: Path, shelf: Shelf, tmp_path: Path, remote: bool) -> None:
    single = decided(lab, shelf.store, tmp_path / "single", 0)
    if remote:
        with serving(shelf.store) as target:
            parallel = decided(lab, target, tmp_path / "parallel", 2)
    else:
        parallel = decided(lab, shelf.store, tmp_path / "parallel", 2)
    assert parallel[1] == single[1]
    assert parallel[0].counts == single[0].counts
    assert single[0].counts["excellent"] == 5
    assert single[0].counts["failed"] == 1
    assert copies(tmp_path / "parallel") == copies(tmp_path / "single")
    assert len(copies(tmp_path / "single")) == 5


@pytest.mark.parametrize("remote", [False, True], ids=["embedded", "server"])
def test_decoder_crash_costs_one_image_that_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, lab: Path, shelf: Shelf, tmp_path: Path, remote: bool
) -> None:
    pixels = tifffile.imread(lab / "unrelated.tif")
    (lab / "unrelated.tif").unlink()
    tifffile.imwrite(lab / "crash.tif", pixels, compression="zlib")
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


def test_only_files_that_need_a_codec_are_read_by_a_worker(
    monkeypatch: pytest.MonkeyPatch, lab: Path, shelf: Shelf, tmp_path: Path
) -> None:
    pixels = tifffile.imread(lab / "unrelated.tif")
    tifffile.imwrite(lab / "packed.tif", pixels, compression="zlib")
    sent: list[str] = []
    monkeypatch.setattr(workers, "_result", lambda _, function, item: (sent.append(item.item.name), function(item))[1])
    decided(lab, shelf.store, tmp_path / "out", 2)
    assert "packed.tif" in sent
    assert "unrelated.tif" not in sent


def test_decoded_file_equals_the_file(lab: Path) -> None:
    path = lab / "unrelated.tif"
    decoded = DecodedFile(path, grey_pixels(path))
    assert grey_pixels(decoded) is decoded.pixels
    assert acquisition(decoded) == acquisition_of(path)
