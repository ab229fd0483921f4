"""Images whose samples lie in a temporary file: the same results as in memory, with little memory."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from twinscope_indexer.compute import scratch
from twinscope_indexer.errors import ImageError
from twinscope_indexer.hashing.frames import VIEWS, frame_codes
from twinscope_indexer.hashing.perceptual import hash_pixels
from twinscope_indexer.hashing.thumbnail import decode_thumbnail, encode_thumbnail
from twinscope_indexer.imaging.pages import stack_pages
from twinscope_indexer.imaging.reader import read_image, read_pil_image

_MEGABYTE = 1 << 20


def _scene(shape: tuple[int, int] = (420, 610)) -> np.ndarray[Any, Any]:
    """Return a picture with values from 0 to 1."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    rough = np.random.default_rng(3).normal(0, 0.03, shape)
    return np.clip(0.4 + 0.2 * np.sin(x / 31 + y / 90) + 0.2 * np.cos(y / 17 * (1 + x / 900)) + rough, 0, 1)


def _tiff(samples: np.ndarray[Any, Any], **options: Any) -> bytes:
    data = io.BytesIO()
    tifffile.imwrite(data, samples, **({"photometric": "minisblack"} | options))
    return data.getvalue()


def _files() -> Iterator[tuple[str, bytes]]:
    scene = _scene()
    tiled: dict[str, Any] = {"tile": (64, 64), "compression": "zlib"}
    colour = np.stack([scene, scene**2, 1 - scene], axis=-1)
    grey8, grey16 = (scene * 255).astype("u1"), (scene * 60_000).astype("u2")
    holes = scene.astype("f4")
    holes[50:90, 100:300], holes[200, 5], holes[201, 5] = np.nan, np.inf, -np.inf
    drawn = (scene * 1000 + 3000).astype("f4")
    drawn[-40:] = 1e6
    yield "8 bits", _tiff(grey8, **tiled)
    yield "8 bits, plain", _tiff(grey8, rowsperstrip=7)
    yield "16 bits", _tiff(grey16, **tiled)
    yield "16 bits, big-endian", _tiff(grey16.astype(">u2"), byteorder=">")
    yield "16 bits, signed", _tiff((scene * 30_000 - 9000).astype("i2"), **tiled)
    yield "16 bits, strips", _tiff(grey16, compression="zlib", predictor=True, rowsperstrip=5)
    yield "16 bits, white is zero", _tiff(grey16, **tiled, photometric="miniswhite")
    yield "8 bits, white is zero", _tiff(grey8, **tiled, photometric="miniswhite")
    yield "32 bits, small values", _tiff((scene * 4000).astype("u4"), **tiled)
    yield "32 bits, negative values", _tiff((scene * 4000 - 90).astype("i4"), **tiled)
    yield "32 bits, large values", _tiff((scene * 4e8).astype("u4"), **tiled)
    yield "float", _tiff(scene.astype("f4"), **tiled)
    yield "float, not finite", _tiff(holes, **tiled)
    yield "float, info bar", _tiff(drawn, **tiled)
    yield "double", _tiff(holes.astype("f8") * 1e6, **tiled)
    yield "bits", _tiff(scene > 0.5, compression="packbits")
    yield "colour", _tiff((colour * 255).astype("u1"), **tiled, photometric="rgb")
    yield "colour, 16 bits", _tiff((colour * 50_000).astype("u2"), **tiled, photometric="rgb")
    yield "colour, float", _tiff(colour.astype("f4"), **tiled, photometric="rgb")
    yield "colour, planes", _tiff(np.moveaxis((colour * 255).astype("u1"), -1, 0), **tiled, photometric="rgb")
    alpha = np.concatenate([colour, scene[..., None]], axis=-1)
    yield "alpha", _tiff((alpha * 255).astype("u1"), **tiled, photometric="rgb", extrasamples=["unassalpha"])
    yield "alpha, 16 bits", _tiff((alpha * 9e4).astype("u2"), **tiled, photometric="rgb", extrasamples=["unassalpha"])
    yield "tall", _tiff((_scene((2300, 300)) * 255).astype("u1"), **tiled)
    yield "wide", _tiff((_scene((190, 3000)) * 60_000).astype("u2"), **tiled)
    noise = np.random.default_rng(0).integers(0, 256, (512, 700), np.uint8)
    yield "noise", _tiff(noise, **tiled)
    for number in range(2, 9):
        turn = [(274, "H", 1, number, True)]
        yield f"8 bits, orientation {number}", _tiff(grey8, **tiled, extratags=turn)
        yield f"16 bits, orientation {number}", _tiff(grey16, **tiled, extratags=turn)


_FILES = dict(_files())


