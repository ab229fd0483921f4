"""Thumbnails: area averages, contrast, size, and invalid data."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter
from twinscope_indexer.errors import ImageError
from twinscope_indexer.hashing.resampling import area_reduce
from twinscope_indexer.hashing.thumbnail import LONG_SIDE, MIN_SIDE, decode_thumbnail, encode_thumbnail, thumbnail_shape


def texture(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Return an image with detail at several scales, in 0 to 255."""
    rng = np.random.default_rng(seed)
    scales = (3, 10, 30)
    layers = [gaussian_filter(rng.normal(size=shape), scale) * scale for scale in scales]
    total = np.sum(layers, axis=0)
    return np.clip(128 + 45 * total / (total.std() + 1e-9), 0, 255).astype(np.uint8)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return the correlation of two images without the finest detail, which a scene score ignores."""
    smooth = [gaussian_filter(image.astype(float), 1).ravel() for image in (a, b)]
    return float(np.corrcoef(*smooth)[0, 1])


def area_by_repetition(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Divide every pixel into as many pixels as the new side has, and return the means of blocks."""
    height, width = shape
    fine = pixels.astype(float).repeat(height, axis=0).repeat(width, axis=1)
    return fine.reshape(height, pixels.shape[0], width, pixels.shape[1]).mean(axis=(1, 3))


@given(st.integers(1, 40), st.integers(1, 40), st.data())
@settings(max_examples=150, deadline=None)
def test_area_reduction_is_the_mean_of_the_covered_pixels(rows: int, columns: int, data: st.DataObject) -> None:
    shape = data.draw(st.integers(1, rows)), data.draw(st.integers(1, columns))
    pixels = np.random.default_rng(rows * columns).integers(0, 256, (rows, columns), np.uint8)
    reduced = area_reduce(pixels, shape)
    assert reduced.dtype == np.float32
    np.testing.assert_allclose(reduced, area_by_repetition(pixels, shape), atol=1e-3)


def test_area_reduction_accepts_views_and_read_only_images() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80), np.uint8)
    pixels.flags.writeable = False
    view = pixels[::2, ::-1]
    np.testing.assert_allclose(area_reduce(view, (7, 9)), area_by_repetition(view, (7, 9)), atol=1e-3)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (11, 10), (10, 21)])
def test_area_reduction_refuses_to_enlarge_or_to_empty(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="cannot reduce"):
        area_reduce(np.zeros((10, 20), np.uint8), shape)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((768, 1024), (144, 192)),
        ((1024, 768), (192, 144)),
        ((100, 150), (100, 150)),
        ((192, 192), (192, 192)),
        ((5000, 60), (192, MIN_SIDE)),
        ((20, 4000), (20, 192)),
        ((1, 1), (1, 1)),
        ((1, 100_000), (1, 192)),
    ],
)
def test_shape_of_a_thumbnail(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    assert thumbnail_shape(shape) == expected


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (7, 300), (100, 150), (768, 1024), (2000, 30)])
def test_decoded_thumbnail_has_the_thumbnail_shape(shape: tuple[int, int]) -> None:
    thumbnail = decode_thumbnail(encode_thumbnail(texture(shape)))
    assert thumbnail.dtype == np.uint8
    assert thumbnail.shape == thumbnail_shape(shape)


def test_thumbnail_resembles_the_image_in_a_few_kilobytes() -> None:
    pixels = texture((768, 1024))
    data = encode_thumbnail(pixels)
    assert len(data) < 10_000
    assert correlation(decode_thumbnail(data), area_reduce(pixels, (144, 192))) > 0.995


@pytest.mark.parametrize("level", [10, 120, 240])
def test_faint_contrast_survives(level: int) -> None:
    pixels = texture((768, 1024))
    faint = np.rint(level + 14 * (pixels / 255.0 - 0.5)).astype(np.uint8)
    thumbnail = decode_thumbnail(encode_thumbnail(faint))
    assert correlation(thumbnail, area_reduce(pixels, (144, 192))) > 0.99
    assert np.ptp(thumbnail) > 150


def test_contrast_and_brightness_hardly_affect_a_thumbnail() -> None:
    pixels = texture((480, 640))
    plain = decode_thumbnail(encode_thumbnail(pixels)).astype(float)
    changed = decode_thumbnail(encode_thumbnail(np.rint(pixels * 0.5 + 70).astype(np.uint8))).astype(float)
    assert np.abs(plain - changed).mean() < 2


@pytest.mark.parametrize("level", [0, 130, 255])
def test_featureless_image_stays_featureless(level: int) -> None:
    thumbnail = decode_thumbnail(encode_thumbnail(np.full((300, 400), level, np.uint8)))
    assert np.ptp(thumbnail) == 0
    assert abs(int(thumbnail[0, 0]) - level) <= 1


def test_stretch_of_one_grey_level_is_limited() -> None:
    pixels = np.full((150, 190), 200, np.uint8)
    pixels[:, 95:] = 201
    thumbnail = decode_thumbnail(encode_thumbnail(pixels))
    assert 12 < int(thumbnail[75, 180]) - int(thumbnail[75, 10]) < 20


@pytest.mark.parametrize(
    "pixels", [np.zeros((8, 8), np.uint16), np.zeros((8, 8, 3), np.uint8), np.zeros((0, 8), np.uint8)]
)
def test_array_that_is_not_a_grey_image_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"uint8 of shape|without pixels"):
        encode_thumbnail(pixels)


