"""The Lanczos kernel, equal to Pillow's resize to the last bit."""

from __future__ import annotations

import concurrent.futures

import numpy as np
import PIL
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from twinscope_indexer.hashing.lanczos import lanczos

Shape = tuple[int, int]

_OLD_PILLOW = int(PIL.__version__.partition(".")[0]) < 13


def pillow_pass(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image.resize(size, Image.Resampling.LANCZOS)


def by_pillow(pixels: np.ndarray, shape: Shape) -> np.ndarray:
    """Resize with Pillow, one side after the other in the order of version 13, for the same result in all versions."""
    image = Image.fromarray(pixels)
    height, width = shape
    if image.height - height > 2 * max(0, image.width - width):
        return np.asarray(pillow_pass(pillow_pass(image, (image.width, height)), (width, height)))
    return np.asarray(pillow_pass(pillow_pass(image, (width, image.height)), (width, height)))


def noise(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, shape, dtype=np.uint8)


def black_and_white(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Return the sharpest possible edges, at which the filter overshoots beyond black and white."""
    return (rng.integers(0, 2, shape) * 255).astype(np.uint8)


def stripes(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Return black and white lines of several pixels, whose overshoots add up."""
    period = int(rng.integers(1, 12))
    lines = (np.arange(shape[int(rng.integers(2))]) // period % 2 * 255).astype(np.uint8)
    return np.broadcast_to(lines[:, None] if len(lines) == shape[0] else lines, shape).copy()


def slope(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Return slowly changing levels, for which many sums are near a half."""
    y, x = np.indices(shape)
    a, b = rng.uniform(-1, 1, 2)
    return (np.round(a * y + b * x + rng.uniform(0, 255)) % 256).astype(np.uint8)


def flat(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    return np.full(shape, rng.choice([0, 1, 127, 254, 255]), np.uint8)


PATTERNS = (noise, black_and_white, stripes, slope, flat)
SIDES = st.one_of(st.integers(1, 9), st.integers(1, 300), st.sampled_from([127, 128, 129, 255, 256, 257, 700]))


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from(PATTERNS), st.integers(0, 2**32 - 1))
@settings(max_examples=300, deadline=None)
@example(1, 7000, 128, 128, noise, 0)
@example(7000, 1, 128, 128, noise, 0)
@example(3, 9000, 5, 2, black_and_white, 0)
@example(9000, 3, 2, 5, black_and_white, 0)
@example(1, 1, 300, 500, noise, 0)
@example(300, 500, 1, 1, black_and_white, 0)
@example(130, 130, 128, 700, noise, 0)
@example(700, 3, 1, 700, noise, 0)
@example(600, 257, 128, 128, noise, 0)  # one row more than the limit for resizing the height first
@example(386, 257, 128, 128, noise, 0)
@example(387, 257, 128, 128, noise, 0)
def test_every_pixel_equals_pillow(height, width, new_height, new_width, pattern, seed):
    pixels = pattern((height, width), np.random.default_rng(seed))
    found = lanczos(pixels, (new_height, new_width))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, by_pillow(pixels, (new_height, new_width)))


@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_levels_are_mapped_before_resizing(height, width, new_height, new_width, seed):
    rng = np.random.default_rng(seed)
    pixels, table = noise((height, width), rng), rng.integers(0, 256, 256, dtype=np.uint8)
    found = lanczos(pixels, (new_height, new_width), table)
    np.testing.assert_array_equal(found, by_pillow(table[pixels], (new_height, new_width)))


@given(SIDES, SIDES, st.booleans(), st.booleans(), SIDES, st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_side_of_the_same_size_is_not_resampled(height, width, keep_height, keep_width, other, seed):
    pixels = black_and_white((height, width), np.random.default_rng(seed))
    shape = (height if keep_height else other, width if keep_width else other)
    found = lanczos(pixels, shape)
    np.testing.assert_array_equal(found, by_pillow(pixels, shape))
    if shape == pixels.shape:
        np.testing.assert_array_equal(found, pixels)
        assert not np.shares_memory(found, pixels)


@pytest.mark.skipif(_OLD_PILLOW, reason="Pillow before 13 always resizes the width first")
@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_order_of_the_passes_is_that_of_pillow(height, width, new_height, new_width, seed):
    pixels = noise((height, width), np.random.default_rng(seed))
    expected = Image.fromarray(pixels).resize((new_width, new_height), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(lanczos(pixels, (new_height, new_width)), np.asarray(expected))


@pytest.mark.parametrize(
    "shape",
    [(768, 1024), (1024, 1280), (1887, 2048), (2048, 1887), (2168, 1024), (1024, 2168), (65, 4099), (5000, 3000)],
)
@pytest.mark.parametrize("pattern", [noise, black_and_white])
def test_images_of_micrograph_size_equal_pillow(shape, pattern):
    pixels = pattern(shape, np.random.default_rng(3))
    np.testing.assert_array_equal(lanczos(pixels, (128, 128)), by_pillow(pixels, (128, 128)))


@pytest.mark.parametrize(
    "view",
    [lambda p: p[::-1], lambda p: p[:, ::-2], lambda p: p.T, lambda p: p[3:90, 5:71], np.asfortranarray],
    ids=["flipped", "strided", "transposed", "cut", "column-major"],
)
def test_memory_layout_does_not_matter(view):
    pixels = view(noise((140, 150), np.random.default_rng(4)))
    np.testing.assert_array_equal(lanczos(pixels, (64, 70)), by_pillow(pixels.copy(order="C"), (64, 70)))


def test_pixels_and_table_are_unchanged_and_can_be_read_only():
    rng = np.random.default_rng(5)
    pixels, table = noise((90, 130), rng), rng.integers(0, 256, 256, dtype=np.uint8)
    before = pixels.copy(), table.copy()
    found = lanczos(pixels, (40, 50), table)
    assert (pixels.flags.writeable, table.flags.writeable, found.flags.writeable) == (True, True, True)
    pixels.flags.writeable = table.flags.writeable = False
    np.testing.assert_array_equal(lanczos(pixels, (40, 50), table), found)
    np.testing.assert_array_equal(pixels, before[0])
    np.testing.assert_array_equal(table, before[1])


def test_threads_do_not_affect_each_other():
    rng = np.random.default_rng(6)
    images = [noise((int(h), int(w)), rng) for h, w in rng.integers(1, 200, (60, 2))]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda pixels: lanczos(pixels, (33, 44)), images))
    for pixels, resized in zip(images, found, strict=True):
        np.testing.assert_array_equal(resized, by_pillow(pixels, (33, 44)))


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((4, 4, 3), np.uint8), np.zeros(16, np.uint8), np.zeros((4, 4), np.uint16), np.zeros((0, 4), np.uint8)],
    ids=["colour", "one axis", "16 bits", "no rows"],
)
def test_array_that_is_not_a_grey_image_is_refused(pixels):
    with pytest.raises(ValueError, match="uint8 of shape"):
        lanczos(pixels, (2, 2))


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (-1, 4), (4,), (4, 4, 4)])
def test_invalid_size_is_refused(shape):
    with pytest.raises(ValueError, match="at least 1"):
        lanczos(np.zeros((4, 4), np.uint8), shape)


@pytest.mark.parametrize("table", [np.zeros(255, np.uint8), np.zeros(256, np.int64), np.zeros((256, 1), np.uint8)])
def test_table_without_256_levels_is_refused(table):
    with pytest.raises(ValueError, match="256 levels"):
        lanczos(np.zeros((4, 4), np.uint8), (2, 2), table)
