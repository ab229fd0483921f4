"""Instrument metadata, from the file to the answer: catalog, contradictions, tables, sidecars and server."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from twinscope.v1 import catalog_pb2
from twinscope_client import aio, connect
from twinscope_client.cli.main import main
from twinscope_client.demo.micrographs import synthesise
from twinscope_client.labelling.sidecar import sidecar_path
from twinscope_client.testing import serving
from twinscope_indexer.indexing.run import index
from twinscope_indexer.metadata.reader import InstrumentMetadata, StagePosition, read_metadata
from twinscope_indexer.store.reader import Store
from vendor_tags import text_tag, zeiss_text

Pixels = NDArray[np.uint8]
OTHER_DETECTOR = "different detectors: SE2 and InLens"


def zeiss_tiff(path: Path, pixels: Pixels, **changes: str | None) -> Path:
    """Write a TIFF with metadata in the form of Zeiss, without the scale, which belongs to another image size."""
    unscaled = {"AP_IMAGE_PIXEL_SIZE": None, "AP_WIDTH": None, "DP_IMAGE_STORE": None}
    tag = text_tag(34118, zeiss_text(**(unscaled | changes)))
    tifffile.imwrite(path, pixels, metadata=None, extratags=[tag])
    return path


def micrograph(number: int) -> Pixels:
    return synthesise("Tips", number, width=320, height=240).astype(np.uint8)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a store of three references, two of them with metadata, and queries of the same fields."""
    root = tmp_path_factory.mktemp("instruments")
    references, queries = root / "collection" / "Tips", root / "queries"
    references.mkdir(parents=True)
    queries.mkdir()
    zeiss_tiff(references / "zeiss.tif", micrograph(0))
    Image.fromarray(micrograph(1)).save(references / "plain.jpg", quality=100)
    Image.fromarray(micrograph(2)).save(references / "beside.png")
    (references / "beside.txt").write_text("$CM_FORMAT \n$CM_INSTRUMENT JSM-7001F\n$CM_ACCEL_VOLT 15.00\n")
    index([root / "collection"], root / "store", workers=1)
    zeiss_tiff(queries / "same.tif", micrograph(0))
    zeiss_tiff(queries / "other.tif", micrograph(0), DP_DETECTOR_TYPE="Detector = SE2", DP_DETECTOR_CHANNEL=None)
    tifffile.imwrite(queries / "silent.tif", micrograph(0))
    zeiss_tiff(queries / "plain.tif", micrograph(1))
    tifffile.imwrite(queries / "beside.tif", micrograph(2))
    (queries / "beside.txt").write_text("$CM_FORMAT \n$CM_INSTRUMENT JSM-7001F\n$CM_ACCEL_VOLT 5.00\n")
    return root


Ask = Callable[[Any], Any]


@pytest.fixture(params=["embedded", "remote", "aio"])
def ask(request: pytest.FixtureRequest, lab: Path) -> Iterator[Ask]:
    if request.param == "embedded":
        with connect(lab / "store") as engine:
            yield engine.search
        return
    with serving(lab / "store") as target:
        if request.param == "remote":
            with connect(target) as engine:
                yield engine.search
            return

        async def search(image: Any, **options: Any) -> Any:
            async with aio.connect(target) as engine:
                return await engine.search(image, **options)

        yield lambda image, **options: asyncio.run(search(image, **options))


def test_catalog_keeps_normalised_and_verbatim_metadata(lab: Path) -> None:
    store = Store(lab / "store")
    try:
        records = {Path(record.path).name: record for record in store.catalog.all_records()}
        known = store.catalog.instruments([record.id for record in records.values()])
        assert known.keys() == {records["zeiss.tif"].id, records["beside.png"].id}
        found = known[records["zeiss.tif"].id]
        assert (found.vendor, found.detector, found.beam_energy_kev) == ("Zeiss", "InLens", 5.0)
        assert found.verbatim == {}
        whole = read_metadata(lab / "collection" / "Tips" / "zeiss.tif")
        assert found == whole.normalised
        assert store.catalog.verbatim(records["zeiss.tif"].id) == whole.verbatim != {}
        assert store.catalog.verbatim(records["plain.jpg"].id) == {}
        assert known[records["beside.png"].id].beam_energy_kev == 15.0
    finally:
        store.close()


def test_agreement_is_neutral_and_shown(ask: Ask, lab: Path) -> None:
    answer = ask(lab / "queries" / "same.tif")
    assert (answer.grade, answer.best.contradictions) == ("excellent", ())
    assert answer.instrument == answer.best.instrument
    assert answer.instrument.stage == StagePosition(69.3945, -59.698, 47.323, 350.0, 0.0)
    document = json.loads(json.dumps(answer.to_dict()))
    assert document["instrument"]["working_distance_mm"] == 8.2
    assert document["matches"][0]["instrument"]["detector"] == "InLens"


@pytest.mark.parametrize("name", ["silent.tif", "plain.tif"])
def test_metadata_of_one_image_only_is_neutral(ask: Ask, lab: Path, name: str) -> None:
    answer = ask(lab / "queries" / name)
    assert answer.grade == "excellent"
    assert (answer.instrument is None) == (name == "silent.tif")
    assert (answer.best.instrument is None) == (name == "plain.tif")


def test_contradiction_removes_the_label(ask: Ask, lab: Path) -> None:
    answer = ask(lab / "queries" / "other.tif")
    assert (answer.grade, answer.category, answer.best.contradictions) == ("doubtful", None, (OTHER_DETECTOR,))
    assert answer.best.ssim > 0.99
    assert OTHER_DETECTOR in answer.reason
    assert (
        ask(lab / "queries" / "other.tif", policy="legacy").grade == "excellent"
    )  # the legacy scripts read no metadata


