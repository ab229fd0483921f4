"""Hitachi: a file ``NAME.txt`` beside the picture, or the same text as its ImageDescription (TIFF tag 270).

INI text with one section, ``[SemImageFile]``; some instruments write it in UTF-16. Sources: Bio-Formats'
``HitachiReader`` (keys, the size of a pixel, working distance in µm, dates with the month first) and public files.
"""

from __future__ import annotations

from twinscope_indexer.metadata.model import Calibration, InstrumentMetadata, StagePosition, calibrate, rows_below
from twinscope_indexer.metadata.quantity import LENGTH, VOLTAGE, moment, number, positive, quantity, size, words
from twinscope_indexer.metadata.text import parse_ini

KEY = "SemImageFile"


def is_text(text: str) -> bool:
    """Whether a text is Hitachi's."""
    return text.lstrip().startswith(f"[{KEY}]")


def read(text: str, width: int | None, height: int | None) -> InstrumentMetadata:
    """Read the text.

    Normalised are InstructName, AcceleratingVoltage (V), WorkingDistance (µm), Magnification, PixelSize (nm),
    SignalName, StagePositionX and StagePositionY (nm), Date and Time. The units of the other axes of the stage differ
    between instruments, so they are left alone. The data bar may be drawn into the field or stand below it: its height
    is known only if the picture has more rows than DataSize tells.

    Parameters
    ----------
    text : str
    width, height : int or None
        Of the picture in pixels.

    Returns
    -------
    InstrumentMetadata
    """
    values = parse_ini(text).get(KEY, {})
    frame = size(values.get("DataSize"))
    calibration = Calibration()
    if frame is None or width is None or frame[0] == width:
        calibration = calibrate(positive(quantity(values.get("PixelSize"), LENGTH, 9, unit="nm")), None, width)
    return InstrumentMetadata(
        vendor="Hitachi",
        instrument=words(values.get("InstructName")),
        beam_energy_kev=positive(quantity(values.get("AcceleratingVoltage"), VOLTAGE, -3, unit="V")),
        working_distance_mm=positive(quantity(values.get("WorkingDistance"), LENGTH, 3, unit="um")),
        magnification=positive(number(values.get("Magnification"))),
        pixel_width_nm=calibration.pixel_width_nm,
        pixel_height_nm=calibration.pixel_height_nm,
        field_width_um=calibration.field_width_um,
        detector=words(values.get("SignalName")),
        stage=StagePosition(
            x_mm=number(values.get("StagePositionX"), -6), y_mm=number(values.get("StagePositionY"), -6)
        ),
        acquired=moment(values.get("Date"), values.get("Time"), slashes="month"),
        data_bar_px=rows_below(frame, width, height) or None,
        verbatim={KEY: values},
    )
