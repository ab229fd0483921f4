"""Every line of the log is JSON, from the start of the server to its end, and ``health --wait`` waits for the start."""

from __future__ import annotations

import json
import logging
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from interruptible import popen
from serving import TWINSCOPE
from shelf import Shelf
from twinscope_client.cli import serve_command
from twinscope_client.cli.main import main
from twinscope_service.server.json_log import json_line

_HANGS = 120.0


def test_a_line_is_json() -> None:
    line = json.loads(json_line(logging.WARNING, "50 % of\nthis"))
    assert (line["level"], line["message"]) == ("WARNING", "50 % of\nthis")
    assert line["time"].endswith("+00:00")


@pytest.mark.parametrize("quiet", [["--quiet"], []])
def test_all_lines_are_json_until_the_end(shelf: Shelf, quiet: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [*TWINSCOPE, "serve", shelf.store, "--port", str(port), "--lame-duck-seconds", "0", *quiet]
    with popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert main(["health", f"grpc://127.0.0.1:{port}", "--wait", str(_HANGS)]) == 0
            assert capsys.readouterr() == ("SERVING\n", "")
            assert process.stderr is not None
            lines = [process.stderr.readline()]
            while "Serving" not in lines[-1]:
                lines.append(process.stderr.readline())
            process.send_signal(signal.SIGTERM)
            lines += process.stderr.readlines()
            assert process.wait(_HANGS) == 0
        finally:
            process.kill()
    entries = [json.loads(line) for line in lines]
    assert all(entry["time"] and entry["level"] for entry in entries)
    assert any(f"grpc://127.0.0.1:{port}; stop with Ctrl-C" in entry.get("message", "") for entry in entries)
    assert entries[-1]["message"] == "Stopping: waiting for calls in progress."


def test_a_failure_at_the_start_is_json(tmp_path: Path) -> None:
    ran = subprocess.run(
        [*TWINSCOPE, "serve", str(tmp_path), "--port", "0"], capture_output=True, text=True, check=False, timeout=_HANGS
    )
    assert ran.returncode == 1
    entries = [json.loads(line) for line in ran.stderr.splitlines()]
    assert entries[-1]["level"] == "ERROR"
    assert "twinscope index" in entries[-1]["message"]


def test_health_does_not_wait_without_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert main(["health", f"grpc://127.0.0.1:{port}", "--wait", "0.5"]) == 1
    assert "check that the server is running" in capsys.readouterr().err


def test_a_missing_extra_names_the_command_once(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(serve_command.sys.modules, "twinscope_service.server.server", None)
    assert main(["serve", str(shelf.store)]) == 1
    assert capsys.readouterr().err.startswith("twinscope serve: the server needs a component that is not installed")
