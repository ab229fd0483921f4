"""Images that a client adds to a store: descriptions, images with fingerprints, and announcements of uploads."""

from __future__ import annotations

from dataclasses import dataclass

from twinscope_indexer.indexing.ingest import FileFacts

from twinscope_service.matching.fingerprint import Fingerprint


@dataclass(frozen=True, slots=True)
class Description:
    """The description that a client sends for an image that the client adds to the store."""

    source: str
    """Name that the client gives to the image. The name identifies the image."""
    category: str
    """Name, code or alias of the category. The name was not yet looked up in the taxonomy."""
    published_name: str = ""


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image to store, with a fingerprint that the client has computed."""

    description: Description
    fingerprint: Fingerprint
    file: FileFacts


@dataclass(frozen=True, slots=True)
class Upload:
    """The announcement of an image file that a client will upload."""

    sequence: int
    description: Description
    size: int
    """Size of the file in bytes."""
    sha256: bytes = b""
    """SHA-256 of the file. If the SHA-256 is empty, the content of the file is not checked."""
    mtime_ns: int = 0
