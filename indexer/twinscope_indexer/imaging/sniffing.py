"""Which format a file has, by its first bytes; files and archive members as seekable streams."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import BinaryIO

from twinscope_indexer.errors import ImageError

Source = str | os.PathLike[str] | bytes | BinaryIO
"""A path, the content of a file, or an open binary file."""


TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


JPEG_MAGIC = b"\xff\xd8\xff"


BMP_MAGIC = b"BM"


def opened(path: Path, name: str) -> BinaryIO:
    """Open an image file.

    Raises
    ------
    ImageError
        If it is missing, may not be read, or is no regular file.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its writer
            raise ImageError(name, "unreadable", "is not a regular file")
        return path.open("rb")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError(name, "missing", "there is no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise ImageError(
            name, "unreadable", f"cannot be opened: {getattr(error, 'strerror', None) or error}"
        ) from error


def seekable_copy(stream: BinaryIO) -> BinaryIO:
    """Return a file, or what is in memory, as it is; read members of archives, slow to seek in, whole."""
    if isinstance(stream, io.BytesIO):
        return stream
    if isinstance(stream, io.BufferedReader) and isinstance(stream.raw, io.FileIO) and stream.seekable():
        return stream
    if stream.seekable():
        stream.seek(0)
    return io.BytesIO(stream.read())
