"""The lowest coefficients of the DCT-II, compared with the full transform of SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from scipy.fft import dctn
from twinscope_indexer.hashing.dct import low_frequencies

IMAGES = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=200))


@given(IMAGES, st.data())
@settings(deadline=None)
def test_coefficients_equal_those_of_the_full_transform(pixels: NDArray[np.uint8], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, min(pixels.shape)))
    expected = dctn(pixels.astype(np.float64))[:count, :count]
    scale = 4 * 255 * pixels.size
    assert np.abs(low_frequencies(pixels, count) - expected).max() <= 1e-13 * scale


@given(IMAGES)
@settings(deadline=None)
def test_mirroring_negates_exactly_the_odd_frequencies(
    pixels: NDArray[np.uint8],
) -> None:
    """For an image that is its own mirror image, some coefficients are therefore exactly 0, without a sign from
    rounding."""
    count = min(4, *pixels.shape)
    found, signs = low_frequencies(pixels, count), (-1.0) ** np.arange(count)
    np.testing.assert_array_equal(low_frequencies(pixels[::-1], count), found * signs[:, None])
    np.testing.assert_array_equal(low_frequencies(pixels[:, ::-1], count), found * signs)
    symmetric = np.concatenate((pixels, pixels[::-1]))
    assert not low_frequencies(symmetric, count)[1::2].any()


@given(IMAGES)
@settings(deadline=None)
def test_memory_layout_of_the_pixels_does_not_matter(pixels: NDArray[np.uint8]) -> None:
    frozen = pixels.copy(order="F")
    frozen.flags.writeable = False
    assert (low_frequencies(frozen, 1) == low_frequencies(pixels, 1)).all()


@pytest.mark.parametrize(
    ("pixels", "count"),
    [
        (np.zeros((4, 4)), 2),
        (np.zeros(4, np.uint8), 2),
        (np.zeros((4, 3), np.uint8), 4),
        (np.zeros((4, 4), np.uint8), 0),
    ],
)
def test_image_or_count_without_coefficients_is_refused(pixels: NDArray[np.uint8], count: int) -> None:
    with pytest.raises(ValueError, match=r"expected a grey image|coefficients along each axis"):
        low_frequencies(pixels, count)
