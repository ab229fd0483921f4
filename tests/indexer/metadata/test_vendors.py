"""Instrument metadata of every vendor: reading, plausibility, storage and comparison."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import math
import os
import pkgutil
import shutil
import struct
import subprocess
import sys
import tracemalloc
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import twinscope_indexer
from dm_tags import IMAGE_TAGS, document
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from twinscope_indexer.errors import ImageError
from twinscope_indexer.imaging.reader import read_image
from twinscope_indexer.metadata import registry
from twinscope_indexer.metadata.consistency import contradictions
from twinscope_indexer.metadata.reader import InstrumentMetadata, StagePosition, read_metadata, read_sidecar
from twinscope_indexer.metadata.text import parse_xml
from vendor_tags import (
    DISS,
    HEIGHT,
    WIDTH,
    ZEISS,
    bytes_tag,
    diss_text,
    orion_text,
    text_tag,
    tiff,
    tvips,
    zeiss_text,
)


def zeiss(encoding: str = "cp1252", **changes: str | None) -> InstrumentMetadata:
    return read_metadata(tiff(text_tag(34118, zeiss_text(**changes), encoding)))


FEI = {
    "User": {"Date": "04/03/2023", "Time": "04:47:49 PM"},
    "System": {"SystemType": "Nova NanoSEM 450", "Dnumber": "0042"},
    "Beam": {"HV": "7000", "Beam": "EBeam", "Scan": "EScan"},
    "EBeam": {"HV": "7000", "HFW": "0.0005", "WD": "0.00499405"},
    "Scan": {"PixelWidth": "7.8125e-006", "PixelHeight": "7.9e-006", "HorFieldsize": "0.0005"},
    "Image": {"ResolutionX": "64", "ResolutionY": "40", "MagCanvasRealWidth": "0.127"},
    "Stage": {"StageX": "-0.0147134", "StageY": "0.0145797", "StageZ": "0.005", "StageR": "1.5707963", "StageT": "0"},
    "Detectors": {"Number": "1", "Name": "ABS", "Mode": "A"},
    "PrivateFei": {"TimeOfCreation": "04.03.2023 16:47:49", "DatabarHeight": "8"},
}


def ini(sections: dict[str, dict[str, str]]) -> str:
    return "\r\n".join(
        line for name, values in sections.items() for line in (f"[{name}]", *map("=".join, values.items()), "")
    )


def fei_text(**changes: dict[str, str]) -> str:
    return ini({name: {**values, **changes.get(name, {})} for name, values in FEI.items()})


def fei(width: int = WIDTH, height: int = HEIGHT, **changes: dict[str, str]) -> InstrumentMetadata:
    return read_metadata(tiff(text_tag(34682, fei_text(**changes)), width=width, height=height))


TESCAN = {
    "MAIN": {
        "Company": "TESCAN",
        "Date": "2019-03-12",
        "Time": "10:22:13",
        "Device": "MIRA3 LMH",
        "ImageStripSize": "8",
        "Magnification": "5000.0",
        "PixelSizeX": "4.1e-008",
        "PixelSizeY": "4.2e-008",
    },
    "SEM": {
        "Detector": "SE",
        "HV": "15000.0",
        "StageRotation": "12.5",
        "StageTilt": "-3",
        "StageX": "0.0012",
        "StageY": "-0.0034",
        "StageZ": "0.03",
        "WD": "0.0105",
    },
}
TESCAN_VALUES = InstrumentMetadata(
    vendor="TESCAN",
    instrument="MIRA3 LMH",
    beam_energy_kev=15.0,
    working_distance_mm=10.5,
    magnification=5000.0,
    pixel_width_nm=41.0,
    pixel_height_nm=42.0,
    field_width_um=2.624,
    detector="SE",
    stage=StagePosition(1.2, -3.4, 30.0, 12.5, -3.0),
    acquired="2019-03-12T10:22:13",
    data_bar_px=8,
)


def tescan_blocks(order: str, thumbnail: bytes = b"\xff\xd8 a thumbnail \xff\xd9") -> bytes:
    texts = {2: ini({"": TESCAN["MAIN"]})[4:], 3: ini({"": TESCAN["SEM"]})[4:]}
    blocks = [(1, thumbnail), *((kind, text.encode()) for kind, text in texts.items()), (0, b"")]
    return b"".join(struct.pack(order + "IH", len(content) + 2, kind) + content for kind, content in blocks)


JEOL = """$CM_FORMAT JEOL/SEM
$CM_VERSION 1.0
$CM_COMMENT
$CM_DATE 2019/03/12
$CM_TIME 10:21:55
$CM_INSTRUMENT JSM-7800F
$CM_ACCEL_VOLT 15.00
$CM_MAG 5000
$CM_SIGNAL SEI
$CM_FULL_SIZE 64 40
$CM_STAGE_POS 57.656 15.152 10.2 11.0 -1.5 0
$$SM_MICRON_BAR 20
$$SM_MICRON_MARKER 5um
$$SM_WD 9.7
"""
JEOL_VALUES = InstrumentMetadata(
    vendor="JEOL",
    instrument="JSM-7800F",
    beam_energy_kev=15.0,
    working_distance_mm=9.7,
    magnification=5000.0,
    pixel_width_nm=250.0,
    pixel_height_nm=250.0,
    field_width_um=16.0,
    detector="SEI",
    stage=StagePosition(57.656, 15.152, 10.2, 11.0, -1.5),
    acquired="2019-03-12T10:21:55",
    data_bar_px=8,
)
HITACHI = ini(
    {
        "SemImageFile": {
            "InstructName": "SU8230",
            "Date": "03/12/2019",
            "Time": "10:22:13",
            "DataSize": "64x40",
            "PixelSize": "9.921875",
            "SignalName": "SE(U)",
            "AcceleratingVoltage": "15000 Volt",
            "Magnification": "10000",
            "WorkingDistance": "8100 um",
            "StagePositionX": "50212000",
            "StagePositionY": "-1500",
        }
    }
)
HITACHI_VALUES = InstrumentMetadata(
    vendor="Hitachi",
    instrument="SU8230",
    beam_energy_kev=15.0,
    working_distance_mm=8.1,
    magnification=10000.0,
    pixel_width_nm=9.921875,
    pixel_height_nm=9.921875,
    field_width_um=0.635,
    detector="SE(U)",
    stage=StagePosition(50.212, -0.0015),
    acquired="2019-03-12T10:22:13",
    data_bar_px=8,
)

SIGHTX = """<?xml version="1.0"?>
<TemReporter xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <Instruments>JEM-ARM200F</Instruments>
  <Manufacturer>JEOL Ltd.</Manufacturer>
  <DateTime>2019-11-27T16:11:26.6205405+09:00</DateTime>
  <Specimen />
  <ElectronGun><AccelerationVoltage>200000</AccelerationVoltage></ElectronGun>
  <Eos><EosMode>eosTEM</EosMode></Eos>
  <ImageFormingSystem>
    <ModeString>MAG</ModeString>
    <SelectorValue>150000</SelectorValue>
    <SelectorString>X150k</SelectorString>
    <SelectorUnitString>X</SelectorUnitString>
  </ImageFormingSystem>
  <GonioStage>
    <HolderInformation><Kind>SINGLE &amp; TILT</Kind></HolderInformation>
    <StagePosition>
      <MX>-1196.3</MX><MY>-384.7</MY><MZ>635.9</MZ><TX>0.1</TX><TY>-0.02</TY><PX>22.27</PX><PY>334.06</PY>
    </StagePosition>
  </GonioStage>
  <ImageSourceDetector>screenCamera</ImageSourceDetector>
  <Measurement><MeasurementFormat>
    <SaveMeasureObjectList>
      <DrawObject xsi:type="Measure_Line"><Text>237.86nm</Text></DrawObject>
      <DrawObject xsi:type="DrawTextBox"><Text>+x</Text></DrawObject>
    </SaveMeasureObjectList>
    <DrawImageInformation>
      <ImageSize><Width>64</Width><Height>48</Height></ImageSize>
      <PixelsPerMeter><Horizontal>3642</Horizontal><Vertical>3700</Vertical></PixelsPerMeter>
    </DrawImageInformation>
  </MeasurementFormat></Measurement>
