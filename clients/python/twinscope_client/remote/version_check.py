"""The warning that client and server are of different releases."""

from __future__ import annotations

import warnings
from importlib.metadata import version


class VersionSkewWarning(UserWarning):
    """Client and server are of different releases; answers may differ from those of an embedded store."""


def warn_of_skew(target: str, theirs: str, stacklevel: int) -> None:
    """Warn if a server's release, less its patch number, is not this one.

    Parameters
    ----------
    target : str
        The server.
    theirs : str
        Its version.
    stacklevel : int
        Of the caller's caller to blame, as of `warnings.warn` called in place of this function.
    """
    ours = version("twinscope")
    if ours.split(".")[:2] != theirs.split(".")[:2]:
        warnings.warn(
            f"{target} runs Twinscope {theirs}, this is {ours}: bring both to one release",
            VersionSkewWarning, stacklevel=stacklevel + 1,
        )  # fmt: skip
