"""The window that maps deep samples (more than 8 bits, signed, or floating point) to 8-bit grey.

The 8-bit and the 16-bit export of one scan must have almost the same hash. Because the hash equalises the histogram, a
window must preserve the *ranks* of the grey levels of the 8-bit export. Two exports are common:

* Acquisition software keeps the upper 8 of 10, 12, 14 or 16 bits. If a scan has finer levels than 8 bits can represent,
  and uses a fair share of its depth, the window truncates in the same way.
* Everything else (8-bit images in a deep container, contrast stretched to the extremes, calibrated floating-point
  values) is mapped linearly from the lowest to the highest value. An 8-bit image ``v`` stored as ``v << 8``,
  ``v * 257`` or ``v / 255`` then keeps its levels one by one.

A few hot or dead pixels must not flatten the image: percentiles replace the extremes if these would stretch the window
to more than twice its width. An info bar at the full scale of its container must not flatten a scan of fewer bits
either: before anything else, a single value at either end is excluded if a small share of the pixels has it and it is
far from all others. It becomes black or white, as it was drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Window = tuple[float, float]
"""The values that map to 0 and to 255."""

OUTLIERS = 1e-4
"""Share of the pixels at either end of the histogram that can be hot or dead; about 80 pixels of a 1024 x 768 scan."""

STRETCH = 2.0
"""The percentiles replace the extremes if these widen the window by more than this factor."""

DEPTHS = (10, 12, 14, 16)
"""Bits of the analogue-to-digital converters and cameras in electron microscopes."""

LEAST_USE = 0.25
"""Minimum share of the nominal range that a scan must span to be truncated, which leaves at least 64 of the 256 grey
levels. A scan that spans this share of the whole range also keeps the values that are drawn at the ends."""

DRAWN = 0.25
"""Maximum share of the pixels that can be drawn: an info bar or its text. The highest bars take a fifth of an image."""

SCANNED = 32
"""Minimum number of levels that are not drawn. An image with fewer is a drawing, a mask or counts, not a noisy scan."""

BETWEEN = 1e-3
"""Maximum number of (hot) pixels with values between the drawn one and the scan, as a share of the drawn pixels. What
an instrument recorded has an edge, blurred over a pixel or more, which exceeds this share in spots of up to 10 million
pixels."""

_SAMPLED = 1 << 22  # values that the percentiles of 32- and 64-bit samples are taken from
_BLOCK = 1 << 20  # values handled at once, to keep the temporary copies small
_WIDEST = float(np.finfo(np.float64).max) / 4  # so that the width of a window is always finite


def fit(samples: NDArray[Any]) -> Window:
    """Return the window of an image, chosen from its values.

    Parameters
    ----------
    samples : ndarray of any real dtype, any shape
        All samples of the image, for a colour image those of all channels.

    Returns
    -------
    tuple of float
        The values that map to 0 and 255; equal for a constant image.

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
    """Map values to 8 bits linearly, rounded and clipped; non-finite values become 0.

    Parameters
    ----------
    samples : ndarray of any real dtype, any shape
    window : tuple of float
        The values that become 0 and 255. If they are equal, everything becomes 0.

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
    """Return the lowest and highest value of 8- or 16-bit integers, without outliers, and the number of levels."""
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
    """Return the lowest and highest finite value, without outliers, which are searched in at most `_SAMPLED` values."""
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
    return source[:: -(-source.size // _SAMPLED) | 1]  # an odd step; an even one could sample only a few columns


def _scanned(source: NDArray[Any], some: NDArray[Any]) -> NDArray[Any]:
    """Return the values without the drawn ones, which are found in a sample of the values."""
    values, numbers = np.unique(some, return_counts=True)
    scan = _scan(values.astype(np.float64), numbers)
    if scan.start > 0:
        source = source[source > values[0]]
    if scan.stop < values.size:
        source = source[source < values[-1]]
    return source


def _scan(levels: NDArray[np.float64], numbers: NDArray[np.int64]) -> slice:
    """Return the levels of the scan: all levels except a drawn one at either end.

    Parameters
    ----------
    levels : ndarray of float64, shape (n,)
        Distinct values, ascending.
    numbers : ndarray of int64, shape (n,)
        Number of pixels with each value.

    Returns
    -------
    slice
        Slice of the levels; start and stop are not negative.
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
    """Check whether the lowest level is far below the scan (given by its percentiles) and almost isolated."""
    low, high = inner
    beyond = int(numbers[levels < low - (high - low)].sum())  # closer than one width, it may belong to the scan
    far = 0 < high - low < (high - float(levels[0])) * LEAST_USE
    return bool(far and beyond <= int(numbers[0]) * (1 + BETWEEN))


def _may_be_drawn(number: int, size: int) -> bool:
    """Check whether the number of pixels of an extreme value is too high for outliers, but not for a drawing."""
    return size * OUTLIERS < number <= size * DRAWN


def _percentiles(levels: NDArray[np.float64], numbers: NDArray[np.int64]) -> Window:
    rank = np.cumsum(numbers)
    size = int(rank[-1])
    spare = int(size * OUTLIERS)
    inner = np.searchsorted(rank, [spare, size - 1 - spare], side="right")
    return float(levels[inner[0]]), float(levels[inner[1]])


def _trimmed(extremes: Window, percentiles: Window) -> Window:
    inner = percentiles[1] - percentiles[0]
    # An inner width of 0 is a sparse image on a constant background, not an image with hot pixels.
    return percentiles if 0 < inner * STRETCH < extremes[1] - extremes[0] else extremes


def _blocks(size: int) -> Iterator[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, size, _BLOCK))
