"""TVIPS: TIFF tags 37706 and 37708. The program EM-MENU writes them for cameras of transmission electron microscopes.

The value of tag 37706 is the position of a binary structure in the file. The value of tag 37708 is the structure
itself. The structure has two parts. The first part has whole numbers whose units are not documented. The second part
exists only if the version is 2. The second part has numbers in volts, nanometres, metres and degrees, and text in
UTF-16.

Sources: The structure and the unit of the pixel size are from tifffile (`read_tvips_header`). The units of the high
tension and of the stage, and mode 3 for diffraction, are from RosettaSciIO's TIFF reader. The date has the day, the
month and two bytes for the year. This was found in a public file whose name contains the date. The time has seconds.
"""

from __future__ import annotations

import math
import struct
from datetime import date, time
from typing import Any, Literal

from twinscope_indexer.metadata.calibration import Calibration
from twinscope_indexer.metadata.model import InstrumentMetadata, StagePosition
from twinscope_indexer.metadata.quantity import positive, words
from twinscope_indexer.metadata.vendor import MappedValue, TagValue, VendorReader, VendorTag

_VENDOR = "TVIPS"
_FIRST = 244  # length of the first part in bytes; the version is in the first four bytes
_VERSION = 2
_MAGIC = 0xAAAAAAAA  # the last number of the second part
_DIFFRACTION = 3
# Name, and format as in `struct`, of the values of the second part. A name that starts with "-" is not kept.
_SECOND = (
    ("ImageName", "160s"), ("ImageFolder", "160s"), ("ImageSizeX", "i"), ("ImageSizeY", "i"), ("ImageSizeZ", "i"),
    ("ImageSizeE", "i"), ("ImageDataType", "i"), ("Date", "i"), ("Time", "i"), ("Comment", "1024s"),
    ("ImageHistory", "1024s"), ("-Scaling", "64s"), ("-ImageStatistics", "256s"), ("ImageType", "i"),
    ("ImageDisplayType", "i"), ("PixelSizeX", "f"), ("PixelSizeY", "f"), ("ImageDistanceZ", "f"),
    ("ImageDistanceE", "f"), ("-ImageMisc", "128s"), ("TemType", "160s"), ("TemHighTension", "f"),
    ("-TemAberrations", "128s"), ("-TemEnergy", "128s"), ("TemMode", "i"), ("TemMagnification", "f"),
    ("TemMagnificationCorrection", "f"), ("PostMagnification", "f"), ("TemStageType", "i"), ("StageX", "f"),
    ("StageY", "f"), ("StageZ", "f"), ("StageA", "f"), ("StageB", "f"), ("-TemShiftsAndTilts", "24s"),
    ("-TilingParameters", "28s"), ("-TemIllumination", "12s"), ("TemShutter", "i"), ("-TemMisc", "128s"),
    ("CameraType", "160s"), ("PhysicalPixelSizeX", "f"), ("PhysicalPixelSizeY", "f"), ("OffsetX", "i"),
    ("OffsetY", "i"), ("BinningX", "i"), ("BinningY", "i"), ("ExposureTime", "f"), ("Gain", "f"), ("ReadoutRate", "f"),
    ("FlatfieldDescription", "160s"), ("Sensitivity", "f"), ("Dose", "f"), ("-CamMisc", "128s"),
    ("FeiMicroscopeInformation", "1024s"), ("FeiSpecimenInformation", "1024s"), ("Magic", "I"),
)  # fmt: skip
_FORM = "".join(form for _, form in _SECOND)
_LENGTH = struct.calcsize("<" + _FORM)


def _read_there(tag: TagValue) -> InstrumentMetadata:
    """Read the structure whose position is the value of the tag."""
    offset = tag.entry.offset
    if tag.entry.size <= tag.entry.inline:
        order: Literal["little", "big"] = "little" if tag.directory.order == "<" else "big"
        offset = int.from_bytes(tag.read_at(offset, tag.entry.size), order)
    return _structure(tag.read_at(offset, _FIRST + _LENGTH), tag)


