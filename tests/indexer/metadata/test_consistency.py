"""Contradictions between the metadata of two images."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metadata_strategies import METADATA
from twinscope_indexer.metadata import InstrumentMetadata, StagePosition, contradictions

RECORDED = InstrumentMetadata(
    vendor="FEI",
    beam_energy_kev=10.0,
    pixel_width_nm=100.0,
    pixel_height_nm=100.0,
    field_width_um=102.4,
    detector="ETD",
    stage=StagePosition(1.0, 2.0, 5.0, 0.0, 0.0),
)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"detector": "TLD"}, "different detectors: ETD and TLD"),
        ({"beam_energy_kev": 10.6}, "different beam energies: 10 keV and 10.6 keV"),
        ({"vendor": "Zeiss"}, "different manufacturers: FEI and Zeiss"),
        ({"pixel_width_nm": 97.0, "field_width_um": 99.3}, "different scales: pixels of 100 nm and 97 nm"),
        ({"stage": StagePosition(1.0, 2.103)}, "different stage positions: 103 µm apart, but the field is"),
        ({"stage": StagePosition(1.08, 2.08)}, "different stage positions: 113.1 µm apart, but the field is"),
        ({"stage": StagePosition(1.0, 2.0, 5.11, 0.0, 0.0)}, "different stage heights: 5 mm and 5.11 mm"),
        ({"stage": StagePosition(z_mm=4.0)}, "different stage heights: 5 mm and 4 mm"),
        ({"stage": StagePosition(1.0, 2.0, 5.0, 0.0, -1.1)}, "different stage tilts: 0° and -1.1°"),
        ({"stage": StagePosition(tilt_deg=45.0)}, "different stage tilts: 0° and 45°"),
        ({"stage": StagePosition(1.0, 2.0, 5.0, 90.0)}, "different stage rotations: 0° and 90°"),
        ({"stage": StagePosition(rotation_deg=358.0)}, "different stage rotations: 0° and 358°"),
        ({"stage": StagePosition(rotation_deg=180.0)}, "different stage rotations: 0° and 180°"),
    ],
)
def test_reasons(change: dict[str, object], reason: str) -> None:
    (found,) = contradictions(RECORDED, replace(RECORDED, **change))
    assert found.startswith(reason)


@pytest.mark.parametrize(
    "change",
    [
        {"detector": "etd"},
        {"beam_energy_kev": 10.4},
        {"vendor": "Olympus-SIS", "detector": "Veleta", "stage": StagePosition(9.0, 9.0)},
        {"pixel_width_nm": 98.5, "field_width_um": 100.9},
        {"pixel_width_nm": 50.0},  # scaled as a whole
        {"field_width_um": 51.2},  # cropped
        {"stage": StagePosition(1.0, 2.102)},
        {"stage": StagePosition(1.0, 2.0, 5.09, 0.9, -0.9)},  # drift, and rounding to whole degrees
        {"stage": StagePosition(1.0, 2.0, 5.0, 359.5, 0.0)},
        {"stage": StagePosition(1.0, 2.0, 5.0, -720.0, 0.0)},
        {"stage": StagePosition()},
        {"vendor": None, "stage": StagePosition(1.0, 2.0, 9.0, 90.0, 45.0)},  # perhaps in another coordinate system
        {"magnification": 5.0, "working_distance_mm": 9.0, "acquired": "2020-01-01"},
    ],
)
def test_differences_that_are_no_reason(change: dict[str, object]) -> None:
    assert contradictions(RECORDED, replace(RECORDED, **change)) == []


def test_a_stage_may_differ_in_several_ways() -> None:
    moved = replace(RECORDED, stage=StagePosition(9.0, 2.0, 9.0, 90.0, 45.0))
    assert kinds(contradictions(RECORDED, moved)) == {
        "different stage positions",
        "different stage heights",
        "different stage tilts",
        "different stage rotations",
    }
    unscaled = replace(RECORDED, pixel_width_nm=None, field_width_um=None)
    assert kinds(contradictions(unscaled, replace(unscaled, stage=moved.stage))) == {
        "different stage heights",
        "different stage tilts",
        "different stage rotations",
    }


def test_huge_angles_are_compared() -> None:
    far = [replace(RECORDED, stage=StagePosition(rotation_deg=angle, tilt_deg=angle)) for angle in (1.7e308, -1.7e308)]
    assert kinds(contradictions(*far)) <= {"different stage tilts", "different stage rotations"}


def test_image_widths_determine_the_field() -> None:
    half = replace(RECORDED, pixel_width_nm=200.0, field_width_um=None)
    assert contradictions(RECORDED, half, width_a=1024, width_b=512) == []
    (reason,) = contradictions(RECORDED, half, width_a=1024, width_b=1024)
    assert reason == "different scales: pixels of 100 nm and 200 nm, fields 102.4 µm and 204.8 µm wide"
    far = replace(RECORDED, stage=StagePosition(1.15, 2.0))
    assert contradictions(RECORDED, far, width_a=2048, width_b=2048) == []
    assert len(contradictions(RECORDED, far, width_a=1024, width_b=1024)) == 1


def test_the_wider_field_limits_the_stage_distance() -> None:
    wide = replace(RECORDED, pixel_width_nm=200.0, field_width_um=204.8, stage=StagePosition(1.15, 2.0))
    assert [reason.partition(":")[0] for reason in contradictions(RECORDED, wide)] == ["different scales"]


def kinds(reasons: list[str]) -> set[str]:
    return {reason.partition(":")[0] for reason in reasons}


@given(METADATA, METADATA, st.sampled_from([item.name for item in fields(InstrumentMetadata)]))
def test_contradictions_are_symmetric_and_ignore_missing_values(
    a: InstrumentMetadata, b: InstrumentMetadata, missing: str
) -> None:
    assert kinds(contradictions(a, b)) == kinds(contradictions(b, a))
    assert contradictions(a, a) == []
    assert contradictions(a, InstrumentMetadata()) == []
    if missing != "field_width_um":  # the field width limits the accepted distance of the stage positions
        less = replace(b, **{missing: getattr(InstrumentMetadata(), missing)})
        assert kinds(contradictions(a, less)) <= kinds(contradictions(a, b))
