"""Zeiss SmartSEM: TIFF tag 34118, named CZ_SEM by tifffile.

The value of the tag is a table of parameters. A parameter has two lines. The first line of a parameter is a name in
capitals, which begins with ``AP_`` (analogue), ``DP_`` (digital) or ``SV_`` (text). The second line of a parameter is
the text that the microscope shows, such as ``WD = 8.2 mm`` or ``Date :26 Apr 2021``. Numbers without names precede the
table. The fourth of these numbers is the pixel size in metres for an image that is 1024 pixels wide.

Sources: tifffile (`read_cz_sem`) and, for the fourth number, RosettaSciIO's TIFF reader; both programs are based on
Gwyddion. The names and units of the parameters were taken from files.
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
from twinscope_indexer.metadata.vendor import TagValue, VendorReader, VendorTag

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
_UNNAMED_PIXEL = 3  # index of the pixel size among the numbers without names
_UNNAMED_WIDTH = 1024  # width in pixels of the image that this pixel size refers to


def _read(tag: TagValue) -> InstrumentMetadata:
    """Read the value of the tag. The result is empty if the text contains no parameters.

    The normalised values come from these parameters:

    - instrument: DP_SEM, or else SV_SERIAL_NUMBER, which begins with the model
    - beam energy: AP_ACTUALKV, or else AP_MANUALKV
    - working distance and magnification: AP_WD and AP_MAG
    - pixel size: AP_IMAGE_PIXEL_SIZE, or else AP_PIXEL_SIZE, or else the fourth number without a name
    - field width: AP_WIDTH
    - detector: DP_DETECTOR_CHANNEL, or else DP_DETECTOR_TYPE
    - stage: AP_STAGE_AT_X, _Y, _Z, _R and _T
    - date: AP_DATE and AP_TIME

    An image that was made with the ion beam gets no beam energy, because the file contains only the energy of the
    electron beam. Zeiss instruments draw the info bar into the field and do not write its height. The image has rows
    below the field only if it has more rows than DP_IMAGE_STORE.
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
    """Return the line after each name as a dictionary with the name as key, and a list of the remaining lines."""
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
    """Read the first parameter that the file contains. The result is None if its value is not above zero."""
    name = next((name for name in names if name in shown), "")
    return positive(quantity(shown.get(name), units, shift))


def _detector(shown: dict[str, str]) -> str | None:
    """Return the name of the signal.

    If two signals are mixed, the result contains both names. If the parameters contradict each other, it is None.
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
        # Unless the line says "Image", the pixel size refers to an image that is 1024 pixels wide.
        if image is not None and not line.startswith("Image"):
            image = image * _UNNAMED_WIDTH / image_size.width if image_size.width is not None else None
    field = positive(quantity(_value(named.get("AP_WIDTH", "")), LENGTH, 6))
    return image_size.calibrated(image, field, saved_width=stored[0] if stored else None)


READER = VendorReader("Zeiss", tags=(VendorTag(34118, "CZ_SEM", _read),))
