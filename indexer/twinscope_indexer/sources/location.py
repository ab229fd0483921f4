"""Location and content of a source image."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from twinscope_indexer.errors import ImageError, SourceError, os_reason
from twinscope_indexer.sources.archive import open_archive, require_size


def source_uri(root: Path, path: str, member: str | None) -> str:
    """Return the location of an image as readable text: a path, or ``archive!member``."""
    location = os.path.join(root, path) if path else str(root)  # noqa: PTH118  faster than Path; a query needs many
    return location if member is None else f"{location}!{member}"


def read_source(root: Path, path: str, member: str | None) -> bytes:
    """Return the bytes of an image file, or of an image in an archive.

    Raises
    ------
    ImageError
        If the file, the archive or the member is missing or cannot be read.
    """
    file = root / path
    if member is not None:
        try:
            return open_archive(file).read(member)
        except SourceError as error:
            raise ImageError(f"{file}!{member}", "unreadable", str(error)) from error
    try:
        found = file.stat()
        if not stat.S_ISREG(found.st_mode):  # no pipe, because opening a pipe can block
            raise ImageError(str(file), "unreadable", "is not a regular file")
        require_size(str(file), found.st_size)
        return file.read_bytes()
    except FileNotFoundError as error:
        raise ImageError(str(file), "missing", "there is no such file") from error
    except OSError as error:
        raise ImageError(str(file), "unreadable", os_reason(error)) from error
