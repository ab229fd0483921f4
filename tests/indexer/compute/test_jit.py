"""Compiled functions run with any kind of installation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
print(doubled.twice(21))
"""


def called(folder: Path, *how: str) -> str:
    (folder / "doubled.py").write_text(MODULE)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder / "cache")}
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
    assert called(tmp_path, "nowhere") == "42\n"


def test_call_succeeds_on_a_full_disk(tmp_path: Path) -> None:
    assert called(tmp_path, "full") == "42\n"
    assert not list((tmp_path / "cache").rglob("*.nbc"))
