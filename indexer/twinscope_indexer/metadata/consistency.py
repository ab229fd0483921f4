"""Whether the metadata of two images contradict each other."""

from __future__ import annotations

import math
from collections.abc import Iterator

from twinscope_indexer.metadata.calibration import agree
from twinscope_indexer.metadata.model import InstrumentMetadata
from twinscope_indexer.metadata.registry import CAMERA_MAKERS

_ENERGY_TOLERANCE = 0.05  # relative


# More than the backlash of a stage, its drift, and setting the eucentric height anew, which are micrometres to some
# tens of them; less than between two specimens, or two working distances, which are set to tenths of a millimetre.
_HEIGHT_TOLERANCE_MM = 0.1


# Some makers write whole degrees, others hundredths. At 1° the corners of a field move by 1 % of its width when it is
# turned, and at 45° it is foreshortened by another 2 % when it is tilted: as much as scales may differ.
_ANGLE_TOLERANCE = 1.0


def contradictions(
    a: InstrumentMetadata, b: InstrumentMetadata, *, width_a: int | None = None, width_b: int | None = None
) -> list[str]:
    """List why two files cannot show the same acquisition.

    They cannot if another make of microscope, another detector, or a beam energy that differs by more than 5 % was
    used; if the stage stood farther apart than the wider of the two fields, more than 0.1 mm higher, or was tilted or
    turned by more than 1° against the other; or if both the size of a pixel and the width of the field differ by more
    than 2 %. Both, as a picture that was scaled as a whole has kept its field, and one that was cut its pixels. What
    is not known of either is no reason.

    Parameters
    ----------
    a, b : InstrumentMetadata
    width_a, width_b : int, optional
        Widths of the two pictures in pixels, from which the fields follow; by default the fields are taken as they
        were read.

    Returns
    -------
    list of str
        Reasons, for people; empty if nothing speaks against it.
    """
    return [
        *_other_make(a, b),
        *_other_detector(a, b),
        *_other_energy(a, b),
        *_other_scale(a, b, _field(a, width_a), _field(b, width_b)),
        *_other_place(a, b, _field(a, width_a), _field(b, width_b)),
        *_other_pose(a, b),
    ]


def _field(metadata: InstrumentMetadata, width: int | None) -> float | None:
    """Width of the field in micrometres."""
    if width is not None and metadata.pixel_width_nm is not None:
        return metadata.pixel_width_nm * width / 1000
    return metadata.field_width_um


def _makes_differ(a: InstrumentMetadata, b: InstrumentMetadata) -> bool:
    """Check whether the makers of both microscopes are known, and differ."""
    return a.vendor != b.vendor and not {a.vendor, b.vendor} & {None, *CAMERA_MAKERS}


def _same_make(a: InstrumentMetadata, b: InstrumentMetadata) -> bool:
    """Check whether names and coordinates mean the same in both."""
    return a.vendor is not None and a.vendor == b.vendor


def _other_make(a: InstrumentMetadata, b: InstrumentMetadata) -> Iterator[str]:
    if _makes_differ(a, b):
        yield f"another make of microscope: {a.vendor} and {b.vendor}"


def _other_detector(a: InstrumentMetadata, b: InstrumentMetadata) -> Iterator[str]:
    if _same_make(a, b) and a.detector and b.detector and a.detector.casefold() != b.detector.casefold():
        yield f"another detector: {a.detector} and {b.detector}"


def _other_energy(a: InstrumentMetadata, b: InstrumentMetadata) -> Iterator[str]:
    one, other = a.beam_energy_kev, b.beam_energy_kev
    if one is not None and other is not None and abs(one - other) > _ENERGY_TOLERANCE * max(one, other):
        yield f"another beam energy: {one:.4g} keV and {other:.4g} keV"


def _other_scale(
    a: InstrumentMetadata, b: InstrumentMetadata, field_a: float | None, field_b: float | None
) -> Iterator[str]:
    if a.pixel_width_nm is None or b.pixel_width_nm is None or field_a is None or field_b is None:
        return
    if not agree(a.pixel_width_nm, b.pixel_width_nm) and not agree(field_a, field_b):
        yield (
            f"another scale: pixels of {a.pixel_width_nm:.4g} nm and {b.pixel_width_nm:.4g} nm, "
            f"fields {field_a:.4g} µm and {field_b:.4g} µm wide"
        )


def _other_place(
    a: InstrumentMetadata, b: InstrumentMetadata, field_a: float | None, field_b: float | None
) -> Iterator[str]:
    widest = max((field for field in (field_a, field_b) if field is not None), default=None)
    if not _same_make(a, b) or widest is None:
        return
    if a.stage.x_mm is None or a.stage.y_mm is None or b.stage.x_mm is None or b.stage.y_mm is None:
        return
    apart = 1000 * math.hypot(a.stage.x_mm - b.stage.x_mm, a.stage.y_mm - b.stage.y_mm)
    if apart > widest:
        yield f"another place: the stage stood {apart:.4g} µm apart, the field is {widest:.4g} µm wide"


def _other_pose(a: InstrumentMetadata, b: InstrumentMetadata) -> Iterator[str]:
    """Compare the axes of the stage that do not lie in its plane; what they count from is the same for one make."""
    if not _same_make(a, b):
        return
    one, other = a.stage, b.stage
    if one.z_mm is not None and other.z_mm is not None and abs(one.z_mm - other.z_mm) > _HEIGHT_TOLERANCE_MM:
        yield f"another height: the stage stood at {one.z_mm:.4g} mm and {other.z_mm:.4g} mm"
    if _turned(one.tilt_deg, other.tilt_deg):
        yield f"another tilt: the stage was tilted to {one.tilt_deg:.4g}° and {other.tilt_deg:.4g}°"
    if _turned(one.rotation_deg, other.rotation_deg):
        yield f"another rotation: the stage was turned to {one.rotation_deg:.4g}° and {other.rotation_deg:.4g}°"


def _turned(one: float | None, other: float | None) -> bool:
    """Check whether two angles are known and differ; 359.9° and 0° do not."""
    if one is None or other is None or not (math.isfinite(one) and math.isfinite(other)):
        return False
    # each for itself first: the difference of two huge numbers may be no number
    apart = math.remainder(math.remainder(one, 360) - math.remainder(other, 360), 360)
    return abs(apart) > _ANGLE_TOLERANCE
