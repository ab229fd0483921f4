"""The options that name the store to search, and the function that opens this store."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from twinscope_client.target import names_server

if TYPE_CHECKING:
    from twinscope_client.engine.protocol import Engine


def add_target_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--at`` and the options for servers."""
    parser.add_argument(
        "--at",
        required=True,
        metavar="TARGET",
        help="store to search: the folder of a store, or a server (grpc://host:port, or grpcs://host:port with TLS)",
    )
    group = parser.add_argument_group("servers")
    group.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="file with the bearer token (default: the token in the environment variable TWINSCOPE_TOKEN)",
    )
    group.add_argument(
        "--ca",
        type=Path,
        metavar="PEM",
        help="file with the certificate authorities to trust instead of the authorities of the operating system",
    )
    group.add_argument(
        "--cert", type=Path, metavar="PEM", help="file with the certificate of this client, for mutual TLS (mTLS)"
    )
    group.add_argument(
        "--key", type=Path, metavar="PEM", help="file with the private key for the certificate of --cert"
    )


def store_folder(text: str) -> Path:
    """Return the folder that an argument names; used as the type of arguments that cannot be servers.

    Raises
    ------
    ArgumentTypeError
        If the argument is the address of a server.
    """
    if names_server(text):
        msg = f"{text} is a server, but this command needs the folder of a store"
        raise argparse.ArgumentTypeError(msg)
    return Path(text)


def open_target(parsed: argparse.Namespace) -> Engine:
    """Open the store that the options name.

    Raises
    ------
    TwinscopeError
        If the store cannot be opened.
    """
    from twinscope_client.connect import connect

    token = parsed.token_file
    if token is None and "://" in parsed.at:
        token = os.environ.get("TWINSCOPE_TOKEN", "").strip() or None
    return connect(parsed.at, token=token, ca=parsed.ca, certificate=parsed.cert, key=parsed.key)
