"""Functions to write files that must never be incomplete, and to calculate the SHA-256 of files."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_PART: Final = re.compile(r"\.[0-9a-f]{24}\.\d+\.part")


def write_durably(path: Path, data: bytes) -> None:
    """Write or replace a file. After a crash, the file has either its complete old or its complete new content."""
    with replacing(path) as part:
        part.write_bytes(data)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write or replace a file durably. The body of the ``with`` statement writes the new content.

    If the body raises an exception, the old file stays unchanged, and the temporary file is removed.

    Yields
    ------
    Path
        Path of a temporary file for the new content. After the body, the temporary file is written to the disk and
        renamed to `path`.
    """
    with partial_file(path) as part:
        yield part
        sync_file(part)
        part.replace(path)
    sync_folder(path.parent)


@contextmanager
def partial_file(path: Path) -> Iterator[Path]:
    """Choose the path of a temporary file in the folder of `path`.

    After the body of the ``with`` statement, the temporary file is removed if it still exists.

    Yields
    ------
    Path
        Path of the temporary file. The file is hidden. The name of the file contains the process id, so that each
        process has a different temporary file.
    """
    # The temporary name contains a hash of the name of the file. The name of the file may already have the maximum
    # length of a file name.
    name = sha256(os.fsencode(path.name)).hexdigest()[:24]
    part = path.with_name(f".{name}.{os.getpid()}.part")
    try:
        yield part
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def remove_partial_files(folder: Path) -> None:
    """Remove incomplete files that killed processes left in a folder.

    During the call, no other process may write to the folder.
    """
    with suppress(OSError):
        for path in folder.iterdir():
            if _PART.fullmatch(path.name):
                path.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    """Write a file from the cache of the system to the disk, so that no content is lost if the system crashes."""
    # Windows syncs only files that are open for writing. A copy of a read-only file can be opened only for reading.
    mode = "r+b" if os.access(path, os.W_OK) else "rb"
    with path.open(mode) as stream:
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Write a folder from the cache of the system to the disk, so that no file name is lost if the system crashes.

    On Windows, a folder cannot be opened, and the function does nothing. NTFS has its own journal of file names.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb", buffering=0) as stream:
        return _sha256(stream)


def stream_sha256(stream: BinaryIO) -> str:
    """Return the SHA-256 of an open file on disk in hexadecimal, from its beginning to its end.

    If the same file is hashed again and has not changed, it is not read again. A stack is therefore read only once,
    although each of its pages needs the SHA-256 of the file.
    """
    found = os.fstat(stream.fileno())
    return _kept_digest(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns).of(stream)


class _Digest:
    """The SHA-256 of one file. It is computed at the first call of `of`; other threads wait for this call."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._value = ""

    def of(self, stream: BinaryIO) -> str:
        with self._lock:
            if not self._value:
                stream.seek(0)
                self._value = _sha256(stream)
            return self._value


@lru_cache(maxsize=64)
def _kept_digest(*identity: int) -> _Digest:  # noqa: ARG001  the arguments are the key
    return _Digest()


def _sha256(stream: BinaryIO) -> str:
    """Return the SHA-256 of an open file in hexadecimal, from the current position to the end of the file."""
    digest = sha256()
    buffer = memoryview(bytearray(1 << 20))
    while count := stream.readinto(buffer):  # type: ignore[attr-defined]
        digest.update(buffer[:count])
    return digest.hexdigest()


def utc_now() -> str:
    """Return the current UTC time in ISO 8601 format, with a resolution of one second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
