"""What a microscope's file says of its acquisition, without its pixels; and whether two can be the same acquisition.

Read are the makers' TIFF tags (Zeiss 34118, FEI 34680 and 34682, TESCAN 50431, Olympus-SIS 33560), the ImageDescription
(JEOL, of scanning and of transmission microscopes, and Hitachi), and if the picture has none of these, the file that
JEOL, Hitachi and TESCAN write beside it.
"""

from __future__ import annotations

import io
import math
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from twinscope_indexer import bitmap, jpeg
from twinscope_indexer.errors import ImageError
from twinscope_indexer.imaging import BMP_MAGIC, JPEG_MAGIC, TIFF_MAGIC, Source, opened, seekable_copy
from twinscope_indexer.vendors.instrument import NO_METADATA, InstrumentMetadata, StagePosition, agree
from twinscope_indexer.vendors.makers import MOST_TEXT, read_tags, read_text
from twinscope_indexer.vendors.tags import read_directories
from twinscope_indexer.vendors.text import decode

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
_ENERGY_TOLERANCE = 0.05  # relative
# More than the backlash of a stage, its drift, and setting the eucentric height anew, which are micrometres to some
# tens of them; less than between two specimens, or two working distances, which are set to tenths of a millimetre.
_HEIGHT_TOLERANCE_MM = 0.1
# Some makers write whole degrees, others hundredths. At 1° the corners of a field move by 1 % of its width when it is
# turned, and at 45° it is foreshortened by another 2 % when it is tilted: as much as scales may differ.
_ANGLE_TOLERANCE = 1.0


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


def contradictions(
    a: InstrumentMetadata, b: InstrumentMetadata, *, width_a: int | None = None, width_b: int | None = None
) -> list[str]:
    """Tell why two files cannot show the same acquisition.

    They cannot if another make of microscope, another detector, or a beam energy that differs by more than 5 % was
    used; if the stage stood farther apart than the wider of the two fields, more than 0.1 mm higher, or was tilted or
    turned by more than 1° against the other; or if both the size of a pixel and the width of the field differ by more
    than 2 %. Both, as a picture that was scaled as a whole has kept its field, and one that was cut its pixels. What
    is not known of either is no reason.

    Parameters
    ----------
    a, b : InstrumentMetadata
    width_a, width_b : int, optional
        Widths of the two pictures in pixels, from which the fields follow; by default the fields are taken as they
        were read.

    Returns
    -------
    list of str
        Reasons, for people; empty if nothing speaks against it.
    """
    return [
        *_other_make(a, b),
        *_other_detector(a, b),
        *_other_energy(a, b),
        *_other_scale(a, b, _field(a, width_a), _field(b, width_b)),
        *_other_place(a, b, _field(a, width_a), _field(b, width_b)),
        *_other_pose(a, b),
    ]


def _field(metadata: InstrumentMetadata, width: int | None) -> float | None:
    """Width of the field in micrometres."""
    if width is not None and metadata.pixel_width_nm is not None:
        return metadata.pixel_width_nm * width / 1000
    return metadata.field_width_um


def _makes_differ(a: InstrumentMetadata, b: InstrumentMetadata) -> bool:
    """Whether both microscopes' makers are known; Olympus-SIS made cameras for the microscopes of others."""
    return a.vendor != b.vendor and not {a.vendor, b.vendor} & {None, "Olympus-SIS"}


def _same_make(a: InstrumentMetadata, b: InstrumentMetadata) -> bool:
    """Whether names and coordinates mean the same in both."""
    return a.vendor is not None and a.vendor == b.vendor


def _other_make(a: InstrumentMetadata, b: InstrumentMetadata) -> Iterator[str]:
    if _makes_differ(a, b):
        yield f"another make of microscope: {a.vendor} and {b.vendor}"


def _other_detector(a: InstrumentMetadata, b: InstrumentMetadata) -> Iterator[str]:
    if _same_make(a, b) and a.detector and b.detector and a.detector.casefold() != b.detector.casefold():
        yield f"another detector: {a.detector} and {b.detector}"


