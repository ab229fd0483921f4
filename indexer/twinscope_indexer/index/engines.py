"""The engines that there are, by name. A further one is a module with a `Segment`, and a line here."""

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
"""Where the segments of an engine are; imported when they are first needed."""


def engine_index(name: str, reason: str = "") -> SegmentedIndex:
    """Make an empty index of one engine.

    Parameters
    ----------
    name : str
    reason : str
        Why this engine was chosen, for people.

    Raises
    ------
    IndexEngineError
        If there is no such engine, or it cannot be loaded.
    """
    if name not in ENGINES:
        msg = f"there is no index engine {name!r}; this Twinscope has {', '.join(ENGINES)}"
        raise IndexEngineError(msg)
    try:
        segment = cast("type[Segment]", resolve_name(ENGINES[name]))
    except ImportError as error:
        msg = f"the index engine {name!r} cannot be loaded: {error}"
        raise IndexEngineError(msg) from error
    return SegmentedIndex(name, segment, reason)
