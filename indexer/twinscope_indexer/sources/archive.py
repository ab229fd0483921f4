"""Image archives (.tar, .tar.gz, .zip), listed and read in place, never unpacked."""

from __future__ import annotations

import lzma
import os
import stat
import struct
import tarfile
import threading
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Protocol

from twinscope_indexer.errors import ImageError, SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
MAX_FILE = 2 << 30
"""Bytes; larger files are refused unread, because no micrograph is that large and a run must not exhaust memory."""

_DAMAGE = (
    OSError, EOFError, RuntimeError, ValueError, IndexError, struct.error, zlib.error, lzma.LZMAError,
    tarfile.TarError, zipfile.BadZipFile,
)  # fmt: skip
"""Errors that the archive modules raise for unexpected bytes (RuntimeError: encrypted, or too new)."""

_GZIP_SPACING = 4 << 20
"""Bytes between the seek points in a .tar.gz: seeking to one member decompresses at most this much."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file in an archive."""

    name: str
    """Path within the archive, with forward slashes."""
    size: int
    """Bytes, uncompressed."""


class Archive(Protocol):
    """An open archive; several threads may read it at a time."""

    def members(self) -> Iterator[Member]:
        """Yield the regular files, in the order of the archive.

        Raises
        ------
        SourceError
            After the last file, if the archive is damaged there or ends early, because more files may be lost.
        """

    def read(self, name: str) -> bytes:
        """Return the bytes of one member.

        Raises
        ------
        ImageError
            If it is missing or damaged.
        """


def is_archive(path: str) -> bool:
    """Check whether a file name has the suffix of a supported archive."""
    return path.lower().endswith(_SUFFIXES)


def archive_stem(path: str) -> str:
    """Return the file name of an archive without its suffix (``Tips`` for ``Tips.tar.gz``)."""
    name = PurePosixPath(path).name
    lower = name.lower()
    suffix = next((s for s in sorted(_SUFFIXES, key=len, reverse=True) if lower.endswith(s)), "")
    return name[: len(name) - len(suffix)]


def open_archive(path: Path) -> Archive:
    """Return an open archive, from a cache if the file has not changed.

    Raises
    ------
    SourceError
        If the archive is missing or damaged, or its format does not match its suffix.
    """
    try:
        found = path.stat()
    except OSError as error:
        msg = f"archive {path} cannot be opened: {error.strerror or error}"
        raise SourceError(msg) from error
    if not stat.S_ISREG(found.st_mode):  # opening a pipe would block until its writer opens it
        msg = f"archive {path} cannot be opened: it is not a regular file"
        raise SourceError(msg)
    return _opened(path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=32)
def _opened(path: Path, size: int, mtime_ns: int) -> Archive:  # noqa: ARG001  size and time are part of the cache key
    try:
        if path.name.lower().endswith(".zip"):
            return _Zip(path)
        if path.name.lower().endswith(".tar"):
            return _Tar(path)
        return _TarGz(path)
    except _DAMAGE as error:
        msg = (
            f"archive {path} cannot be read: {error}. Check that it is complete and that its suffix matches its format"
        )
        raise SourceError(msg) from error


def require_size(source: str, size: int) -> None:
    """Raise an error for an image file of more than `MAX_FILE` bytes.

    Raises
    ------
    ImageError
        If it is larger.
    """
    if size > MAX_FILE:
        raise ImageError(source, "too_large", f"the file has {size} bytes; the limit is {MAX_FILE} bytes")


def _missing(path: Path, name: str) -> ImageError:
    return ImageError(f"{path}!{name}", "missing", "the archive has no such member")


class _Spanned:
    """A tar archive whose members are read by their offsets.

    Parameters
    ----------
    path : Path
    stream : binary file
        The uncompressed tar; it is read to its end.
    """

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self._path = path
        self._spans, self._damage = _spans(stream)

    def members(self) -> Iterator[Member]:
        yield from (Member(name, size) for name, (_, size) in self._spans.items())
        if self._damage:
            msg = (
                f"archive {self._path} is damaged after its {len(self._spans)} readable files: {self._damage}. "
                "Files after that are lost"
            )
            raise SourceError(msg)

    def read(self, name: str) -> bytes:
        if name not in self._spans:
            raise _missing(self._path, name)
        offset, size = self._spans[name]
        source = f"{self._path}!{name}"
        require_size(source, size)
        data = self._bytes(source, offset, size)
        if len(data) != size:
            raise ImageError(
                source, "truncated", f"the archive ends after {len(data)} of the {size} bytes of this file"
            )
        return data

    def _bytes(self, source: str, offset: int, size: int) -> bytes:
        """Return bytes of the tar, fewer at its end; `source` is the name used in an `ImageError`."""
        raise NotImplementedError


class _Tar(_Spanned):
    """An uncompressed tar; several threads read at a time."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as stream:
            super().__init__(path, stream)

    def _bytes(self, source: str, offset: int, size: int) -> bytes:
        try:
            with self._path.open("rb") as stream:
                return os.pread(stream.fileno(), size, offset)
        except OSError as error:
            raise ImageError(source, "unreadable", str(error)) from error


class _TarGz(_Spanned):
    """A gzipped tar, read through an index of seek points; one thread reads at a time."""

    def __init__(self, path: Path) -> None:
        from indexed_gzip import IndexedGzipFile

        self._lock = threading.Lock()
        self._stream = IndexedGzipFile(str(path), spacing=_GZIP_SPACING)
        super().__init__(path, self._stream)

    def _bytes(self, source: str, offset: int, size: int) -> bytes:
        try:
            with self._lock:
                self._stream.seek(offset)
                data: bytes = self._stream.read(size)
        except _DAMAGE as error:
            raise ImageError(source, "damaged", f"the archive is damaged here: {error}") from error
        return data


class _Zip:
    """A zip; `zipfile` itself lets one thread read at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._zip = zipfile.ZipFile(path)

    def members(self) -> Iterator[Member]:
        sizes = {info.filename: info.file_size for info in self._zip.infolist() if not info.filename.endswith("/")}
        # If two have the same name, `read` returns the later one.
        return (Member(name, size) for name, size in sizes.items())

    def read(self, name: str) -> bytes:
        try:
            require_size(f"{self._path}!{name}", self._zip.getinfo(name).file_size)
            return self._zip.read(name)
        except KeyError as error:
            raise _missing(self._path, name) from error
        except _DAMAGE as error:
            raise ImageError(f"{self._path}!{name}", "damaged", f"cannot be unpacked: {error}") from error


_Spans = dict[str, tuple[int, int]]
"""Offset and size of the members of a tar, by name."""


def _spans(stream: IO[bytes]) -> tuple[_Spans, str]:
    """Return the regular members and a description of the damage after them, empty if there is none.

    If two members have the same name, the later one counts, as in tar. `tarfile` stops silently at a damaged or missing
    header; a complete tar ends with a block of zeros.
    """
    spans: _Spans = {}
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            for info in tar:
                if info.isreg() and not info.issparse():
                    spans[info.name] = info.offset_data, info.size
                elif info.islnk() and info.linkname in spans:
                    spans[info.name] = spans[info.linkname]
        stream.seek(tar.offset)
        end = stream.read(tarfile.BLOCKSIZE)
    except _DAMAGE as error:
        if not spans:
            raise
        return spans, str(error)
    if end.count(0) == tarfile.BLOCKSIZE:
        return spans, ""
    return spans, "it ends early" if len(end) < tarfile.BLOCKSIZE else "a header is damaged"
