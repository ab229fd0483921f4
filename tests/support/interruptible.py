"""Processes that Ctrl-C reaches, also where the tests themselves ignore SIGINT, as under ``nohup``."""

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

    An ignored signal stays ignored in a child, and Python then installs no handler for it. The disposition is restored
    by a short program that replaces itself by the command, so the process id is that of the command; unlike
    ``preexec_fn`` that is safe where the tests have threads.
    """
    start = [sys.executable, "-I", "-S", "-c", _WITH_DEFAULT_SIGINT]
    return subprocess.Popen([*start, *map(str, command)], **kw)


def run_to_end(command: Sequence[str | Path], *, timeout: float) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as `popen` starts it, with its output as text."""
    with popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)
