"""What a microscope's file says of its acquisition, without its pixels.

Read are the TIFF tags of the vendors (see `vendors`), the ImageDescription if a vendor wrote it, and if the picture has
none of these, the text file that some instruments write beside it.
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
    with opened(source, name) as file:
        if sidecar is None:
            sidecar = read_sidecar(Path(source)) if isinstance(source, (str, os.PathLike)) else b""
        return _believed(_read(file, sidecar))


def acquisition_of(source: Source, *, name: str = "", sidecar: bytes | None = None) -> InstrumentMetadata | None:
    """Read what is to be compared of the instrument's metadata: without `verbatim`, and None where there is nothing.

    The parameters and errors are those of `read_metadata`.
    """
    return read_metadata(source, name=name, sidecar=sidecar).normalised or None


def read_sidecar(image: Path) -> bytes:
    """Read the text file that an instrument wrote beside an image.

    Which names are looked for is known to the readers of the vendors (`VendorText.beside`).

    Parameters
    ----------
    image : Path
        The image; it need not exist.

    Returns
    -------
    bytes
        Its content, 256 KiB at most; empty if there is no such file, or it cannot be read.
    """
    for beside in SIDE_FILES:
        try:
            path = image.with_name(beside.format(stem=image.stem, suffix=image.suffix.lstrip(".")))
            if stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its writer
                with path.open("rb") as file:
                    return file.read(MOST_TEXT)
        except (OSError, ValueError):  # it only adds to an image that can be read
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


def _image_size(file: ImageFile) -> ImageSize:
    """Read the sides of a JPEG, PNG or BMP picture off its header."""
    file.stream.seek(0)
    head = file.stream.read(_HEAD)
    if file.format == "JPEG":
        try:
            frame = jpeg.frame(head + b"\xff\xd9", "")  # with an end, which is elsewhere
        except ImageError:
            return ImageSize()
        return ImageSize(frame.width or None, frame.height or None)
    if file.format == "PNG":
        width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    elif int.from_bytes(head[14:18], "little") < 40:  # the old header of OS/2
        width, height = int.from_bytes(head[18:20], "little"), int.from_bytes(head[20:22], "little")
    else:
        width = int.from_bytes(head[18:22], "little")
        height = abs(int.from_bytes(head[22:26], "little", signed=True))  # negative if the rows go downwards
    return ImageSize(width or None, height or None)
