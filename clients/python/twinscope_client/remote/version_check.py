"""The warning about different releases of client and server."""

from __future__ import annotations

import warnings
from importlib.metadata import version


class VersionSkewWarning(UserWarning):
    """Client and server have different releases; answers may differ from those of an embedded store."""


def warn_of_skew(target: str, theirs: str, stacklevel: int) -> None:
    """Warn if the release of a server differs from this one. Patch numbers are ignored.

    Parameters
    ----------
    target : str
        The target of the server.
    theirs : str
        The version of the server.
    stacklevel : int
        Stack level of the user's call, counted as if the caller called `warnings.warn` directly.
    """
    ours = version("twinscope")
    if ours.split(".")[:2] != theirs.split(".")[:2]:
        warnings.warn(
            f"{target} runs Twinscope {theirs}, but this is {ours}: install the same release on both sides",
            VersionSkewWarning, stacklevel=stacklevel + 1,
        )  # fmt: skip
