"""JEOL transmission electron microscopes: XML in TIFF tag 270 (ImageDescription) of images that SightX saved.

There is no public specification. The elements and their units (volts, nanometres) were taken from RosettaSciIO's TIFF
reader. PixelsPerMeter is the number of pixels per metre on the camera. The product of this number and the magnification
is the number of pixels per metre on the sample. The files also contain the lengths of lines that users measured in the
images. These lengths confirm the calculation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from twinscope_indexer.metadata.calibration import Calibration, ImageSize
from twinscope_indexer.metadata.model import InstrumentMetadata, StagePosition
from twinscope_indexer.metadata.quantity import count, iso_moment, number, positive, words
from twinscope_indexer.metadata.text import element_text, parse_xml
from twinscope_indexer.metadata.vendor import MappedValue, VendorReader, VendorText

_KEY = "TemReporter"

_START = re.compile(rf"\s*(?:<\?xml[^>]{{0,200}}>\s*)?<{_KEY}[\s>]")
_IMAGE = "Measurement/MeasurementFormat/DrawImageInformation"


def _is_text(text: str) -> bool:
    return _START.match(text) is not None


def _read(text: str, image_size: ImageSize) -> InstrumentMetadata:
    """Read the metadata from the text.

    SelectorValue is the magnification only if two conditions are true: the image shows the sample and not a
    diffraction pattern, and the beam was not scanned. The pixel size is computed from PixelsPerMeter and the
    magnification.

    The shift of a piezo stage (PX, PY) is not added to the position of the motors, because its unit is unknown. The
    second tilt is ignored, because `StagePosition` has only one tilt.
    """
    tree = parse_xml(text).get(_KEY)
    if not isinstance(tree, dict):
        return InstrumentMetadata()
    images = (
        element_text(tree, "Eos/EosMode") == "eosTEM"
        and element_text(tree, "ImageFormingSystem/SelectorUnitString") == "X"
    )
    magnification = positive(number(element_text(tree, "ImageFormingSystem/SelectorValue"))) if images else None
    stage = "GonioStage/StagePosition"
    return InstrumentMetadata(
        vendor="JEOL",
        instrument=words(element_text(tree, "Instruments")),
        beam_energy_kev=positive(number(element_text(tree, "ElectronGun/AccelerationVoltage"), -3)),
        magnification=magnification,
        **_calibration(tree, magnification, image_size)._asdict(),
        detector=words(element_text(tree, "ImageSourceDetector")),
        stage=StagePosition(
            x_mm=number(element_text(tree, f"{stage}/MX"), -6),
            y_mm=number(element_text(tree, f"{stage}/MY"), -6),
            z_mm=number(element_text(tree, f"{stage}/MZ"), -6),
            tilt_deg=number(element_text(tree, f"{stage}/TX")),
        ),
        acquired=iso_moment(element_text(tree, "DateTime")),
        verbatim={_KEY: tree},
    )


def _calibration(tree: Mapping[str, Any], magnification: float | None, image_size: ImageSize) -> Calibration:
    """Return the calibration of the image, in lengths on the sample."""
    across, down = (
        positive(number(element_text(tree, f"{_IMAGE}/PixelsPerMeter/{name}"))) for name in ("Horizontal", "Vertical")
    )
    if magnification is None or across is None:
        return Calibration()
    scale = 1e9 / magnification  # length on the sample in nanometres that is imaged onto one metre of the camera
    return image_size.calibrated(
        positive(scale / across),
        pixel_height_nm=positive(scale / down) if down else None,
        saved_width=count(element_text(tree, f"{_IMAGE}/ImageSize/Width")),
    )


READER = VendorReader(
    "JEOL",
    text=VendorText(_is_text, _read),
    mapped=(
        MappedValue("instrument", "Instruments"),
        MappedValue("beam_energy_kev", "ElectronGun/AccelerationVoltage", "V"),
        MappedValue(
            "magnification", "ImageFormingSystem/SelectorValue; not in diffraction patterns and scanned images"
        ),
        MappedValue(
            "pixel_width_nm", "PixelsPerMeter/Horizontal and the magnification", "pixels per metre of the camera"
        ),
        MappedValue(
            "pixel_height_nm", "PixelsPerMeter/Vertical and the magnification", "pixels per metre of the camera"
        ),
        MappedValue("field_width_um", "pixel width multiplied by the width of the image"),
        MappedValue("detector", "ImageSourceDetector"),
        MappedValue("stage.x_mm", "GonioStage/StagePosition/MX", "nm"),
        MappedValue("stage.y_mm", "GonioStage/StagePosition/MY", "nm"),
        MappedValue("stage.z_mm", "GonioStage/StagePosition/MZ", "nm"),
        MappedValue("stage.tilt_deg", "GonioStage/StagePosition/TX", "degrees"),
        MappedValue("acquired", "DateTime"),
    ),
    checked=(
        "Three real files of a JEM-ARM200F whose pixels were replaced. The values are the same as those of HyperSpy"
        " 1.7.6. pynxtools-em has no reader for this format."
    ),
)
