"""The window that maps deep samples (more than 8 bits, signed, or floating point) to 8-bit grey.

The 8-bit and the 16-bit export of one scan have to hash alike, and the hash equalises the histogram, so what a
window must preserve is the *ranks* of the 8-bit export's grey levels. Two exports are common:

* Acquisition software keeps the upper 8 of 10, 12, 14 or 16 bits. Where a scan has finer levels than 8 bits can tell
  apart and uses a fair part of its depth, the window truncates in the same way.
* Everything else (8-bit pictures in a deep container, contrast stretched to the extremes, calibrated floating-point
  values) is mapped linearly from the lowest to the highest value. An 8-bit picture ``v`` stored as ``v << 8``,
  ``v * 257`` or ``v / 255`` then keeps its levels one by one.

A few hot or dead pixels must not flatten the picture: the extremes give way to percentiles where they would stretch
the window to more than twice its width. Nor must a data bar at the full scale of its container flatten a scan of
fewer bits: a single value at either end that a small share of the pixels has, far from all others, is left out before
anything else is looked at. It becomes black or white, as it was drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Window = tuple[float, float]
"""The values that map to 0 and to 255."""

OUTLIERS = 1e-4
"""Share of the pixels at either end of the histogram that may be hot or dead; 80 pixels of a 1024 x 768 scan."""

STRETCH = 2.0
"""The extremes give way to the percentiles where they widen the window by more than this factor."""

DEPTHS = (10, 12, 14, 16)
"""Bits of the analogue-to-digital converters and cameras in electron microscopes."""

LEAST_USE = 0.25
"""Share of the nominal range a scan must span to be truncated: 64 of the 256 grey levels are left at least. And of the
whole range, that it may keep together with what is drawn at the ends."""

DRAWN = 0.25
"""Largest share of the pixels that may be drawn, a data bar or its text; the highest bars take a fifth of a picture."""

SCANNED = 32
"""Levels that there must be besides what is drawn: fewer are a drawing, a mask or counts, not a scan with noise."""

BETWEEN = 1e-3
"""Pixels, in proportion to those that are drawn, that may lie between them and the scan: hot ones. What an instrument
has seen has an edge, blurred over a pixel or more, which is more than that up to 10 million pixels in one spot."""

_SAMPLED = 1 << 22  # values looked at for the percentiles of 32- and 64-bit samples
_BLOCK = 1 << 20  # values handled at once, to keep the temporary copies small
_WIDEST = float(np.finfo(np.float64).max) / 4  # so that the width of a window is always finite


def fit(samples: NDArray[Any]) -> Window:
    """Choose the window of an image from its values.

    Parameters
    ----------
    samples : ndarray of any real dtype, any shape
        All samples of the image; of a colour image those of all its channels.

    Returns
    -------
    tuple of float
        The values to be mapped to 0 and 255; equal for a constant image.

    Raises
    ------
    ValueError
        If there is no finite value.
    """
    if samples.dtype.kind == "f":
        low, high = _measured(samples)
        full = 1.0 if high <= 1 else 255.0
        return (0.0, full) if low >= 0 and high <= full and high - low >= full * LEAST_USE else (low, high)
    if samples.dtype.itemsize > 2:
        if samples.min() < 0 or samples.max() > np.iinfo(np.uint16).max:
            return _measured(samples)
        samples = samples.astype(np.uint16)
    low, high, levels = _counted(samples)
    depth = next((bits for bits in DEPTHS if high < 1 << bits), 0)
    truncates = (
        levels > 256  # else no sample is finer than 8 bits, and truncation could only lose levels
        and low >= 0
        and high - low >= (1 << depth) * LEAST_USE
        and (1 << depth) - 1 <= np.iinfo(samples.dtype).max
    )
    if truncates:
        step = 1 << (depth - 8)
        low = (step - 1) / 2  # the centre of the values 0 .. step - 1, so that rounding truncates
        high = low + 255 * step
    return low, high


def apply(samples: NDArray[Any], window: Window) -> NDArray[np.uint8]:
    """Map values to 8 bits: linearly, rounded, clipped; what is not finite becomes 0.

    Parameters
    ----------
    samples : ndarray of any real dtype, any shape
    window : tuple of float
        The values that become 0 and 255. Where they are equal, everything becomes 0.

    Returns
    -------
    ndarray of uint8, same shape, C-contiguous
    """
    if samples.dtype.kind != "f" and samples.dtype.itemsize <= 2:
        span = np.iinfo(samples.dtype)
        table = _scaled(np.arange(span.min, span.max + 1), window)
        unsigned = samples.view(f"u{samples.dtype.itemsize}")
        return np.take(np.roll(table, int(span.min)), unsigned)  # negative values index the upper half
    grey = np.empty(samples.shape, np.uint8)
    flat, source = grey.reshape(-1), samples.reshape(-1)
    for block in _blocks(flat.size):
        flat[block] = _scaled(source[block], window)
    return grey


def _scaled(values: NDArray[Any], window: Window) -> NDArray[np.uint8]:
    low, high = window
    if not high > low:
        return np.zeros(values.shape, np.uint8)
    with np.errstate(invalid="ignore"):  # signalling NaN
        deep = values.astype(np.float64)
    deep[~np.isfinite(deep)] = low
    deep = np.clip(deep, low, high)
    deep -= low
    deep /= high - low
    deep *= 255
    return np.rint(deep).astype(np.uint8)


def _counted(samples: NDArray[Any]) -> tuple[float, float, int]:
    """Lowest and highest value of a scan, without outliers, and the number of its levels, of 8- or 16-bit integers."""
    span = np.iinfo(samples.dtype)
    counts = np.zeros(span.max - span.min + 1, np.int64)
    source = samples.reshape(-1)
    for block in _blocks(source.size):
        values = source[block].astype(np.intp)
        values -= int(span.min)
        counts += np.bincount(values, minlength=counts.size)
    present = np.flatnonzero(counts)
    levels, numbers = (present + int(span.min)).astype(np.float64), counts[present]
    scan = _scan(levels, numbers)
    levels, numbers = levels[scan], numbers[scan]
    low, high = _trimmed((float(levels[0]), float(levels[-1])), _percentiles(levels, numbers))
    return low, high, levels.size


def _measured(samples: NDArray[Any]) -> Window:
    """Lowest and highest finite value of a scan, without outliers, looked for in at most `_SAMPLED` values."""
    source = samples.reshape(-1)
    with np.errstate(invalid="ignore"):
        extremes = float(source.min()), float(source.max())
    if not np.isfinite(extremes).all():
        source = source[np.isfinite(source)]
        if not source.size:
            raise ValueError("no finite value")
        extremes = float(source.min()), float(source.max())
    some = _some(source)
    if any(_may_be_drawn(int(np.count_nonzero(some == end)), some.size) for end in extremes):
        source = _scanned(source, some)
        extremes = float(source.min()), float(source.max())
        some = _some(source)
    spare = int(some.size * OUTLIERS)
    ordered = np.partition(some, (spare, some.size - 1 - spare))
    low, high = _trimmed(extremes, (float(ordered[spare]), float(ordered[-1 - spare])))
    return max(low, -_WIDEST), min(high, _WIDEST)


def _some(source: NDArray[Any]) -> NDArray[Any]:
    return source[:: -(-source.size // _SAMPLED) | 1]  # an odd step, or it might look at a few columns only


def _scanned(source: NDArray[Any], some: NDArray[Any]) -> NDArray[Any]:
    """Leave out of the values what is drawn, as some of them tell."""
    values, numbers = np.unique(some, return_counts=True)
    scan = _scan(values.astype(np.float64), numbers)
    if scan.start > 0:
        source = source[source > values[0]]
    if scan.stop < values.size:
        source = source[source < values[-1]]
    return source


def _scan(levels: NDArray[np.float64], numbers: NDArray[np.int64]) -> slice:
    """Find the levels that are the scan's: all of them, but for a drawn one at either end.

    Parameters
    ----------
    levels : ndarray of float64, shape (n,)
        Distinct values, ascending.
    numbers : ndarray of int64, shape (n,)
        How many pixels have each.

    Returns
    -------
    slice
        Of the levels; start and stop are not negative.
    """
    size = int(numbers.sum())
    start = int(_may_be_drawn(int(numbers[0]), size))
    stop = levels.size - int(_may_be_drawn(int(numbers[-1]), size))
    if stop - start < SCANNED:
        return slice(0, levels.size)
    inner = _percentiles(levels[start:stop], numbers[start:stop])
    if start and not _flattens(inner, levels, numbers):
        start = 0
    if stop < levels.size and not _flattens((-inner[1], -inner[0]), -levels[::-1], numbers[::-1]):
        stop = levels.size
    return slice(start, stop)


def _flattens(inner: Window, levels: NDArray[np.float64], numbers: NDArray[np.int64]) -> bool:
    """Check whether the lowest level is far below the scan, whose percentiles are given, and almost alone there."""
    low, high = inner
    beyond = int(numbers[levels < low - (high - low)].sum())  # nearer than a width it may be the scan's own tail
    far = 0 < high - low < (high - float(levels[0])) * LEAST_USE
    return bool(far and beyond <= int(numbers[0]) * (1 + BETWEEN))


def _may_be_drawn(number: int, size: int) -> bool:
    """Check whether so many pixels of one extreme value are more than hot or dead ones, and few enough."""
    return size * OUTLIERS < number <= size * DRAWN


def _percentiles(levels: NDArray[np.float64], numbers: NDArray[np.int64]) -> Window:
    rank = np.cumsum(numbers)
    size = int(rank[-1])
    spare = int(size * OUTLIERS)
    inner = np.searchsorted(rank, [spare, size - 1 - spare], side="right")
    return float(levels[inner[0]]), float(levels[inner[1]])


def _trimmed(extremes: Window, percentiles: Window) -> Window:
    inner = percentiles[1] - percentiles[0]
    # An inner width of nothing is a sparse picture on a constant ground, not a picture with hot pixels.
    return percentiles if 0 < inner * STRETCH < extremes[1] - extremes[0] else extremes


def _blocks(size: int) -> Iterator[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, size, _BLOCK))
