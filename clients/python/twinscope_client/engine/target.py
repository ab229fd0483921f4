"""Targets: the folder of a store, or the address of a server. Recognises addresses that were written in another way."""

from __future__ import annotations

import re
from pathlib import Path

_ADDRESS = re.compile(r"(?:(?P<scheme>[a-z0-9+.-]+):/*)??(?P<address>(?:\[[0-9a-f:.]+\]|[\w.-]+):\d{1,5})/*", re.I)
"""Pattern for a host and a port, with or without a scheme."""
_WITH_TLS = {"https", "grpcs"}


def server_meant(text: str) -> str | None:
    """Return the target of the server that a text probably means, or None if the text does not look like a server.

    Parameters
    ----------
    text : str
        For example ``localhost:50051`` or ``http://localhost:50051``.

    Returns
    -------
    str or None
        For example ``grpc://localhost:50051``.
    """
    found = _ADDRESS.fullmatch(text.strip())
    if found is None:
        return None
    scheme = "grpcs" if (found["scheme"] or "").lower() in _WITH_TLS else "grpc"
    return f"{scheme}://{found['address']}"


def no_folder(text: str) -> str:
    """Return the error message for a target that is neither a folder nor the address of a server."""
    meant = server_meant(text)
    if meant is not None:
        return f"{text} is no folder; for a server write {meant}"
    return f"{text} is no folder; make a store with 'twinscope index', or for a server write grpc://host:port"


def names_server(text: str) -> bool:
    """Return whether a text is the address of a server, with or without a scheme, and not the path of a folder."""
    return "://" in text or (server_meant(text) is not None and not Path(text).exists())
