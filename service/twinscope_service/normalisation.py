"""Normalised thumbnails: smoothed, freed of uneven illumination, locally centred and scaled.

Every sum has one order, and none is left to BLAS, whose last digits depend on its number of threads: what is made of
a thumbnail must not depend on who asks.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from twinscope_indexer.compiled import compiled

# Lengths are pixels of a thumbnail, levels its grey levels. All were chosen on real micrographs.
_SMOOTHING = 1.0  # standard deviation of the Gaussian against noise
_SURROUNDINGS = 10.0  # standard deviation of the Gaussian of the local mean and variance
_VARIANCE_FLOOR = 2.0  # added to the local variance: less than 1.4 levels of contrast is not amplified to full
_SHADING_DEGREE = 2  # in x and in y: the polynomial surface taken for uneven illumination
_NEGLIGIBLE_GAIN = 1e-6
_BLOCK = 8  # rows transposed together


def normalised(thumbnail: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Reduce a thumbnail by area averaging and make its contrast and brightness alike everywhere.

    Parameters
    ----------
    thumbnail : numpy.ndarray of uint8, shape (height, width)
        Grey thumbnail.
    shape : tuple of int
        Height and width of the result.

    Returns
    -------
    numpy.ndarray of float32, shape `shape`
        Smoothed pixels less a quadratic surface and the mean of their surroundings, in standard deviations of their
        surroundings.

    Raises
    ------
    ValueError
        If `thumbnail` is not a two-dimensional array of uint8 or `shape` is not within its shape.
    """
    if thumbnail.ndim != 2 or thumbnail.dtype != np.uint8:
        raise ValueError(
            f"expected a grey thumbnail, uint8 of shape (height, width), not {thumbnail.dtype} of shape "
            f"{thumbnail.shape}"
        )
    if not all(1 <= new <= old for new, old in zip(shape, thumbnail.shape, strict=True)):
        raise ValueError(
            f"cannot reduce a thumbnail of shape {thumbnail.shape} to {shape}: sides from 1 to those of the thumbnail"
        )
    (rows, columns), (height, width) = thumbnail.shape, shape
    smooth = _filtered(thumbnail.astype(np.float32, order="C"), *_smoothing(rows, height), *_smoothing(columns, width))
    shading = _polynomials(height)[0], *_polynomials(width)
    surroundings = _low_pass(height)[0], *_low_pass(width)
    return _levelled(smooth, shading, surroundings, np.float32(_VARIANCE_FLOOR))


