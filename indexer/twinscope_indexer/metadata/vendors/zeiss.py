"""Zeiss SmartSEM: TIFF tag 34118, named CZ_SEM by tifffile.

The text is a table of parameters: a name in capitals (``AP_`` analogue, ``DP_`` digital, ``SV_`` text) on one line,
and the text that the microscope shows on the next, ``WD = 8.2 mm`` or ``Date :26 Apr 2021``. Numbers without names
precede the table. The fourth of them is the pixel size in metres for an image 1024 pixels wide. Sources: tifffile
(`read_cz_sem`) and, for the fourth number, RosettaSciIO's TIFF reader; both follow Gwyddion. Names and units are those
found in files.
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
_UNNAMED_WIDTH = 1024  # width in pixels that it refers to


def _read(tag: TagValue) -> InstrumentMetadata:
    """Read the value of the tag; empty for other text.

    The normalised values are DP_SEM (else SV_SERIAL_NUMBER, which begins with the model), AP_ACTUALKV (else
    AP_MANUALKV), AP_WD, AP_MAG, AP_IMAGE_PIXEL_SIZE (else AP_PIXEL_SIZE, else the number without a name) with AP_WIDTH,
    DP_DETECTOR_CHANNEL (else DP_DETECTOR_TYPE), AP_STAGE_AT_X, _Y, _Z, _R and _T, AP_DATE and AP_TIME. An image made
    with the ion beam has no beam energy, because the written one is that of the electrons.

    Zeiss draws the info bar into the field and does not write its height. There are rows below the field only if the
    image is higher than DP_IMAGE_STORE.
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
    """Return the lines that follow a name, by that name, and the remaining lines."""
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
    """Return the text after the first ``=`` or ``:``."""
    found = re.search("[=:]", line)
    return line[found.end() :].strip() if found else ""


def _first(shown: dict[str, str], names: tuple[str, ...], units: Units, shift: int) -> float | None:
    """Read the first of the parameters that is present; None unless it is above zero."""
    name = next((name for name in names if name in shown), "")
    return positive(quantity(shown.get(name), units, shift))


def _detector(shown: dict[str, str]) -> str | None:
    """Return the name of the signal: both if two are mixed, None if the parameters disagree."""
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
        if image is not None and not line.startswith("Image"):  # it refers to an image 1024 pixels wide
            image = image * _UNNAMED_WIDTH / image_size.width if image_size.width is not None else None
    field = positive(quantity(_value(named.get("AP_WIDTH", "")), LENGTH, 6))
    return image_size.calibrated(image, field, saved_width=stored[0] if stored else None)


READER = VendorReader("Zeiss", tags=(VendorTag(34118, "CZ_SEM", _read),))
