"""Standardisation of contrast: one table equalises the grey levels of an image and stretches them to the full range."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from twinscope_indexer.compute import scratch
from twinscope_indexer.compute.jit import compiled
from twinscope_indexer.hashing.arrays import read_only, require_grey

_LEVELS = 256
# Number of pixels that are read as one word. Each of the 8 positions in a word has separate counters. The reason is
# speed: neighbouring pixels are often equal, and an increment must wait for the previous increment of the same counter.
_TOGETHER = 8
# Minimum number of pixels for which a table of all pairs of levels saves time. The table of pairs has a quarter of this
# number of entries.
_LARGE = 1 << 18


def grey_histogram(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count the pixels of each grey level.

    Parameters
    ----------
    pixels : numpy.ndarray of uint8, shape (height, width)
        Grey image.

    Returns
    -------
    numpy.ndarray of int64, shape (256,)

    Raises
    ------
    ValueError
        If `pixels` is not a grey image (see `require_grey`).
    """
    require_grey(pixels)
    counts = np.zeros(_LEVELS, np.int64)
    for rows in scratch.bands(pixels):
        counts += _histogram(_flat(pixels[rows]))
    return counts


def standardise_table(histogram: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Return the table that equalises an image with this histogram and stretches the result to the range 0 to 255.

    Parameters
    ----------
    histogram : numpy.ndarray of int, shape (256,)
        Number of pixels of each grey level.

    Returns
    -------
    numpy.ndarray of uint8, shape (256,)
        New level of each old level. The table has exactly the same effect as two functions of Pillow:
        ``ImageOps.equalize``, and then ``ImageOps.autocontrast`` without cut-off. All steps and roundings are the same
        as in Pillow.

    Raises
    ------
    ValueError
        If the histogram does not consist of 256 whole numbers, or if one of these numbers is negative.
    """
    whole = histogram.shape == (_LEVELS,) and histogram.dtype.kind in "iu"
    if not whole or _least(counts := np.ascontiguousarray(histogram, np.int64)) < 0:
        raise ValueError(
            f"expected a histogram of 256 whole numbers without negative numbers, got {histogram.dtype} of shape "
            f"{histogram.shape}: count the levels of an 8-bit grey image"
        )
    table: NDArray[np.uint8] = _standardising(counts)
    return table


def standardise(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Equalise the histogram of a grey image, and stretch the grey levels to the range 0 to 255.

    Parameters
    ----------
    pixels : numpy.ndarray of uint8, shape (height, width)
        Grey image.

    Returns
    -------
    numpy.ndarray of uint8, shape (height, width)
        New array, equal to ``ImageOps.autocontrast(ImageOps.equalize(image))`` of Pillow. If the image has only one
        grey level, the new array is an unchanged copy.

    Raises
    ------
    ValueError
        If `pixels` is not a grey image (see `require_grey`).
    """
    mapped: NDArray[np.uint8] = _standardised(_flat(pixels)).reshape(pixels.shape)
    return mapped


def _flat(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    require_grey(pixels)
    return read_only(pixels).reshape(-1)


@compiled()
def _histogram(flat: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the number of pixels of each level in a one-dimensional image."""
    # 32-bit counters are a third faster than 64-bit counters, and overflow only for more than 17 billion pixels.
    lanes = np.zeros((_TOGETHER, _LEVELS), np.uint32)
    whole = flat.size - flat.size % _TOGETHER
    for word in flat[:whole].view(np.uint64):
        rest = word
        for lane in range(_TOGETHER):
            lanes[lane, rest & np.uint64(_LEVELS - 1)] += 1
            rest >>= np.uint64(8)
    for i in range(whole, flat.size):
        lanes[0, flat[i]] += 1
    counts = np.zeros(_LEVELS, np.int64)
    for lane in range(_TOGETHER):
        for level in range(_LEVELS):
            counts[level] += lanes[lane, level]
    return counts


@compiled()
def _least(counts: NDArray[np.int64]) -> int:
    least: int = counts[0]
    for count in counts:
        least = min(least, count)
    return least


@compiled(error_model="numpy")
def _standardised(flat: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return _map_levels(_standardising(_histogram(flat)), flat)


@compiled()
def _map_levels(table: NDArray[np.uint8], flat: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return ``table[flat]``.

    This function is faster than NumPy because it does not convert the indices. In large images, the function maps two
    pixels at a time.
    """
    mapped = np.empty(flat.size, np.uint8)
    paired = flat.size - flat.size % 2 if flat.size >= _LARGE else 0
    if paired:
        pairs = _paired(table)
        source, target = flat[:paired].view(np.uint16), mapped[:paired].view(np.uint16)
        for i in range(source.size):
            target[i] = pairs[source[i]]
    for i in range(paired, flat.size):
        mapped[i] = table[flat[i]]
    return mapped


@compiled()
def _paired(table: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Return a table that maps each pair of old levels to a pair of new levels.

    The two levels of a pair keep their order. The table is therefore valid for any byte order.
    """
    pairs = np.empty(_LEVELS * _LEVELS, np.uint16)
    for one in range(_LEVELS):
        upper = np.uint16(np.uint16(table[one]) << np.uint16(8))
        for other in range(_LEVELS):
            pairs[_LEVELS * one + other] = upper | np.uint16(table[other])
    return pairs


@compiled(error_model="numpy")
def _standardising(counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    table = _equalising(counts)
    low, high = _LEVELS, -1
    for level in range(_LEVELS):
        if counts[level] > 0:
            low, high = min(low, int(table[level])), max(high, int(table[level]))
    if low < high:
        _stretch(table, low, high)
    return table


@compiled(error_model="numpy")
def _equalising(counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the table of Pillow's ``equalize``: (half a step + number of darker pixels) // step, but at most 255."""
    table = np.arange(_LEVELS).astype(np.uint8)
    brightest, pixels = 0, 0
    for level in range(_LEVELS):
        pixels += counts[level]
        if counts[level] > 0:
            brightest = level
    # The pixels of the brightest level are not included in `step`. This level is therefore mapped to about 255. If the
    # image has only one level, `step` is 0.
    step = (pixels - counts[brightest]) // 255
    if step == 0:
        return table
    below = 0
    for level in range(_LEVELS):
        table[level] = min((step // 2 + below) // step, 255)
        below += counts[level]
    return table


@compiled(error_model="numpy")
def _stretch(table: NDArray[np.uint8], low: int, high: int) -> None:
    """Stretch a table like Pillow's ``autocontrast``: the level `low` becomes 0, and the level `high` becomes 255."""
    scale = 255.0 / (high - low)
    offset = -low * scale
    for level in range(_LEVELS):
        # This expression is written exactly as in Pillow, because rounding affects the last bit.
        table[level] = min(max(int(table[level] * scale + offset), 0), 255)
