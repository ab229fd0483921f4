"""The inputs of a command: paths as arguments, and paths in a list that is read from a file or from stdin."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

STDIN: Final = "-"
"""Argument that stands for stdin."""
MISSING: Final = "no such file or folder, or no permission to open it"
"""Reason why a path of a list cannot be used."""

_ENCODINGS: Final = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig"))
"""Byte order marks, with which some editors and shells begin a text file, and the encoding that each mark means."""


@dataclass(slots=True)
class Inputs:
    """The inputs of a command.

    Attributes
    ----------
    paths : list of str
        Paths to process, without repetitions. The path `STDIN` stands for an image on stdin.
    missing : list of str
        Paths of the list that do not exist, or that cannot be opened. The command reports these paths like files that
        cannot be read.
    """

    paths: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def add_inputs(parser: argparse.ArgumentParser, dest: str, metavar: str, about: str) -> None:
    """Add the positional arguments of a command, and the options for a list of paths.

    Parameters
    ----------
    parser : ArgumentParser
    dest : str
        Name of the attribute that contains the positional arguments.
    metavar : str
        Name of a positional argument in the help text.
    about : str
        Help text of the positional arguments.
    """
    parser.add_argument(dest, nargs="*", metavar=metavar, help=about)
    group = parser.add_argument_group("lists of paths")
    group.add_argument(
        "--from-file",
        metavar="FILE",
        help="also process the paths that are listed in FILE, one path in each line; - reads the list from stdin. "
        "Relative paths start at the working folder",
    )
    group.add_argument(
        "-0",
        "--null",
        action="store_true",
        help="the paths in the list end with a NUL character instead of a line break, as in the output of find -print0",
    )
    parser.set_defaults(input_dest=dest, input_metavar=metavar, input_default=None)


def collected(parsed: argparse.Namespace, *, stdin: bool = False) -> Inputs:
    """Return the inputs that the arguments name. If they name no input, end the command with exit code 2.

    Parameters
    ----------
    parsed : Namespace
        The parsed arguments of a command that used `add_inputs`.
    stdin : bool
        Whether the command can read an image from stdin.

    Raises
    ------
    SourceError
        If the list cannot be read or contains no path.
    """
    named: list[str] = getattr(parsed, parsed.input_dest)
    parser: argparse.ArgumentParser = parsed.parser
    if parsed.null and parsed.from_file is None:
        parser.error("-0 belongs to a list of paths; give the list with --from-file FILE")
    if STDIN in named:
        if not stdin:
            parser.error("- (an image on stdin) cannot be used here; for a list of paths on stdin, use --from-file -")
        if named.count(STDIN) > 1 or parsed.from_file == STDIN:
            parser.error("stdin can be read only once: give - only once, and not together with --from-file -")
    if not named and parsed.from_file is None:
        named = parsed.input_default or []
        if not named:
            parser.error(f"name at least one {parsed.input_metavar}, or give a list of paths with --from-file FILE")
    found = Inputs(list(dict.fromkeys(named)))
    if parsed.from_file is not None:
        _add_listed(found, parsed.from_file, null=parsed.null)
    return found


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the positional argument RUN: the output folder of ``twinscope label``."""
    parser.add_argument(
        "run_dir", nargs="?", type=Path, metavar="RUN",
        help="output folder of 'twinscope label' (default: 'out' in twinscope.toml)",
    )  # fmt: skip


def run_folder(parsed: argparse.Namespace) -> Path:
    """Return the folder RUN. If neither the arguments nor the project name it, end the command with exit code 2."""
    if parsed.run_dir is None:
        parsed.parser.error("RUN is missing: the output folder of 'twinscope label'")
    folder: Path = parsed.run_dir
    return folder


def _add_listed(found: Inputs, file: str, *, null: bool) -> None:
    from twinscope_indexer.sources.location import split_page

    known = set(found.paths)
    for path in dict.fromkeys(_listed(file, null=null)):
        if not os.path.exists(split_page(path)[0]):  # noqa: PTH110  Path.exists() raises without access to a parent folder
            found.missing.append(path)
        elif path not in known:
            found.paths.append(path)


def _listed(file: str, *, null: bool) -> list[str]:
    """Return the paths in a list; empty lines are left out."""
    from twinscope_indexer.errors import SourceError

    shown = "stdin" if file == STDIN else file
    try:
        data = sys.stdin.buffer.read() if file == STDIN else Path(file).read_bytes()
    except OSError as error:
        msg = f"the list of paths {shown} cannot be read: {error.strerror or error}"
        raise SourceError(msg) from error
    if null:
        paths = [os.fsdecode(path) for path in data.split(b"\0")]
    else:
        paths = [line.removesuffix("\r") for line in _text(data, shown).split("\n")]
    paths = [path for path in paths if path.strip()]
    faulty = next((path for path in paths if "\0" in path), None)
    if faulty is not None:
        msg = f"the list of paths {shown} contains a NUL character; if NUL characters end its paths, use -0"
        raise SourceError(msg)
    if not paths:
        msg = f"the list of paths {shown} is empty"
        raise SourceError(msg)
    return [path if path != STDIN else f"./{STDIN}" for path in paths]


def _text(data: bytes, shown: str) -> str:
    """Return the text of a list. Without a byte order mark, the bytes of the paths are used as they are."""
    from twinscope_indexer.errors import SourceError

    encoding = next((name for mark, name in _ENCODINGS if data.startswith(mark)), None)
    if encoding is None:
        return os.fsdecode(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        msg = f"the list of paths {shown} is not valid {encoding.removesuffix('-sig').upper()}; save it as UTF-8"
        raise SourceError(msg) from error
