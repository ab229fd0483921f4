"""Output of the command: data on stdout, messages on stderr, progress bars on terminals only."""

from __future__ import annotations

import io
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

from twinscope_indexer.errors import TwinscopeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tqdm import tqdm

    from twinscope_client.labelling.tables import Table

DONE, FAILED, USAGE, PARTLY, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes: done; failed; wrong usage; done, but some inputs could not be read; stopped by Ctrl-C."""

_bars: list[tqdm[Any]] = []
"""The progress bar on the terminal, if there is one."""


def say(text: str = "") -> None:
    """Write a message to stderr. Characters that the terminal cannot show are escaped."""
    _write_line(text, sys.stderr)


def emit(text: str) -> None:
    """Write a line of data to stdout."""
    _write_line(text, sys.stdout)


def _write_line(text: str, stream: TextIO) -> None:
    encoding = stream.encoding or "utf-8"
    line = text.encode(encoding, "backslashreplace").decode(encoding)
    if _bars and stream.isatty():
        _bars[-1].write(line, file=stream)  # above the bar
    else:
        stream.write(line + "\n")


def table() -> Table:
    """Return a table that writes to stdout. Characters that the terminal cannot show are escaped."""
    from twinscope_client.labelling.tables import Table

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    return Table(sys.stdout)


def say_some(heading: str, lines: Sequence[str], total: int, rest: str) -> None:
    """Write a heading and the first ten lines. If there are more, add `rest`, which names the full list."""
    if not lines:
        return
    say(heading)
    for line in lines[:10]:
        say(f"  {line}")
    if total > min(len(lines), 10):
        say(f"  ... and {total - min(len(lines), 10)} more: {rest}")


def say_runs(folders: Sequence[str]) -> None:
    """Report the folders that were skipped because they are outputs of labelling runs."""
    from twinscope_indexer.sources.corpus import RUN_MARKER

    once = list(dict.fromkeys(folders))
    if once:
        more = f", and {len(once) - 1} more" if len(once) > 1 else ""
        say(
            f"{len(once)} folders were skipped because they are outputs of labelling runs (each holds a file "
            f"{RUN_MARKER}; labelled copies must not become sources): {once[0]}{more}"
        )


@contextmanager
def progress(what: str, count: Callable[[], int]) -> Iterator[Callable[[], None]]:
    """Show a bar with rate and remaining time while the body runs, if stderr is a terminal.

    Parameters
    ----------
    what : str
        The task, shown before the bar.
    count : callable
        Counts the images. Runs in the background, because counting can take long.

    Yields
    ------
    callable
        Call it once for each finished image.
    """
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from tqdm import tqdm

    with tqdm(desc=what, unit=" images", dynamic_ncols=True, smoothing=0.05, file=sys.stderr) as bar:

        def set_total() -> None:
            with suppress(TwinscopeError):  # the body raises the same error, and it is reported there
                bar.total = count()
                bar.refresh()

        def step() -> None:
            bar.update()

        threading.Thread(target=set_total, daemon=True).start()
        _bars.append(bar)
        try:
            yield step
        finally:
            _bars.remove(bar)


def stop_cleanly_on_sigterm() -> None:
    """Handle SIGTERM (the warning of a batch system) like Ctrl-C, so that a run ends cleanly."""

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
