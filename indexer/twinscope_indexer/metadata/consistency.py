"""Contradictions between the instrument metadata of two images."""

from __future__ import annotations

import math
from collections.abc import Iterator

from twinscope_indexer.metadata.calibration import agree
from twinscope_indexer.metadata.model import InstrumentMetadata
from twinscope_indexer.metadata.registry import CAMERA_MAKERS

ENERGY_TOLERANCE = 0.05
"""Maximum relative difference of two beam energies that count as equal."""


# Backlash and drift of a stage are smaller than this tolerance. If the eucentric height is set repeatedly, its scatter
# (from micrometres to some tens of micrometres) is also smaller. Height differences between two specimens are larger.
# Differences between two working distances, which are set in tenths of a millimetre, are larger, too.
HEIGHT_TOLERANCE_MM = 0.1
"""Maximum difference of two stage heights that count as equal, in millimetres."""


# Some manufacturers write whole degrees, others write hundredths of a degree. A rotation by 1° moves the corners of a
# field by 1 % of the field width. If a tilt of 45° is increased by 1°, the field is shortened by another 2 %. The
# tolerance for pixel sizes and field widths is also 2 %.
ANGLE_TOLERANCE = 1.0
"""Maximum difference of two tilts or rotations of a stage that count as equal, in degrees."""


def contradictions(
    a: InstrumentMetadata, b: InstrumentMetadata, *, width_a: int | None = None, width_b: int | None = None
) -> list[str]:
    """Return the reasons why two files cannot show the same acquisition.

    The possible reasons are:

    - microscopes of different manufacturers, or different detectors
    - beam energies that differ by more than 5 %
    - stage positions whose distance is larger than the larger of the two field widths
    - stage heights that differ by more than 0.1 mm
    - tilts or rotations of the stage that differ by more than 1°
    - pixel sizes that differ by more than 2 % and field widths that also differ by more than 2 %

    If only the pixel size or only the field width differs, there is no contradiction. Scaling an image changes only its
    pixel size, and cropping an image changes only its field width. An unknown value never contradicts another value.

    Parameters
    ----------
    a, b : InstrumentMetadata
        Metadata of the two files.
    width_a, width_b : int, optional
        Widths of the two images in pixels. The field widths are computed from these widths. By default, the field
        widths are taken from the metadata.

    Returns
    -------
    list of str
        Reasons as readable text. The list is empty if the metadata do not contradict each other.
    """
    return [
        *_different_makes(a, b),
        *_different_detectors(a, b),
        *_different_energies(a, b),
        *_different_scales(a, b, _field(a, width_a), _field(b, width_b)),
        *_different_positions(a, b, _field(a, width_a), _field(b, width_b)),
        *_different_poses(a, b),
    ]


def _field(metadata: InstrumentMetadata, width: int | None) -> float | None:
    """Return the width of the field in micrometres."""
    if width is not None and metadata.pixel_width_nm is not None:
        return metadata.pixel_width_nm * width / 1000
    return metadata.field_width_um


def _makes_differ(a: InstrumentMetadata, b: InstrumentMetadata) -> bool:
    """Return True if the manufacturers of both microscopes are known and different."""
    return a.vendor != b.vendor and not {a.vendor, b.vendor} & {None, *CAMERA_MAKERS}


def _same_make(a: InstrumentMetadata, b: InstrumentMetadata) -> bool:
    """Check whether both microscopes have the same manufacturer.

    Detector names and stage coordinates are comparable only between microscopes of one manufacturer.
    """
    return a.vendor is not None and a.vendor == b.vendor


def _different_makes(a: InstrumentMetadata, b: InstrumentMetadata) -> Iterator[str]:
    if _makes_differ(a, b):
        yield f"different manufacturers: {a.vendor} and {b.vendor}"


def _different_detectors(a: InstrumentMetadata, b: InstrumentMetadata) -> Iterator[str]:
    if _same_make(a, b) and a.detector and b.detector and a.detector.casefold() != b.detector.casefold():
        yield f"different detectors: {a.detector} and {b.detector}"


def _different_energies(a: InstrumentMetadata, b: InstrumentMetadata) -> Iterator[str]:
    one, other = a.beam_energy_kev, b.beam_energy_kev
    if one is not None and other is not None and abs(one - other) > ENERGY_TOLERANCE * max(one, other):
        yield f"different beam energies: {one:.4g} keV and {other:.4g} keV"


def _different_scales(
    a: InstrumentMetadata, b: InstrumentMetadata, field_a: float | None, field_b: float | None
) -> Iterator[str]:
    if a.pixel_width_nm is None or b.pixel_width_nm is None or field_a is None or field_b is None:
        return
    if not agree(a.pixel_width_nm, b.pixel_width_nm) and not agree(field_a, field_b):
        yield (
            f"different scales: pixels of {a.pixel_width_nm:.4g} nm and {b.pixel_width_nm:.4g} nm, "
            f"fields {field_a:.4g} µm and {field_b:.4g} µm wide"
        )


def _different_positions(
    a: InstrumentMetadata, b: InstrumentMetadata, field_a: float | None, field_b: float | None
) -> Iterator[str]:
    widest = max((field for field in (field_a, field_b) if field is not None), default=None)
    if not _same_make(a, b) or widest is None:
        return
    if a.stage.x_mm is None or a.stage.y_mm is None or b.stage.x_mm is None or b.stage.y_mm is None:
        return
    apart = 1000 * math.hypot(a.stage.x_mm - b.stage.x_mm, a.stage.y_mm - b.stage.y_mm)
    if apart > widest:
        yield f"different stage positions: {apart:.4g} µm apart, but the field is {widest:.4g} µm wide"


def _different_poses(a: InstrumentMetadata, b: InstrumentMetadata) -> Iterator[str]:
    """Compare the height, tilt and rotation of the stage, if both microscopes have the same manufacturer.

    The zero points of height, tilt and rotation are the same for all microscopes of one manufacturer.
    """
    if not _same_make(a, b):
        return
    one, other = a.stage, b.stage
    if one.z_mm is not None and other.z_mm is not None and abs(one.z_mm - other.z_mm) > HEIGHT_TOLERANCE_MM:
        yield f"different stage heights: {one.z_mm:.4g} mm and {other.z_mm:.4g} mm"
    if _angles_differ(one.tilt_deg, other.tilt_deg):
        yield f"different stage tilts: {one.tilt_deg:.4g}° and {other.tilt_deg:.4g}°"
    if _angles_differ(one.rotation_deg, other.rotation_deg):
        yield f"different stage rotations: {one.rotation_deg:.4g}° and {other.rotation_deg:.4g}°"


def _angles_differ(one: float | None, other: float | None) -> bool:
    """Return True if both angles are known and differ by more than 1°. The angles 359.9° and 0° differ by 0.1°."""
    if one is None or other is None or not (math.isfinite(one) and math.isfinite(other)):
        return False
    # Reduce each angle to one turn first. Otherwise, the difference of two very large numbers can overflow.
    apart = math.remainder(math.remainder(one, 360) - math.remainder(other, 360), 360)
    return abs(apart) > ANGLE_TOLERANCE
