"""Mean structural similarity (SSIM) of two grey images at full size, computed exactly in one pass over the pixels."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from twinscope_indexer.compute.jit import compiled
from twinscope_indexer.hashing.arrays import read_only, require_grey
from twinscope_indexer.hashing.equalize import standardise

WINDOW = 7
"""Side of the square window, in pixels, as by default in scikit-image. All pixels of the window have equal weight."""

_K1, _K2 = 0.01, 0.03  # Wang, Bovik, Sheikh, Simoncelli (2004), IEEE Trans. Image Process. 13(4), 600-612
_AREA = WINDOW * WINDOW
# Outside these limits of the data range, the SSIM in single precision no longer depends on the data range, and products
# of the stabilising constants would be too large or too small for single precision.
_LEAST_RANGE, _GREATEST_RANGE = 1e-3, 1e8


def ssim(a: NDArray[np.uint8], b: NDArray[np.uint8], data_range: float = 255) -> float:
    """Compute the mean SSIM of two images.

    The result differs from ``skimage.metrics.structural_similarity(a, b, data_range=data_range)`` by at most 1e-6. The
    SSIM is computed with a uniform window of 7 x 7 pixels, sample variances and covariances, K1 = 0.01 and K2 = 0.03,
    and averaged over all windows inside the image.

    Parameters
    ----------
    a, b : numpy.ndarray of uint8, shape (height, width)
        Grey images of equal shape, at least 7 x 7 pixels.
    data_range : float
        Difference between the largest and the smallest possible pixel value, in grey levels.

    Returns
    -------
    float
        Mean SSIM, -1 to 1. The SSIM of identical images is exactly 1.

    Raises
    ------
    ValueError
        If the images are not two-dimensional arrays of uint8, have different shapes or are smaller than the window, or
        if `data_range` is not positive and finite.
    """
    _check_pair(a, b)
    if not (math.isfinite(data_range) and data_range > 0):
        raise ValueError(f"data_range must be positive and finite, not {data_range}; use 255 for 8-bit images")
    data_range = min(max(float(data_range), _LEAST_RANGE), _GREATEST_RANGE)
    # Means and variances are not divided by the area of the window, so that they are whole numbers. Therefore, the
    # constants are multiplied by the same powers of the area. See `_mean_ssim`.
    luminance = (_K1 * data_range) ** 2 * _AREA**2
    contrast = (_K2 * data_range) ** 2 * _AREA * (_AREA - 1)
    return float(_mean_ssim(read_only(a), read_only(b), np.float32(luminance), np.float32(contrast)))


def standardised_ssim(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Standardise two images, and compute their mean SSIM with a data range of 255 grey levels.

    Parameters
    ----------
    a, b : numpy.ndarray of uint8, shape (height, width)
        Raw grey images of equal shape, at least 7 x 7 pixels; see `match_shape`.

    Returns
    -------
    float
        Mean SSIM, -1 to 1. Standardising amplifies noise. Therefore, a value near 1 means that the noise also agrees,
        and that the images show the same acquisition.

    Raises
    ------
    ValueError
        If `ssim` would raise an error for these images.
    """
    _check_pair(a, b)
    return ssim(standardise(a), standardise(b))


