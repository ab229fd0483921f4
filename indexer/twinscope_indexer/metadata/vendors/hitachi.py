"""Hitachi: the text file ``NAME.txt`` in the folder of the image, or the same text in TIFF tag 270 (ImageDescription).

The file is INI text with one section, ``[SemImageFile]`` for scanning microscopes or ``[TemImageFile]`` for
transmission microscopes. Other lines, for example comments, can stand before this section. Some instruments write the
text in UTF-16 or in Shift-JIS.

Sources: Public files were used. The keys, the pixel size, the working distance in µm, and the month as first part of
dates were taken from ``HitachiReader`` of Bio-Formats. The section ``[TemImageFile]``, which has the same keys, and the
key ``Instrument name`` were taken from pynxtools-em.
"""

from __future__ import annotations

from twinscope_indexer.metadata.calibration import ImageSize
from twinscope_indexer.metadata.model import InstrumentMetadata, StagePosition
from twinscope_indexer.metadata.quantity import LENGTH, VOLTAGE, moment, number, positive, quantity, size, words
from twinscope_indexer.metadata.text import lines, parse_ini
from twinscope_indexer.metadata.vendor import MappedValue, VendorReader, VendorText

_HEADERS = {"[SemImageFile]", "[TemImageFile]"}


def _is_text(text: str) -> bool:
    return _section(text) is not None


def _section(text: str) -> str | None:
    """Return the name of the first section in the text that a Hitachi instrument wrote."""
    return next((line.strip()[1:-1] for line in lines(text) if line.strip() in _HEADERS), None)


def _read(text: str, image_size: ImageSize) -> InstrumentMetadata:
    """Read the metadata from the text.

    The other axes of the stage are ignored, because their units differ between instruments.

    The info bar can be inside the field or below the field. The height of the info bar is therefore known only if the
    image has more rows of pixels than DataSize says.
    """
    section = _section(text) or ""
    values = parse_ini(text).get(section, {})
    stored = size(values.get("DataSize"))
    pixel = positive(quantity(values.get("PixelSize"), LENGTH, 9, unit="nm"))
    return InstrumentMetadata(
        vendor="Hitachi",
        instrument=words(values.get("InstructName") or values.get("Instrument name")),
        beam_energy_kev=positive(quantity(values.get("AcceleratingVoltage"), VOLTAGE, -3, unit="V")),
        working_distance_mm=positive(quantity(values.get("WorkingDistance"), LENGTH, 3, unit="um")),
        magnification=positive(number(values.get("Magnification"))),
        **image_size.calibrated(pixel, saved_width=stored[0] if stored else None)._asdict(),
        detector=words(values.get("SignalName")),
        stage=StagePosition(
            x_mm=number(values.get("StagePositionX"), -6), y_mm=number(values.get("StagePositionY"), -6)
        ),
        acquired=moment(values.get("Date"), values.get("Time"), slashes="month"),
        data_bar_px=image_size.rows_below(stored) or None,
        verbatim={section: values},
    )


READER = VendorReader(
    "Hitachi",
    text=VendorText(_is_text, _read, beside=("{stem}.txt", "{stem}.TXT")),
    mapped=(
        MappedValue("instrument", "InstructName, or else Instrument name"),
        MappedValue("beam_energy_kev", "AcceleratingVoltage", "V, or written"),
        MappedValue("working_distance_mm", "WorkingDistance", "µm, or written"),
        MappedValue("magnification", "Magnification"),
        MappedValue("pixel_width_nm", "PixelSize", "nm"),
        MappedValue("pixel_height_nm", "the same as pixel_width_nm"),
        MappedValue("field_width_um", "PixelSize multiplied by the width of the image"),
        MappedValue("detector", "SignalName"),
        MappedValue("stage.x_mm", "StagePositionX", "nm"),
        MappedValue("stage.y_mm", "StagePositionY", "nm"),
        MappedValue("acquired", "Date and Time; the month comes first in 03/12/2019"),
        MappedValue("data_bar_px", "rows of pixels below DataSize; the bar can also be inside the field", "pixels"),
    ),
    checked=(
        "Only files that were made for the tests, from published texts. pynxtools-em 0.4.6 reads the same values "
        "from them, for `[SemImageFile]` and `[TemImageFile]`."
    ),
)
