"""The command ``twinscope``.

Each subcommand is one module. The module imports large packages only when the subcommand runs.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import warnings
from typing import TYPE_CHECKING

from twinscope_client.cli.budget_option import pixel_budget
from twinscope_client.cli.console import (
    FAILED,
    INTERRUPTED,
    announce_compilation,
    note,
    say,
    silence,
    stop_cleanly_on_sigterm,
)
from twinscope_client.cli.usage import COMPLETION, CommandParser

if TYPE_CHECKING:
    from collections.abc import Sequence

_COMMANDS = (
    "index",
    "serve",
    "health",
    "search",
    "label",
    "report",
    "calibrate",
    "evaluate",
    "convert",
    "hash",
    "store",
    "config",
    "completion",
    "doctor",
    "demo",
)
_EPILOG = """\
example:
  twinscope index collection/ --store lab.store
  twinscope label tiffs/ --at lab.store --out labelled/

exit codes:
  0    done
  1    failed
  2    wrong usage
  3    done, but some inputs could not be read; these inputs are listed (not with --fail-on never)
  4    done, but a person must review some images (only with --fail-on review)
  130  stopped by Ctrl-C

Data are written to stdout; messages and the progress bar are written to stderr.
To see the help of a command, run: twinscope COMMAND --help"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command ``twinscope``.

    Parameters
    ----------
    arguments : sequence of str, optional
        Command-line arguments without the program name; by default the arguments of this process.

    Returns
    -------
    int
        Exit code: 0 done; 1 failed; 2 wrong usage; 3 done, but some inputs could not be read; 4 done, but a person must
        review some images; 130 interrupted.
    """
    parser = _parser()
    if COMPLETION in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)
    from twinscope_indexer.errors import TwinscopeError

    try:
        parsed = parser.parse_args(arguments)
    except TwinscopeError as error:  # the project file cannot be used
        say(f"twinscope: {error}")
        return FAILED
    silence(getattr(parsed, "quiet", False))
    for origin in dict.fromkeys(getattr(parsed, "origins", {}).values()):
        note(f"Settings of the {origin}: {', '.join(key for key, one in parsed.origins.items() if one == origin)}")
    # Twinscope handles one image in each thread. If BLAS libraries started more threads, all threads would be slower.
    for library in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(library, "1")
    warnings.showwarning = lambda message, *_, **__: say(f"warning: {message}")
    from twinscope_indexer.compute.machine_code import announce_with

    announce_with(announce_compilation)
    try:
        stop_cleanly_on_sigterm()
        with pixel_budget(parsed):
            code = int(parsed.run(parsed))
        sys.stdout.flush()  # a closed pipe raises BrokenPipeError here, handled below
        return code
    except TwinscopeError as error:
        say(f"twinscope {parsed.command}: {error}")
        return FAILED
    except KeyboardInterrupt:
        say(parsed.stopped(parsed))
        return INTERRUPTED
    except BrokenPipeError:  # the reader of stdout (head, less) has exited
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _stopped(_: argparse.Namespace) -> str:
    return "Stopped. Nothing was changed."


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="twinscope",
        description="Find the labelled twin of a micrograph, and give the label of the twin to the micrograph.",
        epilog=_EPILOG,
    )
    parser.add_argument("-V", "--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in _COMMANDS:
        module = importlib.import_module(f"twinscope_client.cli.{name}_command")
        sub = commands.add_parser(name, help=module.HELP, description=module.__doc__)
        module.configure(sub)
        sub.set_defaults(run=module.run, stopped=getattr(module, "stopped", _stopped))
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(version("twinscope"))  # noqa: T201
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
