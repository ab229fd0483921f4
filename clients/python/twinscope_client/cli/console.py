"""Output of the command: data to stdout, messages to stderr, and a progress bar if stderr is a terminal."""

from __future__ import annotations

import io
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TextIO

from twinscope_indexer.compute.machine_code import NOT_KEPT
from twinscope_indexer.errors import TwinscopeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tqdm import tqdm

    from twinscope_client.labelling.tables import Table

DONE, FAILED, USAGE, PARTLY, REVIEW, INTERRUPTED = 0, 1, 2, 3, 4, 130
"""Exit codes. 0: done. 1: failed. 2: wrong usage. 3: done, but some inputs could not be read. 4: done, but a person
must review some images (only with ``--fail-on review``). 130: stopped by Ctrl-C."""

_silenced = [False]
"""Whether `note` and `progress` write nothing, because the option ``--quiet`` is given."""

COMPILING: Final = "Compiling for this processor (once, about 30 s) ..."
"""Message for users while functions are compiled."""

_bars: list[tqdm[Any]] = []
"""List that contains the progress bar while a progress bar is shown on the terminal; empty otherwise."""


_CONTROLS: Final = (
    *range(32),
    *range(127, 160),
    0x061C,
    0x200E,
    0x200F,
    *range(0x2028, 0x202F),
    *range(0x2066, 0x206A),
)
_ESCAPED: Final = {number: chr(number).encode("unicode_escape").decode() for number in _CONTROLS}
"""Escape sequences for the control characters. The characters from U+061C on are line separators and the characters
that change the direction of the text."""


def one_line(text: str) -> str:
    """Return a text with its control characters as escape sequences, so that a file name cannot control a terminal."""
    return text.translate(_ESCAPED)


def checksum_line(digest: str, name: str) -> str:
    r"""Return the line of the command ``sha256sum`` for a digest and a file name.

    If the name contains control characters or backslashes, the line starts with a backslash, and these characters are
    escaped: a backslash as ``\\``, the end of a line as ``\n``.
    """
    escaped = one_line(name.replace("\\", "\\\\"))
    return f"{digest}  {name}" if escaped == name else f"\\{digest}  {escaped}"


def say(text: str = "") -> None:
    """Write a message to stderr, on one line; see `one_line`."""
    _write_line(text, sys.stderr)


def note(text: str = "") -> None:
    """Write a message about the progress or the result to stderr, unless the option ``--quiet`` is given.

    Use `say` for errors, warnings and lists of files that could not be read: ``--quiet`` does not hide these messages.
    """
    if not _silenced[0]:
        say(text)


def silence(quiet: bool) -> None:
    """Choose whether `note` and `progress` write nothing."""
    _silenced[0] = quiet


def emit(text: str) -> None:
    """Write a line of data to stdout; see `one_line`."""
    _write_line(text, sys.stdout)


def _write_line(text: str, stream: TextIO) -> None:
    encoding = stream.encoding or "utf-8"  # characters that the terminal cannot show are escaped, too
    line = one_line(text).encode(encoding, "backslashreplace").decode(encoding)
    if _bars and stream.isatty():
        _bars[-1].write(line, file=stream)  # tqdm writes the line above the progress bar
    else:
        stream.write(line + "\n")


def table() -> Table:
    """Return an object that writes a CSV table to stdout; characters that the terminal cannot show are escaped."""
    from twinscope_client.labelling.tables import Table

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    return Table(sys.stdout)


def counted(number: int, one: str, several: str) -> str:
    """Return a number with the words that follow it, for example ``1 image was`` or ``2 images were``."""
    return f"{number} {one if number == 1 else several}"


def say_some(heading: str, lines: Sequence[str], total: int, rest: str) -> None:
    """Write a heading and at most ten lines to stderr. If there are no lines, write nothing.

    Parameters
    ----------
    heading : str
    lines : sequence of str
        The first lines of the list.
    total : int
        Number of lines in the full list.
    rest : str
        Text that says where the full list is. The text is written if the full list has more lines than were written.
    """
    if not lines:
        return
    say(heading)
    for line in lines[:10]:
        say(f"  {line}")
    if total > min(len(lines), 10):
        say(f"  ... and {total - min(len(lines), 10)} more: {rest}")


def say_runs(folders: Sequence[str]) -> None:
    """Write how many folders were skipped because the folders are outputs of labelling runs."""
    from twinscope_indexer.sources.corpus import RUN_MARKER

    once = list(dict.fromkeys(folders))
    if once:
        more = f", and {len(once) - 1} more" if len(once) > 1 else ""
        say(
            f"{counted(len(once), 'folder was', 'folders were')} skipped as outputs of labelling runs (each holds a "
            f"file {RUN_MARKER}; labelled copies must not be used as sources): {once[0]}{more}"
        )


@contextmanager
def progress(task: str, count: Callable[[], int]) -> Iterator[Callable[[], None]]:
    """Show a progress bar until the context ends, if stderr is a terminal.

    The bar shows the number of images per second and the remaining time.

    Parameters
    ----------
    task : str
        Name of the task, shown before the bar.
    count : callable
        Function that returns the total number of images. The function runs in a separate thread, because counting the
        images can take a long time.

    Yields
    ------
    callable
        Function to call once for each finished image.
    """
    _compile_first()
    if _silenced[0] or not sys.stderr.isatty():
        yield lambda: None
        return
    from tqdm import tqdm

    with tqdm(desc=task, unit=" images", dynamic_ncols=True, smoothing=0.05, file=sys.stderr) as bar:

        def set_total() -> None:
            with suppress(TwinscopeError):  # the task raises the same error later, and the command reports it
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


def announce_compilation(*, kept: bool) -> None:
    """Write that functions are compiled now, so that the user knows why nothing seems to happen.

    Parameters
    ----------
    kept : bool
        Whether there is a folder for the machine code. If not, the message is also written if stderr is no terminal.
    """
    if not kept:
        say(f"warning: {NOT_KEPT}")
    elif sys.stderr.isatty():
        say(COMPILING)


def _compile_first() -> None:
    """Compile all functions before a run, if they were never compiled, so that the progress bar shows only the run."""
    from twinscope_indexer.compute.jit import is_kept, is_uncompiled

    if is_uncompiled() and is_kept():
        from twinscope_service.server.warmup import warm

        warm()


def stop_cleanly_on_sigterm() -> None:
    """Treat the signal SIGTERM like Ctrl-C, so that finished work is kept if a batch system stops the run."""

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