def test_text_file_next_to_the_query_is_used(ask: Ask, lab: Path) -> None:
    answer = ask(lab / "queries" / "beside.tif")
    assert (answer.grade, answer.instrument.beam_energy_kev) == ("doubtful", 5.0)
    assert answer.best.contradictions == ("different beam energies: 5 keV and 15 keV",)
    assert (
        ask((lab / "queries" / "beside.tif").read_bytes()).grade == "excellent"
    )  # bytes have no text file beside them


def test_given_metadata_override_the_file(ask: Ask, lab: Path) -> None:
    known = InstrumentMetadata(vendor="Zeiss", detector="SE2", verbatim={"of": "no interest"})
    answer = ask(lab / "queries" / "same.tif", instrument=known)
    assert (answer.grade, answer.instrument) == ("doubtful", known.normalised)
    pixels = ask(micrograph(0), instrument=known)
    assert (pixels.grade, pixels.instrument) == ("doubtful", known.normalised)
    assert ask(micrograph(0)).instrument is None


def test_metadata_of_stored_queries_are_compared(lab: Path) -> None:
    with connect(lab / "store") as engine, serving(lab / "store") as target, connect(target) as remote:
        number = ask_id(engine, lab / "queries" / "same.tif")
        answer = engine.search_stored(number, max_distance=1024)
        assert answer.instrument is not None
        assert answer.instrument.vendor == "Zeiss"
        assert remote.search_stored(number, max_distance=1024) == answer
        message = remote._stubs.catalog.GetImage(catalog_pb2.GetImageRequest(image_id=number))
        assert (message.instrument.vendor, message.instrument.stage.tilt_deg) == ("Zeiss", 0.0)


def ask_id(engine: Any, image: Path) -> str:
    return str(engine.search(image).best.image_id)


def table(out: Path, name: str) -> dict[str, dict[str, str]]:
    with (out / name).open(encoding="utf-8", newline="") as stream:
        return {row["TIFF_file"]: row for row in csv.DictReader(stream)}


def test_tables_and_sidecars(lab: Path, tmp_path: Path) -> None:
    command = ["label", str(lab / "queries"), "--at", str(lab / "store"), "--sidecar"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    matches, review = table(tmp_path / "out", "matches.csv"), table(tmp_path / "out", "review.csv")
    assert matches.keys() == {"same.tif", "silent.tif", "plain.tif"}
    row = matches["same.tif"]
    assert (row["vendor"], row["detector"], row["stage_x_mm"]) == ("Zeiss", "InLens", "69.3945")
    assert (row["beam_energy_kev"], row["acquired"]) == ("5.0", "2021-04-26T17:58:45")
    assert 0 < float(row["p_wrong"]) <= float(row["p_wrong_high"]) < 0.05
    assert matches["silent.tif"]["vendor"] == ""
    assert review["other.tif"]["contradictions"] == OTHER_DETECTOR
    copy = tmp_path / "out" / row["output_path"]
    sidecar = json.loads(sidecar_path(copy).read_text(encoding="utf-8"))
    assert sidecar["instrument"] == read_metadata(lab / "queries" / "same.tif").to_dict()
    assert sidecar["instrument"]["verbatim"]
    assert (sidecar["label"]["category"], sidecar["label"]["query_sha256"]) == ("Tips", row["query_sha256"])
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in copy.parent.iterdir()}
    assert len(before) == 2 * len(matches)
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in copy.parent.iterdir()} == before
    sidecar_path(copy).unlink()
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    assert {path: path.read_bytes() for path in copy.parent.iterdir()} == {p: data for p, (data, _) in before.items()}


def test_sidecars_can_be_added_later(lab: Path, tmp_path: Path) -> None:
    command = ["label", str(lab / "queries"), "--at", str(lab / "store"), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    copy = tmp_path / "out" / table(tmp_path / "out", "matches.csv")["same.tif"]["output_path"]
    assert not sidecar_path(copy).exists()
    assert main([*command, "--sidecar"]) == 0
    assert sidecar_path(copy).exists()


@pytest.mark.parametrize("content", [b"notes", b"{}", b'{"kind": "twinscope label/1", "label": {"query_sha256": "0"}}'])
def test_foreign_file_is_not_overwritten_by_a_sidecar(
    lab: Path, tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = tmp_path / "out" / "Tips" / "L9_same.tif.json"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(content)
    command = ["label", str(lab / "queries" / "same.tif"), "--at", str(lab / "store"), "--sidecar"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 1
    assert foreign.read_bytes() == content
    assert "is not the sidecar of this image" in capsys.readouterr().err


def test_sidecar_of_the_same_image_is_updated(lab: Path, tmp_path: Path) -> None:
    command = ["label", str(lab / "queries" / "same.tif"), "--at", str(lab / "store"), "--sidecar"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    [path] = (tmp_path / "out" / "Tips").glob("*.json")
    first = json.loads(path.read_text(encoding="utf-8"))
    assert main([*command, "--out", str(tmp_path / "out"), "--max-distance", "200"]) == 0
    second = json.loads(path.read_text(encoding="utf-8"))
    assert (first["label"]["policy"], second["label"]["policy"]) == ("default", "default+changes")


def test_too_long_name_is_ignored(tmp_path: Path) -> None:
    path = zeiss_tiff(tmp_path / "long.tif", micrograph(0), DP_DETECTOR_TYPE=f"Detector = {'x' * 3000}",
                      DP_DETECTOR_CHANNEL=None)  # fmt: skip
    found = read_metadata(path)
    assert found.detector is None
    assert "x" * 200 in json.dumps(found.verbatim)
