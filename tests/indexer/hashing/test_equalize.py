"""The standardised contrast is the same as after Pillow's equalize and autocontrast."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageOps
from twinscope_indexer.hashing.equalize import grey_histogram, standardise, standardise_table


def by_pillow(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(ImageOps.autocontrast(ImageOps.equalize(Image.fromarray(pixels))))


@st.composite
def images(draw: st.DrawFn) -> np.ndarray:
    """Draw images of few or many levels. Some have fewer than the 255 pixels that equalising needs to have an
    effect."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=90))
    levels = draw(st.lists(st.integers(0, 255), min_size=1, max_size=40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    weights = rng.random(len(levels)) ** draw(st.integers(1, 12))
    return rng.choice(np.array(levels, np.uint8), size=shape, p=weights / weights.sum())


@given(images())
@settings(max_examples=300, deadline=None)
def test_images_of_few_levels_equal_pillow(pixels: np.ndarray) -> None:
    np.testing.assert_array_equal(standardise(pixels), by_pillow(pixels))


@pytest.mark.parametrize("seed", range(30))
def test_random_images_equal_pillow(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(30, 300, 2))
    pixels = np.clip(rng.normal(rng.integers(0, 255), rng.integers(1, 90), shape), 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(standardise(pixels), by_pillow(pixels))


@pytest.mark.parametrize("level", [0, 1, 128, 255])
def test_constant_image_is_unchanged(level: int) -> None:
    pixels = np.full((40, 50), level, np.uint8)
    np.testing.assert_array_equal(standardise(pixels), pixels)


@pytest.mark.parametrize("low", [0, 7, 254])
def test_two_levels_become_black_and_white(low: int) -> None:
    pixels = np.full((40, 50), low, np.uint8)
    pixels[:, 25:] = 255
    np.testing.assert_array_equal(standardise(pixels), by_pillow(pixels))
    assert set(np.unique(standardise(pixels))) == {0, 255}


def test_every_stretch_is_rounded_as_by_pillow() -> None:
    # With fewer than 255 pixels outside the brightest level, nothing is equalised: only the stretch has an effect.
    for low in range(0, 255, 3):
        for high in range(low + 1, 256, 5):
            pixels = np.arange(low, high + 1, dtype=np.uint8)[None, :]
            np.testing.assert_array_equal(standardise(pixels), by_pillow(pixels))


def test_views_and_read_only_images_are_accepted() -> None:
    pixels = np.random.default_rng(5).integers(0, 200, (60, 80), np.uint8)
    view = pixels[::-2, 5:71:3]
    np.testing.assert_array_equal(standardise(view), by_pillow(view.copy()))
    before = pixels.copy()
    standardise(pixels)
    np.testing.assert_array_equal(pixels, before)
    assert pixels.flags.writeable
    pixels.flags.writeable = False
    np.testing.assert_array_equal(standardise(pixels), by_pillow(before))


@pytest.mark.parametrize("shape", [(512, 512), (512, 511), (511, 513), (513, 513), (600, 801)])
@pytest.mark.parametrize("slope", [1, 7])
def test_large_images_equal_pillow(shape: tuple[int, int], slope: int) -> None:
    """Two pixels are mapped at a time, also for an odd number of pixels and for unaligned memory."""
    rng = np.random.default_rng(slope)
    whole = np.clip(rng.gamma(2, 20 * slope, shape[0] * shape[1] + 1), 0, 255).astype(np.uint8)
    for pixels in (whole[:-1].reshape(shape), whole[1:].reshape(shape), whole[:-1].reshape(shape)[:, ::-1]):
        np.testing.assert_array_equal(standardise(pixels), by_pillow(pixels))


@given(images())
@settings(max_examples=50, deadline=None)
def test_histogram_counts_every_pixel(pixels: np.ndarray) -> None:
    np.testing.assert_array_equal(grey_histogram(pixels), np.bincount(pixels.ravel(), minlength=256))
    np.testing.assert_array_equal(grey_histogram(pixels[::-1, ::2]), np.bincount(pixels[:, ::2].ravel(), minlength=256))


def test_table_depends_only_on_the_histogram() -> None:
    pixels = np.random.default_rng(6).binomial(255, 0.3, (100, 100)).astype(np.uint8)
    table = standardise_table(np.bincount(pixels.ravel(), minlength=256))
    assert table.dtype == np.uint8
    np.testing.assert_array_equal(table[pixels], by_pillow(pixels))


def test_table_is_right_for_more_than_2_to_the_32_pixels() -> None:
    counts = np.random.default_rng(7).integers(1, 1000, 256)
    np.testing.assert_array_equal(standardise_table(counts * 255 * 10**8), standardise_table(counts * 255))


@pytest.mark.parametrize("pixels", [np.zeros((8, 8), np.uint16), np.zeros((8, 8, 3), np.uint8), np.zeros(8, np.uint8)])
def test_image_that_is_not_8_bit_grey_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8 of shape"):
        standardise(pixels)
    with pytest.raises(ValueError, match="uint8 of shape"):
        grey_histogram(pixels)


@pytest.mark.parametrize("histogram", [np.zeros(255, int), np.zeros(256), np.full(256, -1)])
def test_invalid_histogram_is_refused(histogram: np.ndarray) -> None:
    with pytest.raises(ValueError, match="256 whole numbers"):
        standardise_table(histogram)
