"""Vendors whose readers were checked with few real files: Zeiss Orion, point electronic DISS, TVIPS."""

from __future__ import annotations

import io
import json
import math

import pytest
import tifffile
from twinscope_indexer.metadata.consistency import contradictions
from twinscope_indexer.metadata.model import InstrumentMetadata, StagePosition
from twinscope_indexer.metadata.reader import read_metadata
from vendor_tags import DISS, bytes_tag, diss_text, orion_text, text_tag, tiff, tvips, tvips_header

ORION_VALUES = InstrumentMetadata(
    vendor="Zeiss", instrument="NanoFab", beam_energy_kev=29.997, working_distance_mm=11.977, magnification=114300.0,
    pixel_width_nm=10.0, pixel_height_nm=11.0, field_width_um=0.64, detector="ETDetector",
    stage=StagePosition(25.15723, -1.5, 10.5, 46.2, 0.16), acquired="2025-05-27T10:32:12",
)  # fmt: skip


def orion(**changes: tuple[str, str]) -> InstrumentMetadata:
    return read_metadata(tiff(text_tag(65000, orion_text(**changes))))


def test_orion_is_normalised() -> None:
    found = orion()
    assert found.normalised == ORION_VALUES
    assert found.verbatim["ORION"]["AccelerationVoltage"] == {"Value": "29997", "Units": "V"}


@pytest.mark.parametrize("unit", ["", "parsec", "V", "s"])
def test_orion_values_without_a_known_unit_are_not_read(unit: str) -> None:
    found = orion(StageX=("25157.23", unit), WorkingDistance=("11.977", unit), ScalingX=("1e-8", unit))
    assert (found.stage.x_mm, found.working_distance_mm) == (None, None)
    assert found.pixel_width_nm == 10.0  # from the width of the field


@pytest.mark.parametrize("written", ["nan", "inf", "-1", "0", "", "9" * 5000, "1e999"])
def test_orion_numbers_that_are_invalid(written: str) -> None:
    found = orion(ScalingX=(written, "m"), Fov=(written, "um"), AccelerationVoltage=(written, "V"))
    assert (found.pixel_width_nm, found.field_width_um, found.beam_energy_kev) == (None, None, None)
    json.dumps(found.to_dict(), allow_nan=False)


def test_orion_image_that_was_scaled() -> None:
    scaled = orion(ImageWidth=("128", ""))
    assert (scaled.pixel_width_nm, scaled.field_width_um, scaled.beam_energy_kev) == (None, None, 29.997)
    assert orion(ImageWidth=("nan", ""), TimeStamp=("05/27/2025 10:32:12 AM", "")).acquired == "2025-05-27T10:32:12"


def test_other_values_of_the_orion_tag_are_ignored() -> None:
    for text in ("<ImageTag/>", "<ImageTags/>", "[LVEM]\nA=1", "", "<!DOCTYPE a><ImageTags><a/></ImageTags>"):
        assert not read_metadata(tiff(text_tag(65000, text)))


DISS_VALUES = InstrumentMetadata(
    vendor="point electronic", beam_energy_kev=15.0, working_distance_mm=8.5, magnification=5000.0, pixel_width_nm=10.0,
    pixel_height_nm=11.0, field_width_um=0.64, acquired="2021-03-03T11:31:14",
)  # fmt: skip


def diss(text: str) -> InstrumentMetadata:
    return read_metadata(tiff(bytes_tag(700, text.encode())))


def test_diss_is_normalised() -> None:
    found = diss(diss_text(DISS))
    assert found.normalised == DISS_VALUES
    description = found.verbatim["DISS"]["x:xmpmeta"]["rdf:RDF"]["rdf:Description"][1]
    assert description["d:WD"] == {"@rdf:parseType": "Resource", "rdf:value": "8.5", "d:Unit": "mm"}


