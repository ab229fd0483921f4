"""The warning for a client and a server that have different releases of Twinscope."""

from __future__ import annotations

import warnings
from importlib.metadata import version


class VersionSkewWarning(UserWarning):
    """Client and server have different releases of Twinscope.

    The answers of the server may differ from the answers of an embedded engine.
    """


def warn_of_skew(target: str, theirs: str, stacklevel: int) -> None:
    """Warn if the release of the server differs from the release of this client. Patch numbers are ignored.

    Parameters
    ----------
    target : str
        Target of the server.
    theirs : str
        Version of Twinscope on the server.
    stacklevel : int
        Stack level of the code that the warning shows. The level is counted as for `warnings.warn`, starting from the
        function that calls this function.
    """
    ours = version("twinscope")
    if ours.split(".")[:2] != theirs.split(".")[:2]:
        warnings.warn(
            f"{target} runs Twinscope {theirs}, but this client is Twinscope {ours}: install the same release on both "
            "machines",
            VersionSkewWarning, stacklevel=stacklevel + 1,
        )  # fmt: skip