</TemReporter>"""
SIGHTX_VALUES = InstrumentMetadata(
    vendor="JEOL",
    instrument="JEM-ARM200F",
    beam_energy_kev=200.0,
    magnification=150000.0,
    pixel_width_nm=pytest.approx(1.830496),
    pixel_height_nm=pytest.approx(1e9 / 3700 / 150000),
    field_width_um=pytest.approx(0.11715175),
    detector="screenCamera",
    stage=StagePosition(-0.0011963, -0.0003847, 0.0006359, None, 0.1),
    acquired="2019-11-27T16:11:26",
)


def sightx(text: str = SIGHTX, **options: int) -> InstrumentMetadata:
    return read_metadata(tiff(text_tag(270, text), **options))


def normalised(metadata: InstrumentMetadata) -> InstrumentMetadata:
    return replace(metadata, verbatim={})


# --- Zeiss


def test_zeiss_is_normalised() -> None:
    assert normalised(zeiss()) == InstrumentMetadata(
        vendor="Zeiss",
        instrument="Merlin",
        beam_energy_kev=5.0,
        working_distance_mm=8.2,
        magnification=1140.0,
        pixel_width_nm=48.83,
        pixel_height_nm=48.83,
        field_width_um=3.125,
        detector="InLens",
        stage=StagePosition(69.3945, -59.698, 47.323, 350.0, 0.0),
        acquired="2021-04-26T17:58:45",
    )


@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"bigtiff": True}, {"bigtiff": True, "byteorder": ">"}])
def test_zeiss_text_is_kept_as_written(options: dict[str, object]) -> None:
    data = tiff(text_tag(34118, zeiss_text()), **options)
    kept = read_metadata(data).verbatim["CZ_SEM"]
    assert kept == {"": ["0", "0", "0", "7.8125e-07", "1143.296"], **{key: line.strip() for key, line in ZEISS.items()}}
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        oracle = file.sem_metadata
    assert {key.lower() for key in kept} == set(oracle)
    assert all(line.startswith(oracle[key.lower()][0]) for key, line in kept.items() if key)


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-8", "utf-8-sig"])
def test_zeiss_units_survive_encodings(encoding: str) -> None:
    assert normalised(zeiss(encoding)) == normalised(zeiss())


def test_windows_characters_are_kept() -> None:
    found = zeiss(SV_USER_TEXT="User Text = “Müller’s” sample – 5 €")
    assert found.verbatim["CZ_SEM"]["SV_USER_TEXT"] == "User Text = “Müller’s” sample – 5 €"
    undefined = tiff(bytes_tag(34118, zeiss_text().encode("cp1252") + b"SV_USER_TEXT\r\nUser Text = \x81\xb5\r\n"))
    assert read_metadata(undefined).verbatim["CZ_SEM"]["SV_USER_TEXT"] == "User Text = \x81µ"


@pytest.mark.parametrize(
    ("written", "nanometres"),
    [
        ("48.83 nm", 48.83),
        ("0.04883 µm", 48.83),
        ("48830 pm", 48.83),
        ("48,83 nm", 48.83),
        ("4.883e-05 mm", 48.83),
        ("48.83 parsec", None),
        ("48.83", None),
        ("nan nm", None),
        ("inf nm", None),
        ("1e999 nm", None),
        ("-48.83 nm", None),
        ("0.0 fm", None),
        ("9" * 5000 + " nm", None),
        ("", None),
    ],
)
def test_zeiss_pixel_size_in_any_unit(written: str, nanometres: float | None) -> None:
    found = zeiss(AP_IMAGE_PIXEL_SIZE=f"Image Pixel Size = {written}", AP_WIDTH=None, AP_PIXEL_SIZE="Pixel Size = ?")
    from_number_without_name = 7.8125e-07 * 1e9 * 1024 / WIDTH
    assert found.pixel_width_nm == pytest.approx(nanometres or from_number_without_name)
    assert found.verbatim["CZ_SEM"]["AP_IMAGE_PIXEL_SIZE"] == f"Image Pixel Size = {written}".strip()


def test_zeiss_display_pixels_become_image_pixels() -> None:
    """AP_PIXEL_SIZE refers to an image 1024 pixels wide, unless its label says "Image Pixel Size"."""
    old = zeiss(AP_IMAGE_PIXEL_SIZE=None, AP_PIXEL_SIZE="Pixel Size = 3.0 nm", AP_WIDTH=None)
    assert old.pixel_width_nm == 3.0 * 1024 / WIDTH
    labelled = zeiss(AP_IMAGE_PIXEL_SIZE=None, AP_PIXEL_SIZE="Image Pixel Size = 3.0 nm", AP_WIDTH=None)
    assert (labelled.pixel_width_nm, labelled.field_width_um) == (3.0, pytest.approx(0.192))


@pytest.mark.parametrize(
    "change",
    [{"AP_WIDTH": "Width = 6.25 µm"}, {"DP_IMAGE_STORE": "Store resolution = 128 * 96"}],
    ids=["field", "stored"],
)
def test_contradictory_zeiss_scale_is_rejected(change: dict[str, str]) -> None:
    found = zeiss(**change)
    assert (found.pixel_width_nm, found.pixel_height_nm, found.field_width_um) == (None, None, None)
    assert found.working_distance_mm == 8.2


def test_zeiss_detectors() -> None:
    assert zeiss(DP_DETECTOR_TYPE=None).detector == "InLens"
    assert zeiss(DP_DETECTOR_CHANNEL=None).detector == "InLens"
    assert zeiss(DP_DETECTOR_TYPE="Detector = SE2").detector is None
    assert zeiss(DP_MIXING="Mixing = On").detector == "InLens + ESB"


def test_zeiss_serial_number_replaces_a_missing_model() -> None:
    assert zeiss(DP_SEM=None, SV_SERIAL_NUMBER="Serial No. = ULTRA 55-36-06").instrument == "ULTRA 55-36-06"
    assert zeiss(DP_SEM="Sem =", SV_SERIAL_NUMBER="Serial No. = ULTRA 55-36-06").instrument == "ULTRA 55-36-06"
    assert zeiss(SV_SERIAL_NUMBER="Serial No. = Merlin-61-08").instrument == "Merlin"
    assert zeiss(DP_SEM=None).instrument is None


def test_zeiss_ion_images_have_no_electron_energy() -> None:
    assert zeiss(DP_FIB_IMAGING="FIB Imaging = FIB").beam_energy_kev is None
    assert zeiss(AP_ACTUALKV="EHT = 0.00 kV").beam_energy_kev is None
    assert zeiss(AP_ACTUALKV="EHT = 500 V").beam_energy_kev == 0.5


def test_zeiss_rows_below_the_field() -> None:
    assert zeiss().data_bar_px is None  # the bar is drawn into the field, and its height is not recorded
    assert zeiss(DP_IMAGE_STORE="Store resolution = 64 * 40").data_bar_px == 8


# --- FEI


@pytest.mark.parametrize(("code", "key"), [(34680, "FEI_SFEG"), (34682, "FEI_HELIOS")])
def test_fei_is_normalised(code: int, key: str) -> None:
    data = tiff(text_tag(code, fei_text()))
    found = read_metadata(data)
    assert normalised(found) == InstrumentMetadata(
        vendor="FEI",
        instrument="Nova NanoSEM 450",
        beam_energy_kev=7.0,
        working_distance_mm=4.99405,
        magnification=pytest.approx(254),
        pixel_width_nm=7812.5,
        pixel_height_nm=7900.0,
        field_width_um=500.0,
        detector="ABS A",
        stage=StagePosition(-14.7134, 14.5797, 5.0, pytest.approx(90.0, abs=1e-5), 0.0),
        acquired="2023-03-04T16:47:49",
        data_bar_px=8,
    )
    assert found.verbatim == {key: FEI}
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        oracle = file.fei_metadata
    assert found.beam_energy_kev == oracle["Beam"]["HV"] / 1e3
    assert found.pixel_width_nm == pytest.approx(oracle["Scan"]["PixelWidth"] * 1e9)
    assert found.stage.rotation_deg == math.degrees(oracle["Stage"]["StageR"])


@pytest.mark.parametrize(
    ("height", "resolution", "written", "bar"),
    [
        (48, "40", "8", 8),
        (48, "40", "", 8),
        (48, "48", "", 0),
        (48, "", "8", 8),
        (48, "40", "9", None),
        (48, "48", "8", None),
        (48, "96", "8", None),
        (48, "", "", None),
        (48, "", "-8", None),
        (48, "", "48", None),
        (48, "", "8.5", None),
        (48, "4e1", "1e9", None),
    ],
)
def test_fei_info_bar(height: int, resolution: str, written: str, bar: int | None) -> None:
    changed = {"Image": {"ResolutionY": resolution}, "PrivateFei": {"DatabarHeight": written}}
    assert fei(height=height, **changed).data_bar_px == bar


def test_fei_cameras_have_no_mode() -> None:
    assert fei(Detectors={"Name": "Nav-Cam", "Mode": "None"}).detector == "Nav-Cam"
    assert fei(Detectors={"Name": "ETD", "Mode": ""}).detector == "ETD"
    assert fei(Detectors={"Name": "", "Mode": "None"}).detector is None


def test_fei_values_of_the_beam_in_use() -> None:
    ions = {"Beam": {"Beam": "IBeam", "HV": "30000"}}
    text = fei_text(**ions) + ini({"IBeam": {"HV": "30000", "WD": "0.0165", "HFW": "0.0005"}})
    found = read_metadata(tiff(text_tag(34682, text)))
    assert (found.beam_energy_kev, found.working_distance_mm) == (30.0, 16.5)


def test_contradictory_fei_values_are_rejected() -> None:
    assert fei(EBeam={"HV": "5000"}).beam_energy_kev is None
    scaled = fei(width=32)
    assert (scaled.pixel_width_nm, scaled.field_width_um, scaled.data_bar_px) == (None, None, None)
    unchecked = fei(width=32, Scan={"HorFieldsize": ""}, EBeam={"HFW": ""})
    assert (unchecked.pixel_width_nm, unchecked.field_width_um) == (None, None)
    other_field = fei(Scan={"HorFieldsize": "0.001"}, EBeam={"HFW": "0.001"})
    assert (other_field.pixel_width_nm, other_field.field_width_um) == (None, None)


def test_ambiguous_fei_dates_are_rejected() -> None:
    assert fei(PrivateFei={"TimeOfCreation": ""}).acquired is None
    assert fei(PrivateFei={"TimeOfCreation": ""}, User={"Date": "04/17/2023"}).acquired == "2023-04-17T16:47:49"


@pytest.mark.parametrize("bad", ["nan", "inf", "-inf", "1e999", "0x10", "1_000", "٣", "", "1e-999999999999"])
def test_invalid_fei_numbers_are_none(bad: str) -> None:
    everything = {section: dict.fromkeys(values, bad) for section, values in FEI.items()}
    found = read_metadata(tiff(text_tag(34682, ini(everything), "utf-8")))
    known = {key for key, value in found.to_dict().items() if value not in ("FEI", bad, f"{bad} {bad}")}
    assert known <= {"verbatim"}
    assert found.verbatim["FEI_HELIOS"]["Stage"]["StageX"] == bad


# --- TESCAN


@pytest.mark.parametrize("order", ["<", ">"])
def test_tescan_blocks(order: str) -> None:
    found = read_metadata(tiff(bytes_tag(50431, tescan_blocks(order)), byteorder=order))
    assert normalised(found) == TESCAN_VALUES
    assert found.verbatim == {"TESCAN": TESCAN, "left_out": {"TESCAN thumbnail": 17}}


def test_tescan_text_without_blocks() -> None:
    found = read_metadata(tiff(bytes_tag(50431, b"\x81\0\x90garbage" + ini(TESCAN).encode())))
    assert normalised(found) == TESCAN_VALUES
    flat = ini({"": {**TESCAN["MAIN"], **TESCAN["SEM"]}})[4:]
    found = read_metadata(tiff(bytes_tag(50431, b"\x81\0\x90" + flat.encode())))
    assert normalised(found) == TESCAN_VALUES


def test_tescan_views_side_by_side_have_no_field_width() -> None:
    text = ini({**TESCAN, "MAIN": {**TESCAN["MAIN"], "ViewFieldsCountX": "2"}})
    found = read_metadata(tiff(bytes_tag(50431, text.encode())))
    assert (found.pixel_width_nm, found.field_width_um) == (41.0, None)


def test_foreign_values_of_the_tescan_tag_are_ignored() -> None:
    assert not read_metadata(tiff(bytes_tag(50431, bytes(range(256)))))
    assert not read_metadata(tiff(bytes_tag(50431, struct.pack("<IH", 2, 0) * 50)))


# --- JEOL and Hitachi


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_jeol_description(line_end: str) -> None:
    found = read_metadata(tiff(text_tag(270, JEOL.replace("\n", line_end))))
    assert normalised(found) == JEOL_VALUES
    assert found.verbatim["JEOL"]["$$SM_MICRON_MARKER"] == "5um"
    assert found.verbatim["JEOL"]["$CM_COMMENT"] == ""
    assert len(found.verbatim["JEOL"]) == JEOL.count("$CM_") + JEOL.count("$$SM_")


def test_jeol_newer_keys() -> None:
    newer = JEOL.replace(
        "$CM_STAGE_POS 57.656 15.152 10.2 11.0 -1.5 0", "$CM_STAGE_POSITION X=57.656, Y=15.152, R=11, Z=10.2, T=-1.5"
    )
    newer = newer.replace("$CM_FULL_SIZE", "$CM_IMAGE_SIZE").replace("$$SM_MICRON_BAR 20", "$CM_PIXEL_SIZE 0.25")
    newer = newer.replace("$$SM_MICRON_MARKER 5um", "$CM_FIELD_OF_VIEW 16.0 10.0")
    assert normalised(read_metadata(tiff(text_tag(270, newer)))) == JEOL_VALUES
    contradictory = newer.replace("16.0 10.0", "12.0 10.0")
    assert read_metadata(tiff(text_tag(270, contradictory))).pixel_width_nm is None


def test_jeol_image_with_another_size_than_the_field() -> None:
    found = read_metadata(tiff(text_tag(270, JEOL), width=32))
    assert (found.pixel_width_nm, found.field_width_um, found.data_bar_px) == (None, None, None)
    assert read_metadata(tiff(text_tag(270, JEOL), height=40)).data_bar_px == 0


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_jeol_transmission_microscopes(encoding: str) -> None:
    found = read_metadata(tiff(), sidecar=SIGHTX.encode(encoding))
    assert normalised(found) == SIGHTX_VALUES
    assert normalised(read_metadata(tiff(text_tag(270, SIGHTX + "\r\n\0\0\0\1")))) == SIGHTX_VALUES
    tree = found.verbatim["TemReporter"]
    assert (tree["Specimen"], tree["GonioStage"]["HolderInformation"]["Kind"]) == ("", "SINGLE & TILT")
    assert tree["Measurement"]["MeasurementFormat"]["SaveMeasureObjectList"]["DrawObject"] == [
        {"@xsi:type": "Measure_Line", "Text": "237.86nm"},
        {"@xsi:type": "DrawTextBox", "Text": "+x"},
    ]


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        ("<SelectorUnitString>X<", "<SelectorUnitString>mm<"),  # a camera length, so a diffraction image
        ("eosTEM", "eosASID"),  # the beam was scanned
        ("<SelectorValue>150000<", "<SelectorValue>0<"),
        ("<SelectorValue>150000<", "<SelectorValue>nan<"),
        ("<SelectorValue>", "<SelectorValue>9</SelectorValue><SelectorValue>"),  # ambiguous
    ],
)
def test_jeol_without_a_magnification_has_no_scale(written: str, instead: str) -> None:
    found = sightx(SIGHTX.replace(written, instead))
    nothing = {"magnification": None, "pixel_width_nm": None, "pixel_height_nm": None, "field_width_um": None}
    assert normalised(found) == replace(SIGHTX_VALUES, **nothing)


def test_jeol_scale_needs_valid_values() -> None:
    unscaled = {"pixel_width_nm": None, "pixel_height_nm": None, "field_width_um": None}
    for text in (SIGHTX.replace("PixelsPerMeter", "PixelsPerInch"), SIGHTX.replace(">3642<", ">0<")):
        assert normalised(sightx(text)) == replace(SIGHTX_VALUES, **unscaled)
    assert normalised(sightx(width=32)) == replace(SIGHTX_VALUES, **unscaled)
    assert sightx(SIGHTX.replace(">3700<", "><")).pixel_height_nm == pytest.approx(1.830496)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2019-11-27T16:11:26Z", "2019-11-27T16:11:26"),
        ("2019-11-27T16:11:26-05:30", "2019-11-27T16:11:26"),
        ("2019-11-27T16:11:26", "2019-11-27T16:11:26"),
        ("2019-11-27", "2019-11-27"),
        ("yesterday", None),
        ("", None),
    ],
)
def test_jeol_dates_with_a_zone(written: str, expected: str | None) -> None:
    assert sightx(SIGHTX.replace("2019-11-27T16:11:26.6205405+09:00", written)).acquired == expected


def test_other_xml_is_ignored() -> None:
    for text in ('<?xml version="1.0"?><OME><Image/></OME>', "<TemReporters/>", "notes <TemReporter></TemReporter>"):
        assert not sightx(text)


ENTITIES = """<!DOCTYPE TemReporter [
  <!ENTITY a "JEM"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c SYSTEM "file:///etc/passwd">
]>"""


@pytest.mark.parametrize("entity", ["a", "b", "c"])
def test_entities_are_refused(entity: str) -> None:
    text = SIGHTX.replace("JEM-ARM200F", f"&{entity};")
    harmful = text.replace('<?xml version="1.0"?>', f'<?xml version="1.0"?>{ENTITIES}')
    assert parse_xml(harmful) == {}
    assert not sightx(harmful)
    inside = sightx(text)  # the text is read up to an undeclared entity
    assert (inside.vendor, inside.instrument) == ("JEOL", None)


def test_truncated_xml_is_read_up_to_the_cut() -> None:
    known: set[str] = set()
    for end in range(len(SIGHTX) + 1):
        found = sightx(SIGHTX[:end]).to_dict()
        found.pop("verbatim", None)
        assert known <= found.keys()
        for name in found.keys() - {"stage", "pixel_height_nm"}:  # without a height, a pixel is square
            assert found[name] == getattr(SIGHTX_VALUES, name)  # never a truncated number
        known = set(found)
    assert known == SIGHTX_VALUES.to_dict().keys()


def test_truncated_text_of_an_element_is_dropped() -> None:
    assert parse_xml("<a><b>1</b><c>" + "x" * 100_000) == {"a": {"b": "1", "c": ""}}
    assert parse_xml("<a><b>1</b>xyz<c>2") == {"a": {"b": "1", "c": ""}}
    assert parse_xml("") == parse_xml("text") == {}


def test_xml_of_any_depth() -> None:
    within = SIGHTX.replace("<Specimen />", "<a>" * 20_000 + "</a>" * 20_000)
    found = sightx(within)
    assert (found.instrument, found.beam_energy_kev) == ("JEM-ARM200F", None)
    json.dumps(found.to_dict())


def test_enormous_xml_is_read_in_part() -> None:
    for filling in ("<a/>", "<b>c</b>", '<d e=""/>', "<f>" + "g" * 1000 + "</f>"):
        text = SIGHTX.replace("</TemReporter>", filling * ((8 << 20) // len(filling)) + "</TemReporter>")
        data = tiff(text_tag(270, text))
        tracemalloc.start()
        found = read_metadata(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert normalised(found) == SIGHTX_VALUES
        assert found.verbatim["left_out"]["ImageDescription"] == len(text) + 1 - (1 << 18)
        assert peak < 40 << 20


NAMES = st.sampled_from(["a", "b", "Äöü"])
ELEMENTS = st.recursive(
    st.tuples(NAMES, st.dictionaries(NAMES, st.text("x <&é", max_size=3)), st.text("x <&é", max_size=5)),
    lambda inner: st.tuples(NAMES, st.dictionaries(NAMES, st.text("x", max_size=3)), st.lists(inner, max_size=4)),
    max_leaves=12,
)


@given(ELEMENTS)
def test_xml_is_read_as_by_the_standard_library(element_tree: tuple[str, dict[str, str], object]) -> None:
    def build(name: str, attributes: dict[str, str], content: object) -> ElementTree.Element:
        element = ElementTree.Element(name, attributes)
        if isinstance(content, str):
            element.text = content
        else:
            element.extend(build(*child) for child in content)
        return element

    def plain(element: ElementTree.Element) -> object:
        found: dict[str, object] = {f"@{key}": value for key, value in element.attrib.items()}
        for name in dict.fromkeys(child.tag for child in element):
            values = [plain(child) for child in element if child.tag == name]
            found[name] = values if len(values) > 1 else values[0]
        text = (element.text or "").strip()
        return {**found, "": text} if found and text else found or text

    written = ElementTree.tostring(build(*element_tree), encoding="unicode")
    root = ElementTree.fromstring(written)
    assert parse_xml(written) == {root.tag: plain(root)}


def test_hitachi_description() -> None:
    found = read_metadata(tiff(text_tag(270, HITACHI)))
    assert normalised(found) == HITACHI_VALUES
    assert found.verbatim["SemImageFile"]["WorkingDistance"] == "8100 um"
    assert read_metadata(tiff(text_tag(270, HITACHI), height=40)).data_bar_px is None  # may be drawn into the field


def _written(path: Path, form: str) -> Path:
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(path, form)
    return path


@pytest.mark.parametrize("form", ["TIFF", "JPEG", "PNG", "BMP"])
@pytest.mark.parametrize(("text", "values"), [(JEOL, JEOL_VALUES), (HITACHI, HITACHI_VALUES)], ids=["JEOL", "Hitachi"])
def test_text_beside_an_image(tmp_path: Path, form: str, text: str, values: InstrumentMetadata) -> None:
    image = _written(tmp_path / "a.b.img", form)
    assert not read_metadata(image)
    (tmp_path / "a.b.txt").write_text(text, encoding="latin-1")
    assert normalised(read_metadata(image)) == values
    assert normalised(read_metadata(str(image))) == values
    content = image.read_bytes()
    assert not read_metadata(content)
    assert normalised(read_metadata(content, sidecar=read_sidecar(image))) == values


@pytest.mark.parametrize("name", ["a-tif.hdr", "a.hdr"])
def test_tescan_header_beside_an_image(tmp_path: Path, name: str) -> None:
    image = _written(tmp_path / "a.tif", "TIFF")
    (tmp_path / name).write_text(ini(TESCAN), encoding="utf-8")
    assert normalised(read_metadata(image)) == TESCAN_VALUES


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_hitachi_text_in_unicode(encoding: str) -> None:
    content = HITACHI.encode(encoding)
    content = b"\xfe\xff" + content if encoding == "utf-16-be" else content
    assert normalised(read_metadata(tiff(), sidecar=content)) == HITACHI_VALUES


def test_tags_take_precedence_over_the_text_beside() -> None:
    assert read_metadata(tiff(text_tag(34682, fei_text())), sidecar=JEOL.encode()).vendor == "FEI"


def test_other_files_beside_an_image_are_ignored(tmp_path: Path) -> None:
    image = _written(tmp_path / "a.tif", "TIFF")
    (tmp_path / "a.txt").write_text("my notes\n$CM_MAG 5\n")
    assert not read_metadata(image)
    (tmp_path / "a.txt").unlink()
    (tmp_path / "a.txt").mkdir()
    os.mkfifo(tmp_path / "a.hdr")
    assert not read_metadata(image)
    assert read_sidecar(tmp_path / "nobody.tif") == b""


# --- Olympus-SIS


def sis(
    *,
    digits: int = -9,
    x: float = 2.5,
    magnification: float = 20000.0,
    month: int = 11,
    blocks: int = 2,
    date_time: str | None = None,
) -> bytes:
    """Return a TIFF file with an Olympus-SIS structure at its end; the tag holds its offset."""
    data = tiff((33560, 4, 1, 0x1234ABCD, True), **({} if date_time is None else {"datetime": date_time}))
    at = len(data)
    table = at + 60
    head = struct.pack("<4s6xhhhhh6x32sH", b"SIS0", 59, 23, 31, month, 121, b"Grid 7\0junk", blocks)
    entries = struct.pack("<hhIhhI", 10, 1, 8, 1, 1, table + 16)
    general = struct.pack("<10xhdd8xd2x34s32s", digits, x, x, magnification, b"Veleta", b"Image")
    return data.replace(struct.pack("<I", 0x1234ABCD), struct.pack("<I", at)) + head + entries + general


def test_olympus_is_read_as_by_tifffile() -> None:
    data = sis()
    found = read_metadata(data)
    assert normalised(found) == InstrumentMetadata(
        vendor="Olympus-SIS",
        magnification=20000.0,
        pixel_width_nm=pytest.approx(2.5),
        pixel_height_nm=pytest.approx(2.5),
        field_width_um=pytest.approx(0.16),
        detector="Veleta",
        acquired="2021-12-31T23:59:00",
    )
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        oracle = file.sis_metadata
    assert found.verbatim["OlympusSIS"] == {**oracle, "datetime": oracle["datetime"].isoformat()}


@pytest.mark.parametrize(
    "change",
    [{"digits": 32767}, {"digits": -32768}, {"x": math.nan}, {"x": math.inf}, {"x": 1e308, "digits": 20}, {"x": -1.0}],
)
def test_invalid_olympus_numbers_are_none(change: dict[str, float]) -> None:
    found = read_metadata(sis(**change))
    assert (found.pixel_width_nm, found.field_width_um) == (None, None)
    assert found.magnification == 20000.0
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("date_time", "acquired"),
    [
        ("2021:12:31 23:59:31", "2021-12-31T23:59:31"),
        ("2021:12:31 23:58:31", "2021-12-31T23:59:00"),  # DateTime may be the time of the file
        ("2022:12:31 23:59:31", "2021-12-31T23:59:00"),
        ("2021:12:31 23:59:77", "2021-12-31T23:59:00"),
        ("    :  :     :  :  ", "2021-12-31T23:59:00"),
    ],
)
def test_olympus_seconds_are_those_of_the_same_minute(date_time: str, acquired: str) -> None:
    data = sis(date_time="2000:01:01 00:00:00").replace(b"2000:01:01 00:00:00", date_time.encode())
    found = read_metadata(data)
    assert found.acquired == acquired
    assert found.verbatim["DateTime"] == date_time
    assert found.verbatim["OlympusSIS"]["datetime"] == "2021-12-31T23:59:00"


def test_damaged_olympus_structures() -> None:
    assert read_metadata(sis(month=40)).acquired is None
    assert read_metadata(sis(blocks=65535)).magnification == 20000.0
    assert not read_metadata(sis().replace(b"SIS0", b"SIS9"))
    assert read_metadata(sis()[:-1]).magnification is None


# --- all vendors


def test_no_two_vendors_share_a_tag() -> None:
    codes = [tag.code for reader in registry.READERS for tag in reader.tags]
    assert sorted(codes) == sorted(set(codes))
    assert all(reader.vendor and (reader.tags or reader.text) for reader in registry.READERS)


def test_microscope_takes_precedence_over_camera() -> None:
    camera = (33560, 4, 1, 0x1234ABCD, True)
    data = tiff(text_tag(270, JEOL), camera)
    at = len(data)
    head = struct.pack("<4s6xhhhhh6x32sH", b"SIS0", 59, 23, 31, 11, 121, b"Grid 7", 0)
    found = read_metadata(data.replace(struct.pack("<I", 0x1234ABCD), struct.pack("<I", at)) + head)
    assert normalised(found) == JEOL_VALUES
    assert set(found.verbatim) == {"JEOL", "OlympusSIS"}
    both = read_metadata(tiff(text_tag(34682, fei_text()), text_tag(34118, zeiss_text())))
    assert both.vendor == "Zeiss"
    assert set(both.verbatim) == {"CZ_SEM", "FEI_HELIOS"}


NEW_VENDOR = '''"""A new vendor."""

from twinscope_indexer.metadata.model import InstrumentMetadata
from twinscope_indexer.metadata.text import decode, parse_ini
from twinscope_indexer.metadata.vendor import VendorReader, VendorTag, VendorText


def _read(tag):
    return _read_text(decode(tag.data), tag.image_size)


def _read_text(text, image_size):
    values = parse_ini(text).get("LVEM", {})
    width = float(values["FieldOfView"])
    return InstrumentMetadata("Delong", **image_size.calibrated(None, width)._asdict(), verbatim={"LVEM": values})


READER = VendorReader(
    "Delong",
    tags=(VendorTag(65000, "LVEM", _read),),
    text=VendorText(lambda text: text.startswith("[LVEM]"), _read_text, beside=("{stem}.lvem",)),
    makes_cameras=True,
)
'''


def test_a_new_vendor_needs_one_new_file(tmp_path: Path) -> None:
    package = tmp_path / "twinscope_indexer"
    shutil.copytree(Path(twinscope_indexer.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "metadata" / "vendors" / "delong.py").write_text(NEW_VENDOR)
    text = "[LVEM]\nFieldOfView=6.4\n"
    (tmp_path / "tag.tif").write_bytes(tiff(text_tag(65000, text)))
    (tmp_path / "beside.tif").write_bytes(tiff())
    (tmp_path / "beside.lvem").write_text(text)
    script = """
