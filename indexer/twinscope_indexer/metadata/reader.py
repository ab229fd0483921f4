"""What a microscope's file says of its acquisition, without its pixels; and whether two can be the same acquisition.

Read are the makers' TIFF tags (Zeiss 34118, FEI 34680 and 34682, TESCAN 50431, Olympus-SIS 33560), the ImageDescription
(JEOL, of scanning and of transmission microscopes, and Hitachi), and if the picture has none of these, the file that
JEOL, Hitachi and TESCAN write beside it.
"""

from __future__ import annotations

import io
import os
import stat
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from twinscope_indexer.errors import ImageError
from twinscope_indexer.imaging import jpeg
from twinscope_indexer.imaging.png import PNG_MAGIC
from twinscope_indexer.imaging.sniffing import BMP_MAGIC, JPEG_MAGIC, TIFF_MAGIC, Source, opened, seekable_copy
from twinscope_indexer.imaging.tiff_directories import read_directories
from twinscope_indexer.metadata.consistency import contradictions
from twinscope_indexer.metadata.model import NO_METADATA, InstrumentMetadata, StagePosition
from twinscope_indexer.metadata.text import decode
from twinscope_indexer.metadata.vendors.registry import MOST_TEXT, read_tags, read_text

__all__ = [
    "NO_METADATA",
    "InstrumentMetadata",
    "StagePosition",
    "acquisition_of",
    "contradictions",
    "read_metadata",
    "read_sidecar",
]

_HEAD = 1 << 16  # bytes of a JPEG, PNG or BMP file in which its width and height are looked for
_NAME = 120  # characters


def read_metadata(source: Source, *, name: str = "", sidecar: bytes | None = None) -> InstrumentMetadata:
    """Read the instrument's metadata; no pixel is read.

    Parameters
    ----------
    source : str, path-like, bytes or binary file
        A path, the content of a file, or an open file, which is read from its beginning wherever it stands, and is
        left open at an arbitrary position.
    name : str, optional
        What errors call the image, for instance an archive member; by default its path.
    sidecar : bytes, optional
        Content of the text file that belongs to the image. By default it is looked for beside `source` if that is a
        path (see `read_sidecar`). It is used if the image itself has no metadata.

    Returns
    -------
    InstrumentMetadata
        False if there is none. What is damaged or contradicts itself is left None.

    Raises
    ------
    ImageError
        The file cannot be read, or is no image, as `twinscope_indexer.imaging.read_image` has it. Nothing else is
        raised for a file's content.
    """
    if isinstance(source, bytes):
        return _read(io.BytesIO(source), sidecar or b"", name or "<bytes>")
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        called = name or str(path)
        with opened(path, called) as stream:
            return _read(stream, read_sidecar(path) if sidecar is None else sidecar, called)
    return _read(source, sidecar or b"", name or str(getattr(source, "name", "<file>")))


def acquisition_of(source: Source, *, name: str = "", sidecar: bytes | None = None) -> InstrumentMetadata | None:
    """Read what is to be compared of the instrument's metadata: without `verbatim`, and None where there is nothing.

    The parameters and errors are those of `read_metadata`.
    """
    return read_metadata(source, name=name, sidecar=sidecar).normalised or None


def read_sidecar(image: Path) -> bytes:
    """Read the text file that an instrument wrote beside an image.

    That is ``NAME.txt`` (JEOL, Hitachi), ``NAME-tif.hdr`` or ``NAME.hdr`` (TESCAN).

    Parameters
    ----------
    image : Path
        The image; it need not exist.

    Returns
    -------
    bytes
        Its content, 256 KiB at most; empty if there is no such file, or it cannot be read.
    """
    stem, suffix = image.stem, image.suffix.lstrip(".")
    for beside in (f"{stem}.txt", f"{stem}.TXT", f"{stem}-{suffix}.hdr", f"{stem}.hdr"):
        try:
            path = image.with_name(beside)
            if stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its writer
                with path.open("rb") as file:
                    return file.read(MOST_TEXT)
        except (OSError, ValueError):  # it only adds to an image that can be read
            continue
    return b""


def _read(stream: BinaryIO, sidecar: bytes, name: str) -> InstrumentMetadata:
    try:
        seekable = seekable_copy(stream)
        size = seekable.seek(0, os.SEEK_END)
        seekable.seek(0)
        magic = seekable.read(len(PNG_MAGIC))
        if not magic:
            raise ImageError(name, "empty", "the file is empty")
        if magic.startswith(TIFF_MAGIC):
            directories = read_directories(seekable, size, name)
            found = next(filter(None, (read_tags(seekable, directory) for directory in directories)), None)
            sides = directories[0].width, directories[0].height
        elif magic.startswith((JPEG_MAGIC, BMP_MAGIC)) or magic == PNG_MAGIC:
            found, sides = None, _sides(seekable) if sidecar else (None, None)
        else:
            raise ImageError(name, "unsupported", "is neither TIFF, JPEG, PNG nor BMP")
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise ImageError(name, "unreadable", f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return _believed(found or read_text(decode(sidecar), *sides))


def _believed(metadata: InstrumentMetadata) -> InstrumentMetadata:
    """Leave out names that are too long to be any; what was written stays in `verbatim`."""
    return replace(
        metadata,
        instrument=_name(metadata.instrument),
        detector=_name(metadata.detector),
        acquired=_name(metadata.acquired),
    )


def _name(text: str | None) -> str | None:
    return text if text and len(text) <= _NAME else None


def _sides(stream: BinaryIO) -> tuple[int | None, int | None]:
    """Width and height of a JPEG, PNG or BMP file, as its header has them; None if it does not."""
    stream.seek(0)
    head = stream.read(_HEAD)
    if head.startswith(JPEG_MAGIC):
        try:
            frame = jpeg.frame(head + b"\xff\xd9", "")  # with an end, which is elsewhere
        except ImageError:
            return None, None
        return frame.width or None, frame.height or None
    if head.startswith(PNG_MAGIC):
        return int.from_bytes(head[16:20], "big") or None, int.from_bytes(head[20:24], "big") or None
    if int.from_bytes(head[14:18], "little") < 40:  # the old header of OS/2
        return int.from_bytes(head[18:20], "little") or None, int.from_bytes(head[20:22], "little") or None
    height = abs(int.from_bytes(head[22:26], "little", signed=True))  # negative if the rows go downwards
    return int.from_bytes(head[18:22], "little") or None, height or None
