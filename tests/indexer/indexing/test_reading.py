"""With worker processes, indexing builds the same store. If a decoder crashes, only one image fails."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import crashing
import pytest
from PIL import Image
from twinscope_client.demo.micrographs import synthesise
from twinscope_indexer.compute import workers
from twinscope_indexer.indexing import reading
from twinscope_indexer.indexing.run import index
from twinscope_indexer.store.reader import Store


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "Tips"
    folder.mkdir(parents=True)
    for number in range(6):
        Image.fromarray(synthesise("Tips", number, width=160, height=120)).save(folder / f"{number}.png")
    (folder / "bad.jpg").write_bytes(b"\xff\xd8\xff rubbish")
    Image.new("L", (64, 64)).save(folder / "blank.png")
    return tmp_path / "data"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The tasks that worker processes received."""
    tasks: list[Any] = []

    result = workers._result

    def counted(executor: Any, function: Any, argument: Any) -> Any:
        tasks.append(argument)
        return result(executor, function, argument)

    monkeypatch.setattr(workers, "_result", counted)
    return tasks


def stored(folder: Path) -> dict[tuple[str, str | None], tuple[Any, ...]]:
    store = Store(folder)
    try:
        return {
            (one.path, one.member): (one.hash, one.unhashable, one.sha256, one.width, store.catalog.thumbnail(one.id))
            for one in store.catalog.all_records()
        }
    finally:
        store.close()


def test_worker_processes_build_the_same_store(collection: Path, tmp_path: Path, sent: list[Any]) -> None:
    by_itself = index([collection], tmp_path / "one", workers=0)
    assert sent == []
    by_processes = index([collection], tmp_path / "two", workers=2)
    assert len(sent) == 8
    assert by_processes.counts == by_itself.counts
    assert by_processes.failures == by_itself.failures
    assert stored(tmp_path / "two") == stored(tmp_path / "one")


def test_unchanged_images_start_no_process(collection: Path, tmp_path: Path, sent: list[Any]) -> None:
    (collection / "Tips" / "bad.jpg").unlink()
    index([collection], tmp_path / "store", workers=0)
    assert index([collection], tmp_path / "store", workers=2).counts["unchanged"] == 7
    assert sent == []


@pytest.mark.parametrize("name", ["crash.png", "crash.tif"])
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_a_decoder_crash_costs_one_image(
    monkeypatch: pytest.MonkeyPatch, collection: Path, tmp_path: Path, name: str, packed: bool
) -> None:
    shutil.copy(collection / "Tips" / "0.png", collection / "Tips" / name)
    source = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", collection)) if packed else collection
    monkeypatch.setattr(reading, "read", crashing.read)
    report = index([source], tmp_path / "store", workers=2)
    assert (report.counts["added"], report.counts["unhashable"], report.counts["failed"]) == (6, 1, 2)
    messages = {Path(uri).name: message for uri, message in report.failures}
    assert messages[name] == "the process that read it crashed (SIGSEGV)"
    monkeypatch.undo()  # a decoder that does not crash
    assert index([source], tmp_path / "store", workers=2).counts["added"] == 1


def test_content_of_archive_members_is_sent_to_processes(collection: Path, tmp_path: Path, sent: list[Any]) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "data"), "gztar", collection))
    assert index([archive], tmp_path / "store", workers=2).counts["added"] == 6
    assert all(task.content is not None for task in sent)
    assert len(sent) == 8
    plain = index([collection], tmp_path / "plain", workers=0)
    assert plain.counts["added"] == 6
    rows = {Path(member or path).name: row for (path, member), row in stored(tmp_path / "store").items()}
    assert rows == {Path(path).name: row for (path, _), row in stored(tmp_path / "plain").items()}


def test_unreadable_archive_member_is_one_failure(collection: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "data"), "zip", collection))
    data = bytearray(archive.read_bytes())
    start = data.index(b"3.png") + 300
    data[start : start + 20] = bytes(20)
    archive.write_bytes(data)
    report = index([archive], tmp_path / "store", workers=2)
    assert report.counts["added"] == 5
    assert sorted(Path(uri).name for uri, _ in report.failures) == ["3.png", "bad.jpg"]