def _other_energy(a: InstrumentMetadata, b: InstrumentMetadata) -> Iterator[str]:
    one, other = a.beam_energy_kev, b.beam_energy_kev
    if one is not None and other is not None and abs(one - other) > _ENERGY_TOLERANCE * max(one, other):
        yield f"another beam energy: {one:.4g} keV and {other:.4g} keV"


def _other_scale(
    a: InstrumentMetadata, b: InstrumentMetadata, field_a: float | None, field_b: float | None
) -> Iterator[str]:
    if a.pixel_width_nm is None or b.pixel_width_nm is None or field_a is None or field_b is None:
        return
    if not agree(a.pixel_width_nm, b.pixel_width_nm) and not agree(field_a, field_b):
        yield (
            f"another scale: pixels of {a.pixel_width_nm:.4g} nm and {b.pixel_width_nm:.4g} nm, "
            f"fields {field_a:.4g} µm and {field_b:.4g} µm wide"
        )


def _other_place(
    a: InstrumentMetadata, b: InstrumentMetadata, field_a: float | None, field_b: float | None
) -> Iterator[str]:
    widest = max((field for field in (field_a, field_b) if field is not None), default=None)
    if not _same_make(a, b) or widest is None:
        return
    if a.stage.x_mm is None or a.stage.y_mm is None or b.stage.x_mm is None or b.stage.y_mm is None:
        return
    apart = 1000 * math.hypot(a.stage.x_mm - b.stage.x_mm, a.stage.y_mm - b.stage.y_mm)
    if apart > widest:
        yield f"another place: the stage stood {apart:.4g} µm apart, the field is {widest:.4g} µm wide"


def _other_pose(a: InstrumentMetadata, b: InstrumentMetadata) -> Iterator[str]:
    """Compare the axes of the stage that do not lie in its plane; what they count from is the same for one make."""
    if not _same_make(a, b):
        return
    one, other = a.stage, b.stage
    if one.z_mm is not None and other.z_mm is not None and abs(one.z_mm - other.z_mm) > _HEIGHT_TOLERANCE_MM:
        yield f"another height: the stage stood at {one.z_mm:.4g} mm and {other.z_mm:.4g} mm"
    if _turned(one.tilt_deg, other.tilt_deg):
        yield f"another tilt: the stage was tilted to {one.tilt_deg:.4g}° and {other.tilt_deg:.4g}°"
    if _turned(one.rotation_deg, other.rotation_deg):
        yield f"another rotation: the stage was turned to {one.rotation_deg:.4g}° and {other.rotation_deg:.4g}°"


def _turned(one: float | None, other: float | None) -> bool:
    """Whether two angles are known and differ; 359.9° and 0° do not."""
    if one is None or other is None or not (math.isfinite(one) and math.isfinite(other)):
        return False
    # each for itself first: the difference of two huge numbers may be no number
    apart = math.remainder(math.remainder(one, 360) - math.remainder(other, 360), 360)
    return abs(apart) > _ANGLE_TOLERANCE


def _read(stream: BinaryIO, sidecar: bytes, name: str) -> InstrumentMetadata:
    try:
        seekable = seekable_copy(stream)
        size = seekable.seek(0, os.SEEK_END)
        seekable.seek(0)
        magic = seekable.read(len(bitmap.PNG_MAGIC))
        if not magic:
            raise ImageError(name, "empty", "the file is empty")
        if magic.startswith(TIFF_MAGIC):
            directories = read_directories(seekable, size, name)
            found = next(filter(None, (read_tags(seekable, directory) for directory in directories)), None)
            sides = directories[0].width, directories[0].height
        elif magic.startswith((JPEG_MAGIC, BMP_MAGIC)) or magic == bitmap.PNG_MAGIC:
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
    if head.startswith(bitmap.PNG_MAGIC):
        return int.from_bytes(head[16:20], "big") or None, int.from_bytes(head[20:24], "big") or None
    if int.from_bytes(head[14:18], "little") < 40:  # the old header of OS/2
        return int.from_bytes(head[18:20], "little") or None, int.from_bytes(head[20:22], "little") or None
    height = abs(int.from_bytes(head[22:26], "little", signed=True))  # negative if the rows go downwards
    return int.from_bytes(head[18:22], "little") or None, height or None
