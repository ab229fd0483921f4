"""``connect``: from a target's name to an engine that answers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from twinscope_indexer.errors import StoreError

if TYPE_CHECKING:
    from twinscope_client.engine import Engine


def connect(target: str | os.PathLike[str]) -> Engine:
    """Open a store.

    Parameters
    ----------
    target : path
        The folder of a store.

    Returns
    -------
    Engine
        Use it as a context manager, or close it.

    Raises
    ------
    StoreError
        If there is no store at the target, or it cannot be used.

    Examples
    --------
    >>> with connect("lab.store") as ts:  # doctest: +SKIP
    ...     answer = ts.search("sample_123.tif")
    ...     print(answer.grade, answer.category)
    """
    text = os.fspath(target)
    if "://" in text:
        msg = f"{text}: only the folder of a store can be a target"
        raise StoreError(msg)
    from twinscope_client.embedded import EmbeddedEngine

    return EmbeddedEngine(Path(text))
