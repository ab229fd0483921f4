"""Instrument metadata: read from vendor tags and side files, normalised, compared."""

from twinscope_indexer.metadata.consistency import contradictions
from twinscope_indexer.metadata.model import NO_METADATA, InstrumentMetadata, StagePosition
from twinscope_indexer.metadata.reader import acquisition_of, read_metadata, read_sidecar

__all__ = [
    "NO_METADATA",
    "InstrumentMetadata",
    "StagePosition",
    "acquisition_of",
    "contradictions",
    "read_metadata",
    "read_sidecar",
]
