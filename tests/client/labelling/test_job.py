"""`twinscope.label` does the same as the command."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import twinscope
from shelf import Shelf
from twinscope_client.cli.main import main


@pytest.fixture
def queries(shelf: Shelf, tmp_path: Path) -> Path:
    folder = tmp_path / "queries"
    folder.mkdir()
    for category in ("Tips", "Fibres"):
        shutil.copy(shelf.reference(category, 0), folder / f"{category}.jpg")
    (folder / "broken.tif").write_bytes(b"no image")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    kept = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("run.sqlite")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_call_writes_the_same_as_the_command(shelf: Shelf, queries: Path, tmp_path: Path) -> None:
    report = twinscope.label(str(queries), shelf.store, tmp_path / "by call")
    assert (report.counts["excellent"], report.counts["failed"], report.counts["written"]) == (2, 1, 2)
    assert main(["label", str(queries), "--at", str(shelf.store), "--out", str(tmp_path / "by command")]) == 3
    call, command = files(tmp_path / "by call"), files(tmp_path / "by command")
    assert set(call) == set(command)
    timed = {"labels.jsonl", "report.html", "summary.json"}
    assert {name: call[name] for name in set(call) - timed} == {name: command[name] for name in set(call) - timed}
    assert [json.loads(line)["grade"] for line in call["labels.jsonl"].splitlines()] == ["excellent"] * 2
    assert [row["reason"] for row in rows(tmp_path / "by call" / "failures.csv")] != []


def test_second_call_changes_nothing(shelf: Shelf, queries: Path, tmp_path: Path) -> None:
    with twinscope.connect(shelf.store) as engine:
        twinscope.label([queries], engine, tmp_path / "out")
        before = files(tmp_path / "out")
        report = twinscope.label([queries], engine, tmp_path / "out")
        assert engine.stats()["images"] == 6  # an engine that was open before stays open
    assert report.counts["kept"] == 2
    assert files(tmp_path / "out") == before


def test_a_dry_run_writes_nothing(shelf: Shelf, queries: Path, tmp_path: Path) -> None:
    report = twinscope.label([queries], shelf.store, tmp_path / "out", twinscope.LabelSettings(dry_run=True))
    assert report.counts["excellent"] == 2
    assert not (tmp_path / "out").exists()


def test_unsafe_output_folders_are_refused(shelf: Shelf, queries: Path, tmp_path: Path) -> None:
    with pytest.raises(twinscope.OutputError, match="lies within the store"):
        twinscope.label([queries], shelf.store, shelf.store / "out")
    with pytest.raises(twinscope.OutputError, match="lies within the output folder"):
        twinscope.label([queries], shelf.store, tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "matches.csv").write_text("mine")
    with pytest.raises(twinscope.OutputError, match=r"holds matches\.csv, but no labelling run"):
        twinscope.label([queries], shelf.store, tmp_path / "taken")
    assert files(tmp_path / "taken") == {"matches.csv": b"mine"}
    with pytest.raises(twinscope.SourceError):
        twinscope.label("missing", shelf.store, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_invalid_name_template_is_refused() -> None:
    for template in ("{stem", "{nothing}", "{code}"):
        with pytest.raises(twinscope.OptionError, match="name template"):
            twinscope.LabelSettings(template=template)


def test_store_is_built_from_one_folder(shelf: Shelf, tmp_path: Path) -> None:
    report = twinscope.index(str(shelf.references), str(tmp_path / "store"), workers=1)
    assert report.searchable == 6
    with twinscope.connect(str(tmp_path / "store")) as engine:
        assert engine.search(shelf.reference("Tips", 1)).category == "Tips"
