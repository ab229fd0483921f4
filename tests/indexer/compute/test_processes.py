"""Worker processes: they do what threads would have done, and nothing of them is left when they are not needed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from twinscope_client.demo.micrographs import synthesise
from twinscope_indexer.compute import processes as workerprocess
from twinscope_indexer.compute.processes import ProcessLostError, WorkerProcesses
from twinscope_indexer.indexing import run as bulk
from twinscope_indexer.indexing.run import index
from twinscope_indexer.store.reader import Store
from worker_support import AtOnce, until, who

_SOON = 60.0
"""Seconds within which a process has started, or ended, on any machine."""


def doubled(number: int) -> int:
    return 2 * number


def chatty(text: str) -> str:
    sys.stdout.write(text)
    os.write(1, b"more\n" * 1000)
    return text


def killed(number: int) -> None:
    os.kill(os.getpid(), number)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def elsewhere(processes: WorkerProcesses) -> int:
    """Wait until this thread has a process; gives its number."""
    return int(until(lambda: (pid := processes.apply(who, None, who)) != os.getpid() and pid))


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkerProcesses]:
    monkeypatch.setattr(workerprocess, "PATIENCE", 0.0)
    with WorkerProcesses(2) as made:
        yield made


def test_until_there_is_a_process_the_thread_does_it(processes: WorkerProcesses) -> None:
    assert processes.apply(who, None, who) == os.getpid()
    other = elsewhere(processes)
    assert other != os.getpid()
    assert [processes.apply(doubled, number, doubled) for number in range(50)] == [2 * number for number in range(50)]
    assert processes.apply(who, None, who) == other  # always the same


def test_short_work_starts_none() -> None:
    with WorkerProcesses(8) as made:
        assert {made.apply(who, None, who) for _ in range(100)} == {os.getpid()}


def test_a_single_worker_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workerprocess, "PATIENCE", 0.0)
    with WorkerProcesses(1) as made:
        until(lambda: made.apply(who, None, who) == os.getpid())
        assert made._started == []


def test_what_a_library_prints_does_not_come_between_the_answers(processes: WorkerProcesses) -> None:
    elsewhere(processes)
    assert processes.apply(chatty, "one", chatty) == "one"
    assert processes.apply(doubled, 4, doubled) == 8


def test_large_messages_arrive(processes: WorkerProcesses) -> None:
    elsewhere(processes)
    data = bytes(range(256)) * 40_000
    assert processes.apply(len, data, len) == len(data)
    assert processes.apply(chatty, "x" * 5_000_000, chatty) == "x" * 5_000_000


@pytest.mark.parametrize(
    ("number", "says"), [(signal.SIGKILL, "memory"), (signal.SIGSEGV, f"signal {signal.SIGSEGV.value}")]
)
def test_a_lost_process_is_told_and_replaced(processes: WorkerProcesses, number: int, says: str) -> None:
    seen = set()
    for _ in range(3):  # more than there are workers
        pid = elsewhere(processes)
        seen.add(pid)
        with pytest.raises(ProcessLostError, match=says):
            processes.apply(killed, int(number), killed)
        assert not alive(pid)
    assert elsewhere(processes) not in seen
    assert processes.apply(doubled, 3, doubled) == 6


def test_the_interrupt_of_the_caller_is_not_theirs(processes: WorkerProcesses) -> None:
    assert os.getpgid(elsewhere(processes)) != os.getpgid(0)


@pytest.mark.parametrize(
    "program",
    ["exit 1", "exec sleep 3", "echo nonsense", "sleep 0.1; exec false", "for last; do :; done; echo no >&$last"],
)
def test_where_no_process_can_be_started_threads_do_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str
) -> None:
    broken = tmp_path / "python"
    broken.write_text(f"#!/bin/sh\n{program}\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    monkeypatch.setattr(workerprocess, "PATIENCE", 0.0)
    end = time.monotonic() + 1
    with WorkerProcesses(2) as made:
        while time.monotonic() < end:
            assert made.apply(who, None, who) == os.getpid()
        assert len(made._started) == 1  # not tried again and again


@pytest.mark.parametrize("executable", ["", "/usr/bin/true", "/nowhere/python3"])
def test_what_is_no_interpreter_is_not_started(monkeypatch: pytest.MonkeyPatch, executable: str) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    monkeypatch.setattr(workerprocess, "PATIENCE", 0.0)
    with WorkerProcesses(2) as made:
        assert {made.apply(who, None, who) for _ in range(100)} == {os.getpid()}


def test_all_end_with_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workerprocess, "PATIENCE", 0.0)
    with WorkerProcesses(2) as made:
        pid = elsewhere(made)
        assert alive(pid)
    assert not alive(pid)
    assert made.apply(who, None, who) == os.getpid()


@pytest.mark.parametrize("said", ["x", "Using the lab environment", "Loading it", "\\x80\\x05N."])
def test_what_is_printed_at_the_start_does_not_matter(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(f'print("{said}")\n')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(workerprocess, "PATIENCE", 0.0)
    with WorkerProcesses(2) as made:
        elsewhere(made)
        assert made.apply(doubled, 21, doubled) == 42


def test_nothing_is_imported_from_the_folder_where_it_is_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in ("pickle", "struct", "numpy", "fcntl"):
        (tmp_path / f"{module}.py").write_text("import os; open('taken', 'w').close(); os._exit(7)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(workerprocess, "PATIENCE", 0.0)
    with WorkerProcesses(2) as made:
        elsewhere(made)
    assert not (tmp_path / "taken").exists()


def test_where_machine_code_is_not_kept_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workerprocess, "is_kept", lambda: False)
    monkeypatch.setattr(workerprocess, "PATIENCE", 0.0)
    with WorkerProcesses(2) as made:
        assert {made.apply(who, None, who) for _ in range(100)} == {os.getpid()}


_CALLER = """
    import sys, time
    sys.path[:0] = {path!r}
    from twinscope_indexer.compute import processes as workerprocess
    from worker_support import who
    workerprocess.PATIENCE = 0.0
    print("begun", flush=True)  # twice, were this script imported again
    with workerprocess.WorkerProcesses(2) as processes:
        pid = None
        while True:
            found = processes.apply(who, None, who)
            if found != pid:
                pid = found
                print(pid, flush=True)
            time.sleep(0.01)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_script_without_a_guard_starts_them_and_takes_them_along(tmp_path: Path, number: signal.Signals) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(_CALLER.format(path=[str(Path(__file__).resolve().parents[2] / "support")])))
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout is not None
        lines = [caller.stdout.readline().strip() for _ in range(3)]
        assert lines[0] == "begun"
        own, other = map(int, lines[1:])
        assert own == caller.pid
        assert alive(other)
        caller.send_signal(number)
        caller.wait(_SOON)
    until(lambda: not alive(other))


