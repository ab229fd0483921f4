"""FEI and Thermo Fisher: TIFF tags 34680 (FEI_SFEG) and 34682 (FEI_HELIOS).

The value of each tag is INI text. Values are in SI units: volts, metres, radians. In the section ``[Beam]``, the key
``Beam`` is the name of the section for the beam in use (``EBeam`` or ``IBeam``). The key ``Scan`` is the name of the
section for the scan of this beam, for example ``EScan``.

Sources: The names of the tags and the format are from tifffile (`read_fei_metadata`). The units are from RosettaSciIO's
TIFF reader. Two rules were found by comparison of the metadata with the info bars in images. First, the scanned field
has ``[Image] ResolutionY`` rows, and the rows below it are the info bar. Second, the magnification is
``MagCanvasRealWidth`` divided by the field width. ``MagCanvasRealWidth`` is the width of the displayed image (the
canvas) for which the magnification is valid.
"""

from __future__ import annotations

from collections.abc import Mapping

from twinscope_indexer.metadata.calibration import ImageSize, agree
from twinscope_indexer.metadata.model import InstrumentMetadata, StagePosition
from twinscope_indexer.metadata.quantity import count, degrees, moment, number, positive, words
from twinscope_indexer.metadata.text import decode, parse_ini
from twinscope_indexer.metadata.vendor import TagValue, VendorReader, VendorTag

_Sections = Mapping[str, Mapping[str, str]]


def _read(tag: TagValue) -> InstrumentMetadata:
    """Read the value of the tag. If the value is not INI text, the result is empty.

    The normalised values come from these keys:

    - instrument: [System] SystemType
    - beam energy: HV in [Beam] and in the section of the beam in use
    - working distance: WD in the section of the beam in use, or else [Stage] WorkingDistance
    - magnification: MagCanvasRealWidth divided by the field width
    - pixel size: [Scan] PixelWidth and PixelHeight
    - field width: [Scan] HorFieldsize, or else HFW in the section of the beam in use
    - detector: [Detectors] Name and Mode; for example, Mode is ``ABS A`` for a detector with several signals, and the
      word ``None`` for a camera
    - stage: [Stage] StageX, StageY, StageZ, StageR and StageT
    - date: [PrivateFei] TimeOfCreation if its order of day and month is clear, or else [User] Date and Time
    - info bar: [PrivateFei] DatabarHeight, and the number of rows below [Image] ResolutionY
    """
    sections = parse_ini(decode(tag.data))
    if not sections:
        return InstrumentMetadata()
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
        vendor="FEI",
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
        verbatim={tag.key: sections},
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


READER = VendorReader("FEI", tags=(VendorTag(34680, "FEI_SFEG", _read), VendorTag(34682, "FEI_HELIOS", _read)))
