"""Available index engines by name.

To add an engine, write a module with a subclass of `Segment`, and add a line to `ENGINES`.
"""

from __future__ import annotations

from importlib.util import find_spec
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
"""Segment class of each engine, as `module:class`. The keys are the names of the engines. A module is imported when its
engine is first used."""

_PACKAGES: Final[dict[str, str]] = {"faiss": "faiss"}
"""Package that an engine needs, for each engine whose package is in an extra. The extra has the name of the engine."""


def installed_engines() -> tuple[str, ...]:
    """Return the names of the engines whose packages are installed."""
    return tuple(name for name in ENGINES if name not in _PACKAGES or find_spec(_PACKAGES[name]) is not None)


def engine_index(name: str, reason: str = "") -> SegmentedIndex:
    """Return an empty index that uses the named engine.

    Parameters
    ----------
    name : str
        Name of the engine, as in `ENGINES`.
    reason : str
        Reason for the choice of this engine, in words.

    Raises
    ------
    IndexEngineError
        If there is no engine of this name, or if the module of the engine cannot be loaded.
    """
    if name not in ENGINES:
        msg = f"there is no index engine {name!r}; the available engines are {', '.join(ENGINES)}"
        raise IndexEngineError(msg)
    try:
        segment = cast("type[Segment]", resolve_name(ENGINES[name]))
    except ImportError as error:
        hint = f". To install its package: pip install 'twinscope[{name}]'" if name in _PACKAGES else ""
        msg = f"the index engine {name!r} cannot be loaded: {error}{hint}"
        raise IndexEngineError(msg) from error
    return SegmentedIndex(name, segment, reason)
