"""Zeiss SmartSEM: TIFF tag 34118, which tifffile calls CZ_SEM.

The value of the tag is a table of parameters. Each parameter has two lines. The first line is the name in capital
letters. A name begins with ``AP_`` (analogue), ``DP_`` (digital) or ``SV_`` (text). The second line is the text that
the microscope displays, for example ``WD = 8.2 mm`` or ``Date :26 Apr 2021``. Before the table, there are numbers
without names. The fourth number is the pixel size in metres for an image that is 1024 pixels wide.

Sources: The format is from tifffile (`read_cz_sem`). The meaning of the fourth number is from RosettaSciIO's TIFF
reader. Both programs are based on Gwyddion. The names and units of the parameters were taken from files.
"""

from __future__ import annotations

import re

from twinscope_indexer.metadata.calibration import Calibration, ImageSize
from twinscope_indexer.metadata.model import InstrumentMetadata, StagePosition
from twinscope_indexer.metadata.quantity import (
    ANGLE,
    LENGTH,
    MAGNIFICATION,
    VOLTAGE,
    Units,
    moment,
    number,
    positive,
    quantity,
    size,
    words,
)
from twinscope_indexer.metadata.text import decode, lines
from twinscope_indexer.metadata.vendor import MappedValue, TagValue, VendorReader, VendorTag

_USED = (
    "DP_SEM",
    "SV_SERIAL_NUMBER",
    "DP_FIB_IMAGING",
    "DP_IMAGE_STORE",
    "DP_DETECTOR_CHANNEL",
    "DP_DETECTOR_TYPE",
    "DP_IMPLIED_DETECTOR",
    "DP_MIXING",
    "AP_ACTUALKV",
    "AP_MANUALKV",
    "AP_WD",
    "AP_MAG",
    "AP_STAGE_AT_X",
    "AP_STAGE_AT_Y",
    "AP_STAGE_AT_Z",
    "AP_STAGE_AT_R",
    "AP_STAGE_AT_T",
    "AP_DATE",
    "AP_TIME",
)
_NAME = re.compile(r"[A-Z]{2}_[A-Z0-9_]{1,80}", re.ASCII)
_UNNAMED_PIXEL = 3  # index of the pixel size in the list of numbers without names
_UNNAMED_WIDTH = 1024  # this pixel size is valid for an image with this width in pixels


def _read(tag: TagValue) -> InstrumentMetadata:
    """Read the value of the tag. If the text contains no parameters, the result is empty.

    If an image was made with the ion beam, its beam energy is unknown, because the file contains only the energy of the
    electron beam. Zeiss instruments draw the info bar inside the field, and its height is not in the file. The image
    has rows of pixels below the field only if it has more rows than DP_IMAGE_STORE says.
    """
    named, unnamed = _table(decode(tag.data))
    if not named:
        return InstrumentMetadata()
    shown = {name: _value(named[name]) for name in _USED if name in named}
    stored = size(shown.get("DP_IMAGE_STORE"))
    electrons = shown.get("DP_FIB_IMAGING", "SEM") == "SEM"
    return InstrumentMetadata(
        vendor="Zeiss",
        instrument=words(shown.get("DP_SEM")) or words(shown.get("SV_SERIAL_NUMBER")),
        beam_energy_kev=_first(shown, ("AP_ACTUALKV", "AP_MANUALKV"), VOLTAGE, -3) if electrons else None,
        working_distance_mm=_first(shown, ("AP_WD",), LENGTH, 3),
        magnification=_first(shown, ("AP_MAG",), MAGNIFICATION, 0),
        **_calibration(named, unnamed, stored, tag.image_size)._asdict(),
        detector=_detector(shown),
        stage=StagePosition(
            x_mm=quantity(shown.get("AP_STAGE_AT_X"), LENGTH, 3),
            y_mm=quantity(shown.get("AP_STAGE_AT_Y"), LENGTH, 3),
            z_mm=quantity(shown.get("AP_STAGE_AT_Z"), LENGTH, 3),
            rotation_deg=quantity(shown.get("AP_STAGE_AT_R"), ANGLE, unit="°"),
            tilt_deg=quantity(shown.get("AP_STAGE_AT_T"), ANGLE, unit="°"),
        ),
        acquired=moment(shown.get("AP_DATE"), shown.get("AP_TIME")),
        data_bar_px=tag.image_size.rows_below(stored) or None,
        verbatim={tag.key: {"": unnamed, **named}},
    )


