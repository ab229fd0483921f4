"""Reading of instrument metadata from image files, without their pixels.

The metadata come from the TIFF tags of the vendors (see `vendors`) and from the ImageDescription if a vendor wrote it.
If an image has neither, they come from the text file that some instruments write beside it.
"""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

from twinscope_indexer.errors import ImageError
from twinscope_indexer.imaging import jpeg
from twinscope_indexer.imaging.sniffing import ImageFile, Source, opened
from twinscope_indexer.imaging.tiff_directories import read_directories
from twinscope_indexer.metadata.calibration import ImageSize
from twinscope_indexer.metadata.model import NO_METADATA, InstrumentMetadata, StagePosition
from twinscope_indexer.metadata.registry import SIDE_FILES, read_tags, read_text
from twinscope_indexer.metadata.text import decode
from twinscope_indexer.metadata.vendor import MOST_TEXT

__all__ = [
    "NO_METADATA",
    "InstrumentMetadata",
    "StagePosition",
    "acquisition_of",
    "read_metadata",
    "read_sidecar",
]

_HEAD = 1 << 16  # bytes of a JPEG, PNG or BMP file that are searched for its width and height
_NAME = 120  # characters


def read_metadata(source: Source, *, name: str = "", sidecar: bytes | None = None) -> InstrumentMetadata:
    """Read the instrument metadata of an image, without reading its pixels.

    Parameters
    ----------
    source : str, path-like, bytes or binary file
        A path, the content of a file, or an open file. An open file is read from its beginning and is left open at an
        arbitrary position.
    name : str, optional
        Name of the image in errors, for example an archive member; default: its path.
    sidecar : bytes, optional
        Content of the text file that belongs to the image. By default it is read from beside `source` if that is a
        path (see `read_sidecar`). It is used only if the image itself has no metadata.

    Returns
    -------
    InstrumentMetadata
        False if there is none. Damaged or contradictory values are None.

    Raises
    ------
    ImageError
        If the file cannot be read or is not an image, as for `twinscope_indexer.imaging.read_image`. No other error is
        raised because of a file's content.
    """
    with opened(source, name) as file:
        if sidecar is None:
            sidecar = read_sidecar(Path(source)) if isinstance(source, (str, os.PathLike)) else b""
        return _without_long_names(_read(file, sidecar))


def acquisition_of(source: Source, *, name: str = "", sidecar: bytes | None = None) -> InstrumentMetadata | None:
    """Read the comparable instrument metadata: without `verbatim`, and None if there is none.

    The parameters and errors are those of `read_metadata`.
    """
    return read_metadata(source, name=name, sidecar=sidecar).normalised or None


def read_sidecar(image: Path) -> bytes:
    """Read the text file that an instrument wrote beside an image.

    The readers of the vendors define the possible names (`VendorText.beside`).

    Parameters
    ----------
    image : Path
        The image; it need not exist.

    Returns
    -------
    bytes
        Its content, at most 256 KiB; empty if there is no such file or it cannot be read.
    """
    for beside in SIDE_FILES:
        try:
            path = image.with_name(beside.format(stem=image.stem, suffix=image.suffix.lstrip(".")))
            if stat.S_ISREG(path.stat().st_mode):  # opening a pipe would block until its writer opens it
                with path.open("rb") as file:
                    return file.read(MOST_TEXT)
        except (OSError, ValueError):  # the image is readable without it
            continue
    return b""


def _read(file: ImageFile, sidecar: bytes) -> InstrumentMetadata:
    if file.format == "TIFF":
        directories = read_directories(file)
        found = next(filter(None, (read_tags(file.stream, directory) for directory in directories)), None)
        if found:
            return found
        image_size = ImageSize(directories[0].width, directories[0].height)
    else:
        image_size = _image_size(file) if sidecar else ImageSize()
    return read_text(decode(sidecar), image_size)


def _without_long_names(metadata: InstrumentMetadata) -> InstrumentMetadata:
    """Remove names that are too long to be real; `verbatim` keeps them."""
    return replace(
        metadata,
        instrument=_name(metadata.instrument),
        detector=_name(metadata.detector),
        acquired=_name(metadata.acquired),
    )


def _name(text: str | None) -> str | None:
    return text if text and len(text) <= _NAME else None


def _image_size(file: ImageFile) -> ImageSize:
    """Read the width and height of a JPEG, PNG or BMP image from its header."""
    file.stream.seek(0)
    head = file.stream.read(_HEAD)
    if file.format == "JPEG":
        try:
            header = jpeg.frame(head + b"\xff\xd9", "")  # append an end marker: the real one lies further on
        except ImageError:
            return ImageSize()
        return ImageSize(header.width or None, header.height or None)
    if file.format == "PNG":
        width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    elif int.from_bytes(head[14:18], "little") < 40:  # the header of OS/2
        width, height = int.from_bytes(head[18:20], "little"), int.from_bytes(head[20:22], "little")
    else:
        width = int.from_bytes(head[18:22], "little")
        height = abs(int.from_bytes(head[22:26], "little", signed=True))  # negative: top row first
    return ImageSize(width or None, height or None)
