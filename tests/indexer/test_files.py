"""Files that must be complete contain the old content or the new content, even if writing is interrupted."""

from __future__ import annotations

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
from twinscope_indexer.files import file_sha256, partial_file, remove_partial_files, replacing, write_durably

_KILLED = """if True:
    import os, pathlib
    from twinscope_indexer.files import write_durably
    pathlib.Path.replace = lambda *_: os._exit(9)
    write_durably(pathlib.Path("table"), b"new")
"""


def interrupted(path: Path) -> None:
    with replacing(path) as part:
        part.write_bytes(b"half")
        raise KeyboardInterrupt


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "table"
    for data in (b"old", b"", b"new" * 1_000_000):
        write_durably(path, data)
        assert path.read_bytes() == data
        assert file_sha256(path) == sha256(data).hexdigest()
        assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("existing", [True, False])
def test_a_failing_body_changes_nothing(tmp_path: Path, existing: bool) -> None:
    path = tmp_path / "table"
    if existing:
        path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        interrupted(path)
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == ({"table": b"old"} if existing else {})


def test_content_is_synced_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, done = tmp_path / "table", []

    def sync(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").resolve()
        done.append("folder" if name.is_dir() else "named file" if path.exists() else "part")

    monkeypatch.setattr(os, "fsync", sync)
    write_durably(path, b"new")
    assert done == ["part", "folder"]


def test_partial_files_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    (tmp_path / "table").write_bytes(b"old")
    for name in ("mine.part", ".x.part", f".{'g' * 24}.1.part"):
        (tmp_path / name).write_bytes(b"kept")
    done = subprocess.run([sys.executable, "-c", _KILLED], cwd=tmp_path, check=False)
    assert done.returncode == 9
    assert len(list(tmp_path.iterdir())) == 5
    remove_partial_files(tmp_path)
    remove_partial_files(tmp_path / "missing")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".{'g' * 24}.1.part", ".x.part", "mine.part", "table"]
    assert (tmp_path / "table").read_bytes() == b"old"


def test_a_name_of_maximum_length_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 126 + "xyz")
    write_durably(path, b"new")
    assert path.read_bytes() == b"new"


def test_partial_files_are_unique_to_file_and_process(tmp_path: Path) -> None:
    with partial_file(tmp_path / "a") as one, partial_file(tmp_path / "b") as other:
        assert one != other
        assert one.parent == tmp_path
        assert str(os.getpid()) in one.name
