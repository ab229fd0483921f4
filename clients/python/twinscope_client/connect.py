"""``connect``, which opens an engine for a folder or a server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from twinscope_service.errors import OptionError

from twinscope_client.engine.options import ConnectOptions, require_known

if TYPE_CHECKING:
    from typing import Unpack

    from twinscope_client.engine.protocol import Engine


def connect(target: str | os.PathLike[str], **options: Unpack[ConnectOptions]) -> Engine:
    """Open a store, from a folder on this machine or from a server.

    The engine can be pickled, also for a spawned process: the pickle holds the target and the options, and loading it
    opens the store again. A pickle never holds a token: if the token was given as a file or a function, it is read
    again after loading; an engine whose token was given as text cannot be pickled.

    Parameters
    ----------
    target : path or str
        The folder of a store, ``grpc://host:port``, or ``grpcs://host:port`` with TLS.
    token : str, path or callable, optional
        Bearer token for a server. A `Path` (the file that holds it) or a function (that returns it) is read for every
        request. Without TLS the token is sent to this machine only.
    ca, certificate, key : path or str, optional
        PEM files: authorities to trust instead of the system's, and the certificate and key of this client (mTLS).
    timeout : float
        Longest time for one call to a server, in seconds; 60 by default.

    Returns
    -------
    Engine
        Use it as a context manager, or close it after use.

    Raises
    ------
    OptionError
        If an option is unknown or out of range, or if it is for servers only and the target is a folder.
    StoreError
        If the folder holds no store, or a store that cannot be used.
    SettingsError
        If the target, a file or the token cannot be used.
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
        from twinscope_client.remote.engine import RemoteEngine

        return RemoteEngine(text, **options)
    given = [name for name, value in options.items() if value is not None]
    if given:
        msg = f"{', '.join(given)}: only for servers, but {text} is a folder. Write a server as grpc[s]://host:port"
        raise OptionError(msg)
    from twinscope_client.engine.embedded import EmbeddedEngine

    return EmbeddedEngine(Path(text))
