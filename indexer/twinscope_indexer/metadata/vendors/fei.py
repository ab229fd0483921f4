"""FEI and Thermo Fisher: TIFF tags 34680 (FEI_SFEG), 34682 (FEI_HELIOS) and 34683 (FEI_TITAN).

The value of each tag is INI text or XML. Newer software encodes the text in base64. Values are in SI units: volts,
metres, radians. In the section ``[Beam]`` of the INI text, the key ``Beam`` is the name of the section for the beam in
use (``EBeam`` or ``IBeam``). The key ``Scan`` is the name of the section for the scan of this beam, for example
``EScan``. The XML contains the element ``Metadata`` or, if a Tecnai microscope wrote it, the element ``Root`` with a
label, a value and a unit for each quantity. Other XML, for example ``MementoItemCollection``, is kept, but no values
are read from it.

Sources: The names of the tags and the INI format are from tifffile (`read_fei_metadata`). The units of the INI text are
from RosettaSciIO's TIFF reader. The elements of the XML and their units are from pynxtools-em and from public files.
Two rules were found by comparison of the metadata with the info bars in images. First, the scanned field
has ``[Image] ResolutionY`` rows, and the rows below it are the info bar. Second, the magnification is
``MagCanvasRealWidth`` divided by the field width. ``MagCanvasRealWidth`` is the width of the displayed image (the
canvas) for which the magnification is valid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from twinscope_indexer.metadata.calibration import ImageSize, agree
from twinscope_indexer.metadata.model import InstrumentMetadata, StagePosition
from twinscope_indexer.metadata.quantity import (
    ANGLE,
    LENGTH,
    MAGNIFICATION,
    VOLTAGE,
    count,
    degrees,
    iso_moment,
    moment,
    number,
    positive,
    quantity,
    words,
)
from twinscope_indexer.metadata.text import decode, decode_base64, element_text, parse_ini, parse_xml
from twinscope_indexer.metadata.vendor import MappedValue, TagValue, VendorReader, VendorTag

_VENDOR = "FEI"
_Sections = Mapping[str, Mapping[str, str]]


def _read(tag: TagValue) -> InstrumentMetadata:
    """Read the value of the tag. If the value is neither INI text nor XML, the result is empty."""
    text = decode(tag.data).strip()
    text = (decode_base64(text) or text).strip()
    if text.startswith("<"):
        return _read_xml(parse_xml(text), tag)
    ini, mark, xml = text.partition("<?xml")  # some software appends XML to the INI text
    sections = parse_ini(ini)
    if not any(sections):  # text without the name of a section is something else
        return InstrumentMetadata()
    return _read_ini(sections, parse_xml(mark + xml), tag)


def _read_ini(sections: _Sections, xml: Mapping[str, Any], tag: TagValue) -> InstrumentMetadata:
    """Read the metadata from the sections of INI text. XML after the text is only kept."""
    beam_in_use = _get(sections, "Beam", "Beam") or "EBeam"
    stage = sections.get("Stage", {})
    stored = count(_get(sections, "Image", "ResolutionX")), count(_get(sections, "Image", "ResolutionY"))
    field = _same(_get(sections, "Scan", "HorFieldsize"), _get(sections, beam_in_use, "HFW"))
    calibration = tag.image_size.calibrated(
        positive(number(_get(sections, "Scan", "PixelWidth"), 9)),
        None if field is None else field * 1e6,
        pixel_height_nm=positive(number(_get(sections, "Scan", "PixelHeight"), 9)),
        saved_width=stored[0],
    )
    canvas = positive(number(_get(sections, "Image", "MagCanvasRealWidth")))
    energy = _same(_get(sections, "Beam", "HV"), _get(sections, beam_in_use, "HV"))
    return InstrumentMetadata(
        vendor=_VENDOR,
        instrument=words(_get(sections, "System", "SystemType")),
        beam_energy_kev=None if energy is None else energy / 1000,
        working_distance_mm=positive(number(_get(sections, beam_in_use, "WD") or stage.get("WorkingDistance"), 3)),
        magnification=positive(canvas / field) if canvas and field else None,
        **calibration._asdict(),
        detector=_detector(_get(sections, "Detectors", "Name"), _get(sections, "Detectors", "Mode")),
        stage=StagePosition(
            x_mm=number(stage.get("StageX"), 3),
            y_mm=number(stage.get("StageY"), 3),
            z_mm=number(stage.get("StageZ"), 3),
            rotation_deg=degrees(stage.get("StageR")),
            tilt_deg=degrees(stage.get("StageT")),
        ),
        acquired=_acquired(sections),
        data_bar_px=_data_bar(_get(sections, "PrivateFei", "DatabarHeight"), stored, tag.image_size),
        verbatim={tag.key: {**sections, **xml}},
    )


def _read_xml(tree: Mapping[str, Any], tag: TagValue) -> InstrumentMetadata:
    """Read the metadata from XML. If there are no elements, the result is empty."""
    if not tree:
        return InstrumentMetadata()
    if isinstance(tree.get("Metadata"), Mapping):
        found = _elements(tree["Metadata"], tag.image_size)
    else:
        found = _labels(tree.get("Root"))
    return replace(found, vendor=_VENDOR, verbatim={tag.key: tree})


def _elements(tree: Mapping[str, Any], image_size: ImageSize) -> InstrumentMetadata:
    """Read the element ``Metadata``.

    If a file lists several detectors, the detector is unknown.
    """

    def at(path: str) -> str | None:
        return element_text(tree, path)

    stored = count(at("BinaryResult/ImageSize/X")), count(at("BinaryResult/ImageSize/Y"))
    pixel, pixel_height = (_length(tree, f"BinaryResult/PixelSize/{axis}") for axis in "XY")
    detector = "Detectors/ScanningDetector"
    stage = "StageSettings/StagePosition"
    return InstrumentMetadata(
        instrument=words(at("Instrument/InstrumentClass")) or words(at("Instrument/InstrumentModel")),
        beam_energy_kev=positive(number(at("Optics/AccelerationVoltage"), -3)),
        working_distance_mm=positive(number(at("Optics/WorkingDistance"), 3)),
        **image_size.calibrated(pixel, pixel_height_nm=pixel_height, saved_width=stored[0] or None)._asdict(),
        detector=words(f"{at(f'{detector}/DetectorName') or ''} {at(f'{detector}/Signal') or ''}"),
        stage=StagePosition(
            x_mm=number(at(f"{stage}/X"), 3),
            y_mm=number(at(f"{stage}/Y"), 3),
            z_mm=number(at(f"{stage}/Z"), 3),
            rotation_deg=degrees(at(f"{stage}/Rotation")),
            tilt_deg=degrees(at(f"{stage}/Tilt/Alpha")),
        ),
        acquired=iso_moment(at("Acquisition/AcquisitionDatetime")),
        data_bar_px=image_size.rows_below((stored[0], stored[1])) if stored[0] and stored[1] else None,
    )


def _length(tree: Mapping[str, Any], path: str) -> float | None:
    """Read a length in nanometres. The unit is an attribute of the element."""
    return positive(quantity(f"{element_text(tree, path)} {element_text(tree, f'{path}/@unit') or ''}", LENGTH, 9))


def _labels(root: object) -> InstrumentMetadata:
    """Read the element ``Root`` of a Tecnai microscope. A diffraction pattern has no magnification."""
    data = root.get("Data") if isinstance(root, Mapping) else None
    items = [item for item in (data if isinstance(data, list) else [data]) if isinstance(item, Mapping)]
    values = {
        str(item.get("Label")): f"{element_text(item, 'Value') or ''} {element_text(item, 'Unit') or ''}".strip()
        for item in items
    }
    diffraction = "diffraction" in values.get("Mode", "").casefold()
    return InstrumentMetadata(
        instrument=words(values.get("Microscope")),
        beam_energy_kev=positive(quantity(values.get("High tension"), VOLTAGE, -3)),
        magnification=None if diffraction else positive(quantity(values.get("Magnification"), MAGNIFICATION)),
        stage=StagePosition(
            x_mm=quantity(values.get("Stage X"), LENGTH, 3),
            y_mm=quantity(values.get("Stage Y"), LENGTH, 3),
            z_mm=quantity(values.get("Stage Z"), LENGTH, 3),
            tilt_deg=quantity(values.get("Stage A"), ANGLE) if " " in values.get("Stage A", "") else None,
        ),
    )


def _get(sections: _Sections, section: str, key: str) -> str:
    return sections.get(section, {}).get(key, "")


def _same(one: str, other: str) -> float | None:
    """Read a value that the file contains twice. If the two values differ by more than 2 %, the result is None."""
    values = [value for value in (positive(number(one)), positive(number(other))) if value is not None]
    if not values or not agree(values[0], values[-1]):
        return None
    return values[0]


def _detector(name: str, mode: str) -> str | None:
    """Return the name of the signal, which consists of the detector and its mode.

    For cameras, the mode is the word ``None``.
    """
    return words(name if mode == "None" else f"{name} {mode}")


def _acquired(sections: _Sections) -> str | None:
    created = _get(sections, "PrivateFei", "TimeOfCreation").partition(" ")
    return moment(created[0], created[2]) or moment(_get(sections, "User", "Date"), _get(sections, "User", "Time"))


def _data_bar(text: str, stored: tuple[int | None, int | None], image_size: ImageSize) -> int | None:
    """Return the height of the info bar in rows of pixels.

    If the height in the metadata differs from the number of rows below the field, the result is None.
    """
    field_width, field_height = stored
    height = image_size.height
    below = None
    if field_width and field_height:
        below = image_size.rows_below((field_width, field_height))
        if below is None and height is not None and image_size.width is not None:
            return None  # the image was changed after the instrument saved it
    written = count(text)
    if written is not None and height is not None and written >= height:
        return None
    if written is None or below is None:
        return below if written is None else written
    return written if written == below else None


READER = VendorReader(
    _VENDOR,
    tags=(
        VendorTag(34680, "FEI_SFEG", _read),
        VendorTag(34682, "FEI_HELIOS", _read),
        VendorTag(34683, "FEI_TITAN", _read),
    ),
    mapped=(
        MappedValue(
            "instrument",
            "[System] SystemType; XML: Instrument/InstrumentClass, or else InstrumentModel; Tecnai: Microscope",
        ),
        MappedValue(
            "beam_energy_kev",
            "HV in [Beam] and in the section of the beam in use, which must agree; XML: "
            "Optics/AccelerationVoltage; Tecnai: High tension",
            "V; Tecnai: written",
        ),
        MappedValue(
            "working_distance_mm",
            "WD in the section of the beam in use, or else [Stage] WorkingDistance; XML: Optics/WorkingDistance",
            "m",
        ),
        MappedValue(
            "magnification",
            "[Image] MagCanvasRealWidth divided by the field width; Tecnai: Magnification, not in diffraction patterns",
        ),
        MappedValue("pixel_width_nm", "[Scan] PixelWidth; XML: BinaryResult/PixelSize/X", "m; XML: written"),
        MappedValue("pixel_height_nm", "[Scan] PixelHeight; XML: BinaryResult/PixelSize/Y", "m; XML: written"),
        MappedValue("field_width_um", "[Scan] HorFieldsize, or else HFW in the section of the beam in use", "m"),
        MappedValue(
            "detector",
            "[Detectors] Name and Mode; for example, Mode is ABS A for a detector with several signals, and the "
            "word None for a camera; XML: Detectors/ScanningDetector/DetectorName and Signal, if there is one "
            "detector",
        ),
        MappedValue(
            "stage.x_mm", "[Stage] StageX; XML: StageSettings/StagePosition/X; Tecnai: Stage X", "m; Tecnai: written"
        ),
        MappedValue("stage.y_mm", "[Stage] StageY; XML: Y; Tecnai: Stage Y", "m; Tecnai: written"),
        MappedValue("stage.z_mm", "[Stage] StageZ; XML: Z; Tecnai: Stage Z", "m; Tecnai: written"),
        MappedValue("stage.rotation_deg", "[Stage] StageR; XML: Rotation", "rad"),
        MappedValue("stage.tilt_deg", "[Stage] StageT; XML: Tilt/Alpha; Tecnai: Stage A", "rad; Tecnai: written"),
        MappedValue(
            "acquired",
            "[PrivateFei] TimeOfCreation if its order of day and month is clear, or else [User] Date and Time; "
            "XML: Acquisition/AcquisitionDatetime",
        ),
        MappedValue(
            "data_bar_px",
            "[PrivateFei] DatabarHeight, and the number of rows below [Image] ResolutionY, which must agree; XML:"
            " rows below BinaryResult/ImageSize/Y",
            "pixels",
        ),
    ),
    checked=(
        "INI text: real files of a Helios NanoLab 660 and of a Nova NanoSEM 450. The values are the same as those"
        " of tifffile. pynxtools-em 0.4.6 reads only some of the values, and these are the same. XML, text in "
        "base64 and Tecnai labels: only files that were made for the tests, from published examples. pynxtools-em"
        " reads the same elements from these files, with the same units, and the same values of the Tecnai "
        "labels."
    ),
)
