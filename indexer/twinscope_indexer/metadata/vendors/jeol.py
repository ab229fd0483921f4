"""JEOL: the text file ``NAME.txt`` in the folder of the image, or the same text in a TIFF tag.

Each line consists of a key, a space and a value. A key starts with ``$CM_`` for common values, with ``$SM_`` or
``$$SM_`` for values of scanning microscopes, or with ``$$EM_`` for values of transmission microscopes. Other lines, for
example a title, can stand before or between these lines. The tags are 270 (ImageDescription), which contains the same
lines, and 37500, which contains the word ``UNICODE`` and then ``key=value`` with tabs between them. There is no public
specification.

Sources: The keys and units were compared with four public programs. D. John's Fiji plugin was used for the stage
position ``x y z rotation tilt`` and the scale bar. The RDE template of NIMS, Japan, was used for the units of
CM_FIELD_OF_VIEW, CM_PIXEL_SIZE and the stage. The program nomad-em-parser was used for the form ``X=.., Y=..`` of
CM_STAGE_POSITION. The program pynxtools-em was used for tag 37500, for CM_ACCEL_VOLTAGE and for the keys of
transmission microscopes. A comment in pynxtools-em says that the unit of the stage position in tag 37500 is uncertain.
Therefore, Twinscope does not read this position.
"""

from __future__ import annotations

import re
from dataclasses import replace

from twinscope_indexer.metadata.calibration import Calibration, ImageSize
from twinscope_indexer.metadata.model import InstrumentMetadata, StagePosition
from twinscope_indexer.metadata.quantity import LENGTH, VOLTAGE, moment, number, positive, quantity, size, words
from twinscope_indexer.metadata.text import decode, lines
from twinscope_indexer.metadata.vendor import MappedValue, TagValue, VendorReader, VendorTag, VendorText

_LINE = re.compile(r"(\$\$?[A-Z]{2,4}_[^\s=]{1,80})(?:\s*=\s*|\s+|$)(.*)", re.ASCII)
_FIRST = re.compile(r"([+-]?[\d.,]+(?:[eE][+-]?\d+)?)\s*([^\W\d]{0,3})")  # a number, and its unit if there is one
_TAGGED = b"UNICODE"
_FINEST_CAMERA = 1e7  # pixels per metre; no camera has pixels of 100 nm, so such a number refers to the sample


def _is_text(text: str) -> bool:
    """Check whether the text contains keys of JEOL.

    One key at the start of the text is enough. After other lines, two keys are required.
    """
    found = [_LINE.fullmatch(line.strip()) is not None for line in lines(text.strip())]
    return "$CM_" in text and (found[0] or sum(found) > 1)


def _read(text: str, image_size: ImageSize) -> InstrumentMetadata:
    """Read the metadata from the text.

    The pixel size is CM_PIXEL_SIZE, and the field width is CM_FIELD_OF_VIEW. If both keys are missing, the pixel size
    is SM_MICRON_MARKER divided by SM_MICRON_BAR. These are the physical length of the scale bar and its length in
    pixels. If they are missing too, the pixel size comes from EM_PIXELSPERMETER_X and _Y, if these numbers are so large
    that they cannot refer to the camera. The size of the scanned field is CM_FULL_SIZE, CM_IMAGE_SIZE or CM_FRAME_SIZE.
    The rows below the field are the info bar. A diffraction pattern has neither a scale nor a magnification.
    """
    verbatim = _verbatim(text)
    values = {key.lstrip("$"): value for key, value in verbatim.items()}
    stored = next(filter(None, (size(values.get(f"CM_{kind}_SIZE")) for kind in ("FULL", "IMAGE", "FRAME"))), None)
    signal = words(values.get("CM_SIGNAL") or values.get("CM_SIGNAL_NAME"))
    diffraction = signal is not None and signal.upper().startswith("DIFF")
    calibration = Calibration() if diffraction else _calibration(values, stored, image_size)
    voltage = values.get("CM_ACCEL_VOLT") or values.get("CM_ACCEL_VOLTAGE")
    return InstrumentMetadata(
        vendor="JEOL",
        instrument=words(values.get("CM_INSTRUMENT")),
        beam_energy_kev=positive(quantity(voltage, VOLTAGE, -3, unit="kV")),
        working_distance_mm=positive(quantity(values.get("SM_WD"), LENGTH, 3, unit="mm")),
        magnification=None if diffraction else positive(number(values.get("CM_MAG"))),
        **calibration._asdict(),
        detector=signal,
        stage=_stage(values.get("CM_STAGE_POS") or values.get("CM_STAGE_POSITION") or ""),
        acquired=moment(values.get("CM_DATE"), values.get("CM_TIME"), slashes="month"),
        data_bar_px=image_size.rows_below(stored),
        verbatim={"JEOL": verbatim},
    )


