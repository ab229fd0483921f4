"""Opening of sources of image data, and detection of the image format from the first bytes."""

from __future__ import annotations

import io
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from twinscope_indexer.errors import ImageError, os_reason
from twinscope_indexer.imaging.foreign import what_it_is

Source = str | os.PathLike[str] | bytes | BinaryIO
"""A path, the content of a file, or an open binary file."""

Format = Literal["TIFF", "JPEG", "PNG", "BMP", "WebP", "JPEG 2000"]

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_MAGIC: dict[bytes, Format] = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",  # BigTIFF
    b"MM\0+": "TIFF",
    b"\xff\xd8\xff": "JPEG",
    PNG_MAGIC: "PNG",
    b"BM": "BMP",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",  # a codestream without a file format
}
_MAGIC_SIZE = 12


@dataclass(frozen=True, slots=True, eq=False)
class ImageFile:
    """An open image file."""

    stream: BinaryIO
    """Seekable stream of the file content. The position of the stream is undefined."""
    size: int
    """Size of the file in bytes."""
    format: Format
    name: str
    """Name of the file in error messages."""


@contextmanager
def opened(source: Source, name: str | None = None) -> Iterator[ImageFile]:
    """Open a source and detect the image format.

    An error in the body of the ``with`` statement is also converted to an `ImageError` if the file cannot be read or
    needs too much memory.

    Parameters
    ----------
    source : str, path-like, bytes or binary file
        A path, the content of a file, or an open file. An open file is always read from its beginning, and stays open.
    name : str, optional
        Name of the file in error messages; by default, the path.

    Raises
    ------
    ImageError
        The fault is ``missing``, ``unreadable``, ``empty``, ``unsupported`` or ``too_large``.
    """
    if isinstance(source, bytes):
        with _reading(io.BytesIO(source), name or "<bytes>") as file:
            yield file
    elif isinstance(source, (str, os.PathLike)):
        path = Path(source)
        called = name or str(path)
        with _opened(path, called) as stream, _reading(stream, called) as file:
            yield file
    else:
        with _reading(source, name or str(getattr(source, "name", "<file>"))) as file:
            yield file


def _opened(path: Path, name: str) -> BinaryIO:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait until another process writes to the pipe
            raise ImageError(name, "unreadable", "is not a regular file")
        return path.open("rb")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError(name, "missing", "there is no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = os_reason(error) if isinstance(error, OSError) else str(error)
        raise ImageError(name, "unreadable", f"cannot be opened: {reason}") from error


@contextmanager
def _reading(stream: BinaryIO, name: str) -> Iterator[ImageFile]:
    try:
        seekable = _seekable(stream)
        size = seekable.seek(0, os.SEEK_END)
        seekable.seek(0)
        yield ImageFile(seekable, size, _format(seekable, name), name)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        reason = os_reason(error) if isinstance(error, OSError) else str(error)
        raise ImageError(name, "unreadable", f"cannot be read: {reason}") from error
    except MemoryError as error:
        from twinscope_indexer.compute.scratch import ScratchSpaceError  # imported here, because NumPy loads slowly

        full = isinstance(error, ScratchSpaceError)
        reason = str(error) if full else "decoding it needs more memory than is available"
        raise ImageError(name, "too_large", reason) from error


def _format(stream: BinaryIO, name: str) -> Format:
    """Detect the format of a file from the first bytes."""
    magic = stream.read(_MAGIC_SIZE)
    if not magic:
        raise ImageError(name, "empty", "the file is empty")
    for start, found in _MAGIC.items():
        if magic.startswith(start):
            return found
    if magic.startswith(b"RIFF") and magic[8:] == b"WEBP":
        return "WebP"
    raise ImageError(name, "unsupported", what_it_is(stream))


def _seekable(stream: BinaryIO) -> BinaryIO:
    """Return a stream in which seeking is fast.

    Regular files and bytes in memory are returned unchanged. All other streams are read into memory, because seeking
    can be slow, for example in an archive member.
    """
    if isinstance(stream, io.BytesIO):
        return stream
    if isinstance(stream, io.BufferedReader) and isinstance(stream.raw, io.FileIO) and stream.seekable():
        return stream
    if stream.seekable():
        stream.seek(0)
    return io.BytesIO(stream.read())
