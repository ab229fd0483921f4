"""JEOL: the text file ``NAME.txt`` in the folder of the image, or the same text in TIFF tag 270 (ImageDescription).

Each line consists of a key, a space and a value. A key starts with ``$CM_`` for common values, or with ``$SM_`` or
``$$SM_`` for values of scanning microscopes. There is no public specification.

The keys and units were compared with three public programs. D. John's Fiji plugin was used for the stage position ``x y
z rotation tilt`` and the scale bar. The RDE template of NIMS, Japan, was used for the units of CM_FIELD_OF_VIEW,
CM_PIXEL_SIZE and the stage. The program nomad-em-parser was used for the form ``X=.., Y=..`` of CM_STAGE_POSITION.
"""

from __future__ import annotations

import re

from twinscope_indexer.metadata.calibration import Calibration, ImageSize
from twinscope_indexer.metadata.model import InstrumentMetadata, StagePosition
from twinscope_indexer.metadata.quantity import LENGTH, VOLTAGE, moment, number, positive, quantity, size, words
from twinscope_indexer.metadata.text import lines
from twinscope_indexer.metadata.vendor import VendorReader, VendorText

_KEY = re.compile(r"\$\$?[A-Z]{2}_\S{1,80}", re.ASCII)


def _is_text(text: str) -> bool:
    return text.lstrip().startswith("$CM_")


def _read(text: str, image_size: ImageSize) -> InstrumentMetadata:
    """Read the metadata from the text.

    The normalised values come from the keys CM_INSTRUMENT, CM_ACCEL_VOLT (kV), SM_WD (mm), CM_MAG, CM_SIGNAL or else
    CM_SIGNAL_NAME, CM_STAGE_POS or else CM_STAGE_POSITION (mm and degrees), CM_DATE and CM_TIME.

    The pixel size is CM_PIXEL_SIZE (µm), and the field width is CM_FIELD_OF_VIEW (µm). If both keys are missing, the
    pixel size is SM_MICRON_MARKER divided by SM_MICRON_BAR. These are the physical length of the scale bar and its
    length in pixels. The size of the scanned field is CM_FULL_SIZE, or else CM_IMAGE_SIZE. The rows below the field are
    the info bar.
    """
    values = _values(text)
    stored = size(values.get("CM_FULL_SIZE")) or size(values.get("CM_IMAGE_SIZE"))
    return InstrumentMetadata(
        vendor="JEOL",
        instrument=words(values.get("CM_INSTRUMENT")),
        beam_energy_kev=positive(quantity(values.get("CM_ACCEL_VOLT"), VOLTAGE, -3, unit="kV")),
        working_distance_mm=positive(quantity(values.get("SM_WD"), LENGTH, 3, unit="mm")),
        magnification=positive(number(values.get("CM_MAG"))),
        **_calibration(values, stored, image_size)._asdict(),
        detector=words(values.get("CM_SIGNAL") or values.get("CM_SIGNAL_NAME")),
        stage=_stage(values.get("CM_STAGE_POS") or values.get("CM_STAGE_POSITION") or ""),
        acquired=moment(values.get("CM_DATE"), values.get("CM_TIME"), slashes="month"),
        data_bar_px=image_size.rows_below(stored),
        verbatim={"JEOL": _verbatim(text)},
    )


def _verbatim(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in filter(str.strip, lines(text)):
        key, *value = line.split(maxsplit=1)
        if _KEY.fullmatch(key):
            found[key] = value[0].strip() if value else ""
    return found


def _values(text: str) -> dict[str, str]:
    """Return the value of every key. The ``$`` or ``$$`` at the beginning of a key is removed."""
    return {key.lstrip("$"): value for key, value in _verbatim(text).items()}


def _calibration(values: dict[str, str], stored: tuple[int, int] | None, image_size: ImageSize) -> Calibration:
    field = positive(number(values.get("CM_FIELD_OF_VIEW", "").partition(" ")[0]))
    pixel = positive(quantity(values.get("CM_PIXEL_SIZE"), LENGTH, 9, unit="um"))
    if pixel is None and field is None:
        marker = positive(quantity(values.get("SM_MICRON_MARKER"), LENGTH, 9))
        bar = positive(number(values.get("SM_MICRON_BAR")))
        pixel = marker / bar if marker and bar else None
    return image_size.calibrated(pixel, field, saved_width=stored[0] if stored else None)


def _stage(text: str) -> StagePosition:
    """Read a stage position in the form ``x y z rotation tilt`` or ``X=.., Y=.., R=.., Z=.., T=..``."""
    if len(text) > 200:
        return StagePosition()
    axes = dict(re.findall(r"([XYZRT])\s*=\s*([^,\s]+)", text)) or dict(zip("XYZRT", text.split(), strict=False))
    return StagePosition(
        x_mm=number(axes.get("X")),
        y_mm=number(axes.get("Y")),
        z_mm=number(axes.get("Z")),
        rotation_deg=number(axes.get("R")),
        tilt_deg=number(axes.get("T")),
    )


READER = VendorReader("JEOL", text=VendorText(_is_text, _read, beside=("{stem}.txt", "{stem}.TXT")))
