"""The choice of the fastest engine. The engines are measured only once, even if the cache file is damaged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from index_contract import in_parts, random_codes
from twinscope_indexer.index import choice, measurement
from twinscope_indexer.index.choice import ENGINE_VARIABLE, MEASURED_FROM, choose, fastest, frame_index, image_index
from twinscope_indexer.index.engines import ENGINES
from twinscope_indexer.index.measurement import MeasurementError, Times, cache_file, times


def timed(single: tuple[float, float], batch: tuple[float, float], frames: tuple[float, float] = (1.0, 2.0)) -> Times:
    """Return times of the engines `scan` and `faiss`."""
    given = {"single": single, "batch": batch, "frames": frames}
    return {workload: dict(zip(("scan", "faiss"), each, strict=True)) for workload, each in given.items()}


SCAN, FAISS = timed((1, 2), (1, 4)), timed((4, 2), (2, 1), (3, 1))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Provide an empty cache folder, a process that has measured nothing, and two engines, whose times tests set."""
    for name in set(ENGINES) - {"scan", "faiss"}:
        monkeypatch.delitem(ENGINES, name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(ENGINE_VARIABLE, raising=False)
    choice._measured.cache_clear()
    yield tmp_path / "cache"
    choice._measured.cache_clear()


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Times]:
    """Provide the results of the next measurements, in order; each measurement removes the first."""
    left = [SCAN, FAISS]
    monkeypatch.setattr(measurement, "_measure_apart", lambda: left.pop(0))
    return left


# -- the choice -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "single", "batch", "frames"),
    [
        (SCAN, "scan", "scan", "scan"),
        (FAISS, "faiss", "faiss", "faiss"),
        (timed((1.05, 1.0), (1.05, 1.0), (1.05, 1.0)), "scan", "scan", "scan"),  # not clearly faster
        (timed((3, 1), (1, 3)), "faiss", "scan", "scan"),  # both, because each is much faster at its workload
        (timed((1, 3), (3, 1)), "scan", "faiss", "scan"),
        (timed((1.4, 1), (1, 3)), "scan", "scan", "scan"),  # the gain does not justify a second copy
        (timed((3, 1), (1, 1.4)), "faiss", "faiss", "scan"),
    ],
)
def test_the_fastest_engine_is_chosen_for_each_workload(found: Times, single: str, batch: str, frames: str) -> None:
    chosen = fastest(found)
    assert (chosen.single, chosen.batch, chosen.frames) == (single, batch, frames)


def test_the_reason_lists_all_measured_times() -> None:
    assert fastest(timed((1, 2), (0.25, 4))).reason == (
        "measured on this machine with 250,000 hashes, in ms per query: single scan 1.00, faiss 2.00; "
        "batch scan 0.25, faiss 4.00; frames scan 1.00, faiss 2.00"
    )


def test_a_small_store_is_not_measured(measured: list[Times]) -> None:
    assert choose(MEASURED_FROM - 1).single == "scan"
    assert image_index(0).describe().engine == frame_index(0).describe().engine == "scan"
    assert len(measured) == 2


def test_a_large_store_is_measured_once(measured: list[Times]) -> None:
    for _ in range(3):
        assert choose(MEASURED_FROM).reason.startswith("measured on this machine")
        choice._measured.cache_clear()  # like in another process
    assert len(measured) == 1


@pytest.mark.parametrize("count", [0, MEASURED_FROM])
def test_the_environment_forces_an_engine(count: int, measured: list[Times], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENGINE_VARIABLE, "faiss")
    assert image_index(count).describe().engine == frame_index(count).describe().engine == "faiss"
    assert len(measured) == 2


def test_two_engines_are_paired_if_each_is_much_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement, "_measure_apart", lambda: timed((3, 1), (1, 3)))
    codes = random_codes(200)
    index = image_index(MEASURED_FROM).extended(in_parts(codes, 50))
    described = index.describe()
    assert described.engine == "faiss, scan"
    beginning = "one query: FAISS's flat index (exact), 4 segments; several queries: blocked scan (exact)"
    assert described.kind.startswith(beginning)
    assert frame_index(MEASURED_FROM).describe().engine == "scan"
    query = np.frombuffer(next(iter(codes.values())), np.uint8)[None]
    assert [near.ids.tolist() for near in index.search(query, 3, 1024)] == [
        near.ids.tolist() for near in index.search(np.repeat(query, 2, axis=0), 3, 1024)[:1]
    ]


