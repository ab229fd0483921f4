"""Worker processes: a crash affects only its own call, and no process is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from crashing import alive, crash, crash_once, wait_until_gone
from interruptible import popen
from twinscope_indexer.compute import workers
from twinscope_indexer.compute.workers import WorkerLostError, Workers

call_in_worker = Workers(4).call

_SUPPORT = str(Path(__file__).resolve().parents[2] / "support")


def process_id(_: object) -> int:
    return os.getpid()


def raise_lookup_error(message: str) -> None:
    raise LookupError(message)


def print_and_return(text: str) -> str:
    os.write(1, b"more\n" * 1000)
    return text


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make sure that the test uses no process of an earlier test."""
    monkeypatch.setattr(workers, "_free", defaultdict(list))


def test_call_uses_another_process_that_serves_the_next_call(fresh: None) -> None:
    first = call_in_worker(process_id, None)
    assert first != os.getpid()
    assert call_in_worker(process_id, None) == first


def test_each_concurrent_call_has_its_own_process(fresh: None, tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as threads:
        pids = list(threads.map(lambda n: call_in_worker(wait_for_three, (tmp_path, n)), range(3)))
    assert len(set(pids)) == 3


def test_crash_does_not_cost_the_call_that_waits_in_the_process(fresh: None, tmp_path: Path) -> None:
    made = Workers(1)
    with ThreadPoolExecutor(2) as threads:
        crashing = threads.submit(made.call, crash_when_told, tmp_path)
        while not (tmp_path / "running").exists():
            time.sleep(0.01)
        waiting = threads.submit(made.call, len, "four")
        while workers_of(made) < 2:
            time.sleep(0.01)
        (tmp_path / "go").touch()
        assert waiting.result() == 4
        with pytest.raises(WorkerLostError, match="SIGSEGV"):
            crashing.result()


def test_exception_does_not_cost_the_call_that_waits_in_the_process(fresh: None, tmp_path: Path) -> None:
    made = Workers(1)
    with ThreadPoolExecutor(2) as threads:
        failing = threads.submit(made.call, raise_when_told, tmp_path)
        while not (tmp_path / "running").exists():
            time.sleep(0.01)
        waiting = threads.submit(made.call, process_id, None)
        while workers_of(made) < 2:
            time.sleep(0.01)
        (tmp_path / "go").touch()
        with pytest.raises(LookupError):
            failing.result()
        assert str(waiting.result()) == (tmp_path / "running").read_text()


def raise_when_told(folder: Path) -> None:
    """Write the process id, and raise an error as soon as the file ``go`` exists."""
    (folder / "part").write_text(str(os.getpid()))
    (folder / "part").rename(folder / "running")
    while not (folder / "go").exists():
        time.sleep(0.01)
    raise LookupError


def workers_of(made: Workers) -> int:
    """Return the number of calls that run or wait in a process."""
    return sum(process.users for process in made._processes)


def crash_when_told(folder: Path) -> None:
    """Report that the call is running, and crash as soon as the file ``go`` exists."""
    (folder / "running").touch()
    while not (folder / "go").exists():
        time.sleep(0.01)
    crash("SIGSEGV")


def wait_for_three(call: tuple[Path, int]) -> int:
    """Return when three calls are running at the same time."""
    folder, number = call
    (folder / str(number)).touch()
    while len(list(folder.iterdir())) < 3:
        time.sleep(0.01)
    return os.getpid()


@pytest.mark.parametrize("size", [0, 1, 70_000, 30_000_000])
def test_messages_of_any_size_arrive(size: int) -> None:
    data = os.urandom(1000) * (size // 1000 + 1)
    assert call_in_worker(bytes, data[:size]) == data[:size]


def test_output_of_a_library_does_not_interfere(fresh: None) -> None:
    assert call_in_worker(print_and_return, "one") == "one"
    assert call_in_worker(len, "four") == 4


def test_exception_of_a_call_reaches_the_caller() -> None:
    with pytest.raises(LookupError, match="missing"):
        call_in_worker(raise_lookup_error, "missing")
    assert call_in_worker(len, "four") == 4


# -- crashes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "message"),
    [("SIGSEGV", r"crashed \(SIGSEGV\)"), ("SIGABRT", r"crashed \(SIGABRT\)"), ("SIGKILL", "because memory ran out")],
)
def test_crash_is_reported_and_later_calls_succeed(capfd: pytest.CaptureFixture[str], how: str, message: str) -> None:
    with pytest.raises(WorkerLostError, match=message):
        call_in_worker(crash, how)
    assert call_in_worker(len, "four") == 4
    assert "Traceback" not in "".join(capfd.readouterr())


def test_process_killed_while_it_sends_its_result_is_noticed(fresh: None) -> None:
    with pytest.raises(WorkerLostError, match="SIGKILL"):
        call_in_worker(die_while_sending, "the result")
    assert call_in_worker(len, "four") == 4


def die_while_sending(result: str) -> str:
    """Kill the process after it has sent a part of its result."""

    def send_a_part(self: Connection, data: memoryview) -> None:
        os.write(self.fileno(), data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    Connection._send = send_a_part  # type: ignore[attr-defined]
    return result


def test_first_process_of_a_program_holds_the_signals_of_the_terminal(tmp_path: Path) -> None:
    rest = "from crashing import held_signals; print(call_in_worker(held_signals, None))"
    ran = subprocess.run([sys.executable, script(tmp_path, rest)], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[2:] == ["['SIGINT', 'SIGTERM']"]


def test_crash_after_an_idle_time_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_IDLE_SECONDS", 0.2)
    monkeypatch.setattr(workers, "_free", defaultdict(list))  # other tests must not use a process that ends so soon
    assert call_in_worker(len, "four") == 4
    time.sleep(1)  # longer than the idle time of a process
    with pytest.raises(WorkerLostError, match="SIGSEGV"):
        call_in_worker(crash, "SIGSEGV")
    assert call_in_worker(len, "four") == 4


def test_crash_prints_nothing_without_pgrep(tmp_path: Path) -> None:
    rest = """
    from twinscope_indexer.compute.workers import WorkerLostError
    try:
        call_in_worker(crash, "SIGSEGV")
    except WorkerLostError as error:
        print(error)
    """
    ran = subprocess.run(
        [sys.executable, script(tmp_path, rest)], capture_output=True, text=True, check=False,
        env={name: text for name, text in os.environ.items() if name != "PATH"},
    )  # fmt: skip
    assert (ran.stdout.splitlines()[2:], ran.stderr) == (["crashed (SIGSEGV)"], "")


def test_killed_idle_processes_do_not_affect_calls(fresh: None, tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as threads:
        pids = list(threads.map(lambda n: call_in_worker(wait_for_three, (tmp_path, n)), range(3)))
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        wait_until_gone(pid)
    assert [call_in_worker(abs, -number) for number in range(5)] == list(range(5))


def test_call_whose_process_was_killed_is_repeated(tmp_path: Path) -> None:
    assert call_in_worker(crash_once, tmp_path / "note") == "done"


def test_crash_does_not_affect_other_calls() -> None:
    def outcome(number: int) -> object:
        try:
            return call_in_worker(crash, "SIGSEGV") if number % 5 == 2 else call_in_worker(abs, -number)
        except WorkerLostError:
            return "lost"

    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(outcome, range(15)))
    assert found == ["lost" if number % 5 == 2 else number for number in range(15)]


# -- if no process can be started --------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", ["exit 1", "exec true", "echo nonsense"])
def test_call_is_made_here_if_no_process_can_be_started(
    fresh: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str
) -> None:
    broken = tmp_path / "python"
    broken.write_text(f"#!/bin/sh\n{program}\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.warns(RuntimeWarning, match="no worker process can be started"):
        assert call_in_worker(process_id, None) == os.getpid()


@pytest.mark.parametrize("executable", ["", "/nowhere/python3"])
def test_invalid_interpreter_starts_no_process(fresh: None, monkeypatch: pytest.MonkeyPatch, executable: str) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.warns(RuntimeWarning, match="no worker process can be started"):
        assert call_in_worker(process_id, None) == os.getpid()


def test_nothing_is_imported_from_the_working_folder(tmp_path: Path) -> None:
    for module in ("pickle", "struct", "queue", "numpy", "signal", "argparse"):
        (tmp_path / f"{module}.py").write_text("import os; open('taken', 'w').close(); os._exit(7)\n")
    script = (
        "import sys; sys.path[0] = ''.join(sys.argv[1:]); from twinscope_indexer.compute.workers import Workers;"
        "print(Workers(1).call(len, 'four'))"
    )
    ran = subprocess.run(
        [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {_SUPPORT!r}); {script}", _SUPPORT],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ran.stdout, ran.stderr, ran.returncode) == ("4\n", "", 0)
    assert not (tmp_path / "taken").exists()


# -- the end of processes ----------------------------------------------------------------------------------------------

_CALLER = """
    import os, sys, threading, time
    sys.path[:0] = {support!r}
    from crashing import crash, halt
    from twinscope_indexer.compute.workers import Workers
    call_in_worker = Workers(2).call
    print("begun", flush=True)  # twice, if this script were imported again
    print(call_in_worker(os.getpgid, 0), flush=True)
    {rest}
"""


def script(folder: Path, rest: str) -> Path:
    path = folder / "script.py"
    path.write_text(textwrap.dedent(_CALLER.format(support=[_SUPPORT], rest=rest)))
    return path


def children(pid: int) -> list[int]:
    """Return the child processes of a process."""
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


@pytest.mark.parametrize("rest", ["", "call_in_worker(os.getpgid, 0)", "sys.exit(3)", "1 / 0"])
def test_script_without_a_guard_leaves_no_process(tmp_path: Path, rest: str) -> None:
    with popen([sys.executable, script(tmp_path, f"input(); {rest}")], **_PIPES) as caller:
        lines = [caller.stdout.readline().strip() for _ in range(2)]
        assert lines[0] == "begun"
        started = children(caller.pid)
        assert started
        caller.communicate("go\n")
    for pid in started:
        wait_until_gone(pid)


_PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_no_process_is_left_after_its_caller_is_stopped(tmp_path: Path, number: signal.Signals, busy: bool) -> None:
    # Use many short sleeps, because Python does not notice a signal that arrives just before a sleep begins.
    idle = "print('running', flush=True)\n    while True: time.sleep(0.1)"
    rest = "call_in_worker(halt, 'running\\n')" if busy else idle
    path = script(tmp_path, rest)
    with popen([sys.executable, path], start_new_session=True, **_PIPES) as caller:
        while "running" not in caller.stdout.readline():
            assert caller.poll() is None
        started = children(caller.pid)
        assert started
        if number == signal.SIGINT:
            os.killpg(caller.pid, number)  # Ctrl-C reaches all processes in the foreground group of the terminal
        else:
            caller.send_signal(number)
        for pid in started:
            wait_until_gone(pid)
        _, errors = caller.communicate()
    assert errors.count("Traceback") == (number == signal.SIGINT), errors  # the script's own
    assert not alive(caller.pid)


def test_calls_that_never_return_can_be_ended(fresh: None, tmp_path: Path) -> None:
    made = Workers(2)
    with ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(made.call, hang, tmp_path / name) for name in "ab"]
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.01)
        made.end_calls()
        assert all(isinstance(call.exception(), RuntimeError) for call in calls)
    for path in tmp_path.iterdir():
        wait_until_gone(int(path.read_text()))
    assert made.call(len, "four") == 4


def test_call_that_waits_in_a_process_can_be_ended(fresh: None, tmp_path: Path) -> None:
    made = Workers(1)
    with ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(made.call, hang, tmp_path / name) for name in "ab"]
        while workers_of(made) < 2 or not list(tmp_path.iterdir()):
            time.sleep(0.01)
        made.end_calls()
        assert all(isinstance(call.exception(), RuntimeError) for call in calls)
    assert made.call(len, "four") == 4


def test_process_ended_as_its_call_returns_is_not_reused(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Workers(1)
    ended = []

    class Executor:
        """An executor whose call returns at the moment when all calls are ended."""

        def submit(self, function: Callable[[Any], Any], argument: Any) -> Any:
            return self

        def result(self) -> str:
            made.end_calls()
            return "done"

        def shutdown(self, **_: bool) -> None:
            ended.append(self)

    monkeypatch.setattr(workers, "_new_executor", lambda _: Executor())
    assert made.call(len, "four") == "done"
    assert len(ended) == 1
    assert workers._free[os.getpid()] == []


def hang(note: Path) -> None:
    partial = note.parent.with_suffix(f".{note.name}")
    partial.write_text(str(os.getpid()))
    partial.rename(note)
    signal.pause()


def test_process_without_calls_ends(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_IDLE_SECONDS", 0.1)
    first = call_in_worker(process_id, None)
    wait_until_gone(first)
    assert call_in_worker(process_id, None) not in {first, os.getpid()}


def test_forked_process_can_make_calls(tmp_path: Path) -> None:
    rest = "child = os.fork(); print(call_in_worker(len, 'four'), flush=True); child and os.waitpid(child, 0)"
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", script(tmp_path, rest)], capture_output=True, text=True, check=False
    )
    assert ran.stdout.splitlines()[2:] == ["4", "4"], ran.stderr
