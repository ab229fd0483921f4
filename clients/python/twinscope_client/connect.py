"""``connect``: from a target's name to an engine that answers."""

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
    """Open a store: a folder of this machine, or a server's.

    The engine can be pickled, also for a process that is spawned: the pickle holds the target and the options, and
    opens the store again. It never holds a token: one given as a file or a function is asked for again where the pickle
    is read; an engine whose token was given as text cannot be pickled.

    Parameters
    ----------
    target : path or str
        The folder of a store, ``grpc://host:port``, or ``grpcs://host:port`` with TLS.
    token : str, path or callable, optional
        Bearer token of a server; or, asked for every request, the `Path` of the file that holds it, or a function that
        returns it. Without TLS it is sent to this machine only.
    ca, certificate, key : path or str, optional
        PEM files: authorities to trust instead of the system's, and the client's own certificate (mTLS).
    timeout : float
        Seconds that one call to a server may take; 60 by default.

    Returns
    -------
    Engine
        Use it as a context manager, or close it.

    Raises
    ------
    OptionError
        If an option is unknown or out of range, or is for servers and the target is a folder.
    StoreError
        If there is no store in the folder, or it cannot be used.
    SettingsError
        If the name of a server, a file or the token is not usable.
    ServerError
        If a server cannot be reached, or refuses.

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
        msg = f"{', '.join(given)}: only a server takes that, and {text} is a folder; a server is grpc[s]://host:port"
        raise OptionError(msg)
    from twinscope_client.engine.embedded import EmbeddedEngine

    return EmbeddedEngine(Path(text))
