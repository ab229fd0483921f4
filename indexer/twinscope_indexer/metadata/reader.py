"""Functions that read instrument metadata from image files. The pixels are not decoded.

The metadata are read from the TIFF tags of the vendors (see `vendors`). The ImageDescription is also read, if an
instrument wrote it. Some instruments save a text file with the image. This text file is read if the image file contains
no metadata.
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
from twinscope_indexer.metadata.registry import SIDE_FILES, is_known, read_tags, read_text
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

_HEAD = 1 << 16  # width and height must be in this number of bytes at the start of a JPEG, PNG or BMP file
_NAME = 120  # maximum length of a name in characters


def read_metadata(source: Source, *, name: str = "", sidecar: bytes | None = None) -> InstrumentMetadata:
    """Read the instrument metadata of an image. The pixels are not read.

    Parameters
    ----------
    source : str, path-like, bytes or binary file
        A path, the content of a file, or an open file. An open file is read from its beginning. The function does not
        close this file. After the call, the position in the file is undefined.
    name : str, optional
        Name of the image in error messages, for example the name of a file in an archive. Default: the path.
    sidecar : bytes, optional
        Content of the text file that the instrument saved with the image. By default, if `source` is a path, this text
        file is looked for in the folder of the image (see `read_sidecar`). The text file is used only if the image file
        has no metadata.

    Returns
    -------
    InstrumentMetadata
        The metadata. ``bool(metadata)`` is False if the image has no metadata. Damaged or contradictory values are
        None.

    Raises
    ------
    ImageError
        If the file cannot be read or is not an image, as in `twinscope_indexer.imaging.read_image`. A damaged or
        unusual file never causes another type of error.
    """
    with opened(source, name) as file:
        if sidecar is None:
            sidecar = read_sidecar(Path(source)) if isinstance(source, (str, os.PathLike)) else b""
        return _without_long_names(_read(file, sidecar))


def acquisition_of(source: Source, *, name: str = "", sidecar: bytes | None = None) -> InstrumentMetadata | None:
    """Read the instrument metadata without `verbatim`. Return None if the image has no metadata.

    The result contains the values that are needed to compare two images. The parameters and errors are the same as for
    `read_metadata`.
    """
    return read_metadata(source, name=name, sidecar=sidecar).normalised or None


def read_sidecar(image: Path) -> bytes:
    """Read the text file that an instrument saved with an image, in the same folder.

    The possible names of this text file are listed in `VendorText.beside` for each vendor.

    Parameters
    ----------
    image : Path
        Path of the image. The image file need not exist.

    Returns
    -------
    bytes
        Content of the first text file that an instrument wrote, at most 256 KiB. If the file is not a text, the result
        is a text with its metadata. The result is empty if there is no such file, or if it cannot be read.
    """
    for beside, convert in SIDE_FILES:
        try:
            path = image.with_name(beside.format(stem=image.stem, suffix=image.suffix.lstrip(".")))
            if stat.S_ISREG(path.stat().st_mode):  # no pipe, because opening a pipe can block
                with path.open("rb") as file:
                    content = file.read(MOST_TEXT) if convert is None else convert(file).encode()
                if is_known(decode(content)):
                    return content
        except (OSError, ValueError):  # the image can be read without its text file
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
    """Replace names of more than 120 characters with None, because no real name is so long.

    `verbatim` still contains these names.
    """
    return replace(
        metadata,
        instrument=_name(metadata.instrument),
        detector=_name(metadata.detector),
        acquired=_name(metadata.acquired),
    )


def _name(text: str | None) -> str | None:
    return text if text and len(text) <= _NAME else None


def _image_size(file: ImageFile) -> ImageSize:
    """Read the width and height of a JPEG, PNG or BMP image from its header. The size of other images is unknown."""
    if file.format not in {"JPEG", "PNG", "BMP"}:
        return ImageSize()
    file.stream.seek(0)
    head = file.stream.read(_HEAD)
    if file.format == "JPEG":
        try:
            header = jpeg.frame(head + b"\xff\xd9", "")  # the end marker of the file can lie after `head`
        except ImageError:
            return ImageSize()
        return ImageSize(header.width or None, header.height or None)
    if file.format == "PNG":
        width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    elif int.from_bytes(head[14:18], "little") < 40:  # a BMP file with the short header of OS/2
        width, height = int.from_bytes(head[18:20], "little"), int.from_bytes(head[20:22], "little")
    else:
        width = int.from_bytes(head[18:22], "little")
        height = abs(int.from_bytes(head[22:26], "little", signed=True))  # negative if the top row is stored first
    return ImageSize(width or None, height or None)
