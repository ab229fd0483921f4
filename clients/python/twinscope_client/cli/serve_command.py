"""Answer other tools over gRPC.

Listens on this machine only, unless told otherwise; then TLS is demanded. Every setting can also come from the
environment (TWINSCOPE_PORT=...) or a TOML file (port = ...); flags win over the environment, that over the file.
Stops gracefully on SIGTERM and Ctrl-C. New generations of the store are taken up while it runs.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import signal
import sys
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from twinscope_client.cli.console import DONE, FAILED, emit, say

if TYPE_CHECKING:
    from twinscope_service.server.tokens import Role

HELP = "answer other tools over gRPC"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("store", type=Path, nargs="?", metavar="STORE", help="folder of a store")
    parser.add_argument("--config", type=Path, metavar="F.toml", help="settings file")
    parser.add_argument(
        "--print-config", action="store_true", help="print the settings as JSON, secrets masked, and exit"
    )
    parser.add_argument("--new-token", metavar="NAME", help="print a new token and its line for --tokens, and exit")
    parser.add_argument(
        "--role", choices=("read", "write"), default="read", help="what the new token may do (default: read)"
    )
    parser.add_argument("--quiet", action="store_true", help="log warnings and errors only")
    _add_settings(parser)
    parser.set_defaults(parser=parser)


def run(parsed: argparse.Namespace) -> int:
    """Run the subcommand."""
    from twinscope_service.server.settings import explained, load_settings

    if parsed.new_token is not None:
        return _new_token(parsed.new_token, parsed.role)
    settings = load_settings({name: getattr(parsed, name) for name in explained()}, file=parsed.config)
    if parsed.print_config:
        emit(json.dumps(settings.masked(), indent=1))
        return DONE
    if parsed.store is None:
        parsed.parser.error("STORE, the folder of a store, is required")
    try:
        from twinscope_service.server.server import TwinscopeServer
    except ImportError as error:
        from twinscope_client.errors import MissingExtraError

        what = "twinscope serve"
        raise MissingExtraError(what, "server") from error

    from twinscope_service.server.json_log import log_to

    log_to(sys.stderr, logging.WARNING if parsed.quiet else logging.INFO)
    server = TwinscopeServer(parsed.store, settings)
    stopping: SimpleQueue[None] = SimpleQueue()  # a handler may put while this thread gets; an Event would lock up
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.put(None))
    server.start()
    say(f"Serving {parsed.store} at {server.target}; Ctrl-C stops.")
    stopping.get()
    say("Stopping: what is under way is finished.")
    server.stop()
    if server.stuck:
        say("Some calls would not end; what they were asked is lost.")
        os._exit(FAILED)  # a normal exit would wait for their threads, however long they take
    return DONE


def _add_settings(parser: argparse.ArgumentParser) -> None:
    from twinscope_service.server.settings import explained

    group = parser.add_argument_group("settings")
    for name, (text, default) in explained().items():
        flag = f"--{name.replace('_', '-')}"
        shown = f"{text} (default: {default})"
        if isinstance(default, bool):
            group.add_argument(flag, action=argparse.BooleanOptionalAction, help=shown)
        else:
            group.add_argument(flag, metavar="X", help=shown)


def _new_token(name: str, role: Role) -> int:
    import secrets

    from twinscope_service.server.tokens import token_line

    if re.fullmatch(r"[^\s#]+", name) is None:
        from twinscope_service.errors import SettingsError

        msg = f"{name!r} cannot be the name of a token: it must be one word, without '#'"
        raise SettingsError(msg)
    token = secrets.token_urlsafe(32)
    say(f"Give this token to {name}; it is not shown again. Put the other line into the file of --tokens.")
    emit(token)
    emit(token_line(name, role, token))
    return DONE
