"""The lowest coefficients of the two-dimensional DCT-II, and no others."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from twinscope_indexer.compiled import compiled


def low_frequencies(pixels: NDArray[np.uint8], count: int) -> NDArray[np.float64]:
    """Give the lowest coefficients of the DCT-II along both axes, scaled as `scipy.fft.dct` does by default.

    As two products with the cosines, which take the same time for every shape; transforms of sides such as 139 take
    four times as long. Summed in one fixed order: BLAS's last digits depend on its number of threads.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width)
    count : int
        Of each axis; no more than its length.

    Returns
    -------
    ndarray of float64, shape (count, count)

    Raises
    ------
    ValueError
        If `pixels` is not a two-dimensional array of uint8 with that many rows and columns.
    """
    if pixels.ndim != 2 or pixels.dtype != np.uint8 or not 0 < count <= min(pixels.shape):
        msg = f"no {count} coefficients each way of {pixels.dtype} of shape {pixels.shape}"
        raise ValueError(msg)
    rows, columns = _cosines(pixels.shape[0], count), _turned_cosines(pixels.shape[1], count)
    found: NDArray[np.float64] = _transformed(np.ascontiguousarray(pixels, np.float64), rows, columns)
    return found


@lru_cache(maxsize=512)
def _cosines(side: int, count: int) -> NDArray[np.float64]:
    """Give 2 cos(pi k (2 n + 1) / (2 side)) for k below `count` and every n, shape (count, side)."""
    angles = np.outer(np.arange(count), 2 * np.arange(side) + 1) % (4 * side)  # exact, and small
    cosines: NDArray[np.float64] = 2 * np.cos(np.pi * angles / (2 * side))
    return cosines


@lru_cache(maxsize=512)
def _turned_cosines(side: int, count: int) -> NDArray[np.float64]:
    return np.ascontiguousarray(_cosines(side, count).T)


@compiled(error_model="numpy")
def _transformed(
    pixels: NDArray[np.float64], rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.float64]:
    return _product(_product(rows, pixels), columns)


@compiled(error_model="numpy")
def _product(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Multiply matrices; each sum in the order of its terms, four of them between its loads and stores."""
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