def _basis(functions: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Functions on the points of a side, by turns even and odd about its middle: shapes (side, few), (few, side)."""
    basis = functions.astype(np.float32, order="C")
    return basis, np.ascontiguousarray(basis.T)


@lru_cache(maxsize=1024)
def _low_pass(side: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Basis of the Gaussian filter of the surroundings, with mirrored borders, in one dimension.

    That filter is diagonal in the DCT-II, with the Gaussian's transfer function exp(-(sigma omega)^2 / 2) at
    omega = pi k / side; a wide Gaussian leaves so few coefficients that two thin matrix products are the fastest
    exact filter.
    """
    gains = np.exp(-0.5 * (_SURROUNDINGS * np.pi * np.arange(side) / side) ** 2)
    kept = np.count_nonzero(gains > _NEGLIGIBLE_GAIN)
    cosines = scipy.fft.idct(np.eye(side), norm="ortho", axis=0)[:, :kept]
    return _basis(cosines * np.sqrt(gains[:kept]))


@lru_cache(maxsize=1024)
def _polynomials(side: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Orthonormal basis of the polynomials of the shading's degree on `side` points."""
    powers = np.vander(np.linspace(-1, 1, side), _SHADING_DEGREE + 1)
    return _basis(np.linalg.qr(powers).Q)


@lru_cache(maxsize=4096)
def _smoothing(side: int, reduced: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Area averaging of a side and the Gaussian against noise, as one filter: first inputs and weights of each output.

    The Gaussian is cut at four standard deviations as in SciPy. Outside it continues mirrored, the border pixel twice
    (d c b a | a b c d).
    """
    edges = np.arange(reduced + 1) * (side / reduced)
    covered = np.clip(edges[1:, None] - np.arange(side), 0, 1) - np.clip(edges[:-1, None] - np.arange(side), 0, 1)
    radius = int(4 * _SMOOTHING + 0.5)
    gaussian = np.exp(-0.5 * (np.arange(-radius, radius + 1) / _SMOOTHING) ** 2)
    places = (np.arange(reduced)[:, None] + np.arange(-radius, radius + 1)) % (2 * reduced)
    mirrored = np.minimum(places, 2 * reduced - 1 - places)
    taps = np.zeros((reduced, reduced))
    np.add.at(taps, (np.arange(reduced)[:, None], mirrored), gaussian / gaussian.sum())
    dense = taps @ covered * (reduced / side)
    used = dense > 0
    first, last = used.argmax(axis=1), side - used[:, ::-1].argmax(axis=1)
    count = int((last - first).max())
    first = np.minimum(first, side - count)
    return first, np.take_along_axis(dense, first[:, None] + np.arange(count), axis=1).astype(np.float32)


@compiled(fastmath={"contract"}, error_model="numpy")
def _levelled(
    smooth: NDArray[np.float32],
    shading: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
    surroundings: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
    floor: np.float32,
) -> NDArray[np.float32]:
    """Take away the shading, then the mean of the surroundings, and divide by their standard deviation."""
    level = smooth - _projected(smooth, *shading)
    centred = level - _projected(level, *surroundings)
    variance = _projected(centred * centred, *surroundings)
    for y in range(centred.shape[0]):
        for x in range(centred.shape[1]):
            # a variance from float32 sums can be barely negative
            centred[y, x] /= np.sqrt(max(variance[y, x], np.float32(0)) + floor)
    return centred


@compiled(error_model="numpy")
def _projected(
    pixels: NDArray[np.float32],
    rows: NDArray[np.float32],
    columns: NDArray[np.float32],
    columns_transposed: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Apply B B^T along both axes; B, of shape (side, few), is the basis `rows` for the one and `columns` for the other.

    Even functions need only the sum of the upper and the mirrored lower half, odd ones only the difference.
    """
    height, width = pixels.shape
    half = (height + 1) // 2
    even, odd = np.empty((half, width), np.float32), np.empty((half, width), np.float32)
    for y in range(half):
        for x in range(width):
            even[y, x] = pixels[y, x] + pixels[height - 1 - y, x]
            odd[y, x] = pixels[y, x] - pixels[height - 1 - y, x]
    if height % 2:
        even[half - 1] = pixels[half - 1]
    even = _sandwiched(rows[:half, ::2], even, columns, columns_transposed)
    odd = _sandwiched(rows[:half, 1::2], odd, columns, columns_transposed)
    projected = np.empty((height, width), np.float32)
    for y in range(half):
        for x in range(width):
            projected[height - 1 - y, x] = even[y, x] - odd[y, x]
        for x in range(width):
            projected[y, x] = even[y, x] + odd[y, x]
    return projected


@compiled(error_model="numpy")
def _sandwiched(
    rows: NDArray[np.float32],
    pixels: NDArray[np.float32],
    columns: NDArray[np.float32],
    columns_transposed: NDArray[np.float32],
) -> NDArray[np.float32]:
    few = _product(_product(rows.T, pixels), columns)
    return _product(rows, _product(few, columns_transposed))


@compiled(fastmath={"contract"}, error_model="numpy")
def _product(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    product = np.empty((left.shape[0], right.shape[1]), np.float32)
    for i in range(left.shape[0]):
        _sum(product[i], left[i], right)
    return product


@compiled(fastmath={"contract"}, error_model="numpy")
def _sum(total: NDArray[np.float32], weights: NDArray[np.float32], lines: NDArray[np.float32]) -> None:
    """Weighted sum of lines, in one fixed order; by fours, which saves three of four loads and stores of the total."""
    width, by_four = total.size, weights.size - weights.size % 4
    total[:] = 0
    for k in range(0, by_four, 4):
        a, b, c, d = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
        first, second, third, fourth = lines[k], lines[k + 1], lines[k + 2], lines[k + 3]
        for x in range(width):
            total[x] += a * first[x] + b * second[x] + c * third[x] + d * fourth[x]
    for k in range(by_four, weights.size):
        weight, line = weights[k], lines[k]
        for x in range(width):
            total[x] += weight * line[x]


@compiled(error_model="numpy")
def _filtered(
    pixels: NDArray[np.float32],
    first_row: NDArray[np.intp],
    row_weights: NDArray[np.float32],
    first_column: NDArray[np.intp],
    column_weights: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Apply a filter as of `_smoothing` along both axes."""
    rows_done = _transposed(_banded(pixels, first_row, row_weights))
    return _transposed(_banded(rows_done, first_column, column_weights))


@compiled(error_model="numpy")
def _banded(
    pixels: NDArray[np.float32], first: NDArray[np.intp], weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    lines = np.empty((first.size, pixels.shape[1]), np.float32)
    for y in range(first.size):
        _sum(lines[y], weights[y], pixels[first[y] : first[y] + weights.shape[1]])
    return lines


@compiled(error_model="numpy")
def _transposed(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """Transpose by blocks, whose constant height lets the compiler keep a column of one in registers."""
    height, width = matrix.shape
    whole = height - height % _BLOCK
    transposed = np.empty((width, height), np.float32)
    for top in range(0, whole, _BLOCK):
        for x in range(width):
            for i in range(_BLOCK):
                transposed[x, top + i] = matrix[top + i, x]
    for y in range(whole, height):
        for x in range(width):
            transposed[x, y] = matrix[y, x]
    return transposed
