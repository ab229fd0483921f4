"""What a microscope's file says of its acquisition, without its pixels; and whether two can be the same acquisition.

Read are the makers' TIFF tags (Zeiss 34118, FEI 34680 and 34682, TESCAN 50431, Olympus-SIS 33560), the ImageDescription
(JEOL, of scanning and of transmission microscopes, and Hitachi), and if the picture has none of these, the file that
JEOL, Hitachi and TESCAN write beside it.
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


def _read(file: ImageFile, sidecar: bytes) -> InstrumentMetadata:
    if file.format == "TIFF":
        directories = read_directories(file)
        found = next(filter(None, (read_tags(file.stream, directory) for directory in directories)), None)
        if found:
            return found
        sides = directories[0].width, directories[0].height
    else:
        sides = _sides(file) if sidecar else (None, None)
    return read_text(decode(sidecar), *sides)


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


def _sides(file: ImageFile) -> tuple[int | None, int | None]:
    """Read width and height of a JPEG, PNG or BMP file off its header; None if it does not say."""
    file.stream.seek(0)
    head = file.stream.read(_HEAD)
    if file.format == "JPEG":
        try:
            frame = jpeg.frame(head + b"\xff\xd9", "")  # with an end, which is elsewhere
        except ImageError:
            return None, None
        return frame.width or None, frame.height or None
    if file.format == "PNG":
        return int.from_bytes(head[16:20], "big") or None, int.from_bytes(head[20:24], "big") or None
    if int.from_bytes(head[14:18], "little") < 40:  # the old header of OS/2
        return int.from_bytes(head[18:20], "little") or None, int.from_bytes(head[20:22], "little") or None
    height = abs(int.from_bytes(head[22:26], "little", signed=True))  # negative if the rows go downwards
    return int.from_bytes(head[18:22], "little") or None, height or None
