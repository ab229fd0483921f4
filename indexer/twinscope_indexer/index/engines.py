"""The available engines by name. To add one, write a module with a `Segment` and add a line here."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Final, cast

from twinscope_indexer.errors import IndexEngineError
from twinscope_indexer.index.segments import SegmentedIndex

if TYPE_CHECKING:
    from twinscope_indexer.index.segment import Segment

ENGINES: Final[dict[str, str]] = {
    "scan": "twinscope_indexer.index.blocks:BlockSegment",
    "faiss": "twinscope_indexer.index.flat:FlatSegment",
}
"""Module and class of each engine's segments; imported when they are first needed."""


def engine_index(name: str, reason: str = "") -> SegmentedIndex:
    """Return an empty index of one engine.

    Parameters
    ----------
    name : str
    reason : str
        Why this engine was chosen, in words.

    Raises
    ------
    IndexEngineError
        If the engine is unknown or cannot be loaded.
    """
    if name not in ENGINES:
        msg = f"there is no index engine {name!r}; the available engines are {', '.join(ENGINES)}"
        raise IndexEngineError(msg)
    try:
        segment = cast("type[Segment]", resolve_name(ENGINES[name]))
    except ImportError as error:
        msg = f"the index engine {name!r} cannot be loaded: {error}"
        raise IndexEngineError(msg) from error
    return SegmentedIndex(name, segment, reason)
