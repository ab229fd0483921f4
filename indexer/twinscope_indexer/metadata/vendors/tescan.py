"""TESCAN: TIFF tag 50431, or a text file ``NAME-tif.hdr`` in the folder of the image.

The value of the tag is a sequence of blocks. A block consists of its length, its type and its content. The length is a
number of 32 bits. This length includes the type, which has 16 bits, and the content. The type is 1 for a thumbnail, 2
for general values, 3 for values of the electron column, 4 for GAMA, 5 for values of the ion column, and 0 for the end
of the sequence. Every content except a thumbnail is text of the form ``key=value``. Angles are in degrees, and all
other values are in SI units.

The text file contains the same values in the sections [MAIN] and [SEM]. Sources: The structure of the blocks is from
Gwyddion's ``tescan`` module. The units are from NexusLIMS's TESCAN extractor.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from twinscope_indexer.metadata.calibration import ImageSize
from twinscope_indexer.metadata.model import LEFT_OUT, InstrumentMetadata, StagePosition
from twinscope_indexer.metadata.quantity import count, moment, number, positive, words
from twinscope_indexer.metadata.text import decode, parse_ini
from twinscope_indexer.metadata.vendor import MappedValue, TagValue, VendorReader, VendorTag, VendorText

_KEY = "TESCAN"
_BLOCKS = {2: "MAIN", 3: "SEM", 4: "GAMA", 5: "FIB"}
_THUMBNAIL = 1
_STARTS = (b"[MAIN]", b"AccFrames=", b"AccType=", b"Company=")  # text that is not in blocks begins in one of these ways


def _read(tag: TagValue) -> InstrumentMetadata:
    """Read the value of the tag. If the value has another format, the result is empty.

    Software of other manufacturers also uses this tag number.
    """
    sections, thumbnail = _blocks(tag.data, tag.directory.order)
    if not sections:
        start = min((at for at in map(tag.data.find, _STARTS) if at >= 0), default=None)
        if start is None:
            return InstrumentMetadata()
        sections = parse_ini(decode(tag.data[start:]), "MAIN")
    verbatim: dict[str, Any] = {_KEY: sections}
    if thumbnail:
        verbatim[LEFT_OUT] = {f"{_KEY} thumbnail": thumbnail}
    return _normalise(sections, verbatim, tag.image_size)


def _is_text(text: str) -> bool:
    return text.lstrip().startswith("[MAIN]")


def _read_text(text: str, image_size: ImageSize) -> InstrumentMetadata:
    sections = parse_ini(text)
    return _normalise(sections, {_KEY: sections}, image_size)


def _blocks(data: bytes, order: str) -> tuple[dict[str, dict[str, str]], int]:
    """Return the values of all sections, and the length of the thumbnail in bytes.

    If `data` contains no blocks, the values are empty and the length is 0.
    """
    header = struct.Struct(order + "IH")
    sections: dict[str, dict[str, str]] = {}
    thumbnail = at = 0
    while at + header.size <= len(data):
        length, kind = header.unpack_from(data, at)
        if length < 2 or kind not in {_THUMBNAIL, *_BLOCKS}:  # the end of the sequence, or data that is not a block
            break
        content = data[at + header.size : at + header.size + length - 2]
        if kind == _THUMBNAIL:
            thumbnail = length - 2
        elif kind in _BLOCKS:
            for section, values in parse_ini(decode(content), _BLOCKS[kind]).items():
                sections.setdefault(section, {}).update(values)
        at += 4 + length
    return sections, thumbnail


def _normalise(
    sections: Mapping[str, Mapping[str, str]], verbatim: dict[str, Any], image_size: ImageSize
) -> InstrumentMetadata:
    """Convert the values of all sections to normalised metadata.

    If the image consists of several views side by side (ViewFieldsCountX above 1), the field width is unknown.
    """
    values: dict[str, str] = {}
    for section in ("FIB", "SEM", "MAIN"):  # if both columns have a key, the value of the electron column is used
        values.update({key: value for key, value in sections.get(section, {}).items() if value})
    single = count(values.get("ViewFieldsCountX", "1")) == 1
    calibration = (image_size if single else ImageSize()).calibrated(
        positive(number(values.get("PixelSizeX"), 9)),
        pixel_height_nm=positive(number(values.get("PixelSizeY"), 9)),
    )
    strip = count(values.get("ImageStripSize"))
    return InstrumentMetadata(
        vendor="TESCAN",
        instrument=words(values.get("DeviceModel") or values.get("Device")),
        beam_energy_kev=positive(number(values.get("HV") or values.get("AcceleratorVoltage"), -3)),
        working_distance_mm=positive(number(values.get("WD"), 3)),
        magnification=positive(number(values.get("Magnification"))),
        **calibration._asdict(),
        detector=words(values.get("Detector") or values.get("Detector0")),
        stage=StagePosition(
            x_mm=number(values.get("StageX"), 3),
            y_mm=number(values.get("StageY"), 3),
            z_mm=number(values.get("StageZ"), 3),
            rotation_deg=number(values.get("StageRotation")),
            tilt_deg=number(values.get("StageTilt")),
        ),
        acquired=moment(values.get("Date"), values.get("Time")),
        data_bar_px=strip if strip is not None and (image_size.height is None or strip < image_size.height) else None,
        verbatim=verbatim,
    )


READER = VendorReader(
    "TESCAN",
    tags=(VendorTag(50431, _KEY, _read, limit=1 << 20),),  # a high limit, because the text comes after a thumbnail
    text=VendorText(_is_text, _read_text, beside=("{stem}-{suffix}.hdr", "{stem}.hdr")),
    mapped=(
        MappedValue("instrument", "DeviceModel, or else Device"),
        MappedValue("beam_energy_kev", "HV, or else AcceleratorVoltage", "V"),
        MappedValue("working_distance_mm", "WD", "m"),
        MappedValue("magnification", "Magnification"),
        MappedValue("pixel_width_nm", "PixelSizeX", "m"),
        MappedValue("pixel_height_nm", "PixelSizeY", "m"),
        MappedValue(
            "field_width_um", "PixelSizeX multiplied by the width of the image; not if ViewFieldsCountX is above 1"
        ),
        MappedValue("detector", "Detector, or else Detector0"),
        MappedValue("stage.x_mm", "StageX", "m"),
        MappedValue("stage.y_mm", "StageY", "m"),
        MappedValue("stage.z_mm", "StageZ", "m"),
        MappedValue("stage.rotation_deg", "StageRotation", "degrees"),
        MappedValue("stage.tilt_deg", "StageTilt", "degrees"),
        MappedValue("acquired", "Date and Time"),
        MappedValue("data_bar_px", "ImageStripSize", "pixels"),
    ),
    checked=(
        "Only files that were made for the tests, from published texts. pynxtools-em 0.4.6 reads the same values "
        "from the text file beside the image. It does not read the tag of these files."
    ),
)
