"""The journal of a calibration: a stopped calibration continues, and gives the same result."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from shelf import Shelf
from twinscope_client.cli.main import main
from twinscope_indexer.store.reader import Store
from twinscope_service.errors import CalibrationError
from twinscope_service.matching import calibrate
from twinscope_service.matching.answer import Match
from twinscope_service.matching.calibration import features, fit
from twinscope_service.matching.double_labels import DoubleLabel
from twinscope_service.matching.sample_journal import JOURNAL_NAME, Sample, SampleJournal

PAIR = DoubleLabel("a\n.jpg", "Tips", "b\x85\u2028.jpg", "Fibres", 12, 0.1 + 0.2)
ROWS = [np.array([0.1 + 0.2, np.nan, -np.inf, 5e-324])]


def store(folder: Path, generation: int = 1, store_id: str = "a") -> Store:
    return SimpleNamespace(folder=folder, store_id=store_id, view=SimpleNamespace(generation=generation))


def filled(folder: Path, count: int = 3) -> None:
    journal = SampleJournal(store(folder))
    for number in range(count):
        journal.add(number, Sample(ROWS, [], [PAIR], readable=True))
    journal.close()


def test_numbers_and_names_survive_exactly(tmp_path: Path) -> None:
    filled(tmp_path)
    journal = SampleJournal(store(tmp_path))
    assert (journal.kept, len(journal)) == (3, 3)
    found = journal.find(2)
    assert found is not None
    assert [row.tobytes() for row in found.impostors] == [row.tobytes() for row in ROWS]
    assert (found.genuine, found.copies, found.readable) == ([], [PAIR], True)
    assert journal.find(3) is None
    journal.close()


def kept(folder: Path, **change: object) -> int:
    journal = SampleJournal(store(folder, **change))
    journal.close()
    return journal.kept


@pytest.mark.parametrize("change", [{"generation": 2}, {"store_id": "b"}])
def test_a_changed_store_starts_again(tmp_path: Path, change: dict[str, object]) -> None:
    filled(tmp_path)
    assert kept(tmp_path) == 3
    assert kept(tmp_path, **change) == 0
    assert kept(tmp_path) == 0


def test_a_line_that_a_killed_process_left_costs_one_image(tmp_path: Path) -> None:
    filled(tmp_path)
    path = tmp_path / JOURNAL_NAME
    whole = path.read_bytes()
    for length in range(len(whole) - 40, len(whole) - 1, 7):
        path.write_bytes(whole[:length])
        journal = SampleJournal(store(tmp_path))
        assert journal.kept == 2
        journal.add(2, Sample([], ROWS, [], readable=True))
        journal.close()
        assert kept(tmp_path) == 3
    for other in (b"", b"\xff\xfe no journal"):
        path.write_bytes(other)
        assert kept(tmp_path) == 0


def test_an_unreadable_image_is_searched_again(tmp_path: Path) -> None:
    journal = SampleJournal(store(tmp_path))
    journal.add(1, Sample([], [], [], readable=False))
    assert len(journal) == 0
    journal.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / JOURNAL_NAME).mkdir()
    with pytest.raises(CalibrationError, match=JOURNAL_NAME):
        SampleJournal(store(tmp_path))


def synthetic(store: object, pixels: object, others: object, record: Any) -> Sample:
    """Data that the search for one image could give, made without a search."""
    rng = np.random.default_rng(record.id)

    def row(scene: float) -> np.ndarray:
        found = features([Match("0" * 16, "a.jpg", "Tips", "L9", 300, scene_score=scene + 0.2 * rng.random())])
        assert found is not None
        return found

    return Sample(
        [row(0.1)], [row(0.7)], [DoubleLabel(record.uri, record.category, "b.jpg", "Tips", 3, 0.95)], readable=True
    )


@pytest.fixture
def command(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    shutil.copytree(shelf.store, tmp_path / "store")
    monkeypatch.setattr(calibrate, "fit", lambda *a, seed: fit(*a, resamples=2, seed=seed))
    monkeypatch.setattr(calibrate, "_sample", synthetic)
    return ["calibrate", str(tmp_path / "store"), "--workers", "1"]


def test_a_stopped_calibration_continues_with_the_same_result(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--dry-run", "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    measured: list[int] = []

    def stopping(*arguments: Any) -> Sample:
        if len(measured) == 4:
            raise KeyboardInterrupt
        measured.append(arguments[3].id)
        return synthetic(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(calibrate, "_sample", stopping)
        assert main(command) == 130
    assert "run the same command again to continue" in " ".join(capsys.readouterr().err.split())
    opened = Store(tmp_path / "store")
    journal = SampleJournal(opened)
    journal.close()
    opened.close()
    assert 1 <= journal.kept <= 4
    monkeypatch.setattr(calibrate, "_sample", lambda *a: measured.append(a[3].id) or synthetic(*a))
    measured.clear()
    assert main([*command, "--json"]) == 0
    ran = capsys.readouterr()
    assert f"The results of {journal.kept} images are kept" in ran.err
    assert len(measured) == 6 - journal.kept
    result = json.loads(ran.out)
    assert {key: value for key, value in result.items() if key != "name"} == {
        key: value for key, value in whole.items() if key != "name"
    }
    assert not (tmp_path / "store" / JOURNAL_NAME).exists()


def test_a_dry_run_keeps_nothing(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(calibrate, "_sample", interrupt)
    assert main([*command, "--dry-run"]) == 130
    assert "Nothing was kept" in capsys.readouterr().err
    assert not (tmp_path / "store" / JOURNAL_NAME).exists()