def test_diss_quantities_in_other_forms() -> None:
    kilovolts = "<rdf:value>15</rdf:value><d:Unit>kV</d:Unit>"
    attributes = DISS.replace(kilovolts, '<rdf:Description rdf:value="15" d:Unit="kV"/>')
    assert diss(diss_text(attributes)).normalised == DISS_VALUES
    inside = '<d:HV d:Unit="kV">15</d:HV><d:WD d:Unit="mm">8.5</d:WD>' + DISS[DISS.index("<d:Mag>") :]
    assert diss(diss_text(inside)).normalised == DISS_VALUES
    in_metres = DISS.replace("8.5</rdf:value><d:Unit>mm", "0.0085</rdf:value><d:Unit>m")
    assert diss(diss_text(in_metres, tool="DISS 6")).normalised == DISS_VALUES


def test_diss_values_without_a_unit_are_not_read() -> None:
    found = diss(diss_text("<d:HV>15</d:HV><d:WD><rdf:value>8.5</rdf:value></d:WD><d:PixelSizeX>nan</d:PixelSizeX>"))
    assert found.normalised == InstrumentMetadata(vendor="point electronic", acquired="2021-03-03T11:31:14")


def test_xmp_of_other_programs_is_ignored() -> None:
    text = diss_text(DISS, tool="Adobe Photoshop").replace("pointelectronic", "example")
    assert not diss(text)
    bomb = diss_text("&b;").replace("<x:xmpmeta", '<!DOCTYPE a [<!ENTITY b "bbb">]><x:xmpmeta', 1)
    assert not diss(bomb)


def test_diss_never_contradicts_a_microscope() -> None:
    found = diss(diss_text(DISS))
    assert contradictions(found, InstrumentMetadata("Zeiss", beam_energy_kev=15.0)) == []


TVIPS_VALUES = InstrumentMetadata(
    vendor="TVIPS", instrument="MCL_04", beam_energy_kev=99.0, magnification=32000.0, pixel_width_nm=1.5,
    pixel_height_nm=1.75, field_width_um=0.096, detector="F416",
    stage=StagePosition(pytest.approx(0.25), pytest.approx(-0.5), pytest.approx(0.125), None, -0.5),
    acquired="2017-04-12T09:01:17",
)  # fmt: skip


@pytest.mark.parametrize("order", ["<", ">"])
def test_tvips_is_read_as_by_tifffile(order: str) -> None:
    data = tvips(order)
    found = read_metadata(data)
    assert found.normalised == TVIPS_VALUES
    kept = found.verbatim["TVIPS"]
    assert kept["ImageName"] == "Grid – 7"
    if order == "<":
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            oracle = file.tvips_metadata
        stage = {f"Stage{axis}": value for axis, value in zip("XYZAB", oracle["TemStagePosition"], strict=True)}
        assert kept == {name: value for name, value in {**oracle, **stage}.items() if name in kept}
    inside = tiff(bytes_tag(37708, tvips_header(order)), byteorder=order)
    assert read_metadata(inside) == found


def test_tvips_diffraction_patterns_have_no_scale() -> None:
    found = read_metadata(tvips(TemMode=3))
    assert (found.magnification, found.pixel_width_nm, found.field_width_um) == (None, None, None)
    assert found.beam_energy_kev == 99.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0, 0.0])
def test_tvips_numbers_that_are_invalid(bad: float) -> None:
    found = read_metadata(tvips(PixelSizeX=bad, TemHighTension=bad, TemMagnification=bad, TemStagePosition=(bad,) * 5))
    assert (found.pixel_width_nm, found.beam_energy_kev, found.magnification) == (None, None, None)
    assert found.stage.x_mm == (bad * 1000 if math.isfinite(bad) else None)
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize("change", [{"Date": 0}, {"Date": -1}, {"Time": 86400}, {"Time": -1}, {"Date": 2**31 - 1}])
def test_tvips_dates_that_are_invalid(change: dict[str, int]) -> None:
    assert read_metadata(tvips(**change)).acquired is None


def test_other_structures_of_the_tvips_tag_are_ignored() -> None:
    assert not read_metadata(tvips(Magic=1))
    assert not read_metadata(tvips(version=1))
    assert not read_metadata(tvips()[:-1])
    assert not read_metadata(tiff(bytes_tag(37708, b"\2\0\0\0")))
    assert read_metadata(tvips(ImageSizeX=128)).pixel_width_nm is None
