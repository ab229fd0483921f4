"""Files that must be whole: checksums, and folders synced to disk."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO


def file_sha256(path: Path) -> str:
    """Give the SHA-256 of a file, hexadecimal."""
    with path.open("rb", buffering=0) as stream:
        return _sha256(stream)


def _sha256(stream: BinaryIO) -> str:
    """Give that of a file from where it stands to its end."""
    digest = sha256()
    buffer = memoryview(bytearray(1 << 20))
    while count := stream.readinto(buffer):  # type: ignore[attr-defined]
        digest.update(buffer[:count])
    return digest.hexdigest()


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def utc_now() -> str:
    """Give the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
