"""Deciding in processes of their own: the same decisions, whatever becomes of the processes and of the store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Shelf
from PIL import Image
from twinscope_client import connect
from twinscope_client.demo.micrographs import synthesise
from twinscope_client.labelling import decide as deciding
from twinscope_client.labelling.decide import Case, Decider
from twinscope_client.labelling.journal import Decision, Journal
from twinscope_client.labelling.run import LabelReport, LabelSettings, label
from twinscope_indexer.compute import processes as workerprocess
from twinscope_indexer.compute.processes import ProcessLostError, WorkerProcesses
from twinscope_indexer.indexing.run import index
from twinscope_indexer.sources.corpus import Item
from twinscope_service.matching.policy import named_policy
from worker_support import AtOnce


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


def decided(lab: Path, store: Path, out: Path, workers: int) -> tuple[LabelReport, list[Decision]]:
    journal = Journal(out)
    try:
        with connect(store) as engine:
            report = label([lab], engine, journal, out, LabelSettings(workers=workers))
        return report, [replace(one, decided_at="") for one in journal.decisions()]
    finally:
        journal.close()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> type[AtOnce]:
    monkeypatch.setattr(workerprocess, "PATIENCE", 0.0)
    monkeypatch.setattr(deciding, "WorkerProcesses", AtOnce)
    AtOnce.asked = 0
    return AtOnce


@pytest.fixture
def alone(lab: Path, shelf: Shelf, tmp_path: Path) -> tuple[LabelReport, list[Decision]]:
    """What a single thread decides."""
    return decided(lab, shelf.store, tmp_path / "alone", 1)


def test_processes_decide_as_threads_do(
    lab: Path, shelf: Shelf, tmp_path: Path, alone: tuple[LabelReport, list[Decision]], at_once: type[AtOnce]
) -> None:
    together = decided(lab, shelf.store, tmp_path / "together", 2)
    assert at_once.asked == 7
    assert together[1] == alone[1]
    assert together[0].counts == alone[0].counts
    assert alone[0].counts["excellent"] == 5
    assert alone[0].counts["failed"] == 1
    files = {
        out: {path.relative_to(tmp_path / out): path.read_bytes() for path in (tmp_path / out).rglob("*.tif")}
        for out in ("alone", "together")
    }
    assert files["together"] == files["alone"]
    assert len(files["alone"]) == 5


def case_of(path: Path, decided_by: str = "") -> Case:
    found = path.stat()
    return Case(
        Item(path.parent, path.name, None, found.st_size, found.st_mtime_ns), named_policy("default"), decided_by
    )


def test_where_a_process_sees_another_state_of_the_store_the_thread_decides(
    lab: Path, shelf: Shelf, tmp_path: Path, at_once: type[AtOnce]
) -> None:
    (tmp_path / "data" / "Tips").mkdir(parents=True)
    Image.fromarray(shelf.pixels["Tips", 1]).save(tmp_path / "data" / "Tips" / "1.png")
    index([tmp_path / "data"], tmp_path / "store", workers=1)
    Image.fromarray(shelf.pixels["Tips", 1]).save(lab / "query.tif")
    case = case_of(lab / "query.tif")
    with connect(tmp_path / "store") as engine, Decider(engine, 2) as decider:
        assert decider(case).generation == 1
        (tmp_path / "data" / "Tips").rename(tmp_path / "data" / "Powder")
        index([tmp_path / "data"], tmp_path / "store", workers=1, prune=True)  # a run answers from one state
        before = decider(case)
        assert (before.generation, before.category) == (1, "Tips")
        assert at_once.asked == 2


def test_an_image_that_its_process_dies_of_is_failed_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, lab: Path, shelf: Shelf, tmp_path: Path
) -> None:
    class Dying(WorkerProcesses):
        def apply(self, function: Any, argument: Any, here: Any) -> Any:
            if argument.case.item.name == "stranger.tif":
                raise ProcessLostError("it was killed")
            return super().apply(function, argument, here)

    monkeypatch.setattr(deciding, "WorkerProcesses", Dying)
    report, _ = decided(lab, shelf.store, tmp_path / "out", 2)
    assert report.counts["failed"] == 2
    monkeypatch.undo()
    report, found = decided(lab, shelf.store, tmp_path / "out", 2)
    assert report.counts["failed"] == 1
    assert {Path(one.path).name: one.grade for one in found}["stranger.tif"] == "none"


@pytest.mark.parametrize(("memory", "most"), [(0, 0), (1, 1), (3, 3)])
def test_no_more_processes_hold_the_codes_than_memory_allows(
    monkeypatch: pytest.MonkeyPatch, shelf: Shelf, memory: int, most: int
) -> None:
    asked: list[int] = []

    class Counted(WorkerProcesses):
        def __init__(self, workers: int) -> None:
            asked.append(workers)
            super().__init__(workers)

    monkeypatch.setattr(deciding, "WorkerProcesses", Counted)
    with connect(shelf.store) as engine:
        monkeypatch.setattr(deciding, "_MEMORY", memory * engine.nbytes)  # type: ignore[attr-defined]
        with Decider(engine, 8):
            pass
    assert asked == [most]


def test_an_engine_of_another_kind_is_asked_in_threads(lab: Path, shelf: Shelf, at_once: type[AtOnce]) -> None:
    with connect(shelf.store) as engine:

        class Other:
            identity = engine.identity
            search = engine.search

        with Decider(Other(), 2) as decider:  # type: ignore[arg-type]
            assert decider(case_of(lab / "stranger.tif")).grade == "none"
    assert at_once.asked == 0
