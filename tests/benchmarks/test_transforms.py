"""Transforms of micrographs in the benchmarks: kind and size of the queries, and repeatability."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from twinscope_client.demo.micrographs import synthesise
from twinscope_indexer.imaging.reader import read_image

_FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "transforms.py"
if not _FILE.is_file():
    pytest.skip("the benchmarks are not part of this distribution", allow_module_level=True)
_SPEC = importlib.util.spec_from_file_location("benchmark_transforms", _FILE)
assert _SPEC is not None
assert _SPEC.loader is not None
transforms = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = transforms  # dataclasses look up their module
_SPEC.loader.exec_module(transforms)

HEIGHT, WIDTH, BAR = 240, 320, 20
ALL = (*transforms.TRANSFORMS, *transforms.REFUSALS)
ids = [f"{one.group} {one.name}" for one in ALL]


def decoded(query_image: bytes | np.ndarray) -> np.ndarray:
    return read_image(query_image).pixels if isinstance(query_image, bytes) else query_image


def named(name: str):
    [found] = [one for one in transforms.TRANSFORMS if one.name == name]
    return found


@pytest.fixture(scope="module", params=[0, BAR], ids=["no known bar", "known bar"])
def micrograph(request):
    pixels = synthesise("Particles", 3, width=WIDTH, height=HEIGHT).astype(np.uint8)
    if request.param:
        pixels[-BAR:] = 0
        pixels[-BAR // 2, 20:200] = 255
    return transforms.Micrograph("Particles/three.tif", pixels, request.param)


# Height and width of the query, by transform, if the micrograph has another height or width. The docstring of the
# module contains the same ranges of random values.
SHAPES = {
    "half size": {(120, 160)},
    "double size": {(480, 640)},
    "quarter size": {(60, 80)},
    "squeezed to 0.9": {(216, 320), (240, 288)},
    "bottom 8 % cropped": {(221, 320)},
    "rotated 90": {(320, 240)},
    "rotated 270": {(320, 240)},
    "cropped by 1 %": {(236, 314)},
    "cropped by 2 %": {(230, 308)},
    "cropped by 3 %": {(226, 300)},
    "cropped by 5 %": {(216, 288)},
    "cropped by 7 %": {(206, 276)},
    "cropped by 10 %": {(192, 256)},
}
OWN_TESTS = {"bar removed", "bar added", "bar redrawn", "all at once", "panel of a quarter"} | {
    one.name for one in transforms.TRANSFORMS if one.name.startswith(("shifted", "rotated by"))
}


@pytest.mark.parametrize("transform", ALL, ids=ids)
def test_query_is_an_8_bit_image_or_a_readable_file(transform, micrograph):
    before = micrograph.pixels.copy()
    pixels = decoded(transform.query(micrograph))
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 2
    assert pixels.std() > 5  # still an image
    if transform.name not in OWN_TESTS:
        assert pixels.shape in SHAPES.get(transform.name, {(HEIGHT, WIDTH)})
    assert np.array_equal(micrograph.pixels, before), "the micrograph itself was changed"


@pytest.mark.parametrize("transform", ALL, ids=ids)
def test_same_micrograph_gives_the_same_query(transform, micrograph):
    again = transforms.Micrograph(micrograph.name, micrograph.pixels.copy(), micrograph.bar_rows)
    assert np.array_equal(decoded(transform.query(micrograph)), decoded(transform.query(again)))


# Twinscope's window restores the 8 bits of the 16-bit file. Another test checks the low bytes of this file.
CHANGING = [one for one in transforms.TRANSFORMS if one.name != "8 to 16 bit"]


@pytest.mark.parametrize("transform", CHANGING, ids=[one.name for one in CHANGING])
def test_query_differs_from_its_reference(transform, micrograph):
    query = decoded(transform.query(micrograph))
    indexed = transforms.reference(micrograph, transform.edition)
    assert query.shape != indexed.shape or not np.array_equal(query, indexed)


def test_another_name_draws_other_values(micrograph):
    queries = {
        transforms.Micrograph(f"{number}", micrograph.pixels).rng("shift").integers(1 << 62) for number in range(20)
    }
    assert len(queries) == 20
    noisy = named("noise 20")
    other = transforms.Micrograph("another", micrograph.pixels)
    assert not np.array_equal(noisy.query(micrograph), noisy.query(other))


def test_16_bits_hold_the_8_bits_in_the_high_byte(micrograph, tmp_path):
    (tmp_path / "deep.tif").write_bytes(named("8 to 16 bit").query(micrograph))
    deep = tifffile.imread(tmp_path / "deep.tif")
    assert deep.dtype == np.uint16
    assert np.array_equal(deep >> 8, micrograph.pixels)
    assert len(np.unique(deep & 255)) > 200


def test_symmetries_move_pixels_without_loss(micrograph):
    pixels = micrograph.pixels
    assert np.array_equal(named("mirrored").query(micrograph)[:, ::-1], pixels)
    assert np.array_equal(255 - named("inverted").query(micrograph), pixels)
    for turns in (1, 2, 3):
        assert np.array_equal(np.rot90(named(f"rotated {90 * turns}").query(micrograph), -turns), pixels)


def test_removed_bar_leaves_only_the_field(micrograph):
    kept = named("bar removed").query(micrograph)
    assert np.array_equal(kept, micrograph.pixels[: len(kept)])
    barred = transforms.reference(micrograph, "barred")
    rows = len(barred) - len(kept)
    if micrograph.bar_rows:
        assert rows == BAR
        assert barred is micrograph.pixels
    else:
        assert 0.05 * HEIGHT - 1 <= rows <= 0.12 * HEIGHT + 1
        assert len(np.unique(barred[-rows:])) > 2  # text on a background
        assert len(barred) in {HEIGHT, HEIGHT + rows}


@pytest.mark.parametrize("number", range(8))
def test_redrawn_bar_looks_different_in_the_same_position(number, micrograph):
    one = transforms.Micrograph(f"image {number}", micrograph.pixels)
    first, second = transforms.reference(one, "barred"), named("bar redrawn").query(one)
    rows = len(first) - len(named("bar removed").query(one))
    below = len(first) > HEIGHT
    assert (len(second) > HEIGHT) == below
    if below:
        assert abs(len(second) - len(first)) >= 0.2 * 0.07 * HEIGHT - 1
        assert np.array_equal(first[:HEIGHT], second[:HEIGHT])
    else:
        assert len(first) == len(second) == HEIGHT
    strips = [image[-max(4, rows // 3) : -2] for image in (first, second)]
    assert not np.array_equal(*strips)
    if not micrograph.bar_rows:  # a real bar may have the same background as a drawn bar
        assert np.median(strips[0]) != np.median(strips[1])


def test_shifted_windows_overlap_in_equal_pixels(micrograph):
    """The query is the shifted window of the reference. Query and reference are equal where they overlap."""
    indexed = transforms.reference(micrograph, "window")
    rows, columns = indexed.shape
    assert (rows, columns) == (int(len(micrograph.field) / 1.15), int(WIDTH / 1.15))
    for percent in (1, 2, 3, 5, 10, 15):
        query = named(f"shifted by {percent} %").query(micrograph)
        assert query.shape == indexed.shape
        dy, dx = round(percent / 100 * rows), round(percent / 100 * columns)
        overlaps = [
            np.array_equal(query[:-dy], indexed[dy:]), np.array_equal(query[dy:], indexed[:-dy]),
            np.array_equal(query[:, :-dx], indexed[:, dx:]), np.array_equal(query[:, dx:], indexed[:, :-dx]),
        ]  # fmt: skip
        assert sum(overlaps) == 1


@pytest.mark.parametrize("degrees", [2, 3, 5])
def test_rotated_crop_is_filled_and_as_large_as_possible(degrees):
    white = transforms.Micrograph("white", np.full((HEIGHT, WIDTH), 255, np.uint8))
    query = named(f"rotated by {degrees} degrees").query(white)
    assert query.min() == 255
    assert query.shape[1] / query.shape[0] == pytest.approx(WIDTH / HEIGHT, rel=0.02)
    angle = np.radians(degrees)
    height, width = len(query) + 4, query.shape[1] + 5  # the corners of a larger crop lie outside of the image
    reach = (width * np.cos(angle) + height * np.sin(angle), width * np.sin(angle) + height * np.cos(angle))
    assert reach[0] > WIDTH or reach[1] > HEIGHT


def test_panel_is_half_of_the_field_in_width_and_height(micrograph):
    panel = named("panel of a quarter").query(micrograph)
    assert panel.shape == (len(micrograph.field) // 2, WIDTH // 2)
    panels = np.lib.stride_tricks.sliding_window_view(micrograph.field, panel.shape)
    assert (panels[..., 0, :] == panel[0]).all(axis=-1).any()


def test_unrelated_image_gets_the_bar_of_another_one():
    field = synthesise("Tips", 1, width=WIDTH, height=HEIGHT).astype(np.uint8)
    unrelated = transforms.Micrograph("unrelated", field)
    real = transforms.Micrograph("real", np.vstack([255 - field, np.full((BAR, WIDTH), 7, np.uint8)]), BAR)
    under = transforms.same_bar(unrelated, real).pixels
    assert np.array_equal(under[:HEIGHT], field)
    assert (under[HEIGHT:] == 7).all()
    drawn = transforms.Micrograph("drawn", 255 - field)
    barred = transforms.reference(drawn, "barred")
    rows = len(barred) - len(named("bar removed").query(drawn))
    assert np.array_equal(transforms.same_bar(unrelated, drawn).pixels[-rows:], barred[-rows:])


def test_every_transform_has_a_group_and_a_unique_name():
    names = [one.name for one in transforms.TRANSFORMS]
    assert len(set(names)) == len(names)
    assert {one.group for one in transforms.TRANSFORMS} == set(transforms.GROUPS)


def test_empty_frames_show_no_field():
    frames = transforms.empty_frames()
    assert len({one.name for one in frames}) == len(frames) == 36
    for one in frames:
        coarse = one.pixels[: len(one.pixels) // 64 * 64, : one.pixels.shape[1] // 64 * 64].reshape(
            len(one.pixels) // 64, 64, -1, 64
        )
        means = coarse.mean(axis=(1, 3))
        # The means of blocks of 64 x 64 pixels change only in the horizontal direction.
        assert (means - means.mean(axis=0)).std() < max(1.0, 0.15 * one.pixels.std())
