"""What the command says to people: on stderr, with progress bars on a terminal only."""

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
"""The bar that is being shown, if there is one."""


def say(text: str = "") -> None:
    """Write a line for people, to stderr; what the terminal cannot show is escaped."""
    _write_line(text, sys.stderr)


def emit(text: str) -> None:
    """Write a line of data, to stdout."""
    _write_line(text, sys.stdout)


def _write_line(text: str, stream: TextIO) -> None:
    encoding = stream.encoding or "utf-8"
    line = text.encode(encoding, "backslashreplace").decode(encoding)
    if _bars and stream.isatty():
        _bars[-1].write(line, file=stream)  # above the bar
    else:
        stream.write(line + "\n")


def table() -> Table:
    """Give a table on stdout; what the terminal cannot show is escaped."""
    from twinscope_client.labelling.tables import Table

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    return Table(sys.stdout)


def say_some(heading: str, lines: Sequence[str], total: int, rest: str) -> None:
    """List the first of many lines below a heading; `rest` says where all of them are."""
    if not lines:
        return
    say(heading)
    for line in lines[:10]:
        say(f"  {line}")
    if total > min(len(lines), 10):
        say(f"  ... and {total - min(len(lines), 10)} more: {rest}")


def say_runs(folders: Sequence[str]) -> None:
    """Tell which folders were left out as outputs of labelling runs, and why."""
    from twinscope_indexer.sources.corpus import RUN_MARKER

    once = list(dict.fromkeys(folders))
    if once:
        more = f", and {len(once) - 1} more" if len(once) > 1 else ""
        say(
            f"{len(once)} folders were left out as outputs of labelling runs (each holds a file {RUN_MARKER}; "
            f"labelled copies must not become sources): {once[0]}{more}"
        )


@contextmanager
def progress(what: str, count: Callable[[], int]) -> Iterator[Callable[[], None]]:
    """Show a bar with rate and remaining time while the body runs, if stderr is a terminal.

    Parameters
    ----------
    what : str
        What is going on.
    count : callable
        Counts the work; run in the background, since it may take long itself.

    Yields
    ------
    callable
        To be called once for each piece of work done.
    """
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from tqdm import tqdm

    with tqdm(desc=what, unit=" images", dynamic_ncols=True, smoothing=0.05, file=sys.stderr) as bar:

        def tell_total() -> None:
            with suppress(TwinscopeError):  # what the body meets as well, and tells
                bar.total = count()
                bar.refresh()

        def step() -> None:
            bar.update()

        threading.Thread(target=tell_total, daemon=True).start()
        _bars.append(bar)
        try:
            yield step
        finally:
            _bars.remove(bar)


def stop_cleanly_on_sigterm() -> None:
    """Let SIGTERM (a batch system's warning) end a run as cleanly as Ctrl-C does."""

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
