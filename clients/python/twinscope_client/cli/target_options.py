"""The options that name the store to search, and the function that opens this store."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinscope_client.cli.usage import StoreName
from twinscope_client.engine.target import names_server

if TYPE_CHECKING:
    from twinscope_client.engine.protocol import Engine


def add_store_folder(
    parser: argparse.ArgumentParser, about: str, *, positional: bool = True, needed: bool = True
) -> None:
    """Add the arguments that name the folder of a store: ``--at``, also called ``--store``, and a positional argument.

    The attribute ``store`` of the parsed arguments contains the folder.

    Parameters
    ----------
    parser : ArgumentParser
    about : str
        Help text.
    positional : bool
        Whether the store can also be given without the name of an option.
    needed : bool
        Whether the command ends with exit code 2 if no store is named.
    """

    def add(*names: str, **options: Any) -> None:
        parser.add_argument(*names, type=store_folder, metavar="STORE", action=StoreName, needed=needed, **options)

    default = "default: the environment variable TWINSCOPE_STORE, or 'store' in twinscope.toml"
    if positional:
        add("store", nargs="?", help=f"{about} ({default})")
        add("--at", "--store", dest="store", help="the same as STORE")
    else:
        add("--at", "--store", dest="store", help=f"{about} ({default})")


def add_target_options(parser: argparse.ArgumentParser, *, positional: bool = False) -> None:
    """Add ``--at`` and the options for servers.

    Parameters
    ----------
    parser : ArgumentParser
    positional : bool
        Whether the store can also be given without the name of an option.
    """
    about = (
        "store to search: the folder of a store, or a server (grpc://host:port, or grpcs://host:port with TLS). "
        "Default: the environment variable TWINSCOPE_STORE, or 'store' in twinscope.toml"
    )
    if positional:
        parser.add_argument("at", nargs="?", metavar="TARGET", action=StoreName, help=about)
    parser.add_argument("--at", "--store", metavar="TARGET", dest="at", action=StoreName, help=about)
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
