"""Labelling: copies and names are correct, and no file is lost or overwritten if runs are stopped or files change."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from interruptible import run_to_end
from PIL import Image
from shelf import Shelf
from twinscope_client import connect
from twinscope_client.cli.main import main
from twinscope_client.demo.micrographs import synthesise
from twinscope_client.errors import OutputError
from twinscope_client.labelling.journal import JOURNAL_NAME, Decision, Journal
from twinscope_client.labelling.run import LabelReport, LabelSettings, count_queries, label
from twinscope_client.labelling.sidecar import sidecar_path
from twinscope_client.labelling.tables import write_tables
from twinscope_client.outputs import RESULTS
from twinscope_indexer.errors import SourceError
from twinscope_indexer.hashing.perceptual import phash
from twinscope_indexer.imaging.reader import read_image
from twinscope_indexer.indexing.relocation import relocate
from twinscope_indexer.indexing.run import index
from twinscope_indexer.sources.corpus import RUN_MARKER, is_run
from twinscope_indexer.store.reader import open_writer
from twinscope_indexer.taxonomy import builtin_taxonomy
from twinscope_service.matching.policy import POLICIES, named_policy

_NUMBER = re.compile(r"-?\d+\.\d+(e-\d+)?")
_HISTORICAL = ["TIFF_file", "TIFF_path", "JPEG_file", "JPEG_path", "hamming_distance", "ssim_score", "used_ssim"]


def run(lab: Path | list[Path], store: Path, out: Path, **settings: Any) -> LabelReport:
    with connect(store) as engine:
        journal = Journal(out)
        try:
            chosen = LabelSettings(**{"workers": 2} | settings)
            report = label(lab if isinstance(lab, list) else [lab], engine, journal, out, chosen)
            write_tables(journal)
        finally:
            journal.close()
    return report


def rows(out: Path, table: str = "matches.csv") -> list[dict[str, str]]:
    with (out / table).open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        return list(csv.DictReader(stream))


def decisions(out: Path) -> dict[str, Decision]:
    journal = Journal(out, create=False)
    try:
        return {Path(decision.path).name: decision for decision in journal.decisions()}
    finally:
        journal.close()


def copies(out: Path) -> dict[str, bytes]:
    """Return every file in the category folders, including hidden ones."""
    folders = [folder for folder in out.iterdir() if folder.is_dir() and folder.name != "plots"]
    return {
        str(path.relative_to(out)): path.read_bytes()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return the content and time of every file and folder."""
    return {
        str(path.relative_to(folder)): (path.read_bytes() if path.is_file() else b"", path.lstat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }


def rounded(row: dict[str, str]) -> dict[str, str | float]:
    return {key: round(float(text), 6) if _NUMBER.fullmatch(text) else text for key, text in row.items()}


def noisy(pixels: np.ndarray, strength: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, strength, pixels.shape)
    return np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.fixture
def lab(shelf: Shelf, tmp_path: Path) -> Path:
    """Two sessions: twins of all kinds, two of them with the same name; an image without a twin, a blank and a broken
    image."""
    folder = tmp_path / "lab"
    for session in ("a", "b"):
        (folder / session).mkdir(parents=True)
    tifffile.imwrite(folder / "a" / "overview.tif", shelf.pixels["Tips", 0])
    tifffile.imwrite(folder / "b" / "overview.tif", shelf.pixels["Tips", 1])
    tifffile.imwrite(folder / "a" / "deep.tif", shelf.pixels["Fibres", 0].astype(np.uint16) << 8)
    tifffile.imwrite(folder / "b" / "noisy.tif", noisy(shelf.pixels["Particles", 1], 14))
    tifffile.imwrite(folder / "b" / "foreign.tif", synthesise("Powder", 50, width=320, height=240).astype(np.uint8))
    tifffile.imwrite(folder / "a" / "blank.tif", np.full((240, 320), 9, np.uint8))
    tifffile.imwrite(folder / "a" / "broken.tif", shelf.pixels["Tips", 0])
    truncate(folder / "a" / "broken.tif")
    (folder / "notes.txt").write_text("no image")
    os.utime(folder / "a" / "deep.tif", ns=(1_500_000_000_123_456_789, 1_600_000_000_987_654_321))
    return folder


_COPIES = {
    "Tips/L9_overview.tif": "a/overview.tif",
    "Tips/L9_overview_2.tif": "b/overview.tif",
    "Fibres/L1_deep.tif": "a/deep.tif",
    "Particles/L5_noisy.tif": "b/noisy.tif",
}


def expected(lab: Path) -> dict[str, bytes]:
    return {copy: (lab / source).read_bytes() for copy, source in _COPIES.items()}


# -- outputs ---------------------------------------------------------------------------------------------------------


def test_every_image_is_labelled_or_listed(lab: Path, shelf: Shelf, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = run(lab, shelf.store, out)
    assert copies(out) == expected(lab)
    assert report.counts == {
        "excellent": 3, "good": 1, "none": 1, "unhashable": 1, "failed": 1, "written": 4, "reused": 0,
    }  # fmt: skip
    assert report.ignored == {".txt": 1}
    assert [row["TIFF_file"] for row in rows(out)] == ["deep.tif", "overview.tif", "noisy.tif", "overview.tif"]
    assert [row["TIFF_file"] for row in rows(out, "review.csv")] == ["blank.tif", "foreign.tif"]
    assert [row["TIFF_file"] for row in rows(out, "failures.csv")] == ["broken.tif"]
    assert "strips or tiles" in rows(out, "failures.csv")[0]["reason"]
    assert rows(out, "failures.csv")[0]["fault"] == "truncated"
    assert count_queries([lab], out) == 7


def test_copies_keep_times_and_mode(lab: Path, shelf: Shelf, tmp_path: Path) -> None:
    (lab / "a" / "deep.tif").chmod(0o600)
    run(lab, shelf.store, tmp_path / "out")
    found, source = (tmp_path / "out/Fibres/L1_deep.tif").stat(), (lab / "a" / "deep.tif").stat()
    assert (found.st_mtime_ns, found.st_mode) == (source.st_mtime_ns, source.st_mode)


def test_matches_begin_with_the_seven_historical_columns(lab: Path, shelf: Shelf, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(lab, shelf.store, out)
    header = (out / "matches.csv").read_text().splitlines()[0].split(",")
    assert header[:7] == _HISTORICAL
    assert header[7:11] == ["grade", "category", "code", "scene_score"]
    found = rows(out)[0]
    reference = shelf.reference("Fibres", 0)
    assert found["TIFF_path"] == str(lab / "a" / "deep.tif")
    assert (found["JPEG_file"], found["JPEG_path"]) == (reference.name, str(reference))
    assert (found["grade"], found["category"], found["code"], found["used_ssim"]) == (
        "excellent", "Fibres", "L1", "True",
    )  # fmt: skip
    assert float(found["ssim_score"]) > 0.95
    assert int(found["hamming_distance"]) < 50
    assert found["published_prefix"] == "L9"  # recorded, but not used
    assert found["query_sha256"] == sha256((lab / "a" / "deep.tif").read_bytes()).hexdigest()


def test_every_label_has_its_provenance(lab: Path, shelf: Shelf, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(lab, shelf.store, out)
    records = [json.loads(line) for line in (out / "labels.jsonl").read_text().splitlines()]
    assert {record["output"]: record["query"] for record in records} == {
        copy: str(lab / source) for copy, source in _COPIES.items()
    }
    for record in records:
        assert sha256((out / record["output"]).read_bytes()).hexdigest() == record["query_sha256"]
        assert record["labelled_at"].endswith("Z")
        assert record["generation"] == 1
        assert record["recipe"]
        assert record["taxonomy"] == builtin_taxonomy().version


def test_every_result_records_how_a_twin_was_found(shelf: Shelf, tmp_path: Path) -> None:
    lab, out = tmp_path / "lab", tmp_path / "out"
    lab.mkdir()
    tifffile.imwrite(lab / "unchanged.tif", shelf.pixels["Tips", 0])
    tifffile.imwrite(lab / "cut.tif", shelf.pixels["Fibres", 0][:214])
    tifffile.imwrite(lab / "turned.tif", np.rot90(shelf.pixels["Particles", 0]).copy())
    tifffile.imwrite(lab / "shifted.tif", shelf.pixels["Particles", 1][:, 20:])
    run(lab, shelf.store, out, sidecar=True, policy=POLICIES["default"].adjusted({"max_p_wrong": 1}))
    records = {json.loads(line)["query"]: json.loads(line) for line in (out / "labels.jsonl").read_text().splitlines()}
    found = {row["TIFF_path"]: row for row in rows(out)}
    assert len(found) == 4
    with connect(shelf.store) as engine:
        answers = {path: engine.search(path) for path in found}
    assert answers[str(lab / "unchanged.tif")].best.transform is None
    across, down = answers[str(lab / "shifted.tif")].best.shift
    assert abs(across) > 0.01 > abs(down)
    assert "rotated" in answers[str(lab / "turned.tif")].best.transform.symmetry
    assert answers[str(lab / "cut.tif")].best.transform.reference_frame != "whole"
    for path, answer in answers.items():
        row, record, best, chance = found[path], records[path], answer.best, answer.p_wrong
        sidecar = json.loads(sidecar_path(out / row["output_path"]).read_text("utf-8"))
        assert {key: record[key] for key in sidecar["label"]} == sidecar["label"]
        transform = best.transform
        names = ("", "whole", "whole") if transform is None else (
            transform.symmetry, transform.query_frame, transform.reference_frame,
        )  # fmt: skip
        assert (row["symmetry"], row["query_frame"], row["reference_frame"]) == names
        assert tuple(record["transform"].values()) == names
        assert list(record["transform"]) == ["symmetry", "query_frame", "reference_frame"]
        assert (float(row["shift_x"]), float(row["shift_y"])) == tuple(record["shift"]) == best.shift
        assert float(row["p_wrong_low"]) == record["p_wrong_low"] == chance.low
        assert (record["p_wrong"], record["p_wrong_high"]) == (chance.estimate, chance.high)


def test_texts_like_spreadsheet_formulas_get_an_apostrophe(tmp_path: Path) -> None:
    link = '=HYPERLINK("http://x")'
    instrument = {"detector": link, "vendor": "\t+1", "stage": {"x_mm": -3.5}, "instrument": "a=b"}
    common = Decision(
        "/lab/-x.tif", 1, 1, "ab" * 32, "s", "t", "good", "+reason", category="@Tips", code="-L1", ssim=-0.25,
        output="@Tips/-L1_x.tif", written=True, match_source="=r.jpg", instrument=json.dumps(instrument), shift_x=-0.01,
    )  # fmt: skip
    journal = Journal(tmp_path)
    journal.put(common)
    journal.put(replace(common, path="/lab/@y.tif", grade="doubtful", output="", contradictions="\rno"))
    journal.put(replace(common, path="/lab/=z.tif", grade="failed", output="", reason="-1 strips"))
    write_tables(journal)
    journal.close()
    [match], [review], [failure] = (rows(tmp_path, f"{name}.csv") for name in ("matches", "review", "failures"))
    expected = {
        "TIFF_file": "'-x.tif", "TIFF_path": "/lab/-x.tif", "JPEG_path": "'=r.jpg", "ssim_score": "-0.25",
        "category": "'@Tips", "code": "'-L1", "reason": "'+reason", "output_path": "'@Tips/-L1_x.tif",
        "detector": f"'{link}", "vendor": "'\t+1", "instrument": "a=b", "stage_x_mm": "-3.5", "shift_x": "-0.01",
    }  # fmt: skip
    assert {name: match[name] for name in expected} == expected
    assert (review["TIFF_file"], review["contradictions"], review["shift_x"]) == ("'@y.tif", "'\rno", "-0.01")
    assert (failure["TIFF_file"], failure["TIFF_path"], failure["reason"]) == ("'=z.tif", "/lab/=z.tif", "'-1 strips")
    record = json.loads((tmp_path / "labels.jsonl").read_text())
    assert (record["category"], record["output"]) == ("@Tips", "@Tips/-L1_x.tif")


def test_review_list_shows_the_rival_of_an_ambiguous_image(shelf: Shelf, tmp_path: Path) -> None:
    pixels = shelf.pixels["Tips", 0]
    for category in ("Tips", "Powder"):
        (tmp_path / "refs" / category).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "refs" / category / "x.png")
    index([tmp_path / "refs"], tmp_path / "store", workers=1)
    (tmp_path / "lab").mkdir()
    tifffile.imwrite(tmp_path / "lab" / "q.tif", pixels)
    report = run(tmp_path / "lab", tmp_path / "store", tmp_path / "out")
    assert report.counts["ambiguous"] == 1
    assert copies(tmp_path / "out") == {}
    [row] = rows(tmp_path / "out", "review.csv")
    assert {row["category"], row["rival_category"]} == {"Tips", "Powder"}
    assert {row["JPEG_path"], row["rival_path"]} == {
        str(tmp_path / "refs" / category / "x.png") for category in ("Tips", "Powder")
    }
    assert row["rival_ssim"] == "1.0"


def test_minimum_grade_excellent(lab: Path, shelf: Shelf, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(lab, shelf.store, out, min_grade="excellent")
    assert "Particles/L5_noisy.tif" not in copies(out)
    assert len(copies(out)) == 3
    assert "noisy.tif" in [row["TIFF_file"] for row in rows(out, "review.csv")]


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{code}{stem}{suffix}", "Fibres/L1deep.tif"),
        ("{category}-{grade}-{stem}{suffix}", "Fibres/Fibres-excellent-deep.tif"),
        ("{stem}", "Fibres/deep"),
        ("../../{stem}{suffix}", "Fibres/_.._deep.tif"),
        ("a{{b}}{stem:>6}{suffix}", "Fibres/a{b}  deep.tif"),
    ],
)
def test_names_follow_the_template(lab: Path, shelf: Shelf, tmp_path: Path, template: str, name: str) -> None:
    run(lab / "a" / "deep.tif", shelf.store, tmp_path / "out", template=template)
    assert list(copies(tmp_path / "out")) == [name]


@pytest.mark.parametrize(
    "template",
    ["{code}", "x.tif", "{stem}{nothing}", "{stem", "{}{stem}", "{0}{stem}", "{stem[0]}", "{stem.x}", "{stem:d}",
     "{stem!z}", "{stem:{code}}"],
)  # fmt: skip
def test_invalid_templates_are_refused(template: str) -> None:
    with pytest.raises(ValueError, match="name template"):
        LabelSettings(template=template)


def test_the_jpeg_is_named_by_the_short_hash(lab: Path, shelf: Shelf, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(lab, shelf.store, out, jpeg=True)
    pixels = read_image(lab / "a" / "deep.tif").pixels
    digits = blake2b(phash(pixels).tobytes(), digest_size=16).hexdigest()
    with Image.open(out / "Fibres" / f"L1_{digits}.jpg") as image:
        assert image.format == "JPEG"
        found = np.asarray(image)
        tables = image.quantization  # type: ignore[attr-defined]
    assert np.abs(found.astype(int) - pixels).max() <= 3
    best = io.BytesIO()
    Image.fromarray(pixels).save(best, "JPEG", quality=100)
    assert tables == Image.open(best).quantization  # type: ignore[attr-defined]
    assert len(copies(out)) == 8
    assert {row["jpeg_output_path"] for row in rows(out)} <= set(copies(out))


def test_images_with_one_hash_get_separate_jpegs(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    pixels = shelf.pixels["Tips", 0]
    tifffile.imwrite(tmp_path / "lab" / "a.tif", pixels)
    tifffile.imwrite(tmp_path / "lab" / "b.tif", np.where(pixels == pixels.max(), pixels - 1, pixels).astype(np.uint8))
    tifffile.imwrite(tmp_path / "lab" / "c.tif", pixels, description="the same pixels in another file")
    run(tmp_path / "lab", shelf.store, tmp_path / "out", jpeg=True)
    assert len({row["jpeg_output_path"] for row in rows(tmp_path / "out")}) == 3
    assert len(copies(tmp_path / "out")) == 6


@pytest.mark.parametrize("link", ["hard", "sym"])
def test_links_instead_of_copies(lab: Path, shelf: Shelf, tmp_path: Path, link: str) -> None:
    out = tmp_path / "out"
    run(lab, shelf.store, out, link=link)
    assert copies(out) == expected(lab)
    for copy, source in _COPIES.items():
        assert (out / copy).is_symlink() == (link == "sym")
        assert (out / copy).samefile(lab / source)
    before = snapshot(out)
    run(lab, shelf.store, out, link=link)
    assert snapshot(out) == before


def test_overlapping_sources_are_labelled_once(lab: Path, shelf: Shelf, tmp_path: Path) -> None:
    report = run([lab / "a" / "deep.tif", lab / "a", lab, lab / "b" / "noisy.tif"], shelf.store, tmp_path / "out")
    assert copies(tmp_path / "out") == expected(lab)
    assert report.counts["excellent"] + report.counts["good"] == 4


# -- unusual names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        b"two words.tif",
        b'it\'s "quoted", with commas; and $(date).tif',
        b"line\nbreak\r.tif",
        "Møller – 5 µm 電子.tif".encode(),
        b"caf\xe9 \xff.tif",
        b"-rf.tif",
        b"{code}.tif",
        b"x" * 246 + b".tif",
        "é".encode() * 123 + b".tif",
        b"UPPER.TIFF",
        b"=cmd().tif",
    ],
)
def test_unusual_file_names(shelf: Shelf, tmp_path: Path, name: bytes) -> None:
    lab, out = tmp_path / "lab", tmp_path / "out"
    lab.mkdir()
    source = lab / os.fsdecode(name)
    tifffile.imwrite(source, shelf.pixels["Tips", 0])
    run(lab, shelf.store, out, jpeg=True)
    [row] = rows(out)
    assert row["TIFF_path"] == str(source)
    assert row["TIFF_file"].removeprefix("'") == source.name
    assert row["TIFF_file"].startswith("'") == (name[:1] in (b"-", b"="))
    assert (out / row["output_path"]).read_bytes() == source.read_bytes()
    assert Path(row["output_path"]).parent == Path("Tips")
    assert (out / row["jpeg_output_path"]).is_file()
    before = snapshot(out)
    run(lab, shelf.store, out, jpeg=True)
    assert snapshot(out) == before


def test_long_names_that_become_equal_are_both_kept(shelf: Shelf, tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    lab.mkdir()
    for number, end in enumerate("ab"):
        tifffile.imwrite(lab / ("x" * 245 + end + ".tif"), shelf.pixels["Tips", number])
    run(lab, shelf.store, tmp_path / "out")
    assert sorted(copies(tmp_path / "out").values()) == sorted(path.read_bytes() for path in lab.iterdir())


def test_single_file_with_a_very_long_suffix(shelf: Shelf, tmp_path: Path) -> None:
    source = tmp_path / ("x." + "y" * 250)
    tifffile.imwrite(source, shelf.pixels["Tips", 0])
    run(source, shelf.store, tmp_path / "out")
    assert list(copies(tmp_path / "out").values()) == [source.read_bytes()]


@pytest.mark.parametrize(
    "category", ["../x", "/etc", "..", ".", "", "a/b", "~", "-rf", "x" * 300, "run.sqlite", "a\nb", "C:\\x", "..."]
)
def test_no_category_leaves_the_output_folder(shelf: Shelf, tmp_path: Path, category: str) -> None:
    home = tmp_path / "home"
    (home / "Tips").mkdir(parents=True)
    Image.fromarray(shelf.pixels["Tips", 0]).save(home / "Tips" / "x.png")
    index([home / "Tips"], home / "store", workers=1)
    with open_writer(home / "store") as writer:  # categories that a taxonomy would not accept
        [record] = writer.catalog.all_records()
        writer.catalog.relabel(record.id, category, category, "test", writer.generation)
        writer.publish()
    (home / "lab").mkdir()
    tifffile.imwrite(home / "lab" / "q.tif", shelf.pixels["Tips", 0])
    before = {path for path in tmp_path.rglob("*") if "out" not in path.relative_to(tmp_path).parts}
    report = run(home / "lab", home / "store", home / "out", jpeg=True)
    assert {path for path in tmp_path.rglob("*") if "out" not in path.relative_to(tmp_path).parts} == before
    assert report.problems == []
    [row] = rows(home / "out")
    sign = "'" if category.startswith("-") else ""  # spreadsheets interpret it as a formula
    assert row["category"] == f"{sign}{category}"
    for column in ("output_path", "jpeg_output_path"):
        path = home / "out" / row[column].removeprefix(sign)
        assert path.resolve().parent.parent == (home / "out").resolve()
        assert path.is_file()


def test_reference_path_that_is_not_utf_8(shelf: Shelf, tmp_path: Path) -> None:
    for category in (b"Tips", b"Powder"):
        folder = tmp_path / os.fsdecode(b"r\xe9f") / os.fsdecode(category)
        folder.mkdir(parents=True)
        Image.fromarray(shelf.pixels["Tips", 0]).save(folder / os.fsdecode(b"\xff.png"))
    index([tmp_path / os.fsdecode(b"r\xe9f")], tmp_path / "store", workers=1)
    tifffile.imwrite(tmp_path / "q.tif", shelf.pixels["Tips", 0])
    run(tmp_path / "q.tif", tmp_path / "store", tmp_path / "out")
    [row] = rows(tmp_path / "out", "review.csv")
    assert row["grade"] == "ambiguous"
    assert Path(row["JPEG_path"]).is_file()
    assert Path(row["rival_path"]).is_file()
    (tmp_path / os.fsdecode(b"r\xe9f") / "Powder" / os.fsdecode(b"\xff.png")).unlink()
    index([tmp_path / os.fsdecode(b"r\xe9f")], tmp_path / "store", workers=1, prune=True)
    run(tmp_path / "q.tif", tmp_path / "store", tmp_path / "out")
    record = json.loads((tmp_path / "out" / "labels.jsonl").read_text("utf-8"))
    assert record["match_source"] == f"{tmp_path}/r\\xe9f/Tips/\\xff.png"


@pytest.mark.parametrize("category", ["plots", "Plots", "report.html", "matches.csv", "run.sqlite", "summary.json"])
def test_category_with_the_name_of_a_result(shelf: Shelf, tmp_path: Path, category: str) -> None:
    (tmp_path / "refs" / category).mkdir(parents=True)
    Image.fromarray(shelf.pixels["Tips", 0]).save(tmp_path / "refs" / category / "x.jpg", quality=100)
    index([tmp_path / "refs"], tmp_path / "store", keep_unknown=True, workers=1)
    (tmp_path / "lab").mkdir()
    source, out = tmp_path / "lab" / "distance.png", tmp_path / "out"
    Image.fromarray(shelf.pixels["Tips", 0]).save(source)
    command = ["label", str(tmp_path / "lab"), "--at", str(tmp_path / "store"), "--out", str(out)]
    assert main([*command, "--name", "{stem}{suffix}"]) == 0
    assert (out / f"{category}_" / "distance.png").read_bytes() == source.read_bytes()
    assert [row["output_path"] for row in rows(out)] == [f"{category}_/distance.png"]
    for name in (*RESULTS, JOURNAL_NAME):
        assert (out / name).is_dir() == (name == "plots"), name
    assert (out / "plots" / "distance.png").read_bytes() != source.read_bytes()
    assert f'href="{category}_/"' in (out / "report.html").read_text()
    before = snapshot(out)
    assert main([*command, "--name", "{stem}{suffix}"]) == 0
    assert snapshot(out) == before


# -- nothing is lost or overwritten ------------------------------------------------------------------------------------


def test_sources_are_only_read(lab: Path, shelf: Shelf, tmp_path: Path) -> None:
    before = snapshot(lab)
    for link in ("copy", "sym"):
        run(lab, shelf.store, tmp_path / link, link=link, jpeg=True)
    assert snapshot(lab) == before


def test_foreign_file_at_the_target_is_never_overwritten(lab: Path, shelf: Shelf, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(lab, shelf.store, tmp_path / "plain", jpeg=True)
    [jpeg] = [row["jpeg_output_path"] for row in rows(tmp_path / "plain") if row["TIFF_file"] == "deep.tif"]
    foreign = {"Tips/L9_overview.tif": b"precious", "Fibres/L1_deep.tif": b"", jpeg: b"older"}
    for name, content in foreign.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)
    report = run(lab, shelf.store, out, jpeg=True)
    assert report.problems == []
    assert report.counts["written"] == 4
    found = copies(out)
    assert {name: found[name] for name in foreign} == foreign
    assert found["Tips/L9_overview_2.tif"] == (lab / "a/overview.tif").read_bytes()
    assert found["Tips/L9_overview_3.tif"] == (lab / "b/overview.tif").read_bytes()
    assert found["Fibres/L1_deep_2.tif"] == (lab / "a/deep.tif").read_bytes()
    assert found[jpeg.replace(".jpg", "_2.jpg")] == copies(tmp_path / "plain")[jpeg]
    before = snapshot(out)
    run(lab, shelf.store, out, jpeg=True)
    assert snapshot(out) == before


def test_same_content_at_the_target_is_kept(lab: Path, shelf: Shelf, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(lab, shelf.store, out, jpeg=True)
    before = {name: entry for name, entry in snapshot(out).items() if "/" in name}
    for name in (JOURNAL_NAME, "matches.csv", "review.csv", "failures.csv", "labels.jsonl"):
        (out / name).unlink()
    report = run(lab, shelf.store, out, jpeg=True)
    assert (report.counts["kept"], report.counts["written"]) == (4, 0)
    assert {name: entry for name, entry in snapshot(out).items() if "/" in name} == before
    assert len(rows(out)) == 4


def test_file_that_appears_during_the_write_is_kept(
    lab: Path, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, link = tmp_path / "out", os.link

    def interfering(source: Path, target: Path) -> None:
        if Path(target).name == "L1_deep.tif":
            Path(target).write_bytes(b"precious")
        link(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", interfering)
        report = run(lab, shelf.store, out)
    assert [problem for problem in report.problems if "nothing was overwritten" in problem] == report.problems
    assert len(report.problems) == 1
    assert copies(out)["Fibres/L1_deep.tif"] == b"precious"
    assert "deep.tif" in [row["TIFF_file"] for row in rows(out, "review.csv")]
    assert run(lab, shelf.store, out).problems == []
    assert copies(out)["Fibres/L1_deep.tif"] == b"precious"
    assert copies(out)["Fibres/L1_deep_2.tif"] == (lab / "a/deep.tif").read_bytes()


def test_output_folder_within_the_source_is_skipped(lab: Path, shelf: Shelf) -> None:
    out = lab / "labelled"
    (lab / "way in").symlink_to(out / "Tips")
    first = run(lab, shelf.store, out)
    assert run(lab, shelf.store, out).counts["excellent"] == first.counts["excellent"] == 3
    assert copies(out) == expected(lab)


@pytest.mark.parametrize("within", ["lab", "lab/a", "lab/a/deep.tif"])
def test_sources_within_the_output_folder_are_refused(
    lab: Path, shelf: Shelf, capsys: pytest.CaptureFixture[str], within: str
) -> None:
    before = snapshot(lab)
    source = lab.parent / within
    assert main(["label", str(source), "--at", str(shelf.store), "--out", str(lab)]) == 1
    assert "lies within the output folder" in capsys.readouterr().err
    assert snapshot(lab) == before
    journal = Journal(lab.parent / "journal")
    with connect(shelf.store) as engine, pytest.raises(OutputError, match="lies within the output folder"):
        label([source], engine, journal, lab, LabelSettings())
    journal.close()


def test_missing_source_creates_nothing(shelf: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["label", str(tmp_path / "x"), "--at", str(shelf.store), "--out", str(tmp_path / "out")]) == 1
    assert "no such file or folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    with pytest.raises(SourceError):
        count_queries([tmp_path / "x"], tmp_path / "out")


@pytest.mark.parametrize("name", ["matches.csv", "report.html", "plots"])
def test_foreign_results_are_not_replaced(
    lab: Path, shelf: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_bytes(b"from the legacy scripts")
    assert main(["label", str(lab), "--at", str(shelf.store), "--out", str(out)]) == 1
    assert name in capsys.readouterr().err
    assert snapshot(out).keys() == {name}
    assert (out / name).read_bytes() == b"from the legacy scripts"
    (out / JOURNAL_NAME).touch()  # not the journal of a run
    assert main(["label", str(lab), "--at", str(shelf.store), "--out", str(out)]) == 1
    assert (out / name).read_bytes() == b"from the legacy scripts"


@pytest.mark.parametrize("blocked", ["out", "out/sub"])
def test_output_folder_that_cannot_be_created_is_an_error(
    lab: Path, shelf: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str], blocked: str
) -> None:
    (tmp_path / "out").write_bytes(b"a file")
    assert main(["label", str(lab), "--at", str(shelf.store), "--out", str(tmp_path / blocked)]) == 1
    captured = capsys.readouterr()
    assert f"the output folder {tmp_path / blocked} cannot be used" in captured.err
    assert captured.out == ""
    assert (tmp_path / "out").read_bytes() == b"a file"


def test_read_only_output_folder_is_an_error(
    lab: Path, shelf: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir(0o555)
    if os.access(tmp_path / "out", os.W_OK):
        pytest.skip("this user can write everywhere")
    assert main(["label", str(lab), "--at", str(shelf.store), "--out", str(tmp_path / "out")]) == 1
    assert "cannot be used" in capsys.readouterr().err


def test_one_blocked_category_folder_does_not_stop_the_run(lab: Path, shelf: Shelf, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "Tips").write_bytes(b"a file")
    for _ in range(2):
        report = run(lab, shelf.store, out)
        assert len(report.problems) == 2
        assert all("Tips cannot be created" in problem for problem in report.problems)
    assert (out / "Tips").read_bytes() == b"a file"
    assert sorted(copies(out)) == ["Fibres/L1_deep.tif", "Particles/L5_noisy.tif"]
    assert [row["TIFF_file"] for row in rows(out, "review.csv")].count("overview.tif") == 2


def test_second_run_into_an_open_folder_is_refused(lab: Path, shelf: Shelf, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "out")
    try:
        with pytest.raises(OutputError, match="another run"):
            run(lab, shelf.store, tmp_path / "out")
    finally:
        journal.close()


def test_journal_of_another_version_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal._db.execute("UPDATE meta SET value = '99' WHERE key = 'version'")
    journal.close()
    with pytest.raises(OutputError, match="version 99"):
        Journal(tmp_path)
    (tmp_path / JOURNAL_NAME).write_bytes(b"no database at all, but long enough to be one" * 30)
    with pytest.raises(OutputError, match="cannot be used"):
        Journal(tmp_path)


def test_run_marker_is_written_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[list[str]] = []
    real = sqlite3.connect

    def connect(*args: Any, **options: Any) -> Any:
        found.append(sorted(path.name for path in (tmp_path / "out").iterdir()))
        return real(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", connect)
        Journal(tmp_path / "out").close()
    assert found == [[RUN_MARKER]]
    assert b"twinscope label" in (tmp_path / "out" / RUN_MARKER).read_bytes()


def test_missing_run_marker_is_restored(lab: Path, shelf: Shelf, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(lab, shelf.store, out)
    (out / RUN_MARKER).unlink()
    assert main(["report", str(out)]) == 0
    assert is_run(out)
    (out / RUN_MARKER).unlink()
    assert main(["label", str(lab), "--at", str(shelf.store), "--out", str(out)]) == 3
    assert is_run(out)


@pytest.mark.parametrize("kind", ["folder", "database", "text"])
def test_foreign_file_with_the_journal_name_is_not_changed(lab: Path, shelf: Shelf, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "out" / JOURNAL_NAME
    path.parent.mkdir()
    if kind == "database":
        with closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE samples (name)")
            database.commit()
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_text("mine")
    before = snapshot(tmp_path / "out")
    with pytest.raises(OutputError, match=r"run\.sqlite is not the journal"):
        run(lab, shelf.store, tmp_path / "out")
    assert snapshot(tmp_path / "out") == before


def test_changed_file_with_kept_size_and_time_needs_a_touch(
    shelf: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "q.tif", tmp_path / "out"
    tifffile.imwrite(source, shelf.pixels["Tips", 0])
    found = source.stat()
    run(source, shelf.store, out)
    tifffile.imwrite(source, shelf.pixels["Fibres", 0])
    os.utime(source, ns=(found.st_atime_ns, found.st_mtime_ns))
    run(source, shelf.store, out)
    assert decisions(out)["q.tif"].category == "Tips"
    source.touch()
    run(source, shelf.store, out)
    assert decisions(out)["q.tif"].category == "Fibres"
    with pytest.raises(SystemExit):
        main(["label", "--help"])
    assert "touch IMAGE" in capsys.readouterr().out


# -- dry runs --------------------------------------------------------------------------------------------------------


def test_stopped_dry_run_reports_that_nothing_was_written(
    lab: Path, shelf: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("twinscope_client.labelling.run.label", interrupt)
    assert main(["label", str(lab), "--at", str(shelf.store), "--out", str(tmp_path / "out"), "--dry-run"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "Stopped. Nothing was written."
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("existing", [False, True])
def test_dry_run_writes_nothing_and_prints_the_plan(
    lab: Path, shelf: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str], existing: bool
) -> None:
    out = tmp_path / "out"
    tifffile.imwrite(lab / os.fsdecode(b"caf\xe9.tif"), shelf.pixels["Tips", 0])
    if existing:
        run(lab, shelf.store, out)
    before = snapshot(tmp_path)
    command = ["label", str(lab), "--at", str(shelf.store), "--out", str(out)]
    assert main([*command, "--dry-run", "--jpeg"]) == 3
    assert snapshot(tmp_path) == before
    assert out.exists() == existing
    plan = {row["TIFF_path"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert len(plan) == 8
    assert plan[str(lab / "b" / "foreign.tif")]["output_path"] == ""
    assert plan[f"{lab}/caf\\udce9.tif"]["category"] == "Tips"
    outputs = {row["output_path"] for row in plan.values()} - {""}
    run(lab, shelf.store, out)
    assert outputs == {name.encode(errors="backslashreplace").decode() for name in copies(out)}


# -- runs that continue ----------------------------------------------------------------------------------------------


def test_second_run_changes_nothing(
    lab: Path, shelf: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["label", str(lab), "--at", str(shelf.store), "--out", str(out), "--jpeg"]
    assert main(command) == 3
    assert "4 labelled copies written, 0 already there" in capsys.readouterr().err
    for name in ("matches.csv", "review.csv", "failures.csv", "labels.jsonl", "summary.json", "report.html"):
        assert (out / name).stat().st_size > 0
    before = snapshot(out)
    assert main(command) == 3
    assert "0 labelled copies written, 4 already there" in capsys.readouterr().err
    assert snapshot(out) == before
    assert main(["report", str(out)]) == 0
    assert snapshot(out) == before


def test_new_images_are_added_to_a_run(lab: Path, shelf: Shelf, tmp_path: Path) -> None:
    run(lab / "a", shelf.store, tmp_path / "out")
    report = run(lab / "b", shelf.store, tmp_path / "out")
    assert report.counts["reused"] == 0
    assert copies(tmp_path / "out") == expected(lab)
    assert len(rows(tmp_path / "out")) == 4
    assert run(lab, shelf.store, tmp_path / "out").counts["reused"] == 6  # all but the broken one


def test_failed_images_are_tried_again(lab: Path, shelf: Shelf, tmp_path: Path) -> None:
    run(lab, shelf.store, tmp_path / "out")
    tifffile.imwrite(lab / "a" / "broken.tif", shelf.pixels["Tips", 0])
    run(lab, shelf.store, tmp_path / "out")
    assert rows(tmp_path / "out", "failures.csv") == []
    assert copies(tmp_path / "out")["Tips/L9_broken.tif"] == (lab / "a" / "broken.tif").read_bytes()


def test_removed_copy_is_written_again(lab: Path, shelf: Shelf, tmp_path: Path) -> None:
    run(lab, shelf.store, tmp_path / "out")
    (tmp_path / "out/Tips/L9_overview.tif").unlink()
    assert run(lab, shelf.store, tmp_path / "out").counts["written"] == 1
    assert copies(tmp_path / "out") == expected(lab)


def test_edited_copy_is_not_listed_as_labelled(lab: Path, shelf: Shelf, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(lab, shelf.store, out)
    with (out / "Fibres/L1_deep.tif").open("ab") as stream:
        stream.write(b"edited")
    edited = (out / "Fibres/L1_deep.tif").read_bytes()
    report = run(lab, shelf.store, out)
    assert len(report.problems) == 1
    assert "deep.tif" not in [row["TIFF_file"] for row in rows(out)]
    assert run(lab, shelf.store, out).problems == []
    assert copies(out)["Fibres/L1_deep.tif"] == edited
    assert copies(out)["Fibres/L1_deep_2.tif"] == (lab / "a/deep.tif").read_bytes()


def test_changed_source_gets_a_copy_next_to_the_earlier_one(lab: Path, shelf: Shelf, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(lab, shelf.store, out, jpeg=True)
    before, earlier = copies(out), decisions(out)["deep.tif"]
    tifffile.imwrite(lab / "a" / "deep.tif", noisy(shelf.pixels["Fibres", 0], 2))
    report = run(lab, shelf.store, out, jpeg=True)
    assert report.problems == []
    assert before.items() <= copies(out).items()
    now = decisions(out)["deep.tif"]
    assert now.output == "Fibres/L1_deep_2.tif"
    assert now.earlier_output.split("\n") == [earlier.output, earlier.jpeg_output]
    assert copies(out)[now.output] == (lab / "a" / "deep.tif").read_bytes()
    stable = snapshot(out)
    run(lab, shelf.store, out, jpeg=True)
    assert snapshot(out) == stable


def test_source_that_lost_its_twin_keeps_its_copy(lab: Path, shelf: Shelf, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(lab, shelf.store, out)
    tifffile.imwrite(lab / "a" / "deep.tif", synthesise("Powder", 51, width=320, height=240).astype(np.uint8))
    before = copies(out)
    run(lab, shelf.store, out)
    assert copies(out) == before
    [row] = [row for row in rows(out, "review.csv") if row["TIFF_file"] == "deep.tif"]
    assert row["earlier_output"] == "Fibres/L1_deep.tif"


def relabelled(store: Path, refs: Path, category: str) -> None:
    table = refs.parent / "labels.csv"
    table.write_text(f"file,category\nx.png,{category}\n")
    index([refs], store, labels=str(table), workers=1)


def test_changed_labels_keep_and_list_earlier_copies(shelf: Shelf, tmp_path: Path) -> None:
    refs, store, lab, out = (tmp_path / name for name in ("refs", "store", "lab", "out"))
    refs.mkdir()
    lab.mkdir()
    Image.fromarray(shelf.pixels["Tips", 0]).save(refs / "x.png")
    tifffile.imwrite(lab / "q.tif", shelf.pixels["Tips", 0])
    names = []
    for category in ("Tips", "Powder", "Fibres"):
        relabelled(store, refs, category)
        run(lab, store, out, jpeg=True)
        now = decisions(out)["q.tif"]
        assert now.category == category
        assert set(now.earlier_output.split("\n")) - {""} == set(names)
        assert set(copies(out)) == {*names, now.output, now.jpeg_output}
        names += [now.output, now.jpeg_output]
    for name in names[:2]:
        (out / name).unlink()  # as the report suggests
    relabelled(store, refs, "Tips")
    run(lab, store, out, jpeg=True)
    now = decisions(out)["q.tif"]
    assert [now.output, now.jpeg_output] == names[:2]
    assert set(now.earlier_output.split("\n")) == set(names[2:])


def test_uncompared_image_is_compared_when_references_return(shelf: Shelf, tmp_path: Path) -> None:
    shutil.copytree(shelf.references, tmp_path / "refs")
    index([tmp_path / "refs"], tmp_path / "store", workers=1)
    (tmp_path / "refs").rename(tmp_path / "moved")
    (tmp_path / "lab").mkdir()
    tifffile.imwrite(tmp_path / "lab" / "q.tif", shelf.pixels["Tips", 0])
    assert run(tmp_path / "lab", tmp_path / "store", tmp_path / "out").counts["good"] == 1
    before = snapshot(tmp_path / "out")
    run(tmp_path / "lab", tmp_path / "store", tmp_path / "out")
    assert snapshot(tmp_path / "out") == before
    relocate(tmp_path / "store", tmp_path / "refs", tmp_path / "moved")
    assert run(tmp_path / "lab", tmp_path / "store", tmp_path / "out").counts["excellent"] == 1
    assert decisions(tmp_path / "out")["q.tif"].grade == "excellent"
    assert list(copies(tmp_path / "out")) == ["Tips/L9_q.tif"]


def test_another_policy_decides_again(lab: Path, shelf: Shelf, tmp_path: Path) -> None:
    run(lab, shelf.store, tmp_path / "out")
    report = run(lab, shelf.store, tmp_path / "out", policy=named_policy("legacy"))
    assert report.counts["reused"] == 0
    found = decisions(tmp_path / "out")
    assert found["noisy.tif"].grade == "unverified"
    assert found["noisy.tif"].earlier_output == "Particles/L5_noisy.tif"
    assert found["deep.tif"].policy == "legacy"


def test_higher_minimum_grade_lists_earlier_labels(lab: Path, shelf: Shelf, tmp_path: Path) -> None:
    run(lab, shelf.store, tmp_path / "out")
    run(lab, shelf.store, tmp_path / "out", min_grade="excellent")
    assert decisions(tmp_path / "out")["noisy.tif"].earlier_output == "Particles/L5_noisy.tif"
    run(lab, shelf.store, tmp_path / "out")
    assert decisions(tmp_path / "out")["noisy.tif"].labelled
    assert decisions(tmp_path / "out")["noisy.tif"].earlier_output == ""


# -- runs that are stopped -------------------------------------------------------------------------------------------

Stop = Callable[[str, int], subprocess.CompletedProcess[str]]

_HANGS = 240.0
"""Timeout in seconds that is exceeded only by a hang."""
_STOPPED = """
import itertools, os, pathlib, resource, signal, sys
from twinscope_client.cli.main import main

how, at, *command = sys.argv[1:]
calls = itertools.count(1)  # each thread gets its own number

def stopping(function, name):
    def call(*arguments, **named):
        if next(calls) == int(at):
            if how == "after":
                function(*arguments, **named)
            os.kill(os.getpid(), signal.SIGINT if how == "interrupt" else signal.SIGKILL)
        return function(*arguments, **named)
    return call

if how in {"before", "after", "interrupt"}:
    os.link = stopping(os.link, "link")
elif how == "tables":
    pathlib.Path.replace = stopping(pathlib.Path.replace, "replace")
elif how == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(at), int(at)))
sys.exit(main(command))
"""


@pytest.fixture
def stopped(lab: Path, shelf: Shelf, tmp_path: Path) -> Stop:
    """Run the command in a process that is stopped at a chosen call."""

    def stop(how: str, at: int) -> subprocess.CompletedProcess[str]:
        command = ["label", str(lab), "--at", str(shelf.store), "--out", str(tmp_path / "out"), "--jpeg"]
        return run_to_end([sys.executable, "-c", _STOPPED, how, str(at), *command, "--workers", "2"], timeout=_HANGS)

    return stop


def assert_resumes_like_uninterrupted(lab: Path, store: Path, tmp_path: Path) -> None:
    out, complete = tmp_path / "out", tmp_path / "complete"
    run(lab, store, out, jpeg=True)
    run(lab, store, complete, jpeg=True)
    assert copies(out) == copies(complete)
    for table in ("matches.csv", "review.csv", "failures.csv"):
        # Scores can differ in the last digits, because the libraries add numbers in an order that depends on the
        # threads.
        assert [rounded(row) for row in rows(out, table)] == [rounded(row) for row in rows(complete, table)], table
    assert list(out.rglob(".*")) == [out / RUN_MARKER]
    before = snapshot(out)
    run(lab, store, out, jpeg=True)
    assert snapshot(out) == before
    with closing(Journal(out, create=False)) as journal:
        assert journal.finished


@pytest.mark.parametrize(
    ("how", "at"), [("before", 1), ("before", 4), ("after", 3), ("after", 7), ("tables", 3), ("interrupt", 3)]
)
def test_stopped_run_continues(lab: Path, shelf: Shelf, tmp_path: Path, stopped: Stop, how: str, at: int) -> None:
    sources = snapshot(lab)
    done = stopped(how, at)
    if how == "interrupt":
        assert done.returncode == 130
        assert done.stderr.strip() == "Stopped. Finished work is kept; run the same command again to continue."
    else:
        assert done.returncode == -signal.SIGKILL
    with closing(Journal(tmp_path / "out", create=False)) as journal:
        assert journal.finished == (how == "tables")
    complete = expected(lab)
    for name, content in copies(tmp_path / "out").items():
        if name in complete:  # a file with its final name is complete
            assert content == complete[name]
    assert_resumes_like_uninterrupted(lab, shelf.store, tmp_path)
    assert snapshot(lab) == sources


def test_full_disk_is_reported_and_the_run_continues(lab: Path, shelf: Shelf, tmp_path: Path, stopped: Stop) -> None:
    done = stopped("full", 50_000)  # bytes per file: enough for tables and databases, not for copies
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "4 copies could not be written" in done.stderr
    assert "File too large" in done.stderr
    assert copies(tmp_path / "out").keys() & expected(lab).keys() == set()  # each is larger
    assert_resumes_like_uninterrupted(lab, shelf.store, tmp_path)


def test_full_disk_at_the_journal_is_reported(lab: Path, shelf: Shelf, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "out")
    journal._db.execute("PRAGMA max_page_count = 1")  # SQLite raises it to the present number of pages
    with connect(shelf.store) as engine:
        settings = LabelSettings(jpeg=True)
        with pytest.raises(OutputError, match=r"run\.sqlite cannot be written: database or disk is full"):
            label([lab], engine, journal, tmp_path / "out", settings)
    journal.close()
    assert_resumes_like_uninterrupted(lab, shelf.store, tmp_path)


def test_ctrl_c_keeps_finished_work(lab: Path, shelf: Shelf, tmp_path: Path) -> None:
    out = tmp_path / "out"
    seen = []

    def stop(decision: Decision) -> None:
        seen.append(decision)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with connect(shelf.store) as engine:
        journal = Journal(out)
        with pytest.raises(KeyboardInterrupt):
            label([lab], engine, journal, out, LabelSettings(workers=1), stop)
        journal.close()
    assert {decision.path for decision in seen} <= {decision.path for decision in decisions(out).values()}
    report = run(lab, shelf.store, out)
    assert report.counts["reused"] >= 2
    assert copies(out) == expected(lab)
