"""Twinscope finds the labelled twin of a micrograph.

`index` builds a store from a labelled collection. `connect` opens a store for searches. The store is in a folder on
this machine, or on a server. `aio.connect` opens a store on a server for searches from asyncio. `label` writes labelled
copies of images. `columns` turns answers into the columns of a data frame. This package also exports all exceptions of
Twinscope. The module ``twinscope_client.errors`` shows their hierarchy.

Twinscope imports the module of a name only when a program uses the name for the first time. The subpackage
`twinscope.v1` is the wire contract: it defines the messages between clients and servers.

Examples
--------
>>> import twinscope
>>> twinscope.index(["collection/"], "lab.store")  # doctest: +SKIP
>>> with twinscope.connect("lab.store") as engine:  # doctest: +SKIP
...     answer = engine.search("sample_123.tif")
>>> answer  # doctest: +SKIP
<Answer excellent: Tips (L9), 0 bits, scene score 1.000, SSIM 0.997, p_wrong 0.0056; 5 candidates>
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twinscope_client import aio
    from twinscope_client.connect import connect
    from twinscope_client.engine.dataframes import columns
    from twinscope_client.engine.options import SearchOptions
    from twinscope_client.engine.protocol import Engine
    from twinscope_client.errors import (
        AccessError,
        CalibrationError,
        ClosedError,
        GenerationError,
        ImageError,
        IndexEngineError,
        MessageError,
        MissingExtraError,
        OptionError,
        OutputError,
        RecipeError,
        RemovalError,
        ServerError,
        SettingsError,
        SourceError,
        StoreError,
        StoreLockedError,
        TaxonomyError,
        TwinscopeError,
        UnknownImageError,
    )
    from twinscope_client.labelling.job import label
    from twinscope_client.labelling.run import LabelReport
    from twinscope_client.labelling.settings import LabelSettings
    from twinscope_client.remote.version_check import VersionSkewWarning
    from twinscope_indexer.hashing.perceptual import PHash, hash_pixels
    from twinscope_indexer.imaging.reader import read_image
    from twinscope_indexer.indexing.pages import pages_of
    from twinscope_indexer.indexing.run import IndexReport, index
    from twinscope_service.matching.answer import Answer, Match
    from twinscope_service.matching.grades import Grade
    from twinscope_service.matching.policy import Policy
    from twinscope_service.matching.reasons import Reason, ReasonCode

    __version__: str

__all__ = [
    "AccessError",
    "Answer",
    "CalibrationError",
    "ClosedError",
    "Engine",
    "GenerationError",
    "Grade",
    "ImageError",
    "IndexEngineError",
    "IndexReport",
    "LabelReport",
    "LabelSettings",
    "Match",
    "MessageError",
    "MissingExtraError",
    "OptionError",
    "OutputError",
    "PHash",
    "Policy",
    "Reason",
    "ReasonCode",
    "RecipeError",
    "RemovalError",
    "SearchOptions",
    "ServerError",
    "SettingsError",
    "SourceError",
    "StoreError",
    "StoreLockedError",
    "TaxonomyError",
    "TwinscopeError",
    "UnknownImageError",
    "VersionSkewWarning",
    "__version__",
    "aio",
    "columns",
    "connect",
    "hash_pixels",
    "index",
    "label",
    "pages_of",
    "read_image",
]

__path__ = extend_path(__path__, __name__)
"""Folders of this package. If Twinscope is installed from a working copy, the wire contract `twinscope.v1` can be in a
second folder."""

_HOMES = {
    "Answer": "twinscope_service.matching.answer",
    "Engine": "twinscope_client.engine.protocol",
    "Grade": "twinscope_service.matching.grades",
    "IndexReport": "twinscope_indexer.indexing.run",
    "LabelReport": "twinscope_client.labelling.run",
    "LabelSettings": "twinscope_client.labelling.settings",
    "Match": "twinscope_service.matching.answer",
    "PHash": "twinscope_indexer.hashing.perceptual",
    "Policy": "twinscope_service.matching.policy",
    "Reason": "twinscope_service.matching.reasons",
    "ReasonCode": "twinscope_service.matching.reasons",
    "SearchOptions": "twinscope_client.engine.options",
    "VersionSkewWarning": "twinscope_client.remote.version_check",
    "columns": "twinscope_client.engine.dataframes",
    "connect": "twinscope_client.connect",
    "hash_pixels": "twinscope_indexer.hashing.perceptual",
    "index": "twinscope_indexer.indexing.run",
    "label": "twinscope_client.labelling.job",
    "pages_of": "twinscope_indexer.indexing.pages",
    "read_image": "twinscope_indexer.imaging.reader",
}
"""Maps each exported name to the module that defines the name. The exported names that are not listed here are
exceptions."""


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not TYPE_CHECKING:  # type checkers must not see this function, because it would hide misspelt names from them

    def __getattr__(name: str) -> Any:
        """Import an exported name when a program uses the name for the first time."""
        if name not in __all__:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        globals()[name] = found = _import(name)
        return found


def _import(name: str) -> Any:
    from twinscope_indexer.compute.forking import no_fork

    with no_fork():  # a forked process could never finish the imports of another thread
        return _imported(name)


def _imported(name: str) -> Any:
    if name == "aio":
        with import_module("twinscope_indexer.errors").extra_needed("twinscope.aio", "client"):
            return import_module("twinscope_client.aio")
    if name == "__version__":
        return import_module("importlib.metadata").version("twinscope")
    return getattr(import_module(_HOMES.get(name, "twinscope_client.errors")), name)
