"""Images to add to a store: descriptions, new images, uploads."""

from __future__ import annotations

from dataclasses import dataclass

from twinscope_indexer.indexing.ingest import FileFacts

from twinscope_service.matching.fingerprint import Fingerprint


@dataclass(frozen=True, slots=True)
class Description:
    """The description of an image by its writer."""

    source: str
    """The writer's name of the image, which identifies it."""
    category: str
    """Unresolved name, code or alias."""
    published_name: str = ""


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image to store, with the fingerprint that the writer computed."""

    description: Description
    fingerprint: Fingerprint
    file: FileFacts


@dataclass(frozen=True, slots=True)
class Upload:
    """The announcement of an image file to store."""

    sequence: int
    description: Description
    size: int
    """Bytes."""
    sha256: bytes = b""
    """If empty, the content is not checked."""
    mtime_ns: int = 0
