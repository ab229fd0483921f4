"""``connect``: what can be a target, what can be an image, and what an engine does."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import Shelf
from PIL import Image
from twinscope_client import connect
from twinscope_client.demo.micrographs import synthesise
from twinscope_client.pixels import grey_pixels
from twinscope_indexer.bulk import index
from twinscope_indexer.errors import ImageError, StoreError
from twinscope_indexer.imaging import read_image
from twinscope_service.policy import POLICIES


def test_a_store_is_opened_by_path_or_text(shelf: Shelf) -> None:
    for target in (shelf.store, str(shelf.store)):
        with connect(target) as ts:
            assert ts.search(shelf.reference("Tips", 0)).category == "Tips"


def test_what_is_no_store_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for place in ("missing", "file", "folder"):
        with pytest.raises(StoreError, match="twinscope index"):
            connect(tmp_path / place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    assert list((tmp_path / "folder").iterdir()) == []


def test_opening_a_store_does_not_change_it(shelf: Shelf) -> None:
    files = [path for path in shelf.store.iterdir() if not path.name.endswith(("-wal", "-shm"))]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    with connect(shelf.store) as ts:
        ts.search(shelf.pixels["Tips", 0])
        ts.stats()
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files} == before


# -- images of every kind -------------------------------------------------------------------------------------------


def test_one_image_is_answered_alike_in_every_form(shelf: Shelf) -> None:
    path = shelf.reference("Fibres", 1)
    pixels = read_image(path).pixels
    forms = {
        "path": path,
        "text": str(path),
        "bytes": path.read_bytes(),
        "stream": io.BytesIO(path.read_bytes()),
        "array": pixels,
        "read-only": np.broadcast_to(pixels, pixels.shape),
        "strided": np.repeat(pixels, 2, axis=1)[:, ::2],
        "RGB array": np.stack([pixels] * 3, axis=2),
        "RGBA array": np.stack([pixels, pixels, pixels, pixels // 2], axis=2),
        "PIL": Image.fromarray(pixels),
        "PIL RGB": Image.fromarray(pixels).convert("RGB"),
    }
    with connect(shelf.store) as ts:
        answers = {name: ts.search(form) for name, form in forms.items()}
        with path.open("rb") as stream:
            answers["file"] = ts.search(stream)
    for name, answer in answers.items():
        assert answer == answers["path"], name
    assert answers["path"].grade == "excellent"


@pytest.mark.parametrize(
    "dtype", [np.uint16, np.int16, np.uint32, np.int32, np.float32, np.float64, np.int8, ">u2", np.bool_, np.uint8]
)
@pytest.mark.parametrize("colour", [False, True])
def test_an_array_goes_through_the_window_of_its_file(tmp_path: Path, dtype: str, colour: bool) -> None:
    rng = np.random.default_rng(2)
    shape = (40, 50, 3) if colour else (40, 50)
    if np.dtype(dtype) == np.bool_ and colour:
        pytest.skip("no TIFF is made of three bits a pixel")
    array = (rng.gamma(3, 20, shape) % 120).astype(dtype)
    tifffile.imwrite(tmp_path / "x.tif", array, photometric="rgb" if colour else "minisblack")
    found, expected = grey_pixels(array), read_image(tmp_path / "x.tif").pixels
    assert found.dtype == np.uint8
    assert found.shape == (40, 50)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "I", "I;16", "F"])
def test_a_pil_image_is_what_its_pixels_are(mode: str) -> None:
    pixels = synthesise("Tips", 1, width=80, height=64).astype(np.uint8)
    deep = {"I": np.int32, "I;16": np.uint16, "F": np.float32}
    if mode in deep:
        image = Image.fromarray(pixels.astype(deep[mode]) * 200)
        expected = grey_pixels(pixels.astype(deep[mode]) * 200)
    else:
        image = Image.fromarray(pixels).convert(mode)
        expected = np.asarray(image.convert("L"))
    assert image.mode == mode
    np.testing.assert_array_equal(grey_pixels(image), expected)


def test_an_array_is_never_shared_with_the_caller() -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(6, 8)
    grey_pixels(pixels)[:] = 0
    assert pixels[5, 7] == 47


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(5, np.uint8),
        np.zeros((4, 5, 2), np.uint8),
        np.zeros((2, 4, 5, 3), np.uint8),
        np.zeros((0, 5), np.uint8),
        np.zeros((4, 5), np.complex64),
        np.array([["a", "b"]]),
    ],
)
def test_what_is_no_image_is_refused_with_its_shape(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="real numbers"):
        grey_pixels(array)


def test_an_unreadable_image_is_told(shelf: Shelf, tmp_path: Path) -> None:
    with connect(shelf.store) as ts:
        for image in (tmp_path / "missing.tif", tmp_path, b"", b"no image"):
            with pytest.raises(ImageError):
                ts.search(image)


# -- thresholds ----------------------------------------------------------------------------------------------------


def test_thresholds_belong_to_the_request(shelf: Shelf) -> None:
    path = shelf.reference("Tips", 0)
    with connect(shelf.store) as ts:
        assert ts.search(path, excellent_ssim=1.0).grade == "good"
        assert ts.search(path, policy="reference").policy == POLICIES["reference"]
        own = POLICIES["default"].adjusted({"k": 1})
        assert ts.search(path, policy=own).policy == own
        assert len(ts.search(path, k=3, max_distance=1024).matches) == 3
        with pytest.raises(ValueError, match="unknown threshold"):
            ts.search(path, no_threshold=1)
        with pytest.raises(ValueError, match="no policy"):
            ts.search(path, policy="nothing")


# -- the engine ----------------------------------------------------------------------------------------------------


def test_an_engine_describes_its_store(shelf: Shelf) -> None:
    with connect(shelf.store) as ts:
        stats = ts.stats()
        assert (stats["images"], stats["searchable"], stats["failures"]) == (6, 6, 0)
        assert stats["category"] == {"Fibres": 2, "Particles": 2, "Tips": 2}
        # L9 is the code of Tips, so that four of six prefixes are wrong.
        assert (stats["prefixes"], stats["contradicting_prefixes"]) == (6, 4)
        assert stats["roots"] == [str(shelf.references)]
        assert ts.identity == f"{stats['store_id']}/{stats['generation']}"


def test_thumbnails_are_reduced_references(shelf: Shelf) -> None:
    with connect(shelf.store) as ts:
        best = ts.search(shelf.reference("Tips", 0)).best
        assert best is not None
        thumbnail = ts.thumbnail(best.image_id)
        assert thumbnail is not None
        small = Image.fromarray(shelf.pixels["Tips", 0]).resize(thumbnail.shape[::-1], Image.Resampling.BOX)
        assert np.corrcoef(np.asarray(small).ravel(), thumbnail.ravel())[0, 1] > 0.99
        assert ts.thumbnail("0" * 16) is None


def test_an_engine_answers_from_one_state_until_it_is_refreshed(tmp_path: Path) -> None:
    def add(name: str, number: int) -> np.ndarray:
        pixels = synthesise("Tips", number, width=160, height=120).astype(np.uint8)
        (tmp_path / "Tips").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "Tips" / name)
        index([tmp_path / "Tips"], tmp_path / "store", workers=1)
        return pixels

    add("a.png", 1)
    with connect(tmp_path / "store") as ts:
        before = ts.identity
        new = add("b.png", 2)
        assert ts.search(new).grade == "none"
        assert ts.identity == before
        ts.refresh()
        assert ts.search(new).grade == "excellent"
        assert ts.identity != before


def test_threads_share_an_engine(shelf: Shelf) -> None:
    paths = [shelf.reference(category, number) for category, number in shelf.pixels]
    with connect(shelf.store) as ts, ThreadPoolExecutor(8) as pool:
        alone = [ts.search(path) for path in paths]
        assert list(pool.map(ts.search, paths * 4)) == alone * 4


@pytest.mark.parametrize("nothing", [None, 5, ["a.tif"]])
def test_what_cannot_hold_an_image_is_named(nothing):
    with pytest.raises(TypeError, match=type(nothing).__name__):
        grey_pixels(nothing)
