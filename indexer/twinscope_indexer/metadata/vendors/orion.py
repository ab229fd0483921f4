"""Zeiss Orion, helium ion microscopes: TIFF tag 65000.

The value of the tag is XML with the element ``ImageTags``. Each value is an element with the elements ``Value`` and
``Units``.

Sources: The names of the elements and their units are from the Orion extractor of NexusLIMS, which was tested with a
file of an Orion NanoFab.
"""

from __future__ import annotations

from collections.abc import Mapping

from twinscope_indexer.metadata.model import InstrumentMetadata, StagePosition
from twinscope_indexer.metadata.quantity import (
    ANGLE,
    LENGTH,
    MAGNIFICATION,
    VOLTAGE,
    Units,
    iso_moment,
    moment,
    number,
    positive,
    quantity,
    words,
)
from twinscope_indexer.metadata.text import decode, element_text, parse_xml
from twinscope_indexer.metadata.vendor import MappedValue, TagValue, VendorReader, VendorTag

_KEY = "ImageTags"
_LENGTHS: Units = {**LENGTH, "Meters": 0, "Millimeters": -3, "Micrometers": -6, "Microns": -6, "Nanometers": -9}
_VOLTAGES: Units = {**VOLTAGE, "Volts": 0, "Kilovolts": 3}
_ANGLES: Units = {**ANGLE, "Degrees": 0}


def _read(tag: TagValue) -> InstrumentMetadata:
    """Read the value of the tag. If another program wrote the tag, the result is empty.

    The energy is the energy of the ions.
    """
    tree = parse_xml(decode(tag.data)).get(_KEY)
    if not isinstance(tree, Mapping):
        return InstrumentMetadata()

    def value(name: str, units: Units, shift: int = 0) -> float | None:
        text, unit = (element_text(tree, f"{name}/{part}") for part in ("Value", "Units"))
        return quantity(f"{text or ''} {unit or ''}", units, shift)

    def text(name: str) -> str | None:
        return words(element_text(tree, f"{name}/Value"))

    width = number(text("ImageWidth"))
    return InstrumentMetadata(
        vendor="Zeiss",
        instrument=text("System.Model") or text("System.Name"),
        beam_energy_kev=positive(value("AccelerationVoltage", _VOLTAGES, -3)),
        working_distance_mm=positive(value("WorkingDistance", _LENGTHS, 3)),
        magnification=positive(value("MagnificationDisplay", MAGNIFICATION)),
        **tag.image_size.calibrated(
            positive(value("ScalingX", _LENGTHS, 9)),
            positive(value("Fov", _LENGTHS, 6)),
            pixel_height_nm=positive(value("ScalingY", _LENGTHS, 9)),
            saved_width=int(width) if width else None,
        )._asdict(),
        detector=text("DetectorName"),
        stage=StagePosition(
            x_mm=value("StageX", _LENGTHS, 3),
            y_mm=value("StageY", _LENGTHS, 3),
            z_mm=value("StageZ", _LENGTHS, 3),
            rotation_deg=value("StageRotate", _ANGLES),
            tilt_deg=value("StageTilt", _ANGLES),
        ),
        acquired=_acquired(text("TimeStamp") or ""),
        verbatim={tag.key: tree},
    )


def _acquired(text: str) -> str | None:
    day, _, clock = text.partition(" ")
    return iso_moment(text) or moment(day, clock)


READER = VendorReader(
    "Zeiss",
    tags=(VendorTag(65000, "ORION", _read),),
    mapped=(
        MappedValue("instrument", "System.Model, or else System.Name"),
        MappedValue("beam_energy_kev", "AccelerationVoltage; the energy of the ions", "written"),
        MappedValue("working_distance_mm", "WorkingDistance", "written"),
        MappedValue("magnification", "MagnificationDisplay"),
        MappedValue("pixel_width_nm", "ScalingX", "written"),
        MappedValue("pixel_height_nm", "ScalingY", "written"),
        MappedValue("field_width_um", "Fov", "written"),
        MappedValue("detector", "DetectorName"),
        MappedValue("stage.x_mm", "StageX", "written"),
        MappedValue("stage.y_mm", "StageY", "written"),
        MappedValue("stage.z_mm", "StageZ", "written"),
        MappedValue("stage.rotation_deg", "StageRotate", "degrees"),
        MappedValue("stage.tilt_deg", "StageTilt", "degrees"),
        MappedValue("acquired", "TimeStamp"),
    ),
    checked=(
        "Only files that were made for the tests, with values that the tests of NexusLIMS name for a file of an "
        "Orion NanoFab. A value whose unit is spelled in another way is not read. pynxtools-em has no reader for "
        "this format."
    ),
)