def test_the_scan_is_chosen_if_measuring_is_impossible(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(sys, "executable", "/opt/app/viewer")  # a program with Python built in
    chosen = choose(MEASURED_FROM)
    assert (chosen.single, chosen.batch, chosen.frames) == ("scan",) * 3
    reason = "the engines were not measured, because there is no Python interpreter for a separate process"
    assert chosen.reason == reason
    assert not cache.exists()


# -- the measurement --------------------------------------------------------------------------------------------------


def test_another_process_measures_all_engines(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """The test measures with few codes. Both processes load the same modules, so they have the same workloads."""
    program = "import twinscope_indexer.index.measurement as m; m.SIZE = 3000"
    engines = f"[m.ENGINES.pop(name) for name in set(m.ENGINES) - {set(ENGINES)}]; m.main()"
    monkeypatch.setattr(measurement, "_PROGRAM", f"import sys; sys.path[:] = sys.argv[1:]; {program}; {engines}")
    found = times()
    assert set(found) == {"single", "batch", "frames"}
    for each in found.values():
        assert set(each) == {"scan", "faiss"}
        assert all(0 < value < 60_000 for value in each.values())
    path = cache_file()
    assert path is not None
    assert path.parent == cache / "twinscope"
    assert json.loads(path.read_text())["times"] == found
    monkeypatch.setattr(measurement, "_measure_apart", lambda: pytest.fail("measured again"))
    assert times() == found


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("raise SystemExit(3)", "measuring the engines failed: .*exit status 3"),
        ("import os; os.kill(os.getpid(), 9)", "measuring the engines failed: .*died"),
        ("print('hello')", "measuring the engines failed"),
        ("print('{}')", "measuring the engines failed"),
        ("import time; time.sleep(600)", "not measured within 1 s"),
    ],
)
def test_a_failed_measuring_process_is_reported(
    program: str, message: str, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(measurement, "_PROGRAM", program)
    monkeypatch.setattr(measurement, "_TIMEOUT", 1.0 if "sleep" in program else 60.0)
    with pytest.raises(MeasurementError, match=message):
        times()
    assert not cache.exists()


DAMAGE = [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"key": 1}', b'{"key": {}, "times": {}}', b'"text"']


@pytest.mark.parametrize("content", DAMAGE)
def test_a_damaged_cache_file_is_replaced(content: bytes, measured: list[Times]) -> None:
    path = cache_file()
    assert path is not None
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert times() == SCAN
    assert times() == SCAN
    assert len(measured) == 1


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf"), "fast", None, [1]])
def test_an_invalid_time_is_measured_again(wrong: object, measured: list[Times]) -> None:
    assert times() == SCAN
    path = cache_file()
    assert path is not None
    kept = json.loads(path.read_text())
    kept["times"]["batch"]["faiss"] = wrong
    path.write_text(json.dumps(kept))
    assert times() == FAISS
    assert measured == []


@pytest.mark.parametrize("changed", ["version", "processor", "engines"])
def test_times_are_kept_per_processor_and_versions(
    changed: str, measured: list[Times], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert times() == SCAN
    before = cache_file()
    if changed == "version":
        monkeypatch.setattr(measurement, "version", lambda package: "99" if package == "faiss-cpu" else "1")
    elif changed == "processor":
        monkeypatch.setattr(measurement, "_processor", lambda: "model name: another; flags: avx512_vpopcntdq")
    else:
        monkeypatch.setattr(measurement, "ENGINES", {"scan": "", "faiss": "", "toy": ""})
        monkeypatch.setattr(measurement, "_measure_apart", lambda: FAISS)
    assert times() == FAISS
    assert cache_file() != before


def test_the_processor_is_named() -> None:
    found = measurement._processor()
    assert found
    if Path("/proc/cpuinfo").exists() and "flags" in Path("/proc/cpuinfo").read_text():
        assert "model name" in found
        assert "sse2" in found.split()


@pytest.mark.parametrize("obstacle", ["a file", "a file instead of the folder", "no home"])
def test_each_process_measures_if_nothing_can_be_kept(
    obstacle: str, cache: Path, measured: list[Times], monkeypatch: pytest.MonkeyPatch
) -> None:
    if obstacle == "a file":
        cache.write_text("no folder")
    elif obstacle == "a file instead of the folder":
        cache.mkdir()
        (cache / "twinscope").write_text("no folder")
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")

        def no_home() -> Path:
            msg = "Could not determine home directory."
            raise RuntimeError(msg)

        monkeypatch.setattr(Path, "home", no_home)
        assert cache_file() is None
    assert times() == SCAN
    assert times() == FAISS


def test_a_read_only_cache_folder_is_left_unchanged(cache: Path, measured: list[Times]) -> None:
    if os.geteuid() == 0:
        pytest.skip("permissions do not restrict this user")
    cache.mkdir(mode=0o500)
    assert times() == SCAN
    assert times() == FAISS
    assert list(cache.iterdir()) == []


def test_concurrent_processes_leave_one_complete_file(cache: Path) -> None:
    program = (
        "from twinscope_indexer.index import measurement as m\n"
        "found = {w: {'scan': 1.0, 'faiss': 2.0} for w in m.WORKLOADS}\n"
        "m._measure_apart = lambda: found\n"
        "for _ in range(50):\n"
        "    assert m.times() == found\n"
        "    m.cache_file().unlink(missing_ok=True)\n"
        "assert m.times() == found\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(3)]
    assert [process.wait(120) for process in running] == [0, 0, 0]
    assert len(list((cache / "twinscope").iterdir())) <= 1


def test_threads_of_a_process_measure_once(measured: list[Times]) -> None:
    found = []
    threads = [threading.Thread(target=lambda: found.append(choose(MEASURED_FROM))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(measured) == 1
