"""``connect``: from a target's name to an engine that answers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twinscope_client.engine.protocol import Engine
    from twinscope_client.remote.channel import File
    from twinscope_client.remote.engine import Token


def connect(
    target: str | os.PathLike[str],
    *,
    token: Token | None = None,
    ca: File | None = None,
    certificate: File | None = None,
    key: File | None = None,
    timeout: float = 60.0,
) -> Engine:
    """Open a store: a folder of this machine, or a server's.

    Parameters
    ----------
    target : path or str
        The folder of a store, ``grpc://host:port``, or ``grpcs://host:port`` with TLS.
    token : str or callable, optional
        Bearer token of a server, or what gives the current one.
    ca, certificate, key : path or str, optional
        PEM files: authorities to trust instead of the system's, and the client's own certificate (mTLS).
    timeout : float
        Seconds that one call to a server may take.

    Returns
    -------
    Engine
        Use it as a context manager, or close it.

    Raises
    ------
    StoreError
        If there is no store in the folder, or it cannot be used.
    SettingsError
        If the name of a server, a file or the token is not usable.
    ServerError
        If a server cannot be reached, or refuses.

    Examples
    --------
    >>> with connect("lab.store") as ts:  # doctest: +SKIP
    ...     answer = ts.search("sample_123.tif")
    ...     print(answer.grade, answer.category)
    """
    text = os.fspath(target)
    if "://" in text:
        from twinscope_client.remote.engine import RemoteEngine

        return RemoteEngine(text, token=token, ca=ca, certificate=certificate, key=key, timeout=timeout)
    from twinscope_client.engine.embedded import EmbeddedEngine

    return EmbeddedEngine(Path(text))
