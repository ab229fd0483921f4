"""FEI and Thermo Fisher: TIFF tags 34680 (FEI_SFEG) and 34682 (FEI_HELIOS).

INI text in SI units: volts, metres, radians. ``[Beam]`` names the section of the beam in use (``Beam=EBeam`` or
``IBeam``) and of its scan (``Scan=EScan``). Sources: tifffile (`read_fei_metadata`) for the names of the tags and the
format, RosettaSciIO's TIFF reader for the units. Two rules come from a comparison of files with the info bars in their
images: the info bar is the rows of the image beyond ``[Image] ResolutionY``, and the magnification is
``MagCanvasRealWidth``, the width of the canvas that it refers to, divided by the field width.
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
    """Read the value of the tag; empty for other text.

    The normalised values are [System] SystemType; HV of [Beam] and of the section of the beam in use; WD of that
    section, else [Stage] WorkingDistance; MagCanvasRealWidth divided by HorFieldsize; [Scan] PixelWidth, PixelHeight
    and HorFieldsize, else HFW of the beam; [Detectors] Name with Mode (``ABS A``: detectors with several signals;
    ``None``: cameras); [Stage] StageX, Y, Z, R and T; [PrivateFei] TimeOfCreation, which has a known order of day and
    month, else [User] Date and Time; [PrivateFei] DatabarHeight and the rows below [Image] ResolutionY.
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
    """Read a value that is written twice; None if the two differ."""
    values = [value for value in (positive(number(one)), positive(number(other))) if value is not None]
    if not values or not agree(values[0], values[-1]):
        return None
    return values[0]


def _detector(name: str, mode: str) -> str | None:
    """Return the name of the signal; the mode of cameras is the word ``None``."""
    return words(name if mode == "None" else f"{name} {mode}")


def _acquired(sections: _Sections) -> str | None:
    created = _get(sections, "PrivateFei", "TimeOfCreation").partition(" ")
    return moment(created[0], created[2]) or moment(_get(sections, "User", "Date"), _get(sections, "User", "Time"))


def _data_bar(text: str, stored: tuple[int | None, int | None], image_size: ImageSize) -> int | None:
    """Return the height of the info bar; None if the written height differs from the extra rows of the image."""
    field_width, field_height = stored
    height = image_size.height
    below = None
    if field_width and field_height:
        below = image_size.rows_below((field_width, field_height))
        if below is None and height is not None and image_size.width is not None:
            return None  # the image was changed after it was saved
    written = count(text)
    if written is not None and height is not None and written >= height:
        return None
    if written is None or below is None:
        return below if written is None else written
    return written if written == below else None


READER = VendorReader("FEI", tags=(VendorTag(34680, "FEI_SFEG", _read), VendorTag(34682, "FEI_HELIOS", _read)))
