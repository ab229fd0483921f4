"""Conversion to JPEG: pixels, file names, and nothing is overwritten."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps
from twinscope_client.conversion import convert, encode_jpeg
from twinscope_client.demo.micrographs import synthesise
from twinscope_client.errors import OutputError
from twinscope_indexer.errors import ImageError, SourceError
from twinscope_indexer.imaging.reader import read_image, read_pil_image


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
    return image


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    folder = tmp_path / "lab"
    (folder / "day 1").mkdir(parents=True)
    return folder


def test_grey_stays_grey_and_keeps_its_pixels(lab: Path, tmp_path: Path) -> None:
    pixels = synthesise("Tips", 1, width=160, height=120).astype(np.uint8)
    tifffile.imwrite(lab / "day 1" / "x.tif", pixels)
    report = convert([lab], tmp_path / "out")
    assert report.counts == {"written": 1}
    image = opened(tmp_path / "out" / "day 1" / "x.jpg")
    assert (image.format, image.mode, image.size) == ("JPEG", "L", (160, 120))
    assert np.abs(np.asarray(image).astype(int) - pixels).max() <= 3


def test_sixteen_bits_are_windowed_and_not_clipped(lab: Path, tmp_path: Path) -> None:
    ramp = np.linspace(800, 61_000, 160 * 120).reshape(120, 160).astype(np.uint16)
    tifffile.imwrite(lab / "deep.tif", ramp)
    convert([lab], tmp_path / "out")
    found = np.asarray(opened(tmp_path / "out" / "deep.jpg")).astype(int)
    assert np.abs(found - read_image(lab / "deep.tif").pixels).max() <= 3
    assert len(np.unique(found)) > 200
    assert np.mean(found == 255) < 0.01


def test_colour_stays_colour_without_subsampling(lab: Path, tmp_path: Path) -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = (255, 0, 0)
    stripes[:, 1::2] = (0, 0, 255)
    tifffile.imwrite(lab / "colour.tif", stripes, photometric="rgb")
    convert([lab], tmp_path / "out")
    image = opened(tmp_path / "out" / "colour.jpg")
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image).astype(int) - stripes).max() <= 8


def test_lower_quality_gives_smaller_files(lab: Path, tmp_path: Path) -> None:
    tifffile.imwrite(lab / "x.tif", synthesise("Powder", 1, width=160, height=120).astype(np.uint8))
    sizes = []
    for quality in (20, 100):
        convert([lab], tmp_path / str(quality), quality=quality)
        sizes.append((tmp_path / str(quality) / "x.jpg").stat().st_size)
    assert sizes[0] < sizes[1] / 3


def test_nothing_is_overwritten_and_a_second_run_changes_nothing(lab: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("x.tif", "x.png", "day 1/x.tif"):
        Image.fromarray(rng.integers(0, 256, (20, 30), np.uint8)).save(lab / name)
    out = tmp_path / "out"
    out.mkdir()
    (out / "x.jpg").write_bytes(b"foreign")
    sources = snapshot(lab)
    first = convert([lab], out)
    assert first.counts == {"written": 3}
    assert sorted(snapshot(out)) == ["day 1/x.jpg", "x.jpg", "x_2.jpg", "x_3.jpg"]
    assert (out / "x.jpg").read_bytes() == b"foreign"
    before = snapshot(out)
    assert convert([lab], out).counts == {"kept": 3}
    assert snapshot(out) == before
    assert snapshot(lab) == sources


def test_two_sources_with_the_same_names_are_both_kept(lab: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for number, folder in enumerate((lab, other)):
        Image.fromarray(np.full((20, 30), 100 + number, np.uint8)).save(folder / "x.png")
    convert([lab, other], tmp_path / "out")
    values = [int(np.asarray(opened(tmp_path / "out" / name)).mean()) for name in ("x.jpg", "x_2.jpg")]
    assert values == [100, 101]


def test_output_folder_within_the_source_is_skipped(lab: Path) -> None:
    Image.fromarray(np.full((20, 30), 9, np.uint8)).save(lab / "x.png")
    (lab / "way in").symlink_to(lab / "jpeg" / "deeper")
    for _ in range(2):
        convert([lab], lab / "jpeg")
        (lab / "jpeg" / "deeper").mkdir(exist_ok=True)
        (lab / "jpeg" / "deeper" / "y.jpg").write_bytes((lab / "jpeg" / "x.jpg").read_bytes())
    assert sorted(snapshot(lab / "jpeg")) == ["deeper/y.jpg", "x.jpg"]


def test_failures_are_listed_and_the_rest_is_converted(lab: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((20, 30), 9, np.uint8)).save(lab / "z.tif")
    (lab / "broken.tif").write_bytes((lab / "z.tif").read_bytes()[:100])
    (lab / "empty.tif").write_bytes(b"")
    (lab / "notes.txt").write_text("no image")
    (lab / "dangling.tif").symlink_to("nowhere")
    seen = []
    report = convert([lab], tmp_path / "out", progress=seen.append)
    assert report.counts == {"written": 1, "failed": 3}
    assert sorted(Path(file).name for file, _ in report.failures) == ["broken.tif", "dangling.tif", "empty.tif"]
    assert all(reason for _, reason in report.failures)
    assert [Path(converted.path).name for converted in seen] == ["broken.tif", "empty.tif", "z.tif"]
    assert list(snapshot(tmp_path / "out")) == ["z.jpg"]


def test_file_with_the_name_of_a_folder_is_an_error(lab: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((20, 30), 9, np.uint8)).save(lab / "day 1" / "x.png")
    blocked = tmp_path / "out" / "day 1"
    blocked.parent.mkdir()
    blocked.write_bytes(b"precious")
    report = convert([lab], tmp_path / "out")
    assert report.counts == {"unwritten": 1}
    assert "cannot be created" in report.failures[0][1]
    assert blocked.read_bytes() == b"precious"


@pytest.mark.parametrize("below", [".", "new/folder"])
@pytest.mark.parametrize(("kind", "message"), [("file", "is not a folder"), ("closed", "no permission to write to")])
def test_an_output_folder_that_cannot_be_written_is_one_error(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, message: str, below: str
) -> None:
    """Otherwise, the same message would appear for each image."""
    Image.fromarray(np.full((20, 30), 9, np.uint8)).save(lab / "x.png")
    out = tmp_path / "out"
    if kind == "file":
        out.write_bytes(b"precious")
    else:
        out.mkdir()
        monkeypatch.setattr("os.access", lambda path, mode: Path(path) != out)  # the tests may run as root
    with pytest.raises(OutputError, match=message):
        convert([lab], out / below)
    assert out.read_bytes() == b"precious" if kind == "file" else not list(out.iterdir())


def test_missing_source_is_an_error_before_anything_is_written(lab: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((20, 30), 9, np.uint8)).save(lab / "x.png")
    with pytest.raises(SourceError, match="no such"):
        convert([lab, tmp_path / "missing"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_image_too_large_for_a_jpeg_is_refused() -> None:
    data = io.BytesIO()
    Image.new("L", (65_536, 2)).save(data, "PNG")
    with pytest.raises(ImageError, match=r"wide\.png: cannot be written as JPEG"):
        encode_jpeg(data.getvalue(), name="wide.png")


def test_encoding_uses_the_display_image(lab: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 4096, (40, 50)).astype(np.uint16)
    tifffile.imwrite(lab / "x.tif", pixels)
    with Image.open(io.BytesIO(encode_jpeg(lab / "x.tif"))) as image:
        found = np.asarray(image).astype(int)
    assert np.abs(found - np.asarray(read_pil_image(lab / "x.tif"))).max() <= 4


@pytest.mark.parametrize("orientation", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 255])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_image_is_turned_as_viewers_show_it(orientation: int, form: str, lab: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    image = Image.fromarray(synthesise("Tips", 1, width=160, height=120).astype(np.uint8))
    options = {"JPEG": {"quality": 100}, "WEBP": {"lossless": True}}.get(form, {})
    image.save(lab / "turned.jpg", form, exif=exif, **options)
    convert([lab], tmp_path / "out")
    with Image.open(lab / "turned.jpg") as source:
        expected = ImageOps.exif_transpose(source).convert("L")
    found = opened(tmp_path / "out" / "turned.jpg")
    assert found.size == expected.size
    assert found.getexif().get(274, 1) == 1
    assert np.abs(np.asarray(found.convert("L")).astype(int) - np.asarray(expected)).max() <= 4


def test_tiff_is_turned_once(lab: Path) -> None:
    pixels = synthesise("Tips", 1, width=160, height=120).astype(np.uint8)
    tifffile.imwrite(lab / "turned.tif", pixels, extratags=[(274, 3, 1, 6, True)])
    with Image.open(io.BytesIO(encode_jpeg(lab / "turned.tif"))) as image:
        assert np.abs(np.asarray(image).astype(int) - np.rot90(pixels, -1)).max() <= 4


def test_damaged_orientation_changes_nothing(lab: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    data = io.BytesIO()
    Image.fromarray(np.arange(64 * 48, dtype=np.uint8).reshape(48, 64)).save(data, "JPEG", exif=exif)
    at = data.getvalue().index(b"Exif") + 6
    rng = np.random.default_rng(1)
    for length in range(1, 25):
        hostile = data.getvalue()[:at] + rng.bytes(length) + data.getvalue()[at + length :]
        with Image.open(io.BytesIO(encode_jpeg(hostile))) as image:
            assert sorted(image.size) == [48, 64]
