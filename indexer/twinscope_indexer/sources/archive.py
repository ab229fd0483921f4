"""Archives of images: tar files, also compressed, and zip files. They are read without unpacking them to disk."""

from __future__ import annotations

import lzma
import stat
import struct
import tarfile
import threading
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Protocol

from twinscope_indexer.compute.forking import in_child
from twinscope_indexer.errors import ImageError, SourceError, os_reason
from twinscope_indexer.sources.decompression import open_bzip2, open_xz

if TYPE_CHECKING:
    from collections.abc import Iterator

_XZ, _BZIP2 = (".tar.xz", ".txz"), (".tar.bz2", ".tbz2", ".tbz")
_SUFFIXES = (".tar", ".tar.gz", ".tgz", *_XZ, *_BZIP2, ".zip")
_OTHER_SUFFIXES = (
    ".7z", ".7z.001", ".rar", ".zip.001", ".zipx", ".tar.zst", ".tzst", ".tar.lz", ".tlz", ".tar.lzma", ".tar.lz4",
    ".tar.z", ".cab", ".lzh", ".lha", ".arj", ".ace", ".alz", ".egg", ".sit", ".sitx", ".dmg",
)  # fmt: skip
OTHER_ARCHIVE = "only .tar, .tar.gz, .tar.xz, .tar.bz2 and .zip archives can be read; unpack this archive first"
"""Reason why an archive that `is_other_archive` names is not read."""

MAX_FILE = 2 << 30
"""Maximum size of an image in an archive, in bytes. Such an image is read into memory as a whole. An image file that is
not in an archive may be larger."""

_DAMAGE = (
    OSError, EOFError, RuntimeError, ValueError, IndexError, struct.error, zlib.error, lzma.LZMAError,
    tarfile.TarError, zipfile.BadZipFile,
)  # fmt: skip
"""Errors that are raised if an archive contains unexpected bytes. RuntimeError means that a zip file is encrypted, or
that its format is too new."""

_BLOCK = 1 << 20  # bytes
_LFS_POINTER = b"version https://git-lfs.github.com/"
_GZIP_SPACING = 4 << 20
"""Distance between the seek points of a .tar.gz, in bytes. To find a member, at most this number of bytes is
decompressed."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file in an archive."""

    name: str
    """Path of the file within the archive, with forward slashes."""
    size: int
    """Uncompressed size in bytes."""


class Archive(Protocol):
    """An open archive. Several threads can read from the same archive at the same time."""

    def members(self) -> Iterator[Member]:
        """Yield the regular files of the archive, in the same order as in the archive.

        Raises
        ------
        SourceError
            If the archive is damaged or incomplete. The error is raised after the last file that can be
            read. Further files may be lost.
        """

    def read(self, name: str) -> bytes:
        """Return the bytes of one member.

        Raises
        ------
        ImageError
            If the member is missing or damaged.
        """


def is_archive(path: str) -> bool:
    """Check whether a file name has the suffix of a supported archive."""
    return path.lower().endswith(_SUFFIXES)


def is_other_archive(path: str) -> bool:
    """Check whether a file name has the suffix of an archive that is not supported."""
    return path.lower().endswith(_OTHER_SUFFIXES)


def archive_stem(path: str) -> str:
    """Return the file name of an archive without its suffix, for example ``Tips`` for ``Tips.tar.gz``."""
    name = PurePosixPath(path).name
    lower = name.lower()
    suffix = next((s for s in sorted(_SUFFIXES, key=len, reverse=True) if lower.endswith(s)), "")
    return name[: len(name) - len(suffix)]


def open_archive(path: Path) -> Archive:
    """Open an archive. If the archive is already open and its file has not changed, return the open archive.

    Raises
    ------
    SourceError
        If the archive is missing or damaged, or its format does not match its suffix.
    """
    try:
        found = path.stat()
    except OSError as error:
        msg = f"archive {path} cannot be opened: {os_reason(error)}"
        raise SourceError(msg) from error
    if not stat.S_ISREG(found.st_mode):  # no pipe, because opening a pipe can block
        msg = f"archive {path} cannot be opened: it is not a regular file"
        raise SourceError(msg)
    return _opened(path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=32)
def _opened(path: Path, size: int, mtime_ns: int) -> Archive:  # noqa: ARG001  the cache key contains size and time
    name = path.name.lower()
    try:
        if name.endswith(".zip"):
            return _Zip(path)
        if name.endswith(".tar"):
            return _Tar(path)
        if name.endswith(_XZ):
            return _PackedTar(path, open_xz(path))
        if name.endswith(_BZIP2):
            return _PackedTar(path, open_bzip2(path))
        return _PackedTar(path, _open_gzip(path))
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            msg = f"archive {path} cannot be read: {os_reason(error)}"
            raise SourceError(msg) from error
        msg = f"archive {path} cannot be read: {_why(path, error)}"
        raise SourceError(msg) from error


def _why(path: Path, error: Exception) -> str:
    with suppress(OSError), path.open("rb") as stream:
        if stream.read(len(_LFS_POINTER)) == _LFS_POINTER:
            return "it is a Git LFS pointer instead of the archive. Run 'git lfs pull'"
    return f"{error}. Check that it is complete and that its suffix matches its format"


