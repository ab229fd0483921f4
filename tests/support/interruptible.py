"""Processes that Ctrl-C reaches, even if the tests themselves ignore SIGINT, as under ``nohup``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_WITH_DEFAULT_SIGINT = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])"
)


def popen(command: Sequence[str | Path], **kw: Any) -> subprocess.Popen[Any]:
    """Start a process as `subprocess.Popen` does, with the default disposition of SIGINT.

    An ignored signal stays ignored in a child process, and Python then installs no handler for it. A short program
    restores the disposition and then replaces itself with the command, so the process id does not change. Unlike
    ``preexec_fn``, this is safe if the tests have threads.
    """
    start = [sys.executable, "-I", "-S", "-c", _WITH_DEFAULT_SIGINT]
    return subprocess.Popen([*start, *map(str, command)], **kw)


def run_to_end(command: Sequence[str | Path], *, timeout: float) -> subprocess.CompletedProcess[str]:
    """Run a command with `popen` until it ends; return its output as text."""
    with popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)
