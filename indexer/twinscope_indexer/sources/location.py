"""Location and content of a source image."""

from __future__ import annotations

import io
import os
import re
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from twinscope_indexer.errors import ImageError, SourceError, os_reason
from twinscope_indexer.files import stream_sha256
from twinscope_indexer.sources.archive import open_archive

if TYPE_CHECKING:
    from collections.abc import Iterator

_READ_WHOLE: Final = 32 << 20
"""Files of at most this size in bytes are read with one call. Larger files are read in parts, at their offsets."""
_PAGE: Final = re.compile(r"(.+)#page=([1-9][0-9]{0,8})", re.DOTALL)


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """The content of an image file, or of an image in an archive, while it is open.

    Attributes
    ----------
    stream : binary file
        The content: an open file, or bytes in memory. The position of the stream is undefined.
    name : str
        Name of the image in error messages.
    """

    stream: BinaryIO
    name: str

    @property
    def size(self) -> int:
        """Size of the content in bytes."""
        return self.stream.seek(0, os.SEEK_END)

    def sha256(self) -> bytes:
        """Return the SHA-256 of the content. A large file is read in parts.

        Raises
        ------
        ImageError
            If the file cannot be read.
        """
        try:
            if isinstance(self.stream, io.BytesIO):
                return sha256(self.stream.getbuffer()).digest()
            return bytes.fromhex(stream_sha256(self.stream))
        except OSError as error:
            raise ImageError(self.name, "unreadable", os_reason(error)) from error


def source_uri(root: Path, path: str, member: str | None, page: int = 0) -> str:
    """Return the location of an image as readable text: a path, or ``archive!member``.

    If the image is a page of a stack, the text ends with the number of the page, for example ``stack.tif#page=3``.
    """
    location = os.path.join(root, path) if path else str(root)  # noqa: PTH118  faster than Path; a query needs many
    return paged(location if member is None else f"{location}!{member}", page)


def paged(location: str, page: int) -> str:
    """Return the location of a page of a stack, for example ``stack.tif#page=3``. Page 0 stands for the whole file."""
    return f"{location}#page={page}" if page else location


def split_page(location: str | os.PathLike[str]) -> tuple[str, int]:
    """Split a location into the path of the file and the number of the page, which is 0 if no page is named.

    If a file with the whole text as its name exists, the text names this file, and no page.
    """
    text = os.fsdecode(location)
    found = _PAGE.fullmatch(text)
    if found is None or os.path.lexists(text):
        return text, 0
    return found[1], int(found[2])


@contextmanager
def opened_source(root: Path, path: str, member: str | None, page: int = 0) -> Iterator[Content]:
    """Open an image file, or an image in an archive.

    Parameters
    ----------
    root, path, member
        Location of the image; see `twinscope_indexer.sources.corpus.Item`.
    page : int
        Number of the page that will be read, or 0 if the file is one image. A small file that is one image is read with
        one call. A stack and a large file are read in parts.

    Raises
    ------
    ImageError
        If the file, the archive or the member is missing or cannot be read.
    """
    file = root / path
    if member is not None:
        name = source_uri(root, path, member)
        try:
            data = open_archive(file).read(member)
        except SourceError as error:
            raise ImageError(name, "unreadable", str(error)) from error
        yield Content(io.BytesIO(data), name)
        return
    with _opened_file(file) as stream:
        if page == 0 and _size(stream) <= _READ_WHOLE:
            yield Content(io.BytesIO(_whole(stream, str(file))), str(file))
        else:
            yield Content(stream, str(file))


def _opened_file(file: Path) -> BinaryIO:
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # no pipe, because opening a pipe can block
            raise ImageError(str(file), "unreadable", "is not a regular file")
        return file.open("rb")
    except FileNotFoundError as error:
        raise ImageError(str(file), "missing", "there is no such file") from error
    except OSError as error:
        raise ImageError(str(file), "unreadable", os_reason(error)) from error


def _size(stream: BinaryIO) -> int:
    return os.fstat(stream.fileno()).st_size


def _whole(stream: BinaryIO, name: str) -> bytes:
    try:
        return stream.read()
    except OSError as error:
        raise ImageError(name, "unreadable", os_reason(error)) from error
