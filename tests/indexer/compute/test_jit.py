"""Compiled functions run with any kind of installation."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from twinscope_indexer.compute.machine_code import private_folder

MODULE = """
from twinscope_indexer.compute.jit import compiled

@compiled()
def twice(number):
    return 2 * number
"""

CALL = """
import os, sys
import numba.core.caching as caching
sys.path.insert(0, sys.argv[1])
if "nowhere" in sys.argv:  # like a user without a home folder, with a read-only installation
    caching._CacheLocator.ensure_cache_path = lambda self: (_ for _ in ()).throw(OSError("read-only"))
import doubled
if "full" in sys.argv:
    def full(self, *_):
        raise OSError(28, "No space left on device")
    caching.IndexDataCacheFile.save = full
from twinscope_indexer.compute.machine_code import WORK
print(doubled.twice(21))
if "work" in sys.argv:
    print(WORK.loaded, WORK.compiled, WORK.unkept, WORK.folder)
"""


def called(folder: Path, *how: str, **variables: str) -> str:
    (folder / "doubled.py").write_text(MODULE)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder / "cache"), "PYTHONDONTWRITEBYTECODE": "1"} | variables
    command = [sys.executable, "-c", CALL, str(folder), *how]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=600)
    return ran.stdout + ran.stderr[-500:]


def test_machine_code_is_reused_by_the_next_process(tmp_path: Path) -> None:
    assert called(tmp_path) == "42\n"
    kept = list((tmp_path / "cache").rglob("*.nbc"))
    assert kept
    times = [path.stat().st_mtime_ns for path in kept]
    assert called(tmp_path) == "42\n"
    assert [path.stat().st_mtime_ns for path in kept] == times


def test_function_is_compiled_if_nothing_can_be_written(tmp_path: Path) -> None:
    printed = called(tmp_path, "nowhere", "work")
    assert printed.startswith("42\n0 1 1 \n")
    assert "no folder for machine code can be written" in printed
    assert "NUMBA_CACHE_DIR" in printed


def nowhere_else(folder: Path) -> dict[str, str]:
    """Return an environment in which only the folder for temporary files can be written."""
    (folder / "__pycache__").touch()  # a file, so that it cannot be a folder for machine code
    (folder / "tmp").mkdir(exist_ok=True)
    return {"NUMBA_CACHE_DIR": "", "HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null", "TMPDIR": str(folder / "tmp")}


def test_machine_code_is_kept_in_a_private_temporary_folder(tmp_path: Path) -> None:
    variables = nowhere_else(tmp_path)
    assert called(tmp_path, "work", **variables).startswith(f"42\n0 1 0 {tmp_path / 'tmp'}/twinscope-")
    assert called(tmp_path, "work", **variables).startswith(f"42\n1 0 0 {tmp_path / 'tmp'}/twinscope-")
    [private] = (tmp_path / "tmp").iterdir()
    assert private.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("danger", ["writable", "link", "foreign", "no sticky bit"])
def test_a_folder_that_others_can_change_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, danger: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tmp_path.chmod(0o1777)
    folder = private_folder()
    assert folder == tmp_path / f"twinscope-{os.geteuid()}"
    assert private_folder() == folder
    if danger == "writable":
        folder.chmod(0o770)
    elif danger == "link":
        folder.rmdir()
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    elif danger == "foreign":
        user = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: user + 1)
        folder.rename(tmp_path / f"twinscope-{user + 1}")
    else:
        tmp_path.chmod(0o777)
    assert private_folder() is None


def test_machine_code_beside_a_module_is_used_if_nothing_can_be_written(tmp_path: Path) -> None:
    assert called(tmp_path, NUMBA_CACHE_DIR="") == "42\n"
    assert list((tmp_path / "__pycache__").glob("*.nbc"))
    assert called(tmp_path, "nowhere", "work") == f"42\n1 0 0 {tmp_path / '__pycache__'}\n"


def test_damaged_machine_code_is_replaced(tmp_path: Path) -> None:
    assert called(tmp_path) == "42\n"
    for path in (tmp_path / "cache").rglob("*.nb?"):
        path.write_bytes(path.read_bytes()[:40])
    assert called(tmp_path, "work").startswith("42\n0 1 0 ")
    assert called(tmp_path, "work").startswith("42\n1 0 0 ")


def test_no_cache_is_made_in_the_current_folder(tmp_path: Path) -> None:
    variables = nowhere_else(tmp_path) | {"XDG_CACHE_HOME": "relative"}
    assert called(tmp_path, "work", **variables).startswith(f"42\n0 1 0 {tmp_path / 'tmp'}/twinscope-")
    assert not Path("relative").exists()


def test_call_succeeds_on_a_full_disk(tmp_path: Path) -> None:
    assert called(tmp_path, "full") == "42\n"
    assert not list((tmp_path / "cache").rglob("*.nbc"))
