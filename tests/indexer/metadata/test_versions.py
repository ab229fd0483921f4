"""Texts of the same vendors that other versions of their software write."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from twinscope_indexer.metadata.model import InstrumentMetadata, StagePosition
from twinscope_indexer.metadata.reader import read_metadata
from vendor_tags import bytes_tag, diss_text, text_tag, tiff

JEOL = "\r\n".join([
    "$CM_FORMAT Bitmap", "$CM_INSTRUMENT JSM-X", "$CM_ACCEL_VOLT 15.0", "$CM_MAG 20000", "$CM_FULL_SIZE 64 40",
    "$$SM_MICRON_BAR 100", "$$SM_MICRON_MARKER 1um", "$SM_WD 10.0", "$CM_SIGNAL SEI", "",
])  # fmt: skip
JEOL_VALUES = InstrumentMetadata(
    vendor="JEOL", instrument="JSM-X", beam_energy_kev=15.0, working_distance_mm=10.0, magnification=20000.0,
    pixel_width_nm=10.0, pixel_height_nm=10.0, field_width_um=0.64, detector="SEI", data_bar_px=8,
)  # fmt: skip


def beside(text: str | bytes, width: int = 64, height: int = 48) -> InstrumentMetadata:
    content = text if isinstance(text, bytes) else text.encode()
    return read_metadata(tiff(width=width, height=height), sidecar=content)


@pytest.mark.parametrize(
    "start", ["", "$SEM_DATA_VERSION 1\r\n", "Steel, etched\r\n\r\n", "\r\n \r\n", "# a\r\n# b\r\n"]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("line_end", ["\r\n", "\n", "\r"])
def test_jeol_texts_are_recognised_by_their_keys(start: str, encoding: str, line_end: str) -> None:
    text = (start + JEOL).replace("\r\n", line_end)
    assert beside(text.encode(encoding)).normalised == JEOL_VALUES
    assert beside((text + "\r\n\x1a").encode(encoding)).normalised == JEOL_VALUES


def test_jeol_title_in_japanese() -> None:
    found = beside(("$CM_TITLE 試料テスト\r\n" + JEOL).encode("shift_jis"))
    assert found.normalised == JEOL_VALUES
    assert found.verbatim["JEOL"]["$CM_TITLE"] == "試料テスト"


def test_jeol_keys_with_other_separators() -> None:
    for separator in ("=", " = ", "\t"):
        lines = [line.replace(" ", separator, 1) for line in JEOL.splitlines()]
        assert beside("\n".join(lines)).normalised == JEOL_VALUES


@pytest.mark.parametrize("text", ["my notes\n$CM_MAG 5\n", "$ABC_D 1\n$ABC_E 2", "$$", "$CM_", "x$CM_MAG 5"])
def test_other_texts_are_not_of_jeol(text: str) -> None:
    assert not beside(text)


JEOL_TEM = "\r\n".join([
    "$CM_FORMAT", "$CM_VERSION 0.1", "$CM_COMMENT ", "$CM_DATE 5/25/2021", "$CM_TIME 05:58:45 PM",
    "$CM_INSTRUMENT JEM-2200FS", "$CM_NAME Specimen", "$CM_FRAME_SIZE 64 48", "$CM_DATA_BIT 16", "$CM_EFECT_BIT 12",
    "$CM_ACCEL_VOLT 200", "$CM_MAG 40000", "$CM_SIGNAL TEM", "$$EM_PIXELSPERMETER_X 2000000000.0",
    "$$EM_PIXELSPERMETER_Y 1000000000.0",
])  # fmt: skip
JEOL_TEM_VALUES = InstrumentMetadata(
    vendor="JEOL", instrument="JEM-2200FS", beam_energy_kev=200.0, magnification=40000.0, pixel_width_nm=0.5,
    pixel_height_nm=1.0, field_width_um=0.032, detector="TEM", acquired="2021-05-25T17:58:45", data_bar_px=0,
)  # fmt: skip


def test_jeol_text_of_a_transmission_microscope() -> None:
    found = beside(JEOL_TEM)
    assert found.normalised == JEOL_TEM_VALUES
    assert found.verbatim["JEOL"]["$$EM_PIXELSPERMETER_X"] == "2000000000.0"


def test_jeol_pixels_of_the_camera_are_no_scale_of_the_sample() -> None:
    unscaled = replace(JEOL_TEM_VALUES, pixel_width_nm=None, pixel_height_nm=None, field_width_um=None)
    for number in ("66666.7", "0", "nan", "-2000000000.0", "1e999"):
        assert beside(JEOL_TEM.replace("2000000000.0", number)).normalised == unscaled


def test_jeol_diffraction_patterns_have_no_scale() -> None:
    found = beside(JEOL_TEM.replace("SIGNAL TEM", "SIGNAL DIFF"))
    assert (found.magnification, found.pixel_width_nm, found.beam_energy_kev) == (None, None, 200.0)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-16"])
def test_jeol_values_in_a_tag(encoding: str) -> None:
    pairs = ["$CM_IMAGE_SIZE=64 48", "$CM_ACCEL_VOLT=5.00", "$CM_MAG=10000", "$SM_WD=9.5",
             "$CM_STAGE_POSITION=1.5 2.5 3.5", "$CM_FIELD_OF_VIEW=0.64µm 0.48µm",
             "$CM_PIXEL_SIZE=10.0nm 10.0nm"]  # fmt: skip
    data = tiff(bytes_tag(37500, b"UNICODE\0" + "\t".join(pairs).encode(encoding)))
    found = read_metadata(data)
    assert found.normalised == InstrumentMetadata(
        vendor="JEOL", beam_energy_kev=5.0, working_distance_mm=9.5, magnification=10000.0, pixel_width_nm=10.0,
        pixel_height_nm=10.0, field_width_um=0.64, data_bar_px=0,
    )  # fmt: skip
    assert found.verbatim["JEOL_MAKER_NOTE"]["$CM_STAGE_POSITION"] == "1.5 2.5 3.5"  # its unit is unknown
    assert not read_metadata(tiff(bytes_tag(37500, b"UNICODE\0" + b"Nikon\0\1\2")))
    assert not read_metadata(tiff(bytes_tag(37500, b"Canon$CM_MAG=5\t$CM_SIGNAL=SEI")))


HITACHI = "\r\n".join([
    "[TemImageFile]", "InstructName=HT7800", "SampleName=試料テスト", "Date=03/25/2019", "Time=10:22:13",
    "DataSize=64x48", "PixelSize=2.5", "SignalName=TEM", "AcceleratingVoltage=100000 Volt", "Magnification=10000",
])  # fmt: skip
HITACHI_VALUES = InstrumentMetadata(
    vendor="Hitachi", instrument="HT7800", beam_energy_kev=100.0, magnification=10000.0, pixel_width_nm=2.5,
    pixel_height_nm=2.5, field_width_um=0.16, detector="TEM", acquired="2019-03-25T10:22:13",
)  # fmt: skip


@pytest.mark.parametrize("section", ["TemImageFile", "SemImageFile"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "shift_jis"])
@pytest.mark.parametrize("start", ["", "# saved by the instrument\r\n\r\n"])
def test_hitachi_sections_and_encodings(section: str, encoding: str, start: str) -> None:
    found = beside((start + HITACHI).replace("TemImageFile", section).encode(encoding))
    assert found.normalised == HITACHI_VALUES
    assert found.verbatim[section]["SampleName"] == "試料テスト"


def test_hitachi_text_in_latin_1() -> None:
    found = beside(HITACHI.replace("試料テスト", "Größe Ø 5 µm").encode("latin-1"))
    assert found.normalised == HITACHI_VALUES
    assert found.verbatim["TemImageFile"]["SampleName"] == "Größe Ø 5 µm"


def test_hitachi_older_key_of_the_instrument() -> None:
    assert beside(HITACHI.replace("InstructName", "Instrument name")).normalised == HITACHI_VALUES


MEMENTO = (
    "\ufeff<?xml version='1.0' encoding='utf-16'?><MementoItemCollection><item><key><string>Chamber</string></key>"
    "</item></MementoItemCollection>"
)
MEMENTO_TREE = {"MementoItemCollection": {"item": {"key": {"string": "Chamber"}}}}
INI = "[System]\r\nSystemType=Apreo\r\n[Beam]\r\nHV=5000\r\nBeam=EBeam\r\n[EBeam]\r\nHV=5000\r\nWD=0.004\r\n"
INI_VALUES = InstrumentMetadata(vendor="FEI", instrument="Apreo", beam_energy_kev=5.0, working_distance_mm=4.0)


def encoded(text: str, encoding: str = "utf-8") -> bytes:
    return base64.b64encode(text.encode(encoding)) + b"\0"


@pytest.mark.parametrize("code", [34680, 34682, 34683])
@pytest.mark.parametrize("padding", range(3))
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le"])
def test_fei_xml_in_base64(code: int, padding: int, encoding: str) -> None:
    text = MEMENTO if encoding == "utf-8" else MEMENTO[1:]
    found = read_metadata(tiff(bytes_tag(code, encoded(text + " " * padding, encoding))))
    assert found.normalised == InstrumentMetadata(vendor="FEI")
    assert [*found.verbatim.values()] == [MEMENTO_TREE]
    plain = read_metadata(tiff(bytes_tag(code, (text + " " * padding).encode(encoding))))
    assert plain == found


def test_fei_ini_text_in_base64() -> None:
    assert read_metadata(tiff(bytes_tag(34682, encoded(INI)))) == read_metadata(tiff(text_tag(34682, INI)))


def test_fei_values_are_taken_from_the_tag_that_has_them() -> None:
    found = read_metadata(tiff(bytes_tag(34680, encoded(MEMENTO)), text_tag(34682, INI)))
    assert found.normalised == INI_VALUES
    assert found.verbatim["FEI_SFEG"] == MEMENTO_TREE
    assert set(found.verbatim) == {"FEI_SFEG", "FEI_HELIOS"}


@pytest.mark.parametrize("data", [b"QUJDREVGRw==", b"AAAA", b"/+/+/+", b"key=value", b"\xff\xfe", b"<", b"",
                                  encoded("no XML"), encoded("<"), encoded("<!DOCTYPE a [<!ENTITY b 'c'>]><a/>")],
                         )  # fmt: skip
def test_fei_tags_with_other_content_are_ignored(data: bytes) -> None:
    assert not read_metadata(tiff(bytes_tag(34680, data + b"\0")))


FEI_XML = """<?xml version="1.0"?>
<Metadata xmlns:nil="http://schemas.fei.com/Metadata/v1/2013/07">
  <Instrument><Manufacturer>FEI Company</Manufacturer><InstrumentClass>Helios X</InstrumentClass></Instrument>
  <Acquisition><AcquisitionDatetime>2022-10-04T08:41:33</AcquisitionDatetime></Acquisition>
  <Optics><AccelerationVoltage>2000</AccelerationVoltage><WorkingDistance>0.0038</WorkingDistance></Optics>
  <StageSettings><StagePosition>
    <X>-0.004</X><Y>0.005</Y><Z>0.031</Z><Rotation>0</Rotation><Tilt><Alpha>0.5</Alpha><Beta>0</Beta></Tilt>
  </StagePosition></StageSettings>
  <Detectors><ScanningDetector><DetectorName>ETD</DetectorName><Signal>SE</Signal></ScanningDetector></Detectors>
  <BinaryResult>
    <ImageSize><X>64</X><Y>40</Y></ImageSize>
    <PixelSize><X unit="m" unitPrefixPower="1">2.5E-07</X><Y unit="m" unitPrefixPower="1">2.6E-07</Y></PixelSize>
  </BinaryResult>