def jpeg(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "JPEG")
    return data.getvalue()


def declaring_huge_size(data: bytes) -> bytes:
    """Return a JPEG with 65500 x 65500 pixels in its frame header (SOF0: marker, length, precision, height, width)."""
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + b"\xff\xdc\xff\xdc" + data[at + 4 :]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an image",
        b"\xff\xd8\xff\xd9",
        encode_thumbnail(texture((90, 120)))[:-300],
        declaring_huge_size(encode_thumbnail(texture((90, 120)))),
        jpeg(Image.new("L", (LONG_SIDE + 1, 20))),
        jpeg(Image.new("RGB", (30, 20))),
    ],
    ids=["empty", "text", "markers", "truncated", "huge", "large", "colour"],
)
def test_data_that_is_not_a_thumbnail_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match="thumbnail"):
        decode_thumbnail(data)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=20), st.floats(0.3, 1))
@settings(max_examples=300, deadline=None)
def test_damaged_data_gives_an_image_or_an_image_error(changes: list[tuple[float, int]], kept: float) -> None:
    data = bytearray(encode_thumbnail(texture((60, 80))))
    for position, value in changes:
        data[int(position * (len(data) - 1))] = value
    try:
        thumbnail = decode_thumbnail(bytes(data[: int(kept * len(data))]))
    except ImageError:
        return
    assert thumbnail.dtype == np.uint8
    assert thumbnail.ndim == 2
    assert max(thumbnail.shape) <= LONG_SIDE


def plain_means(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return area averages by their definition: rows are added in 32 bits, then columns in 64, one after the other."""
    steps = [old / new for old, new in zip(pixels.shape, shape, strict=True)]
    means = np.empty(shape, np.float32)
    for y in range(shape[0]):
        top, bottom = y * steps[0], (y + 1) * steps[0]
        line = np.zeros(pixels.shape[1], np.float32)
        for row in range(int(top), min(int(np.ceil(bottom)), pixels.shape[0])):
            line += np.float32(min(row + 1, bottom) - max(row, top)) * pixels[row].astype(np.float32)
        for x in range(shape[1]):
            left, right = x * steps[1], (x + 1) * steps[1]
            ends = range(int(left), min(int(np.ceil(right)), pixels.shape[1]))
            total = sum((min(column + 1, right) - max(column, left)) * float(line[column]) for column in ends)
            means[y, x] = total / (steps[0] * steps[1])
    return means


def plain_thumbnail(pixels: np.ndarray) -> bytes:
    """Return the thumbnail, made step by step with NumPy and Pillow."""
    means = plain_means(pixels, thumbnail_shape(pixels.shape))
    low, high = float(means.min()), float(means.max())
    gain = min(255 / (high - low), 16) if high > low else 1.0
    middle, half = (low + high) / 2, gain * (high - low) / 2
    centre = min(max(middle, half), 255 - half)
    stretched = np.clip(np.rint((means - middle) * gain + centre), 0, 255).astype(np.uint8)
    height, width = (side // 4 for side in stretched.shape)
    detail = 0.0
    if height > 1 and width > 1:
        blocks = stretched[: height * 4, : width * 4].reshape(height, 4, width, 4).mean(axis=(1, 3))
        detail = float(np.abs(np.diff(blocks, axis=0)).mean() + np.abs(np.diff(blocks, axis=1)).mean()) / 2
    squares = (np.pi * np.arange(8) / 8) ** 2
    steps = max(1.0, 0.3 * detail) * np.exp(0.5 * 0.9**2 * (squares[:, None] + squares))
    jpeg = io.BytesIO()
    tables = [[int(step) for step in np.clip(np.rint(steps), 1, 255).ravel()]]
    Image.fromarray(stretched).save(jpeg, "JPEG", qtables=tables)
    return jpeg.getvalue()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 420), st.integers(1, 420), st.integers(0, 10**6), st.sampled_from([(0, 256), (100, 103), (0, 40)])
)
def test_thumbnails_equal_the_plain_steps_bit_for_bit(
    height: int, width: int, seed: int, levels: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(*levels, (-(-height // 5), -(-width // 5)))
    pixels = (np.kron(coarse, np.ones((5, 5)))[:height, :width] + rng.integers(0, 3, (height, width))) % 256
    assert encode_thumbnail(pixels.astype(np.uint8)) == plain_thumbnail(pixels.astype(np.uint8))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_means_equal_the_definition_bit_for_bit(data: st.DataObject) -> None:
    old = data.draw(st.tuples(st.integers(1, 90), st.integers(1, 90)))
    new = tuple(data.draw(st.integers(1, side)) for side in old)
    pixels = np.random.default_rng(old).integers(0, 256, old, np.uint8)
    np.testing.assert_array_equal(area_reduce(pixels, (new[0], new[1])), plain_means(pixels, (new[0], new[1])))


def test_real_micrographs_keep_their_detail(micrographs_dir: Path) -> None:
    paths = sorted(micrographs_dir.glob("*/*.jpg"))[::12]
    assert paths
    for path in paths:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L"))
        data = encode_thumbnail(pixels)
        assert len(data) < 20_000
        assert correlation(decode_thumbnail(data), area_reduce(pixels, thumbnail_shape(pixels.shape))) > 0.98