from twinscope_indexer.metadata import InstrumentMetadata, contradictions, read_metadata
for name in ("tag.tif", "beside.tif"):
    found = read_metadata(name)
    print(found.vendor, found.pixel_width_nm, found.verbatim, contradictions(found, InstrumentMetadata("Zeiss")))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == 2 * "Delong 100.0 {'LVEM': {'FieldOfView': '6.4'}} []\n"


# --- files without metadata, and files that cannot be read


@pytest.mark.parametrize("form", ["TIFF", "JPEG", "PNG", "BMP"])
def test_files_without_tags_have_no_metadata(tmp_path: Path, form: str) -> None:
    found = read_metadata(_written(tmp_path / "a", form))
    assert not found
    assert found == InstrumentMetadata()
    assert found.to_dict() == {}


def test_loop_of_directories_changes_nothing() -> None:
    data = bytearray(tiff())
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    struct.pack_into("<I", data, at + 2 + 12 * count, at)
    assert read_metadata(bytes(data)) == read_metadata(tiff())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"II*\0",
        b"II*\0\x08\0\0",
        b"II*\0\xff\xff\0\0",
        b"MM\0+\0\x08\0\0",
        b"II*\0\0\0\0\0",
    ],
    ids=["empty", "text", "no offset", "half an offset", "beyond", "half BigTIFF", "no directory"],
)
def test_unreadable_content_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError) as expected:
        read_image(data, name="x.tif")
    with pytest.raises(ImageError) as raised:
        read_metadata(data, name="x.tif")
    assert (raised.value.fault, str(raised.value)) == (expected.value.fault, str(expected.value))
    assert raised.value.source == "x.tif"


