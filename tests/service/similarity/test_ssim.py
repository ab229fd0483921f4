"""The SSIM equals the SSIM of scikit-image, or exact sums over windows where the rounding of scikit-image matters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from skimage.metrics import structural_similarity
from twinscope_service.similarity.ssim import match_shape, ssim, standardised_ssim


def exact_ssim(a: np.ndarray, b: np.ndarray, data_range: float) -> float:
    """Compute the mean SSIM from whole-number sums over every window; only the quotients are rounded."""
    x, y = (np.lib.stride_tricks.sliding_window_view(image.astype(np.int64), (7, 7)) for image in (a, b))
    sum_x, sum_y = x.sum(axis=(2, 3)), y.sum(axis=(2, 3))
    variance_x = (49 * (x * x).sum(axis=(2, 3)) - sum_x**2) / (49 * 48)
    variance_y = (49 * (y * y).sum(axis=(2, 3)) - sum_y**2) / (49 * 48)
    covariance = (49 * (x * y).sum(axis=(2, 3)) - sum_x * sum_y) / (49 * 48)
    mean_x, mean_y = sum_x / 49, sum_y / 49
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    values = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    values /= (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    return float(values.mean())


def pattern(kind: str, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    rows, columns = np.indices(shape)
    if kind == "noise":
        return rng.integers(0, 256, shape, np.uint8)
    if kind == "faint":  # the lowest contrast of 8 bits, near white, where single precision would lose digits
        return (254 + rng.integers(0, 2, shape)).astype(np.uint8)
    if kind == "speck":
        return np.where((rows == shape[0] // 2) & (columns == shape[1] // 2), 254, 255).astype(np.uint8)
    if kind == "checkerboard":
        return ((rows + columns) % 2 * 255).astype(np.uint8)
    if kind == "ramp":
        return ((rows + 2 * columns) % 256).astype(np.uint8)
    return np.full(shape, {"black": 0, "grey": 117, "white": 255}[kind], np.uint8)


KINDS = st.sampled_from(["noise", "faint", "speck", "checkerboard", "ramp", "black", "grey", "white"])
SIDES = st.one_of(st.integers(7, 9), st.integers(10, 70))


def second(kind: str, first: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if kind == "same":
        return first.copy()
    if kind == "inverted":
        return 255 - first
    if kind == "noisy":
        return np.clip(first + rng.normal(0, 3, first.shape), 0, 255).astype(np.uint8)
    return pattern(kind, first.shape, rng)


@given(
    KINDS,
    st.one_of(KINDS, st.sampled_from(["same", "inverted", "noisy"])),
    st.tuples(SIDES, SIDES),
    st.floats(1, 65535),
    st.integers(0, 2**32),
)
@example("noise", "noisy", (7, 7), 255, 0)
@example("noise", "noisy", (7, 300), 255, 0)
@example("noise", "noisy", (300, 7), 255, 0)
@example("faint", "faint", (40, 40), 1, 0)
@example("checkerboard", "inverted", (20, 21), 255, 0)
@settings(max_examples=400, deadline=None)
def test_equals_scikit_image(first: str, other: str, shape: tuple[int, int], data_range: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = pattern(first, shape, rng)
    b = second(other, a, rng)
    expected = structural_similarity(a, b, data_range=data_range)
    assert ssim(a, b, data_range) == pytest.approx(expected, abs=1e-6)


@given(KINDS, KINDS, st.floats(1e-7, 1e12), st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_equals_exact_sums_for_every_data_range(first: str, other: str, data_range: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = pattern(first, (19, 30), rng), pattern(other, (19, 30), rng)
    assert ssim(a, b, data_range) == pytest.approx(exact_ssim(a, b, data_range), abs=3e-7)


@pytest.mark.parametrize("offset", [0, 100, 253])
def test_faint_contrast_loses_nothing_to_cancellation(offset: int) -> None:
    rng = np.random.default_rng(offset)
    a = (offset + rng.integers(0, 2, (200, 300))).astype(np.uint8)
    b = (offset + rng.integers(0, 3, (200, 300))).astype(np.uint8)
    for data_range in (0.01, 2, 255):
        assert ssim(a, b, data_range) == pytest.approx(exact_ssim(a, b, data_range), abs=1e-7)


def test_large_images_do_not_drift() -> None:
    rng = np.random.default_rng(1)
    a = rng.integers(0, 256, (900, 1300), np.uint8)
    b = np.clip(a + rng.normal(0, 9, a.shape), 0, 255).astype(np.uint8)
    assert ssim(a, b) == pytest.approx(structural_similarity(a, b, data_range=255), abs=1e-7)
    # Wide and almost equal: a sum of many values just below 1.
    a = np.full((20, 60_000), 200, np.uint8)
    a[:, ::11] = 203
    b = a.copy()
    b[:, ::13] -= 1
    assert ssim(a, b) == pytest.approx(structural_similarity(a, b, data_range=255), abs=1e-7)


@given(KINDS, st.tuples(SIDES, SIDES), st.floats(1e-6, 1e9), st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_identical_images_score_exactly_one(kind: str, shape: tuple[int, int], data_range: float, seed: int) -> None:
    a = pattern(kind, shape, np.random.default_rng(seed))
    assert ssim(a, a.copy(), data_range) == 1.0


def test_order_of_the_images_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 256, (2, 50, 60), np.uint8)
    assert ssim(a, b) == ssim(b, a)


def test_array_views_and_read_only_images_are_accepted() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 256, (2, 80, 90), np.uint8)
    a_view, b_view = a[::2, ::-3], b.T[:30:1, :40].T
    expected = structural_similarity(a_view, b_view, data_range=255)
    a.flags.writeable = False
    assert ssim(a_view, b_view) == pytest.approx(expected, abs=1e-6)
    assert b.flags.writeable


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros((8, 8), np.uint8), np.zeros((8, 9), np.uint8), "equal shape"),
        (np.zeros((6, 80), np.uint8), np.zeros((6, 80), np.uint8), "at least 7 x 7"),
        (np.zeros((80, 6), np.uint8), np.zeros((80, 6), np.uint8), "at least 7 x 7"),
        (np.zeros((8, 8), np.uint16), np.zeros((8, 8), np.uint8), "not uint16"),
        (np.zeros((8, 8), np.uint8), np.zeros((8, 8)), "not float64"),
        (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8), r"\(8, 8, 3\)"),
    ],
)
def test_images_that_cannot_be_compared_are_refused(a: np.ndarray, b: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ssim(a, b)
    with pytest.raises(ValueError, match=message):
        standardised_ssim(a, b)


@pytest.mark.parametrize("data_range", [0, -255, float("nan"), float("inf")])
def test_invalid_data_range_is_refused(data_range: float) -> None:
    a = np.zeros((8, 8), np.uint8)
    with pytest.raises(ValueError, match="data_range"):
        ssim(a, a, data_range)


@given(st.tuples(st.integers(7, 120), st.integers(7, 120)), st.integers(1, 80), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_standardised_equals_pillow_and_scikit_image(shape: tuple[int, int], contrast: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = np.clip(rng.normal(100, contrast, shape), 0, 255).astype(np.uint8)
    b = np.clip(a * 0.7 + rng.normal(20, 4, shape), 0, 255).astype(np.uint8)
    assume(a.min() < a.max())
    standard = [np.asarray(ImageOps.autocontrast(ImageOps.equalize(Image.fromarray(image)))) for image in (a, b)]
    expected = structural_similarity(*standard, data_range=255)
    assert standardised_ssim(a, b) == pytest.approx(expected, abs=1e-6)


def test_equal_shapes_are_unchanged() -> None:
    a, b = np.zeros((2, 20, 30), np.uint8)
    matched = match_shape(a, b)
    assert matched[0] is a
    assert matched[1] is b


@pytest.mark.parametrize("larger_first", [True, False])
def test_larger_image_is_resampled_to_the_smaller_shape(larger_first: bool) -> None:
    rng = np.random.default_rng(4)
    large, small = rng.integers(0, 256, (90, 120), np.uint8), rng.integers(0, 256, (40, 50), np.uint8)
    reduced = np.asarray(Image.fromarray(large).resize((50, 40), Image.Resampling.LANCZOS))
    pair = match_shape(large, small) if larger_first else match_shape(small, large)[::-1]
    np.testing.assert_array_equal(pair[0], reduced)
    assert pair[1] is small


def test_equal_pixel_counts_keep_the_first_shape() -> None:
    a, b = np.zeros((20, 30), np.uint8), np.zeros((30, 20), np.uint8)
    first, second_ = match_shape(a, b)
    assert first is a
    assert second_.shape == (20, 30)
