"""Files and tags of Gatan DigitalMicrograph."""

from __future__ import annotations

import contextlib
import io
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from dm_tags import IMAGE_TAGS, dm_file, document
from hypothesis import given, settings
from hypothesis import strategies as st
from twinscope_indexer.errors import ImageError
from twinscope_indexer.metadata.consistency import contradictions
from twinscope_indexer.metadata.digital_micrograph import read_tags
from twinscope_indexer.metadata.model import InstrumentMetadata, StagePosition
from twinscope_indexer.metadata.reader import read_metadata, read_sidecar
from vendor_tags import Extra, bytes_tag, text_tag, tiff

VALUES = InstrumentMetadata(
    vendor="Gatan", instrument="Tecnai Remote", beam_energy_kev=200.0, magnification=51000.0, pixel_width_nm=0.5,
    pixel_height_nm=0.625, field_width_um=0.032, detector="BM-UltraScan",
    stage=StagePosition(-0.4695, 0.12225, 0.01, None, 1.5), acquired="2016-08-27T20:54:33",
)  # fmt: skip


def tags_of(data: bytes) -> dict[str, Any]:
    return read_tags(io.BytesIO(data))


LEAVES = st.one_of(
    st.booleans(), st.integers(-(2**31), 2**31 - 1), st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
    st.lists(st.integers(0, 99), min_size=1, max_size=3),
)  # fmt: skip
TREES = st.recursive(LEAVES, lambda inner: st.dictionaries(st.sampled_from("abcµ"), inner, max_size=4), max_leaves=20)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from("abcµ"), TREES, max_size=4), st.sampled_from([3, 4]), st.sampled_from("<>"))
def test_tags_are_read_as_they_were_written(tree: dict[str, Any], version: int, order: str) -> None:
    assert tags_of(document(tree, version, order)) == tree


def test_long_arrays_are_skipped() -> None:
    tree = {"a": b"\0" * 100_000, "b": "x" * 5000, "c": 1, "": 2}
    assert tags_of(document(tree)) == {"c": 1, "3": 2}


def test_numbers_that_are_not_finite_are_text() -> None:
    assert tags_of(document({"a": float("nan"), "b": [float("inf")]})) == {"a": "nan", "b": ["inf"]}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3000), st.binary(min_size=1, max_size=9)), max_size=5), st.integers(0, 4000))
def test_damaged_files(changes: list[tuple[int, bytes]], end: int) -> None:
    data = bytearray(dm_file(4, tags={**IMAGE_TAGS, "Acquisition": {}}))
    for at, junk in changes:
        data[at : at + len(junk)] = junk
    json.dumps(tags_of(bytes(data)), allow_nan=False)
    json.dumps(tags_of(bytes(data[:end])), allow_nan=False)


def test_hostile_files_are_read_in_part() -> None:
    assert tags_of(b"") == tags_of(b"\0\0\0\5" + bytes(100)) == {}
    deep: dict[str, Any] = {}
    for _ in range(200):
        deep = {"a": deep}
    assert str(tags_of(document(deep))).count("a") == 32
    many = tags_of(document({"a": {str(index): index for index in range(25_000)}}))
    assert len(many["a"]) == 19_999
    texts = tags_of(document({str(index): "x" * 4000 for index in range(200)}))
    assert sum(map(len, texts.values())) <= 1 << 18
    endless = struct.pack(">IIIBBI", 3, 0, 1, 1, 0, 0xFFFFFFFF) + struct.pack(">BH", 20, 0) * 10
    assert str(tags_of(endless)).count("0") == 4
    array = b"%%%%" + struct.pack(">4Q", 3, 20, 4, 1 << 62)
    assert tags_of(struct.pack(">IQIBBQ", 4, 0, 1, 1, 0, 1) + struct.pack(">BHQ", 21, 0, 0) + array) == {}


def gms(order: str = "<", units: str = "nm", tags: dict[str, Any] = IMAGE_TAGS, **options: int) -> bytes:
    """A TIFF file of DigitalMicrograph."""
    sizes: list[Extra] = [(65009, 12, 1, 0.5, True), (65010, 12, 1, 0.625, True)]
    names = [text_tag(65003, units), text_tag(65004, units)]
    return tiff(*names, *sizes, bytes_tag(65027, document(tags, 4)), byteorder=order, **options)


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_files_of_digital_micrograph(order: str) -> None:
    found = read_metadata(gms(order))
    assert found.normalised == VALUES
    assert found.verbatim["DigitalMicrograph"]["Microscope Info"]["Emission Current (µA)"] == 1.5
    assert read_metadata(gms(units="µm")).pixel_width_nm == 500.0


@pytest.mark.parametrize("units", ["1/nm", "", "eV"])
def test_units_that_are_no_lengths_give_no_scale(units: str) -> None:
    found = read_metadata(gms(units=units))
    assert (found.pixel_width_nm, found.pixel_height_nm, found.field_width_um) == (None, None, None)
    assert found.beam_energy_kev == 200.0


def test_diffraction_patterns_have_no_magnification() -> None:
    info = {**IMAGE_TAGS["Microscope Info"], "Operation Mode": "DIFFRACTION"}
    assert read_metadata(gms(tags={**IMAGE_TAGS, "Microscope Info": info})).magnification is None


@pytest.mark.parametrize("name", ["a.dm3", "a.dm4", "a.DM3"])
def test_file_beside_an_image(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.tif").write_bytes(tiff())
    (tmp_path / name).write_bytes(dm_file(4 if name.endswith("4") else 3))
    (tmp_path / "a.txt").write_text("my notes")
    found = read_metadata(tmp_path / "a.tif")
    assert found.normalised == VALUES
    assert read_metadata(tiff(), sidecar=read_sidecar(tmp_path / "a.tif")) == found
    assert contradictions(found, InstrumentMetadata("FEI", beam_energy_kev=200.0)) == []


def test_image_of_another_size_than_the_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(width=32))
    (tmp_path / "a.dm3").write_bytes(dm_file())
    found = read_metadata(tmp_path / "a.tif")
    assert (found.pixel_width_nm, found.field_width_um, found.beam_energy_kev) == (None, None, 200.0)


def test_other_files_with_this_ending_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff())
    for content in (b"", b"notes", document({}), document({"ImageList": {}}), document({"ImageList": 5})):
        (tmp_path / "a.dm3").write_bytes(content)
        assert not read_metadata(tmp_path / "a.tif")


@pytest.mark.parametrize(
    "text", ["", "[" * 100_000, "5}", '{"ImageList": [1]}}', '{"ImageList": {"0": {"ImageTags": []}}}}', "{}}"]
)
def test_hostile_text_instead_of_a_file(text: str) -> None:
    with contextlib.suppress(ImageError):
        found = read_metadata(tiff(), sidecar=b'{"DigitalMicrograph": ' + text.encode())
        json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize("bad", ["nan", None, [1], {"a": 1}, True, "12 kV"])
def test_tags_of_another_type_are_not_read(bad: object) -> None:
    values = {"Voltage": bad, "Indicated Magnification": bad, "Stage Position": bad, "Name": 5}
    values = {name: value for name, value in values.items() if value is not None}
    found = read_metadata(gms(tags={"Microscope Info": values, "DataBar": 5, "Acquisition": {"Device": {"Name": 5}}}))
    assert (found.beam_energy_kev, found.magnification, found.stage) == (None, None, StagePosition())