# -- indexing ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    for number in range(6):
        path = tmp_path / "data" / "Tips" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(synthesise("Tips", number, width=160, height=120)).save(path)
    (tmp_path / "data" / "Tips" / "bad.jpg").write_bytes(b"\xff\xd8\xff rubbish")
    Image.new("L", (64, 64)).save(tmp_path / "data" / "Tips" / "blank.png")
    return tmp_path / "data"


def stored(folder: Path) -> dict[str, tuple[Any, ...]]:
    store = Store(folder)
    try:
        return {
            one.path: (one.hash, one.unhashable, one.sha256, one.width, store.catalog.thumbnail(one.id))
            for one in store.catalog.all_records()
        }
    finally:
        store.close()


def test_a_store_is_the_same_by_processes(monkeypatch: pytest.MonkeyPatch, collection: Path, tmp_path: Path) -> None:
    by_itself = index([collection], tmp_path / "one", workers=1)
    monkeypatch.setattr(workerprocess, "PATIENCE", 0.0)
    monkeypatch.setattr(bulk, "WorkerProcesses", AtOnce)
    AtOnce.asked = 0
    by_processes = index([collection], tmp_path / "two", workers=2)
    assert AtOnce.asked == 8
    assert by_processes.counts == by_itself.counts
    assert by_processes.failures == by_itself.failures
    assert stored(tmp_path / "two") == stored(tmp_path / "one")


def test_an_image_that_its_process_dies_of_is_reported_and_the_others_are_indexed(
    monkeypatch: pytest.MonkeyPatch, collection: Path, tmp_path: Path
) -> None:
    class Dying(WorkerProcesses):
        def apply(self, function: Any, argument: Any, here: Any) -> Any:
            if argument.item.name == "3.png":
                raise ProcessLostError("it was killed")
            return super().apply(function, argument, here)

    monkeypatch.setattr(bulk, "WorkerProcesses", Dying)
    report = index([collection], tmp_path / "store", workers=2)
    assert report.counts["added"] == 5
    assert [message for uri, message in report.failures if uri.endswith("3.png")] == [
        "the process that read it was lost: it was killed"
    ]
    monkeypatch.undo()
    assert index([collection], tmp_path / "store", workers=2).counts["added"] == 1


def test_archives_are_read_by_one_process(monkeypatch: pytest.MonkeyPatch, collection: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "data"), "zip", collection))
    monkeypatch.setattr(workerprocess, "PATIENCE", 0.0)
    monkeypatch.setattr(bulk, "WorkerProcesses", AtOnce)
    AtOnce.asked = 0
    assert index([archive], tmp_path / "store", workers=2).counts["added"] == 6
    assert AtOnce.asked == 0