def _read_tag(tag: TagValue) -> InstrumentMetadata:
    """Read the value of tag 37500. If another manufacturer wrote the value, the result is empty."""
    if not tag.data.startswith(_TAGGED):
        return InstrumentMetadata()
    text = decode(tag.data.removeprefix(_TAGGED).removeprefix(b"\0")).replace("\t", "\n")
    if not _is_text(text):
        return InstrumentMetadata()
    return replace(_read(text, tag.image_size), stage=StagePosition(), verbatim={tag.key: _verbatim(text)})


def _verbatim(text: str) -> dict[str, str]:
    """Return the keys with their values. If a text contains a key twice, the last value is used."""
    found = (_LINE.fullmatch(line.strip()) for line in lines(text))
    return {line[1]: line[2].strip() for line in found if line}


def _calibration(values: dict[str, str], stored: tuple[int, int] | None, image_size: ImageSize) -> Calibration:
    field = _length(values.get("CM_FIELD_OF_VIEW"), 6)
    pixel = _length(values.get("CM_PIXEL_SIZE"), 9)
    height = None
    if pixel is None and field is None:
        marker = positive(quantity(values.get("SM_MICRON_MARKER"), LENGTH, 9))
        bar = positive(number(values.get("SM_MICRON_BAR")))
        pixel = marker / bar if marker and bar else None
    if pixel is None and field is None:
        across, down = (number(values.get(f"EM_PIXELSPERMETER_{axis}")) for axis in "XY")
        pixel, height = (1e9 / found if found and found >= _FINEST_CAMERA else None for found in (across, down))
    return image_size.calibrated(
        pixel, field, pixel_height_nm=height if pixel else None, saved_width=stored[0] if stored else None
    )


def _length(text: str | None, shift: int) -> float | None:
    """Read the first length of a text such as ``16.0 12.0`` or ``4.2nm 4.2nm``. The default unit is µm."""
    found = _FIRST.match(text or "")
    return positive(quantity(f"{found[1]} {found[2]}", LENGTH, shift, unit="um")) if found else None


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


READER = VendorReader(
    "JEOL",
    tags=(VendorTag(37500, "JEOL_MAKER_NOTE", _read_tag),),
    text=VendorText(_is_text, _read, beside=("{stem}.txt", "{stem}.TXT")),
    mapped=(
        MappedValue("instrument", "CM_INSTRUMENT"),
        MappedValue("beam_energy_kev", "CM_ACCEL_VOLT, or else CM_ACCEL_VOLTAGE", "kV"),
        MappedValue("working_distance_mm", "SM_WD", "mm"),
        MappedValue("magnification", "CM_MAG; not in diffraction patterns"),
        MappedValue(
            "pixel_width_nm",
            "CM_PIXEL_SIZE, or else SM_MICRON_MARKER divided by SM_MICRON_BAR, or else EM_PIXELSPERMETER_X if it "
            "is at least 10 000 000 and thus refers to the sample",
            "µm; marker: written",
        ),
        MappedValue("pixel_height_nm", "EM_PIXELSPERMETER_Y, or else the same as pixel_width_nm"),
        MappedValue("field_width_um", "CM_FIELD_OF_VIEW", "µm"),
        MappedValue("detector", "CM_SIGNAL, or else CM_SIGNAL_NAME"),
        MappedValue("stage.x_mm", "CM_STAGE_POS or CM_STAGE_POSITION; not in TIFF tag 37500", "mm"),
        MappedValue("stage.y_mm", "the same keys", "mm"),
        MappedValue("stage.z_mm", "the same keys", "mm"),
        MappedValue("stage.rotation_deg", "the same keys", "degrees"),
        MappedValue("stage.tilt_deg", "the same keys", "degrees"),
        MappedValue("acquired", "CM_DATE and CM_TIME; the month comes first in 03/12/2019"),
        MappedValue("data_bar_px", "rows of pixels below CM_FULL_SIZE, CM_IMAGE_SIZE or CM_FRAME_SIZE", "pixels"),
    ),
    checked=(
        "Only files that were made for the tests, from published texts. pynxtools-em 0.4.6 reads the same values "
        "from them, with two differences. It reads the stage position in tag 37500 in micrometres, but its source "
        "calls this unit uncertain. It does not read the scale of transmission microscopes."
    ),
)
