"""Normalisation of thumbnails: smoothing, correction of uneven illumination, local centring and scaling.

The result for a thumbnail must always be the same, even in the last digits. Therefore, all sums are computed in a fixed
order, and BLAS is not used. The last digits of BLAS results depend on the number of threads. The last digits matter
because `phase_correlation` scales all frequencies to the same magnitude. The weakest frequencies contain mostly
rounding errors.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from twinscope_indexer.compute.jit import compiled
from twinscope_indexer.hashing.resampling import area_reduce

# Lengths are in pixels of a thumbnail, and contrasts in grey levels. All values were chosen with real micrographs.
_SMOOTHING = 1.0  # standard deviation of the Gaussian filter that reduces noise
_SURROUNDINGS = 10.0  # standard deviation of the Gaussian filter for the local mean and the local variance
_VARIANCE_FLOOR = 2.0  # is added to the local variance, so that contrasts below 1.4 levels are amplified less
_SHADING_DEGREE = 2  # degree, in x and in y, of the polynomial surface that models uneven illumination
_NEGLIGIBLE_GAIN = 1e-6  # a frequency is ignored if its gain in the filter is at most this value
_BLOCK_ROWS = 8  # number of rows of a matrix product that are computed together; the rows fit in the L1 cache


def normalised(thumbnail: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Reduce a thumbnail by area averaging and equalise its local brightness and contrast.

    Parameters
    ----------
    thumbnail : numpy.ndarray of uint8, shape (height, width)
        Grey thumbnail.
    shape : tuple of int
        Height and width of the result, which must not exceed the height and the width of the thumbnail.

    Returns
    -------
    numpy.ndarray of float32, shape `shape`
        Normalised pixels. A quadratic surface and the mean of the surrounding pixels are subtracted from the smoothed
        pixels. The difference is divided by the standard deviation of the surrounding pixels.

    Raises
    ------
    ValueError
        If `thumbnail` is not a two-dimensional array of uint8, or if `shape` exceeds the shape of `thumbnail`.
    """
    pixels = area_reduce(thumbnail, shape)
    height, width = shape
    return _levelled(
        _smoothed(pixels, _gaussian(_SMOOTHING)),
        (_folded(_polynomials, height), _both_ways(_polynomials, width)),
        (_folded(_low_pass, height), _both_ways(_low_pass, width)),
        np.float32(_VARIANCE_FLOOR),
    )


@lru_cache(maxsize=1)
def _gaussian(sigma: float) -> NDArray[np.float32]:
    """Return the weights of a Gaussian filter that is cut off at four standard deviations, as in SciPy."""
    radius = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    normal: NDArray[np.float32] = (weights / weights.sum()).astype(np.float32)
    return normal


def _low_pass(side: int) -> NDArray[np.float64]:
    """Return the one-dimensional basis of the Gaussian filter for the surroundings, with mirrored borders.

    In the basis of the DCT-II, the filter multiplies coefficient k by exp(-(sigma omega)^2 / 2), where
    omega = pi k / side. For a wide Gaussian, all coefficients except a few are negligible. Two products with narrow
    matrices are then the fastest exact way to compute the filter.
    """
    gains = np.exp(-0.5 * (_SURROUNDINGS * np.pi * np.arange(side) / side) ** 2)
    kept = np.count_nonzero(gains > _NEGLIGIBLE_GAIN)
    cosines: NDArray[np.float64] = scipy.fft.idct(np.eye(side), norm="ortho", axis=0)[:, :kept]
    return cosines * np.sqrt(gains[:kept])


def _polynomials(side: int) -> NDArray[np.float64]:
    """Return an orthonormal basis of the polynomials up to degree `_SHADING_DEGREE` on `side` points."""
    powers = np.vander(np.linspace(-1, 1, side), _SHADING_DEGREE + 1)
    return np.linalg.qr(powers).Q


_Matrix = NDArray[np.float32]
_BothWays = tuple[_Matrix, _Matrix]
_Folded = tuple[_BothWays, _BothWays]
_Bases = tuple[_Folded, _BothWays]


@lru_cache(maxsize=2048)
def _both_ways(basis: Callable[[int], NDArray[np.float64]], side: int) -> _BothWays:
    """Return a basis, as an array with `side` rows and a few columns, and its transpose."""
    return _with_transpose(basis(side))


