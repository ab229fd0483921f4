"""The function ``connect``, which opens a store in a folder on this machine or a store on a server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from twinscope_indexer.compute.forking import no_fork
from twinscope_indexer.errors import StoreError, extra_needed
from twinscope_service.errors import OptionError

from twinscope_client.engine.options import ConnectOptions, require_known
from twinscope_client.engine.target import no_folder, server_meant

if TYPE_CHECKING:
    from typing import Unpack

    from twinscope_client.engine.protocol import Engine


def connect(target: str | os.PathLike[str], **options: Unpack[ConnectOptions]) -> Engine:
    """Open a store in a folder on this machine, or a store on a server.

    A forked process can use the engine of its parent process. A fork waits until no thread is searching. If the fork
    cannot wait, for example because an engine for asyncio is connected, the engine raises `ClosedError` in the forked
    process.

    An engine can be pickled, for example to send the engine to a spawned process. The pickle contains the target and
    the options. When the pickle is loaded, the store is opened again. A pickle never contains a token. If the token was
    given as a file or a function, Twinscope gets the token again after the pickle is loaded. If the token was given as
    text, the engine cannot be pickled.

    Parameters
    ----------
    target : path or str
        The folder of a store, or the address of a server: ``grpc://host:port`` without TLS, ``grpcs://host:port`` with
        TLS.
    token : str, path or callable, optional
        The bearer token for a server: a text, the `Path` of a file that contains the token, or a function that returns
        the token. Twinscope reads the file or calls the function again for every request. Without TLS, the token can be
        sent only to a server on this machine.
    ca, certificate, key : path or str, optional
        Paths of PEM files. `ca` contains the certificate authorities that Twinscope trusts instead of the authorities
        of the operating system. `certificate` and `key` are the certificate and the private key of this client, for
        mutual TLS (mTLS).
    timeout : float
        Maximum duration of one call to a server, in seconds; 60 by default.

    Returns
    -------
    Engine
        The open store. Use the engine in a ``with`` statement, or close the engine after use.

    Raises
    ------
    OptionError
        If an option is unknown or out of range, or if the target is a folder and an option applies only to servers.
    StoreError
        If the folder contains no store, or if the store in the folder cannot be used.
    SettingsError
        If the target, a PEM file or the token cannot be used.
    ServerError
        If the server cannot be reached or refuses the connection.

    Examples
    --------
    >>> with connect("lab.store") as engine:  # doctest: +SKIP
    ...     answer = engine.search("sample_123.tif")
    ...     print(answer.grade, answer.category)
    """
    require_known(options, ConnectOptions)
    text = os.fspath(target)
    if "://" in text:
        with no_fork(), extra_needed("a connection to a server", "client"):
            from twinscope_client.remote.engine import RemoteEngine

            return RemoteEngine(text, **options)
    given = [name for name, value in options.items() if value is not None]
    if given:
        msg = (
            f"{', '.join(given)} can be used only with a server, but {text} is a folder. "
            f"Write a server as {server_meant(text) or 'grpc[s]://host:port'}"
        )
        raise OptionError(msg)
    if not Path(text).is_dir():
        raise StoreError(no_folder(text))
    with no_fork():
        from twinscope_client.engine.embedded import EmbeddedEngine

        return EmbeddedEngine(Path(text))
