"""Olympus Soft Imaging Solutions: TIFF tag 33560. The tag is written by cameras of transmission electron microscopes.

The value of the tag is the position of a binary structure in the file. There is no public specification of this
structure. Only the values that the function `read_sis` of tifffile reads are known. They are the date and, in a block
of general data, the pixel size in metres, the magnification and the name of the camera. The date has no seconds. The
seconds are in the tag DateTime (306) of the same file.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from twinscope_indexer.metadata.model import InstrumentMetadata
from twinscope_indexer.metadata.quantity import moment, positive, words
from twinscope_indexer.metadata.text import decode
from twinscope_indexer.metadata.vendor import MappedValue, TagValue, VendorReader, VendorTag

_VENDOR = "Olympus-SIS"
_DATE_TIME, _DATE_TIME_BYTES = 306, 20  # ``YYYY:MM:DD HH:MM:SS`` and a null byte (TIFF 6.0, page 31)
# The head contains: magic bytes, minute, hour, day, month (0 to 11), years since 1900, name, number of blocks.
_HEAD = struct.Struct("<4s6xhhhhh6x32sH")
_BLOCK = struct.Struct("<hhI")  # type, count, offset in the file
_GENERAL = 1
_GENERAL_DATA = struct.Struct("<10xhdd8xd2x34s32s")  # power of ten, x, y, magnification, camera, type of image
_MAX_BLOCKS = 64
_MAX_DIGITS = 30  # larger powers of ten are not plausible


@dataclass(frozen=True, slots=True)
class _General:
    """The values in the block of general data."""

    pixel_width_m: float
    pixel_height_m: float
    magnification: float
    camera: str
    image_type: str


def _read(tag: TagValue) -> InstrumentMetadata:
    """Read the structure whose position is the value of the tag.

    If the structure is of another type, the result is empty.

    The seconds are taken from DateTime, if DateTime is equal to the date except for the seconds.
    """
    offset = tag.entry.offset
    if tag.entry.size <= tag.entry.inline:
        order: Literal["little", "big"] = "little" if tag.directory.order == "<" else "big"
        offset = int.from_bytes(tag.read_at(offset, tag.entry.inline), order)
    data = tag.read_at(offset, _HEAD.size + _MAX_BLOCKS * _BLOCK.size)
    if len(data) < _HEAD.size:
        return InstrumentMetadata()
    date_time = decode(tag.read_other(_DATE_TIME, _DATE_TIME_BYTES))
    magic, minute, hour, day, month, year, name, blocks = _HEAD.unpack_from(data)
    if magic != b"SIS0":
        return InstrumentMetadata()
    acquired = _moment(1900 + year, month + 1, day, hour, minute)
    kept: dict[str, Any] = {"name": decode(name)}
    if acquired is not None:
        kept["datetime"] = acquired
        acquired = _with_seconds(acquired, date_time)
    verbatim: dict[str, Any] = {tag.key: kept} | ({"DateTime": date_time} if date_time else {})
    general = _general(data, min(blocks, _MAX_BLOCKS), tag.read_at)
    if general is None:
        return InstrumentMetadata(vendor=_VENDOR, acquired=acquired, verbatim=verbatim)
    numbers = {
        "pixelsizex": general.pixel_width_m,
        "pixelsizey": general.pixel_height_m,
        "magnification": general.magnification,
    }
    # NaN and infinity are kept as text, because JSON does not allow these numbers.
    kept |= {key: value if math.isfinite(value) else str(value) for key, value in numbers.items()}
    kept |= {"cameraname": general.camera, "picturetype": general.image_type}
    calibration = tag.image_size.calibrated(
        positive(general.pixel_width_m * 1e9), pixel_height_nm=positive(general.pixel_height_m * 1e9)
    )
    return InstrumentMetadata(
        vendor=_VENDOR,
        magnification=positive(general.magnification),
        **calibration._asdict(),
        detector=words(general.camera),
        acquired=acquired,
        verbatim=verbatim,
    )


def _moment(year: int, month: int, day: int, hour: int, minute: int) -> str | None:
    try:
        return datetime(year, month, day, hour, minute).isoformat()  # by the camera's clock, without a time zone
    except ValueError:
        return None


def _with_seconds(acquired: str, date_time: str) -> str:
    day, _, clock = date_time.partition(" ")
    precise = moment(day.replace(":", "-"), clock)
    minute = len("2021-12-31T23:59")
    return precise if precise is not None and precise[:minute] == acquired[:minute] else acquired


def _general(data: bytes, blocks: int, read_at: Callable[[int, int], bytes]) -> _General | None:
    for index in range(blocks):
        at = _HEAD.size + index * _BLOCK.size
        if at + _BLOCK.size > len(data):
            return None
        kind, _, offset = _BLOCK.unpack_from(data, at)
        content = read_at(offset, _GENERAL_DATA.size) if kind == _GENERAL else b""
        if len(content) == _GENERAL_DATA.size:
            digits, x, y, magnification, camera, image_type = _GENERAL_DATA.unpack(content)
            scale = 10.0**digits if abs(digits) <= _MAX_DIGITS else math.nan
            return _General(x * scale, y * scale, magnification, decode(camera), decode(image_type))
    return None


READER = VendorReader(
    _VENDOR,
    tags=(VendorTag(33560, "OlympusSIS", _read, limit=0),),
    makes_cameras=True,
    mapped=(
        MappedValue("magnification", "magnification in the general data"),
        MappedValue("pixel_width_nm", "pixel width in the general data", "m"),
        MappedValue("pixel_height_nm", "pixel height in the general data", "m"),
        MappedValue("field_width_um", "pixel width multiplied by the width of the image"),
        MappedValue("detector", "name of the camera in the general data"),
        MappedValue(
            "acquired", "date in the head of the structure; the seconds come from TIFF tag 306 if the minutes agree"
        ),
    ),
    checked=("A real file. The values are the same as those of tifffile. pynxtools-em has no reader for this format."),
)
