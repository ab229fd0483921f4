"""Runs ``twinscope serve`` as a separate process, for tests of external clients."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from interruptible import popen

_HANGS = 60.0
"""Time limit in seconds that only a hanging process exceeds."""
TWINSCOPE = (sys.executable, "-m", "twinscope_client.cli.main")


@contextmanager
def serving(store: Path, *flags: str | Path) -> Iterator[str]:
    """Serve a store on a free port while the body runs, then require a clean exit.

    Yields
    ------
    str
        ``grpc://127.0.0.1:port``, or ``grpcs://...``.
    """
    command = [*TWINSCOPE, "serve", store, "--port", "0", "--lame-duck-seconds", "0", "--quiet", *flags]
    with popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            output = []
            for line in process.stderr:
                output.append(line)
                if found := re.search(r" at (grpcs?://[^;]+);", line):
                    yield found[1]
                    break
            else:
                raise AssertionError("".join(output))
        finally:
            process.send_signal(signal.SIGTERM)
            rest = process.stderr.read()
            code = process.wait(timeout=_HANGS)
    assert code == 0, rest