def test_unreadable_paths_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tif")
    for path in (tmp_path, tmp_path / "none.tif", tmp_path / "pipe.tif", "a\0b"):
        with pytest.raises(ImageError) as expected:
            read_image(path)
        with pytest.raises(ImageError) as raised:
            read_metadata(path)
        assert (raised.value.fault, str(raised.value)) == (expected.value.fault, str(expected.value))


def test_read_errors_are_image_errors() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError("the disk has failed")

    with pytest.raises(ImageError, match="has failed") as raised:
        read_metadata(Broken(tiff()))
    assert raised.value.fault == "unreadable"


def test_open_files_are_read_from_the_start_and_stay_open(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(text_tag(34682, fei_text())))
    with path.open("rb") as file:
        file.seek(1000)
        assert read_metadata(file).vendor == "FEI"
        assert not file.closed


# --- hostile files


class Counting(io.BytesIO):
    """A stream that counts the bytes read."""

    bytes_read = 0

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        self.bytes_read += len(content)
        return content


def test_no_pixels_are_read() -> None:
    stream = Counting(tiff(text_tag(34118, zeiss_text()), width=4000, height=4000))
    assert read_metadata(stream).instrument == "Merlin"
    assert stream.bytes_read < 10_000


@pytest.mark.parametrize(
    ("code", "key", "most"), [(34118, "CZ_SEM", 1 << 18), (34682, "FEI_HELIOS", 1 << 18), (50431, "TESCAN", 1 << 20)]
)
def test_enormous_tags_are_read_in_part(code: int, key: str, most: int) -> None:
    text = {34118: zeiss_text(), 34682: fei_text(), 50431: ini(TESCAN)}[code]
    lines = {34118: "AP_X\r\nX = 1\r\n", 34682: "[A]\r\na=b\r\n", 50431: "[A]\r\na=b\r\n"}[code]
    content = (text + lines * ((8 << 20) // len(lines))).encode("cp1252")
    stream = Counting(tiff(bytes_tag(code, content)))
    tracemalloc.start()
    found = read_metadata(stream)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.working_distance_mm is not None
    assert found.verbatim["left_out"][key] == len(content) - most
    assert peak < 40 << 20  # much less than the memory that 8 MiB of such lines would need
    assert stream.bytes_read < most + 10_000


def test_tags_longer_than_the_file() -> None:
    data = bytearray(tiff(text_tag(34682, fei_text())))
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    entry = next(at + 2 + 12 * i for i in range(count) if data[at + 2 + 12 * i :][:2] == struct.pack("<H", 34682))
    struct.pack_into("<I", data, entry + 4, 0xFFFFFFFF)
    found = read_metadata(bytes(data))
    assert found.instrument == "Nova NanoSEM 450"
    assert found.verbatim["left_out"]["FEI_HELIOS"] > 0xFFFFFFFF - len(data)
    struct.pack_into("<I", data, entry + 8, 0xFFFFFFF0)
    assert not read_metadata(bytes(data))


def test_only_the_first_directories_are_read() -> None:
    """Only the last of 50,000 chained directories has a vendor tag, and it is not read."""
    directory = struct.pack("<HHHII", 1, 256, 4, 1, 64)
    count, length = 50_000, len(directory) + 4
    chain = b"".join(directory + struct.pack("<I", 8 + (i + 1) * length) for i in range(count))
    text = zeiss_text().encode("cp1252")
    last = struct.pack("<HHHIII", 1, 34118, 2, len(text), 8 + count * length + 18, 0)
    stream = Counting(struct.pack("<2sHI", b"II", 42, 8) + chain + last + text)
    assert not read_metadata(stream)
    assert stream.bytes_read < 1000


def test_tags_are_found_in_a_later_directory() -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(np.zeros((8, 8), np.uint8), metadata=None, subfiletype=1)
        writer.write(np.zeros((48, 64), np.uint8), metadata=None, extratags=[text_tag(34682, fei_text())])
    assert read_metadata(buffer.getvalue()).data_bar_px == 8


def test_invalid_directories_are_ignored() -> None:
    for count in (0, 4097, 65535):
        stream = Counting(struct.pack("<2sHIH", b"II", 42, 8, count) + bytes(1_000_000))
        assert not read_metadata(stream)
        assert stream.bytes_read < 100


@pytest.mark.parametrize("offset", [1 << 62, (1 << 63) + 5, (1 << 64) - 1])
def test_values_beyond_the_end_of_the_file(offset: int) -> None:
    for code in (34118, 34682, 50431, 270, 33560):
        directory = struct.pack("<QHHQQQ", 1, code, 7, 1000, offset, 0)
        assert not read_metadata(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16) + directory)


FILES = {
    "diss": tiff(bytes_tag(700, diss_text(DISS).encode())),
    "fei": tiff(text_tag(34682, fei_text()), byteorder=">"),
    "gatan": tiff(text_tag(65003, "nm"), (65009, 12, 1, 0.5, True), bytes_tag(65027, document(IMAGE_TAGS, 4))),
    "hitachi": tiff(text_tag(270, HITACHI)),
    "jeol": tiff(text_tag(270, JEOL)),
    "olympus": sis(),
    "orion": tiff(text_tag(65000, orion_text())),
    "sightx": tiff(text_tag(270, SIGHTX)),
    "tescan": tiff(bytes_tag(50431, tescan_blocks("<"))),
    "tvips": tvips(),
    "zeiss": tiff(text_tag(34118, zeiss_text(DP_IMAGE_STORE="Store resolution = 64 * 40"))),
}
"""A file of each module of `vendors`, with all values that the module reads."""


@pytest.mark.parametrize("name", FILES)
def test_documented_values_are_those_that_are_read(name: str) -> None:
    """The pages in docs/vendors list `mapped`."""
    reader = importlib.import_module(f"twinscope_indexer.metadata.vendors.{name}").READER
    found = read_metadata(FILES[name]).to_dict()
    known = {key for key in found if key not in ("vendor", "stage", "verbatim")}
    known |= {f"stage.{key}" for key in found.get("stage", {})}
    documented = [row.name for row in reader.mapped]
    assert sorted(documented) == sorted(known)
    assert reader.vendor == found["vendor"]
    assert reader.checked


def test_every_module_has_a_file() -> None:
    assert {*FILES} == {module.name for module in pkgutil.iter_modules(registry.vendors.__path__)}


def harmless(data: bytes, sidecar: bytes = b"") -> None:
    with contextlib.suppress(ImageError):
        found = read_metadata(data, sidecar=sidecar)
        stored = json.dumps(found.to_dict(), allow_nan=False)
        assert InstrumentMetadata.from_dict(json.loads(stored)) == found
        assert contradictions(found, found) == []


@pytest.mark.parametrize("data", FILES.values(), ids=FILES)
def test_truncated_files(data: bytes) -> None:
    for end in range(0, len(data), max(13, len(data) // 400)):
        harmless(data[:end])


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([*FILES.values()]), st.data())
def test_damaged_files(content: bytes, draw: st.DataObject) -> None:
    data = bytearray(content)
    start = draw.draw(st.sampled_from([0, *([len(data) * k // 8 for k in range(8)])]))
    for _ in range(draw.draw(st.integers(1, 6))):
        at = min(start + draw.draw(st.integers(0, len(data) // 4)), len(data) - 1)
        junk = draw.draw(st.binary(min_size=1, max_size=8))
        data[at : at + len(junk)] = junk
    harmless(bytes(data))


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([JEOL, HITACHI, ini(TESCAN), SIGHTX]),
    st.lists(
        st.tuples(st.integers(0, 700), st.one_of(st.binary(max_size=6), st.sampled_from([b"nan", b"1e400", b"\0"])))
    ),
)
def test_damaged_texts_beside_an_image(text: str, changes: list[tuple[int, bytes]]) -> None:
    content = bytearray(text.encode())
    for at, junk in changes:
        content[at : at + len(junk)] = junk
    harmless(FILES["zeiss"][:8] + bytes(100), bytes(content))
    harmless(tiff(), bytes(content))


# --- real files


def test_real_files(micrographs_dir: Path) -> None:
    lines = (micrographs_dir / "MANIFEST.tsv").read_text(encoding="utf-8").splitlines()
    names = lines[0].split("\t")
    rows = [dict(zip(names, line.split("\t"), strict=False)) for line in lines[1:]]
    vendors = {"zeiss": "Zeiss", "fei": "FEI", "-": None}
    seen = set()
    for row in rows:
        found = read_metadata(micrographs_dir / row["path"])
        assert found.vendor == vendors[row["vendor_tag"]], row["path"]
        json.dumps(found.to_dict(), allow_nan=False)
        if found:
            seen.add(found.vendor)
            assert found.field_width_um == pytest.approx(found.pixel_width_nm * int(row["width"]) / 1000, rel=5e-3)
            known = {key for key, value in found.to_dict().items() if value is not None}
            assert known >= {"instrument", "beam_energy_kev", "working_distance_mm", "detector", "acquired"}
            assert None not in {found.stage.x_mm, found.stage.y_mm, found.stage.z_mm, found.stage.tilt_deg}
    assert seen == {"Zeiss", "FEI"}


def test_metadata_match_a_real_info_bar(micrographs_dir: Path) -> None:
    """The info bar shows: ABS, A, 7.00 kV, 5.0 mm, HFW 500 µm, 254 x; it is 79 rows high."""
    found = read_metadata(micrographs_dir / "Other" / "vyastreb__P33_scale1_detectorA.tif")
    assert (found.detector, found.beam_energy_kev, found.field_width_um) == ("ABS A", 7.0, 500.0)
    assert (round(found.working_distance_mm, 1), round(found.magnification), found.data_bar_px) == (5.0, 254, 79)
    other = read_metadata(micrographs_dir / "Other" / "vyastreb__P33_scale1_detectorB.tif")
    assert contradictions(found, other) == ["different detectors: ABS A and ABS B"]
