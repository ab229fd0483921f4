"""Images to be added to a store: descriptions, new images, uploads."""

from __future__ import annotations

from dataclasses import dataclass

from twinscope_indexer.indexing.ingest import FileFacts

from twinscope_service.matching.fingerprint import Fingerprint


@dataclass(frozen=True, slots=True)
class Description:
    """What a writer says about an image."""

    source: str
    """The writer's name of it; identifies it."""
    category: str
    """Name, code or alias, not yet resolved."""
    published_name: str = ""


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image to store, by what the writer computed."""

    description: Description
    fingerprint: Fingerprint
    file: FileFacts


@dataclass(frozen=True, slots=True)
class Upload:
    """Announces the file of an image to store."""

    sequence: int
    description: Description
    size: int
    """Bytes."""
    sha256: bytes = b""
    """Empty where it is not to be checked."""
    mtime_ns: int = 0