def _read(tag: TagValue) -> InstrumentMetadata:
    """Read the structure that is the value of the tag."""
    return _structure(tag.data, tag)


def _structure(data: bytes, tag: TagValue) -> InstrumentMetadata:
    """Read a structure. If it has another version, or if it is not complete, the result is empty.

    In a diffraction pattern, the magnification and the pixel size have another meaning. Therefore, they are not read.
    """
    order = tag.directory.order
    if len(data) < _FIRST + _LENGTH or struct.unpack_from(order + "i", data)[0] != _VERSION:
        return InstrumentMetadata()
    read = struct.unpack_from(order + _FORM, data, _FIRST)
    values = {name: value for (name, _), value in zip(_SECOND, read, strict=True) if not name.startswith("-")}
    if values.pop("Magic") != _MAGIC:
        return InstrumentMetadata()
    values = {name: _text(value, order) if isinstance(value, bytes) else value for name, value in values.items()}
    image = values["TemMode"] != _DIFFRACTION
    across, down = (positive(values[f"PixelSize{axis}"]) if image else None for axis in "XY")
    calibration = tag.image_size.calibrated(across, pixel_height_nm=down, saved_width=values["ImageSizeX"] or None)
    return InstrumentMetadata(
        vendor=_VENDOR,
        instrument=words(values["TemType"]),
        beam_energy_kev=positive(values["TemHighTension"] / 1000),
        magnification=positive(values["TemMagnification"]) if image else None,
        **(calibration if across else Calibration())._asdict(),
        detector=words(values["CameraType"]),
        stage=StagePosition(
            x_mm=_finite(values["StageX"] * 1000),
            y_mm=_finite(values["StageY"] * 1000),
            z_mm=_finite(values["StageZ"] * 1000),
            tilt_deg=_finite(values["StageA"]),
        ),
        acquired=_acquired(values["Date"], values["Time"]),
        verbatim={_VENDOR: {name: _plain(value) for name, value in values.items()}},
    )


def _text(value: bytes, order: str) -> str:
    return value.decode("utf-16-le" if order == "<" else "utf-16-be", "replace").partition("\0")[0]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _plain(value: Any) -> Any:
    """Return NaN and infinity as text, because JSON does not allow these numbers."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _acquired(day: int, seconds: int) -> str | None:
    try:
        found = date(day >> 16, day >> 8 & 0xFF, day & 0xFF)
        at = time(seconds // 3600, seconds // 60 % 60, seconds % 60)
    except ValueError:
        return None
    return f"{found.isoformat()}T{at.isoformat()}"


READER = VendorReader(
    _VENDOR,
    tags=(
        VendorTag(37706, _VENDOR, _read_there, limit=0),
        VendorTag(37708, _VENDOR, _read),
    ),
    makes_cameras=True,
    mapped=(
        MappedValue("instrument", "TemType"),
        MappedValue("beam_energy_kev", "TemHighTension", "V"),
        MappedValue("magnification", "TemMagnification; not in diffraction patterns"),
        MappedValue("pixel_width_nm", "PixelSizeX; not in diffraction patterns", "nm"),
        MappedValue("pixel_height_nm", "PixelSizeY; not in diffraction patterns", "nm"),
        MappedValue("field_width_um", "PixelSizeX multiplied by the width of the image"),
        MappedValue("detector", "CameraType"),
        MappedValue("stage.x_mm", "first number of TemStagePosition", "m"),
        MappedValue("stage.y_mm", "second number", "m"),
        MappedValue("stage.z_mm", "third number", "m"),
        MappedValue("stage.tilt_deg", "fourth number", "degrees"),
        MappedValue("acquired", "Date and Time"),
    ),
    checked=(
        "A real file of a camera TemCam-F416. The values are the same as those of tifffile and HyperSpy 1.7.6. "
        "pynxtools-em has no reader for this format. Version 1 of the structure is not read."
    ),
)
