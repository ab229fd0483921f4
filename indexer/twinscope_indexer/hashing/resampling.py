"""Reduction of grey images by area averaging."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from twinscope_indexer.compute import scratch
from twinscope_indexer.compute.jit import compiled
from twinscope_indexer.hashing.arrays import read_only, require_grey


def area_reduce(pixels: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Reduce an image by area averaging: each new pixel is the mean of a rectangle of old pixels.

    Parameters
    ----------
    pixels : numpy.ndarray of uint8, shape (height, width)
        Grey image.
    shape : tuple of int
        Height and width of the result in pixels. The minimum is 1, and the maximum is the height and width of the
        image.

    Returns
    -------
    numpy.ndarray of float32, shape `shape`
        Means in grey levels, not rounded. The weight of an old pixel is the share of the pixel inside the rectangle.

    Raises
    ------
    ValueError
        If `pixels` is not a grey image. The error is also raised if the height or width in `shape` is less than 1, or
        larger than in the image.
    """
    require_grey(pixels)
    if not all(1 <= new <= old for new, old in zip(shape, pixels.shape, strict=True)):
        raise ValueError(
            f"cannot reduce an image of shape {pixels.shape} to {shape}: height and width must be at least 1 and at "
            "most the height and width of the image"
        )
    if shape == pixels.shape:
        return pixels.astype(np.float32)
    means = np.empty(shape, np.float32)
    for rows in _bands_of_means(pixels, shape[0]):
        _area_means(read_only(pixels), means, rows.start, rows.stop)
        scratch.release(pixels)
    return means


def _bands_of_means(pixels: NDArray[np.uint8], height: int) -> Iterator[slice]:
    """Yield slices of the rows of the reduced image; a single slice if the image is no scratch array."""
    step = max(height * scratch.STEP // pixels.nbytes, 1) if scratch.is_scratch(pixels) else height
    return (slice(start, min(start + step, height)) for start in range(0, height, step))


@compiled(error_model="numpy")
def _area_means(pixels: NDArray[np.uint8], means: NDArray[np.float32], begin: int, end: int) -> None:
    """Compute the rows from `begin` to `end` of the reduced image `means`."""
    rows, columns = pixels.shape
    height, width = means.shape
    step_y, step_x = rows / height, columns / width
    line = np.empty(columns, np.float32)
    starts, ends, shares = _spans(columns, width)
    for y in range(begin, end):
        top, bottom = y * step_y, (y + 1) * step_y
        _add_rows(pixels, top, bottom, line)
        if width == columns:  # this simpler loop gives the same sums seven times as fast
            for x in range(width):
                means[y, x] = float(line[x]) / step_y
            continue
        for x in range(width):
            total = shares[x, 0] * line[starts[x]]
            for column in range(starts[x] + 1, ends[x] - 1):
                total += line[column]
            if ends[x] > starts[x] + 1:
                total += shares[x, 1] * line[ends[x] - 1]
            means[y, x] = total / (step_y * step_x)


@compiled(error_model="numpy")
def _spans(old: int, new: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return the range of old pixels that each new pixel covers.

    For each new pixel, the three arrays contain the first old pixel, the end of the range, and two shares. The two
    shares show how much of the first old pixel and of the last old pixel is covered.
    """
    step = old / new
    starts, ends, shares = np.empty(new, np.int64), np.empty(new, np.int64), np.empty((new, 2))
    for position in range(new):
        first, last = position * step, (position + 1) * step
        starts[position], ends[position] = int(first), min(int(np.ceil(last)), old)
        shares[position, 0] = min(starts[position] + 1, last) - first
        shares[position, 1] = min(float(ends[position]), last) - (ends[position] - 1)
    return starts, ends, shares


@compiled(error_model="numpy")
def _add_rows(pixels: NDArray[np.uint8], top: float, bottom: float, line: NDArray[np.float32]) -> None:
    """Add the rows from `top` to `bottom` in order, four at a time.

    The weight of a row is the share of the row between `top` and `bottom`.
    """
    first, end = int(top), min(int(np.ceil(bottom)), pixels.shape[0])
    line[:] = 0
    for row in range(first, end, 4):
        # A row after the end has the share zero. Any other row can therefore be used instead of this row.
        a, b = pixels[row], pixels[min(row + 1, end - 1)]
        c, d = pixels[min(row + 2, end - 1)], pixels[min(row + 3, end - 1)]
        of_a, of_b = _share(row, top, bottom), _share(row + 1, top, bottom)
        of_c, of_d = _share(row + 2, top, bottom), _share(row + 3, top, bottom)
        for x in range(len(line)):
            line[x] = (((line[x] + of_a * np.float32(a[x])) + of_b * np.float32(b[x])) + of_c * np.float32(c[x])) + (
                of_d * np.float32(d[x])
            )


@compiled(error_model="numpy")
def _share(row: int, top: float, bottom: float) -> np.float32:
    return np.float32(max(min(row + 1, bottom) - max(row, top), 0.0))
