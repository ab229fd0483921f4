"""Computation of only the lowest coefficients of the two-dimensional DCT-II."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twinscope_indexer.compute.jit import compiled
from twinscope_indexer.hashing.arrays import require_grey

FREQUENCIES: Final = 32
"""Number of frequencies that a hash contains along each axis. These are the lowest frequencies of an image."""


def low_frequencies(pixels: NDArray[np.uint8], count: int) -> NDArray[np.float64]:
    """Return the lowest coefficients of the DCT-II along both axes, scaled as `scipy.fft.dct` does by default.

    The coefficients are computed by two multiplications with matrices of cosines. The time of this method does not
    depend on the prime factors of the side lengths. For a side length of 139, for example, a fast transform takes four
    times as long as this method. The order of the sums is fixed. The matrix products of BLAS are not used, because the
    last digits of the results depend on the number of threads.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width)
    count : int
        Number of coefficients along each axis; at most the length of the axis.

    Returns
    -------
    ndarray of float64, shape (count, count)

    Raises
    ------
    ValueError
        If `pixels` is not a grey image with at least `count` rows and columns.
    """
    require_grey(pixels)
    if not 0 < count <= min(pixels.shape):
        raise ValueError(f"an image of shape {pixels.shape} does not have {count} coefficients along each axis")
    rows, columns = _along(pixels.shape[0], count), _across(pixels.shape[1], count)
    found: NDArray[np.float64] = _transformed(np.ascontiguousarray(pixels), rows, columns)
    return found


_Halves = tuple[NDArray[np.float64], NDArray[np.float64]]


def _cosines(side: int, count: int) -> NDArray[np.float64]:
    """Return 2 cos(pi k (2 n + 1) / (2 side)), shape (count, half), for k < `count` and n in the first half of a side.

    If the side is odd, the first half includes the middle pixel. The second half has the same cosines in reverse order.
    If k is odd, the cosines of the second half have the opposite sign.
    """
    # The angles are computed as integers, to avoid rounding errors. The remainder keeps each angle within one period.
    angles = np.outer(np.arange(count), 2 * np.arange(side - side // 2) + 1) % (4 * side)
    cosines: NDArray[np.float64] = 2 * np.cos(np.pi * angles / (2 * side))
    return cosines


@lru_cache(maxsize=512)
def _along(side: int, count: int) -> _Halves:
    """Return the cosines for even k and the cosines for odd k, as two arrays of shape (number of k, half)."""
    cosines = _cosines(side, count)
    return np.ascontiguousarray(cosines[::2]), np.ascontiguousarray(cosines[1::2])


@lru_cache(maxsize=512)
def _across(side: int, count: int) -> _Halves:
    """Return the transposes of the two arrays that `_along` returns."""
    cosines = _cosines(side, count)
    return np.ascontiguousarray(cosines[::2].T), np.ascontiguousarray(cosines[1::2].T)


@compiled(error_model="numpy")
def _transformed(pixels: NDArray[np.uint8], rows: _Halves, columns: _Halves) -> NDArray[np.float64]:
    """Transform pixels along both axes.

    Each axis is first folded in the middle (see `_cosines`). This halves the number of multiplications.
    """
    height, width = pixels.shape
    half = height - height // 2
    sums, differences = np.empty((half, width), np.float64), np.empty((half, width), np.float64)
    for y in range(half):
        line, mirrored = pixels[y], pixels[height - 1 - y]
        weight = 1.0 if y < height // 2 else 0.5  # the middle row is mirrored onto the same row
        for x in range(width):
            sums[y, x] = weight * (float(line[x]) + float(mirrored[x]))
            differences[y, x] = float(line[x]) - float(mirrored[x])
    even, odd = rows
    found = np.empty((len(even) + len(odd), columns[0].shape[1] + columns[1].shape[1]), np.float64)
    found[::2] = _across_lines(_product(even, sums), columns)
    found[1::2] = _across_lines(_product(odd, differences), columns)
    return found


@compiled(error_model="numpy")
def _across_lines(lines: NDArray[np.float64], columns: _Halves) -> NDArray[np.float64]:
    count, width = lines.shape
    half = width - width // 2
    sums, differences = np.empty((count, half), np.float64), np.empty((count, half), np.float64)
    for y in range(count):
        for x in range(half):
            weight = 1.0 if x < width // 2 else 0.5
            sums[y, x] = weight * (lines[y, x] + lines[y, width - 1 - x])
            differences[y, x] = lines[y, x] - lines[y, width - 1 - x]
    even, odd = columns
    found = np.empty((count, even.shape[1] + odd.shape[1]), np.float64)
    found[:, ::2] = _product(sums, even)
    found[:, 1::2] = _product(differences, odd)
    return found


@compiled(error_model="numpy")
def _product(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Multiply two matrices.

    The terms of each sum are added in order. Four terms are added each time the sum is read from memory.
    """
    count, terms = left.shape
    width = right.shape[1]
    product = np.zeros((count, width), np.float64)
    whole = terms - terms % 4
    for n in range(0, whole, 4):
        a, b, c, d = right[n], right[n + 1], right[n + 2], right[n + 3]
        for k in range(count):
            of_a, of_b, of_c, of_d = left[k, n], left[k, n + 1], left[k, n + 2], left[k, n + 3]
            sums = product[k]
            for x in range(width):
                sums[x] = (((sums[x] + of_a * a[x]) + of_b * b[x]) + of_c * c[x]) + of_d * d[x]
    for n in range(whole, terms):
        a = right[n]
        for k in range(count):
            of_a = left[k, n]
            sums = product[k]
            for x in range(width):
                sums[x] += of_a * a[x]
    return product