def match_shape(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Resample one of two images to the shape of the other image, as `standardised_ssim` requires.

    The image with more pixels is resampled. If both images have the same number of pixels, `b` is resampled. The filter
    is Pillow's ``LANCZOS``, which avoids aliasing when an image is reduced. Pass raw pixels, and standardise the images
    afterwards, because the histogram of the compared pixels must be equalised.

    Parameters
    ----------
    a, b : numpy.ndarray of uint8, shape (height, width)
        Grey images.

    Returns
    -------
    tuple of numpy.ndarray of uint8
        The two images with equal shapes, in the order of the arguments. An image that is not resampled is returned
        without a copy.
    """
    if a.shape == b.shape:
        return a, b
    if a.size > b.size:
        return _resampled(a, b.shape), b
    return a, _resampled(b, a.shape)


def _resampled(pixels: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    height, width = shape
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def _check_pair(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> None:
    require_grey(a)
    require_grey(b)
    if a.shape != b.shape:
        raise ValueError(f"SSIM needs images of equal shape, not {a.shape} and {b.shape}; see match_shape")
    if min(a.shape) < WINDOW:
        raise ValueError(f"SSIM needs at least {WINDOW} x {WINDOW} pixels; the images have shape {a.shape}")


# The compiler may only change the order of the float64 sums. The quotients keep IEEE rounding, so the SSIM of identical
# images is exactly 1.
@compiled(fastmath={"reassoc"}, error_model="numpy")
def _mean_ssim(a: NDArray[np.uint8], b: NDArray[np.uint8], luminance: np.float32, contrast: np.float32) -> float:
    """Compute the mean SSIM from running sums over the last seven rows of each column.

    A window has n = 49 pixels. A and B are the sums of the grey levels of the two images in the window, S is the sum of
    the squares of both images, and P is the sum of the products. The SSIM of the window is
    (2AB + c1)(2(nP - AB) + c2) / ((A^2 + B^2 + c1)(nS - A^2 - B^2 + c2)).

    All operations except the last few are exact, because the sums are 32-bit integers. The largest value, nS, is
    49 * 49 * 2 * 255^2 = 3.1e8. Therefore, images of low variance lose no accuracy by cancellation. The code halves
    both factors of the numerator, and multiplies the mean by 4.

    The sums A and B are at most 49 * 255. One 32-bit integer stores both sums (A in the lower half, B in the upper
    half), so that one addition changes both sums.
    """
    height, width = a.shape
    inner = width - 6
    half_luminance, half_contrast = np.float32(luminance / 2), np.float32(contrast / 2)
    levels, squares, products = np.zeros(width, np.int32), np.zeros(width, np.int32), np.zeros(width, np.int32)
    # Seven shifted views of each array of column sums are used instead of index arithmetic, because LLVM compiles the
    # views to vector loads.
    l0, l1, l2, l3 = levels[:inner], levels[1 : inner + 1], levels[2 : inner + 2], levels[3 : inner + 3]
    l4, l5, l6 = levels[4 : inner + 4], levels[5 : inner + 5], levels[6 : inner + 6]
    s0, s1, s2, s3 = squares[:inner], squares[1 : inner + 1], squares[2 : inner + 2], squares[3 : inner + 3]
    s4, s5, s6 = squares[4 : inner + 4], squares[5 : inner + 5], squares[6 : inner + 6]
    p0, p1, p2, p3 = products[:inner], products[1 : inner + 1], products[2 : inner + 2], products[3 : inner + 3]
    p4, p5, p6 = products[4 : inner + 4], products[5 : inner + 5], products[6 : inner + 6]
    quarter_ssim = np.empty(inner, np.float32)
    total = 0.0
    for row in range(height):
        if row < 7:
            for x in range(width):
                new_a, new_b = np.int32(a[row, x]), np.int32(b[row, x])
                levels[x] += new_a + np.int32(new_b << 16)
                squares[x] += new_a * new_a + new_b * new_b
                products[x] += new_a * new_b
        else:
            for x in range(width):
                new_a, new_b = np.int32(a[row, x]), np.int32(b[row, x])
                old_a, old_b = np.int32(a[row - 7, x]), np.int32(b[row - 7, x])
                levels[x] += np.int32(new_a - old_a) + np.int32((new_b - old_b) << 16)
                squares[x] += new_a * new_a - old_a * old_a + new_b * new_b - old_b * old_b
                products[x] += new_a * new_b - old_a * old_b
        if row < 6:
            continue
        for x in range(inner):
            level = np.int32(l0[x] + l1[x] + l2[x] + l3[x] + l4[x] + l5[x] + l6[x])
            in_a, in_b = np.int32(level & 0xFFFF), np.int32(level >> 16)
            square = np.int32(s0[x] + s1[x] + s2[x] + s3[x] + s4[x] + s5[x] + s6[x])
            product = np.int32(p0[x] + p1[x] + p2[x] + p3[x] + p4[x] + p5[x] + p6[x])
            both = np.int32(in_a * in_b)
            either = np.int32(in_a * in_a + in_b * in_b)
            covariance = np.float32(np.int32(49 * product - both))
            variance = np.float32(np.int32(49 * square - either))
            numerator = (np.float32(both) + half_luminance) * (covariance + half_contrast)
            quarter_ssim[x] = numerator / ((np.float32(either) + luminance) * (variance + contrast))
        for x in range(inner):  # a separate loop, so that the loop above computes eight quotients at a time, not four
            total += np.float64(quarter_ssim[x])
    mean: float = 4 * total / ((height - 6) * inner)
    return mean