in_child(_opened.cache_clear)  # parent process and child process would share the position in an open file


def require_size(source: str, size: int) -> None:
    """Raise an error if an image in an archive is larger than `MAX_FILE`.

    Raises
    ------
    ImageError
        If the file has more than `MAX_FILE` bytes.
    """
    if size > MAX_FILE:
        raise ImageError(
            source,
            "too_large",
            f"the file has {size} bytes; the limit in an archive is {MAX_FILE} bytes. Unpack the archive",
        )


def _missing(path: Path, name: str) -> ImageError:
    return ImageError(f"{path}!{name}", "missing", "the archive does not contain this file")


class _Spanned:
    """A tar file. The members are read by their offsets in the uncompressed tar file.

    Parameters
    ----------
    path : Path
    stream : binary file
        The uncompressed tar file. The constructor reads `stream` to its end.
    """

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self._path = path
        self._spans, self._damage = _spans(stream)

    def members(self) -> Iterator[Member]:
        yield from (Member(name, size) for name, (_, size) in self._spans.items())
        if self._damage:
            msg = (
                f"archive {self._path} is damaged after its {len(self._spans)} readable files: {self._damage}. "
                "The files after the damaged part cannot be read"
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
        """Return `size` bytes of the tar file from position `offset`. If the file is too short, return fewer bytes.

        If reading fails, an `ImageError` is raised. `source` is the name of the image in this error.
        """
        raise NotImplementedError


class _Tar(_Spanned):
    """An uncompressed tar file. Several threads can read from it at the same time."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as stream:
            super().__init__(path, stream)

    def _bytes(self, source: str, offset: int, size: int) -> bytes:
        try:
            with self._path.open("rb") as stream:
                stream.seek(offset)
                return stream.read(size)
        except OSError as error:
            raise ImageError(source, "unreadable", os_reason(error)) from error


def _open_gzip(path: Path) -> IO[bytes]:
    """Open a file that is compressed with gzip. An index of seek points makes random access fast."""
    from indexed_gzip import IndexedGzipFile

    with path.open("rb"):  # indexed_gzip does not say why a file cannot be opened
        stream: IO[bytes] = IndexedGzipFile(str(path), spacing=_GZIP_SPACING)
    return stream


class _PackedTar(_Spanned):
    """A compressed tar file. Threads read one after another.

    Parameters
    ----------
    path : Path
    stream : binary file
        The uncompressed tar file.
    """

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self._lock = threading.Lock()
        self._stream = stream
        super().__init__(path, stream)
        self._damage = self._damage or self._rest()

    def _rest(self) -> str:
        """Read to the end, where the checksums are. Return a description of the damage, or an empty string."""
        try:
            while self._stream.read(_BLOCK):
                pass
        except _DAMAGE as error:
            return str(error)
        return ""

    def _bytes(self, source: str, offset: int, size: int) -> bytes:
        try:
            with self._lock:
                self._stream.seek(offset)
                return self._stream.read(size)
        except _DAMAGE as error:
            raise _unpacking_error(source, error) from error


def _unpacking_error(source: str, error: Exception) -> ImageError:
    if isinstance(error, OSError) and error.errno is not None:
        return ImageError(source, "unreadable", os_reason(error))
    return ImageError(source, "damaged", f"the archive is damaged here: {error}")


class _Zip:
    """A zip archive. The module `zipfile` makes sure that threads read one after another."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._zip = zipfile.ZipFile(path)
        # Some Windows programs separate folders by backslashes. Of members with the same name, the last one counts.
        self._infos = {info.filename.replace("\\", "/"): info for info in self._zip.infolist()}

    def members(self) -> Iterator[Member]:
        return (Member(name, info.file_size) for name, info in self._infos.items() if not name.endswith("/"))

    def read(self, name: str) -> bytes:
        source = f"{self._path}!{name}"
        info = self._infos.get(name.replace("\\", "/"))
        if info is None:
            raise _missing(self._path, name)
        require_size(source, info.file_size)
        try:
            return self._zip.read(info)
        except _DAMAGE as error:
            raise _unpacking_error(source, error) from error


_Spans = dict[str, tuple[int, int]]
"""Offset and size of every member of a tar file, in bytes. The key is the name of the member."""


def _spans(stream: IO[bytes]) -> tuple[_Spans, str]:
    """Return the regular members of a tar file, and a description of its damage.

    For a complete tar file, the description is empty.

    If two members have the same name, the later member is used, as in the command tar. `tarfile` stops without an error
    at a damaged or missing header. This function therefore also checks the end of the file: a complete tar file ends
    with a block of zeros.
    """
    spans: _Spans = {}
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            for info in tar:
                name = info.name.partition("\0")[0]  # as tar and zipfile do
                if info.isreg() and not info.issparse():
                    spans[name] = info.offset_data, info.size
                elif info.islnk() and info.linkname in spans:
                    spans[name] = spans[info.linkname]
        stream.seek(tar.offset)
        end = stream.read(tarfile.BLOCKSIZE)
    except _DAMAGE as error:
        if not spans:
            raise
        return spans, str(error)
    if end.count(0) == tarfile.BLOCKSIZE:
        return spans, ""
    return spans, "it ends early" if len(end) < tarfile.BLOCKSIZE else "a header is damaged"
