"""Files that must be complete: written under a temporary name, synced to disk, checked by their SHA-256."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_PART: Final = re.compile(r"\.[0-9a-f]{24}\.\d+\.part")


def write_durably(path: Path, data: bytes) -> None:
    """Write or replace a file; after a crash it has the old content or the new content, never half of it."""
    with replacing(path) as part:
        part.write_bytes(data)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write or replace a file durably, with the content that the body writes.

    If the body raises, nothing is changed and nothing is left behind.

    Yields
    ------
    Path
        Temporary file for the new content. It is synced to disk, then renamed to `path`.
    """
    with partial_file(path) as part:
        yield part
        sync_file(part)
        part.replace(path)
    sync_folder(path.parent)


@contextmanager
def partial_file(path: Path) -> Iterator[Path]:
    """Reserve a temporary name beside a file; it is removed afterwards unless the body renames it.

    Yields
    ------
    Path
        A hidden name that contains the process id, so that two processes never write to the same file.
    """
    name = sha256(os.fsencode(path.name)).hexdigest()[:24]  # the file's own name may have the maximum length already
    part = path.with_name(f".{name}.{os.getpid()}.part")
    try:
        yield part
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def remove_partial_files(folder: Path) -> None:
    """Remove the incomplete files of killed processes; call it only while no other process writes there."""
    with suppress(OSError):
        for path in folder.iterdir():
            if _PART.fullmatch(path.name):
                path.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    """Make the content of a file durable."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb", buffering=0) as stream:
        return _sha256(stream)


def _sha256(stream: BinaryIO) -> str:
    """Return the SHA-256 of the rest of an open file."""
    digest = sha256()
    buffer = memoryview(bytearray(1 << 20))
    while count := stream.readinto(buffer):  # type: ignore[attr-defined]
        digest.update(buffer[:count])
    return digest.hexdigest()


def utc_now() -> str:
    """Return the current UTC time in ISO 8601, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
