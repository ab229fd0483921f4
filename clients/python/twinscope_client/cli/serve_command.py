"""Serve a store to other tools over gRPC.

By default, the server accepts connections only from this machine. Other addresses (--host) require TLS or --insecure.
Each setting can be given as an option (--port 50052), as an environment variable (TWINSCOPE_PORT=50052) or in a TOML
file (port = 50052). If a setting is given more than once, an option overrides an environment variable, and an
environment variable overrides the file. When a new generation of the store is published, the running server uses this
generation. After SIGTERM or Ctrl-C, the server waits for calls in progress and then stops.

Example: twinscope serve lab.store
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import signal
import sys
import threading
import warnings
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from twinscope_indexer.compute.machine_code import NOT_KEPT, announce_with

from twinscope_client.cli.console import COMPILING, DONE, FAILED, emit, say
from twinscope_client.cli.target_options import add_store_folder

if TYPE_CHECKING:
    from twinscope_service.server.tokens import Role

HELP = "serve a store to other tools over gRPC"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand to the parser."""
    add_store_folder(parser, "folder of the store", needed=False)
    parser.add_argument("--config", type=Path, metavar="F.toml", help="TOML file with settings of the server")
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="print the settings as JSON and exit; secrets are masked in this output",
    )
    parser.add_argument(
        "--new-token",
        metavar="NAME",
        help="print a new token with the name NAME, print the line to add to the file given with --tokens, and exit",
    )
    parser.add_argument(
        "--role", choices=("read", "write"), default="read", help="role of the new token (default: read)"
    )
    parser.add_argument("--quiet", action="store_true", help="write only warnings and errors to the log")
    _add_settings(parser)


def run(parsed: argparse.Namespace) -> int:
    """Run the subcommand, and return the exit code."""
    from twinscope_indexer.errors import TwinscopeError
    from twinscope_service.server.settings import explained, load_settings

    if parsed.new_token is not None:
        return _new_token(parsed.new_token, parsed.role)
    settings = load_settings({name: getattr(parsed, name) for name in explained()}, file=parsed.config)
    if parsed.print_config:
        for line in json.dumps(settings.masked(), indent=1).splitlines():
            emit(line)
        return DONE
    if parsed.store is None:
        parsed.parser.error("the store is missing: name its folder as STORE, with TWINSCOPE_STORE or in twinscope.toml")
    try:
        from twinscope_service.server.server import TwinscopeServer
    except ImportError as error:
        from twinscope_client.errors import MissingExtraError

        what = "the server"
        raise MissingExtraError(what, "server") from error

    from twinscope_service.server.json_log import log_to

    log_to(sys.stderr, logging.WARNING if parsed.quiet else logging.INFO)
    _log_everything()
    try:
        server = TwinscopeServer(parsed.store, settings)
        stopping: SimpleQueue[None] = SimpleQueue()  # in a signal handler, an Event could cause a deadlock
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.put(None))
        server.start()
    except TwinscopeError as error:
        _log(logging.ERROR, f"twinscope serve: {error}")
        return FAILED
    _log(logging.INFO, f"Serving {parsed.store} at {server.target}; stop with Ctrl-C.")
    stopping.get()
    _log(logging.INFO, "Stopping: waiting for calls in progress.")
    server.stop()
    if server.stuck:
        _log(logging.ERROR, "Some calls did not finish; their results are lost.")
        os._exit(FAILED)  # a normal exit would wait for the threads of these calls, perhaps forever
    return DONE


def _log(level: int, message: str) -> None:
    """Write a line of the log, also with --quiet."""
    from twinscope_service.server.json_log import json_line

    say(json_line(level, message))


def _log_everything() -> None:
    """Write warnings, errors of threads and the message about compilation as lines of the log."""
    warnings.showwarning = lambda message, *_, **__: _log(logging.WARNING, str(message))
    announce_with(lambda *, kept: _log(logging.INFO, COMPILING) if kept else _log(logging.WARNING, NOT_KEPT))

    def of_thread(failed: threading.ExceptHookArgs) -> None:
        if failed.exc_value is not None:
            logging.getLogger("twinscope.server").error("a thread failed", exc_info=failed.exc_value)

    threading.excepthook = of_thread


def _add_settings(parser: argparse.ArgumentParser) -> None:
    from twinscope_service.server.settings import explained

    group = parser.add_argument_group("settings")
    for name, (text, default) in explained().items():
        flag = f"--{name.replace('_', '-')}"
        shown = text if default is None else f"{text} (default: {default})"
        if isinstance(default, bool):
            group.add_argument(flag, action=argparse.BooleanOptionalAction, help=shown)
        else:
            group.add_argument(flag, metavar=_metavar(name, default), help=shown)


def _metavar(name: str, default: object) -> str:
    """Return the placeholder for the value of a setting."""
    if default is None:
        return "FILE"
    unit = name.rpartition("_")[2]
    return unit.upper() if unit in {"host", "port", "mib", "seconds"} else "N"


def _new_token(name: str, role: Role) -> int:
    import secrets

    from twinscope_service.server.tokens import token_line

    if re.fullmatch(r"[^\s#]+", name) is None:
        from twinscope_service.errors import SettingsError

        msg = f"{name!r} cannot be the name of a token: use one word without '#'"
        raise SettingsError(msg)
    token = secrets.token_urlsafe(32)
    say(
        f"The first line below is the token for {name}; it is not shown again. Add the second line to the file "
        "given with --tokens."
    )
    emit(token)
    emit(token_line(name, role, token))
    return DONE