def _table(text: str) -> tuple[dict[str, str], list[str]]:
    """Return a dictionary and a list.

    The dictionary maps each name to the line after the name. The list contains all other lines.
    """
    named: dict[str, str] = {}
    unnamed: list[str] = []
    name = ""
    for line in map(str.strip, lines(text)):
        if _NAME.fullmatch(line):
            name = line
        elif name:
            named[name] = line
            name = ""
        elif line:
            unnamed.append(line)
    return named, unnamed


def _value(line: str) -> str:
    """Return the text of a line after the first ``=`` or ``:``."""
    found = re.search("[=:]", line)
    return line[found.end() :].strip() if found else ""


def _first(shown: dict[str, str], names: tuple[str, ...], units: Units, shift: int) -> float | None:
    """Read the first of these parameters that the file contains. If its value is not above zero, the result is None."""
    name = next((name for name in names if name in shown), "")
    return positive(quantity(shown.get(name), units, shift))


def _detector(shown: dict[str, str]) -> str | None:
    """Return the name of the signal.

    If two signals are mixed, the result contains both names. If the parameters contradict each other, the result is
    None.
    """
    channel, kind = words(shown.get("DP_DETECTOR_CHANNEL")), words(shown.get("DP_DETECTOR_TYPE"))
    if channel and kind and channel != kind:
        return None
    signal = channel or kind
    if shown.get("DP_MIXING") in {"On", "Yes"}:
        other = words(shown.get("DP_IMPLIED_DETECTOR"))
        return f"{signal} + {other}" if signal and other else None
    return signal


def _calibration(
    named: dict[str, str], unnamed: list[str], stored: tuple[int, int] | None, image_size: ImageSize
) -> Calibration:
    image = positive(quantity(_value(named.get("AP_IMAGE_PIXEL_SIZE", "")), LENGTH, 9))
    if image is None:
        line = named.get("AP_PIXEL_SIZE", "")
        image = positive(quantity(_value(line), LENGTH, 9))
        if image is None and len(unnamed) > _UNNAMED_PIXEL:
            image = positive(number(unnamed[_UNNAMED_PIXEL], 9))
        # If "Image" is not in the line, the pixel size is valid for an image that is 1024 pixels wide.
        if image is not None and not line.startswith("Image"):
            image = image * _UNNAMED_WIDTH / image_size.width if image_size.width is not None else None
    field = positive(quantity(_value(named.get("AP_WIDTH", "")), LENGTH, 6))
    return image_size.calibrated(image, field, saved_width=stored[0] if stored else None)


READER = VendorReader(
    "Zeiss",
    tags=(VendorTag(34118, "CZ_SEM", _read),),
    mapped=(
        MappedValue("instrument", "DP_SEM, or else SV_SERIAL_NUMBER, whose first part is the model"),
        MappedValue("beam_energy_kev", "AP_ACTUALKV, or else AP_MANUALKV; not in images of the ion beam", "written"),
        MappedValue("working_distance_mm", "AP_WD", "written"),
        MappedValue("magnification", "AP_MAG", "written"),
        MappedValue(
            "pixel_width_nm",
            "AP_IMAGE_PIXEL_SIZE, or else AP_PIXEL_SIZE, or else the fourth number without a name",
            "written; the number: m",
        ),
        MappedValue("pixel_height_nm", "the same as pixel_width_nm"),
        MappedValue("field_width_um", "AP_WIDTH", "written"),
        MappedValue(
            "detector", "DP_DETECTOR_CHANNEL, or else DP_DETECTOR_TYPE; with DP_IMPLIED_DETECTOR if DP_MIXING is On"
        ),
        MappedValue("stage.x_mm", "AP_STAGE_AT_X", "written"),
        MappedValue("stage.y_mm", "AP_STAGE_AT_Y", "written"),
        MappedValue("stage.z_mm", "AP_STAGE_AT_Z", "written"),
        MappedValue("stage.rotation_deg", "AP_STAGE_AT_R", "degrees"),
        MappedValue("stage.tilt_deg", "AP_STAGE_AT_T", "degrees"),
        MappedValue("acquired", "AP_DATE and AP_TIME"),
        MappedValue("data_bar_px", "rows of pixels below DP_IMAGE_STORE", "pixels"),
    ),
    checked=(
        "Real files of a Merlin, an Ultra 55 and other instruments. The values are the same as those of tifffile. "
        "pynxtools-em 0.4.6 reads only some of the values, and these are the same."
    ),
)