</Metadata>"""
FEI_XML_VALUES = InstrumentMetadata(
    vendor="FEI", instrument="Helios X", beam_energy_kev=2.0, working_distance_mm=3.8, pixel_width_nm=250.0,
    pixel_height_nm=260.0, field_width_um=16.0, detector="ETD SE",
    stage=StagePosition(-4.0, 5.0, 31.0, 0.0, pytest.approx(28.6479, abs=1e-4)), acquired="2022-10-04T08:41:33",
    data_bar_px=8,
)  # fmt: skip


@pytest.mark.parametrize("data", [FEI_XML.encode(), encoded(FEI_XML)], ids=["plain", "base64"])
def test_fei_values_in_xml(data: bytes) -> None:
    assert read_metadata(tiff(bytes_tag(34682, data))).normalised == FEI_XML_VALUES
    scaled = read_metadata(tiff(bytes_tag(34682, data), width=32))
    assert (scaled.pixel_width_nm, scaled.field_width_um, scaled.data_bar_px) == (None, None, None)


def test_fei_xml_after_ini_text() -> None:
    found = read_metadata(tiff(text_tag(34682, INI + FEI_XML)))
    assert found.normalised == INI_VALUES
    assert found.verbatim["FEI_HELIOS"]["Metadata"]["Optics"]["AccelerationVoltage"] == "2000"


def test_fei_xml_with_two_detectors_or_another_unit() -> None:
    detector = FEI_XML[FEI_XML.index("<ScanningDetector>") : FEI_XML.index("</Detectors>")]
    found = read_metadata(tiff(text_tag(34683, FEI_XML.replace(detector, 2 * detector).replace('"m"', '"parsec"'))))
    assert (found.detector, found.pixel_width_nm, found.beam_energy_kev) == (None, None, 2.0)


TECNAI = "<Root>" + "".join(
    f"<Data><Label>{label}</Label><Value>{value}</Value><Unit>{unit}</Unit></Data>"
    for label, value, unit in [
        ("Microscope", "Tecnai 200 kV", ""), ("High tension", "200", "kV"), ("Magnification", "40000", "x"),
        ("Mode", "TEM uP SA Zoom Image", ""), ("Stage X", "-120.5", "um"), ("Stage Y", "7", "um"),
        ("Stage Z", "-3", "um"), ("Stage A", "1.5", "deg"), ("Stage B", "0", "deg"),
    ]
) + "</Root>"  # fmt: skip


def test_tecnai_labels() -> None:
    found = read_metadata(tiff(text_tag(34683, TECNAI)))
    assert found.normalised == InstrumentMetadata(
        vendor="FEI", instrument="Tecnai 200 kV", beam_energy_kev=200.0, magnification=40000.0,
        stage=StagePosition(-0.1205, 0.007, -0.003, None, 1.5),
    )  # fmt: skip
    diffraction = read_metadata(tiff(text_tag(34683, TECNAI.replace("Zoom Image", "Zoom Diffraction"))))
    assert (diffraction.magnification, diffraction.beam_energy_kev) == (None, 200.0)
    for broken in ("<Root/>", "<Root>x</Root>", "<Root><Data/></Root>", "<Root><Data><Label/></Data></Root>"):
        assert read_metadata(tiff(text_tag(34683, broken))).normalised == InstrumentMetadata(vendor="FEI")


def test_side_file_of_another_kind_does_not_hide_the_right_one(tmp_path) -> None:
    Image.fromarray(np.zeros((48, 64), np.uint8)).save(tmp_path / "a.tif")
    (tmp_path / "a.txt").write_text("my notes")
    (tmp_path / "a.TXT").write_text(JEOL)
    assert read_metadata(tmp_path / "a.tif").normalised == JEOL_VALUES


LONG = 1 << 18
HOSTILE = {
    "spaces": "A" * 8 + " " * LONG + "!",
    "padding": "A" * 8 + "=" * LONG,
    "base64": base64.b64encode(b"<a>" * LONG).decode(),
    "keys": "$CM_MAG" + " " * LONG + "=" + " " * LONG + "x",
    "long key": "$CM_" + "A" * LONG + " 5\n$CM_MAG 5",
    "lines": "\n" * LONG + "$CM_MAG 5",
    "sections": "[SemImageFile]\n" * (LONG // 15),
    "brackets": "[" * LONG + "SemImageFile" + "]" * LONG,
    "numbers": "$CM_MAG " + "9" * LONG + "\n$CM_PIXEL_SIZE " + "1" * LONG + "nm\n$CM_FIELD_OF_VIEW nan inf",
    "nested": diss_text("<d:HV>" * 25 + "<a>1</a>" * 20_000 + "</d:HV>" * 25),
    "deep": diss_text("<d:HV>" * 10_000),
    "entities": "<!DOCTYPE a [<!ENTITY b '" + "c" * 1000 + "'>]><ImageTags>" + "&b;" * 1000 + "</ImageTags>",
    "nulls": "\0" * LONG,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_are_read_in_bounded_time(name: str) -> None:
    content = HOSTILE[name].encode()
    codes = (270, 700, 34680, 37500, 65000, 65027)
    for data in (tiff(*(bytes_tag(code, content[:LONG]) for code in codes)), tiff()):
        found = read_metadata(data, sidecar=content[:LONG])
        json.dumps(found.to_dict(), allow_nan=False)