@lru_cache(maxsize=2048)
def _folded(basis: Callable[[int], NDArray[np.float64]], side: int) -> _Folded:
    """Return the upper halves of the symmetric and of the antisymmetric vectors of a basis, each with its transpose.

    Every second vector of `basis` is symmetric, and all others are antisymmetric. If `side` is odd, the upper half
    contains the middle.
    """
    upper = basis(side)[: side - side // 2]
    return _with_transpose(upper[:, ::2]), _with_transpose(upper[:, 1::2])


def _with_transpose(basis: NDArray[np.float64]) -> _BothWays:
    return np.ascontiguousarray(basis, dtype=np.float32), np.ascontiguousarray(basis.T, dtype=np.float32)


@compiled(error_model="numpy")
def _levelled(
    smooth: NDArray[np.float32], shading: _Bases, surroundings: _Bases, floor: np.float32
) -> NDArray[np.float32]:
    """Subtract the shading and the mean of the surrounding pixels, and divide by their standard deviation."""
    level = smooth - _projected(smooth, shading)
    centred = level - _projected(level, surroundings)
    variance = _projected(centred * centred, surroundings)
    for y in range(centred.shape[0]):
        for x in range(centred.shape[1]):
            # Rounding errors of the float32 sums can make the variance slightly negative.
            centred[y, x] /= np.sqrt(max(variance[y, x], np.float32(0)) + floor)
    return centred


@compiled(error_model="numpy")
def _projected(pixels: NDArray[np.float32], bases: _Bases) -> NDArray[np.float32]:
    """Project an image onto a basis B along both axes: multiply by B B^T.

    For each column, symmetric vectors of B are multiplied by the sum of the upper half and the mirrored lower half.
    Antisymmetric vectors are multiplied by the difference of the two halves. This method halves the computing time.
    """
    (symmetric, antisymmetric), across = bases
    height = pixels.shape[0]
    half = height - height // 2
    sums, differences = np.empty((half, pixels.shape[1]), np.float32), np.empty((half, pixels.shape[1]), np.float32)
    for y in range(half):
        line, mirrored = pixels[y], pixels[height - 1 - y]
        weight = np.float32(1 if y < height // 2 else 0.5)  # the middle row is its own mirror image
        for x in range(len(line)):
            sums[y, x] = weight * (line[x] + mirrored[x])
            differences[y, x] = line[x] - mirrored[x]
    even = _half_projected(sums, symmetric, across)
    odd = _half_projected(differences, antisymmetric, across)
    projected = np.empty_like(pixels)
    for y in range(half):
        for x in range(pixels.shape[1]):
            projected[height - 1 - y, x] = even[y, x] - odd[y, x]
            projected[y, x] = even[y, x] + odd[y, x]
    return projected


@compiled(error_model="numpy")
def _half_projected(lines: NDArray[np.float32], along: _BothWays, across: _BothWays) -> NDArray[np.float32]:
    few = _product(_product(along[1], lines), across[0])
    return _product(along[0], _product(few, across[1]))


@compiled(error_model="numpy")
def _product(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a matrix product; the sum for each element is computed in the order of the columns of `left`.

    Rows are computed in blocks, so that the rows of `right` are loaded less often. Four columns of `left` are added at
    a time, so that the sums are loaded and stored only a quarter as often.
    """
    height, depth = left.shape
    width, by_four = right.shape[1], depth - depth % 4
    product = np.zeros((height, width), np.float32)
    for top in range(0, height, _BLOCK_ROWS):
        block = range(top, min(top + _BLOCK_ROWS, height))
        for k in range(0, by_four, 4):
            first, second, third, fourth = right[k], right[k + 1], right[k + 2], right[k + 3]
            for i in block:
                line = product[i]
                a, b, c, d = left[i, k], left[i, k + 1], left[i, k + 2], left[i, k + 3]
                for x in range(width):
                    line[x] = line[x] + a * first[x] + b * second[x] + c * third[x] + d * fourth[x]
        for k in range(by_four, depth):
            other = right[k]
            for i in block:
                line, factor = product[i], left[i, k]
                for x in range(width):
                    line[x] += factor * other[x]
    return product


@compiled(fastmath=True, error_model="numpy")
def _smoothed(pixels: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Apply a separable filter to an image.

    Outside the image, pixels are mirrored, and the border pixel is repeated: (d c b a | a b c d).
    """
    height, width = pixels.shape
    radius = weights.size // 2
    smooth = np.empty((height, width), np.float32)
    padded = np.empty(width + 2 * radius, np.float32)
    line = padded[radius : radius + width]
    for y in range(height):
        line[:] = 0
        for k in range(2 * radius + 1):
            mirrored = (y + k - radius) % (2 * height)
            source = pixels[min(mirrored, 2 * height - 1 - mirrored)]
            weight = weights[k]
            for x in range(width):
                line[x] += weight * source[x]
        for k in range(radius):
            mirrored = k % (2 * width)
            inner = min(mirrored, 2 * width - 1 - mirrored)
            padded[radius - 1 - k] = line[inner]
            padded[radius + width + k] = line[width - 1 - inner]
        target = smooth[y]
        target[:] = 0
        for k in range(2 * radius + 1):
            moved = padded[k : k + width]
            weight = weights[k]
            for x in range(width):
                target[x] += weight * moved[x]
    return smooth