@pytest.fixture
def in_a_file(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that lowers the limit, so that small images lie in a temporary file."""

    def lower() -> None:
        monkeypatch.setattr(scratch, "LIMIT", 1 << 14)
        monkeypatch.setattr(scratch, "STEP", 1 << 15)

    return lower


def _results(data: bytes) -> tuple[Any, ...]:
    image = read_image(data)
    thumbnail = encode_thumbnail(image.pixels)
    codes = frame_codes(decode_thumbnail(thumbnail), VIEWS)
    return image.pixels, image.window, image.mode, hash_pixels(image.pixels), thumbnail, codes.tobytes()


@pytest.mark.parametrize("kind", _FILES)
def test_the_results_are_those_of_an_image_in_memory(kind: str, in_a_file: Any) -> None:
    wanted, shown = _results(_FILES[kind]), np.asarray(read_pil_image(_FILES[kind]))
    assert not scratch.is_scratch(wanted[0])
    in_a_file()
    found = _results(_FILES[kind])
    assert scratch.is_scratch(found[0])
    assert found[0].flags.c_contiguous
    assert np.array_equal(found[0], wanted[0])
    assert found[1:] == wanted[1:]
    assert np.array_equal(np.asarray(read_pil_image(_FILES[kind])), shown)


def test_reduced_copies_are_left_out(in_a_file: Any, tmp_path: Path) -> None:
    scene = (_scene() * 255).astype("u1")
    half = scene.reshape(210, 2, 305, 2).mean(axis=(1, 3)).astype("u1")
    for name, pages in (("pyramid", [scene, half]), ("stack", [scene, half[::-1].copy()])):
        with tifffile.TiffWriter(tmp_path / name) as file:
            for page in pages:
                file.write(page, photometric="minisblack", contiguous=False)
    in_a_file()
    assert stack_pages(tmp_path / "pyramid") == ()
    assert stack_pages(tmp_path / "stack") == (1, 2)


def test_a_full_disk_is_the_fault_of_the_image(in_a_file: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    in_a_file()
    calls = iter([scratch._allocate, full])
    monkeypatch.setattr(scratch, "_allocate", lambda *given: next(calls)(*given))
    with pytest.raises(ImageError, match="TMPDIR") as caught:  # the samples have room, and the grey levels have none
        read_image(_FILES["16 bits"], name="mosaic.tif")
    assert (caught.value.fault, caught.value.source) == ("too_large", "mosaic.tif")
    monkeypatch.setattr(scratch, "_allocate", full)
    with pytest.raises(ImageError, match="TMPDIR"):
        read_image(_FILES["16 bits"])


def _mosaic(file: Path, dtype: str, side: int) -> None:
    """Write a tiled mosaic from a few compressed tiles."""
    y, x = np.mgrid[:512, :512]
    tiles = []
    for number in range(16):
        level = 90 + 5 * number + 40 * np.sin(x / (19 + number)) + 30 * np.cos(y / 23)
        values = level if dtype == "u1" else level * 250 + (x + y) % 199
        tiles.append(zlib.compress(values.astype(dtype).tobytes(), 1))
    count = (side // 512) ** 2
    chosen = np.random.default_rng(0).integers(0, 16, count)
    tifffile.imwrite(
        file, shape=(side, side), dtype=dtype, tile=(512, 512), compression="zlib", data=(tiles[one] for one in chosen)
    )


_MEASURED = """
import os, sys
from pathlib import Path
from twinscope_client.cli.main import main

code = main(sys.argv[1:])
peaks = []
for file in Path("/proc").glob("[0-9]*/status"):
    try:
        status = dict(line.split(":", 1) for line in file.read_text().splitlines())
    except OSError:
        continue
    if os.getpid() in (int(status["Pid"]), int(status["PPid"])):  # this process and its worker process
        peaks.append(int(status.get("VmHWM", "0").split()[0]))
print(code, max(peaks), file=sys.stderr)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of the resident memory from /proc")
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_a_gigapixel_needs_at_most_600_megabytes(tmp_path: Path, dtype: str) -> None:
    if min(shutil.disk_usage(folder).free for folder in (tmp_path, tempfile.gettempdir())) < 8 << 30:
        pytest.skip("too little disk")
    mosaic = tmp_path / "Tips" / "mosaic.tif"
    mosaic.parent.mkdir()
    _mosaic(mosaic, dtype, 32768)
    for command in (
        ("hash", mosaic),
        ("index", mosaic.parent, "--store", tmp_path / "store", "--workers", "1"),
    ):
        words = [*map(str, command), "--max-megapixels", "1074"]
        ran = subprocess.run([sys.executable, "-c", _MEASURED, *words], capture_output=True, text=True, check=False)
        code, kibibytes = ran.stderr.splitlines()[-1].split()
        assert code == "0", ran.stderr
        assert int(kibibytes) * 1024 <= 600 * _MEGABYTE, command[0]
