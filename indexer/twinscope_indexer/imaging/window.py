"""The window that maps deep samples (more than 8 bits, signed, or floating point) to 8-bit grey.

The 8-bit and the 16-bit export of one scan must have almost the same hash. Because the hash equalises the histogram, a
window must preserve the *ranks* of the grey levels of the 8-bit export. The window imitates two common kinds of 8-bit
export:

* Acquisition software often keeps only the upper 8 of 10, 12, 14 or 16 bits. The window also keeps only the upper 8
  bits if a scan has more than 256 levels and spans at least a quarter of its nominal range.
* All other samples are mapped linearly from the lowest to the highest value. Examples are 8-bit images in a file with
  more bits, images whose contrast was stretched to the full range, and calibrated floating-point values. If an 8-bit
  image ``v`` was stored as ``v << 8``, ``v * 257`` or ``v / 255``, this window preserves all levels of ``v``.

A few hot or dead pixels must not reduce the contrast of the image. Percentiles therefore replace the lowest and the
highest value if these two values would make the window more than twice as wide as the percentiles. More numerous
isolated pixels are found by their neighbours (see `spikes`).

Two kinds of values are not part of the scan, and must not reduce the contrast of the scan either. A scan can have fewer
bits than the file, while the info bar uses the full range of the file. A stitched mosaic can contain a no-data value,
such as -3.4e38, where no tile covers the mosaic. The first step therefore checks the lowest and the highest value of
the image. The step excludes such a value if many pixels have this value, and if the value is far from all other values.
An excluded value is mapped to black or white: to black if it is below the scan, and to white if it is above the scan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinscope_indexer.compute import scratch
from twinscope_indexer.imaging.spikes import without_spikes

Window = tuple[float, float]
"""The sample value that is mapped to 0, and the sample value that is mapped to 255."""

OUTLIERS = 1e-4
"""Maximum share of hot or dead pixels at each end of the histogram. In a scan of 1024 x 768 pixels, this maximum is
about 80 pixels."""

STRETCH = 2.0
"""Maximum of a ratio: the difference between the highest and the lowest value, divided by the difference between the
percentiles. If the ratio is larger, the percentiles define the window."""

DEPTHS = (10, 12, 14, 16)
"""Numbers of bits of the analogue-to-digital converters and cameras in electron microscopes."""

LEAST_USE = 0.25
"""If a scan spans at least this share of its nominal range, the samples are truncated to 8 bits. After the truncation,
at least 64 of the 256 grey levels remain. Values at the ends of the range are excluded only if the scan spans less than
this share of the whole range."""

EXCLUDED = 0.9
"""Maximum share of the pixels that can have one excluded value. The highest info bars cover a fifth of an image, but
most of a mosaic can have a no-data value."""

SCANNED = 32
"""Minimum number of levels of a scan. Excluded levels are not counted. An image with fewer than 32 levels is a drawing,
a mask or an image of counts, but not a noisy scan."""

BETWEEN = 1e-3
"""Maximum of a ratio: the number of pixels with values between the excluded value and the scan, divided by the number
of pixels with the excluded value. A few hot pixels can have values between the excluded value and the scan. If an
instrument recorded a bright spot, the edge of the spot is blurred over at least one pixel. If the spot has at most 10
million pixels, the blurred edge has more pixels than this maximum allows."""

_SAMPLED = 1 << 22  # maximum number of values that are used for the percentiles of 32- and 64-bit samples
_BLOCK = 1 << 20  # number of values that are handled at a time, so that temporary copies are small
_WIDEST = float(np.finfo(np.float64).max) / 4  # limit for both ends of a window, so that the width is finite


def fit(samples: NDArray[Any]) -> Window:
    """Choose the window of an image from the sample values.

    Parameters
    ----------
    samples : ndarray of any real dtype, any shape
        All samples of the image. For a colour image, the array contains the samples of all channels.

    Returns
    -------
    tuple of float
        The values that are mapped to 0 and 255. The two values are equal if all samples are equal.

    Raises
    ------
    ValueError
        If no sample has a finite value.
    """
    if samples.dtype.kind == "f":
        low, high = without_spikes(samples, _measured(samples))
        full = 1.0 if high <= 1 else 255.0
        return (0.0, full) if low >= 0 and high <= full and high - low >= full * LEAST_USE else (low, high)
    if samples.dtype.itemsize > 2:
        lowest, highest = _extremes(samples)
        if lowest < 0 or highest > np.iinfo(np.uint16).max:
            return without_spikes(samples, _measured(samples))
        samples = _narrowed(samples)
    low, high, levels = _counted(samples)
    low, high = without_spikes(samples, (low, high))
    depth = next((bits for bits in DEPTHS if high < 1 << bits), 0)
    truncates = (
        levels > 256  # with fewer levels, 8 bits can represent all levels, and truncation could only lose levels
        and low >= 0
        and high - low >= (1 << depth) * LEAST_USE
        and (1 << depth) - 1 <= np.iinfo(samples.dtype).max
    )
    if truncates:
        step = 1 << (depth - 8)
        low = (step - 1) / 2  # the centre of the values 0 to step - 1; rounding then has the same effect as truncation
        high = low + 255 * step
    return low, high


def apply(samples: NDArray[Any], window: Window) -> NDArray[np.uint8]:
    """Map values linearly to 8 bits. Results are rounded and clipped, and values that are not finite become 0.

    Parameters
    ----------
    samples : ndarray of any real dtype, any shape
    window : tuple of float
        The values that become 0 and 255. If the two values are equal, all samples become 0.

    Returns
    -------
    ndarray of uint8, same shape, C-contiguous
    """
    if samples.dtype.kind != "f" and samples.dtype.itemsize <= 2:
        span = np.iinfo(samples.dtype)
        table = _scaled(np.arange(span.min, span.max + 1), window)
        unsigned = samples.view(f"u{samples.dtype.itemsize}")
        table = np.roll(table, int(span.min))  # negative values use the upper half of the table
        return _by_blocks(unsigned, lambda values: table[values])
    return _by_blocks(samples, lambda values: _scaled(values, window))


def _by_blocks(samples: NDArray[Any], convert: Callable[[NDArray[Any]], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    grey = scratch.empty(samples.shape, np.uint8)
    flat, source = grey.reshape(-1), samples.reshape(-1)
    for band in scratch.bands(source, flat):
        for block in _blocks(len(source[band])):
            flat[band][block] = convert(source[band][block])
    return grey


def _scaled(values: NDArray[Any], window: Window) -> NDArray[np.uint8]:
    low, high = window
    if not high > low:
        return np.zeros(values.shape, np.uint8)
    with np.errstate(invalid="ignore"):  # a signalling NaN would cause a warning
        deep = values.astype(np.float64)
    deep[~np.isfinite(deep)] = low
    deep = np.clip(deep, low, high)
    deep -= low
    deep /= high - low
    deep *= 255
    return np.rint(deep).astype(np.uint8)


def _counted(samples: NDArray[Any]) -> tuple[float, float, int]:
    """Return the lowest value, the highest value and the number of levels of 8- or 16-bit integers. Ignore outliers."""
    span = np.iinfo(samples.dtype)
    counts = np.zeros(span.max - span.min + 1, np.int64)
    source = samples.reshape(-1)
    for band in scratch.bands(source):
        for block in _blocks(len(source[band])):
            values = source[band][block].astype(np.intp)
            values -= int(span.min)
            counts += np.bincount(values, minlength=counts.size)
    present = np.flatnonzero(counts)
    levels, numbers = (present + int(span.min)).astype(np.float64), counts[present]
    scan = _scan(levels, numbers)
    levels, numbers = levels[scan], numbers[scan]
    low, high = _trimmed((float(levels[0]), float(levels[-1])), _percentiles(levels, numbers))
    return low, high, levels.size


def _measured(samples: NDArray[Any]) -> Window:
    """Return the lowest and highest finite value without outliers. Use at most `_SAMPLED` values to find outliers."""
    source = samples.reshape(-1)
    extremes = _extremes(source)
    if not np.isfinite(extremes).all():
        source = _kept(source, np.isfinite)
        if not source.size:
            raise ValueError("no finite value")
        extremes = _extremes(source)
    some = _some(source)
    if any(_may_be_excluded(int(np.count_nonzero(some == end)), some.size) for end in extremes):
        source = _scanned(source, some)
        extremes = _extremes(source)
        some = _some(source)
    spare = int(some.size * OUTLIERS)
    ordered = np.partition(some, (spare, some.size - 1 - spare))
    low, high = _trimmed(extremes, (float(ordered[spare]), float(ordered[-1 - spare])))
    return max(low, -_WIDEST), min(high, _WIDEST)


def _some(source: NDArray[Any]) -> NDArray[Any]:
    # The step is odd, because values at an even step could all come from only a few columns of the image.
    step = -(-source.size // _SAMPLED) | 1
    return scratch.every(step, source)


def _scanned(source: NDArray[Any], some: NDArray[Any]) -> NDArray[Any]:
    """Return the values of `source` without excluded values. Only the sample `some` is used to find these values."""
    values, numbers = np.unique(some, return_counts=True)
    scan = _scan(values.astype(np.float64), numbers)
    if scan.start > 0:
        source = _kept(source, lambda part: part > values[0])
    if scan.stop < values.size:
        source = _kept(source, lambda part: part < values[-1])
    return source


def _extremes(source: NDArray[Any]) -> Window:
    """Return the lowest and the highest value. Both are NaN if a value is NaN."""
    with np.errstate(invalid="ignore"):
        ends = [(source[band].min(), source[band].max()) for band in scratch.bands(source)]
        lows, highs = zip(*ends, strict=True)
        return float(np.min(lows)), float(np.max(highs))


def _kept(source: NDArray[Any], keeps: Callable[[NDArray[Any]], NDArray[np.bool_]]) -> NDArray[Any]:
    """Return the values of a one-dimensional array for which `keeps` is true."""
    if not scratch.is_scratch(source):
        return source[keeps(source)]
    kept, size = scratch.empty(source.shape, source.dtype), 0
    for band in scratch.bands(source, kept):
        part = source[band][keeps(source[band])]
        kept[size : size + part.size] = part
        size += part.size
    return kept[:size]


def _narrowed(samples: NDArray[Any]) -> NDArray[np.uint16]:
    narrow = scratch.empty(samples.shape, np.uint16)
    for band in scratch.bands(samples, narrow):
        narrow[band] = samples[band]
    return narrow


def _scan(levels: NDArray[np.float64], numbers: NDArray[np.int64]) -> slice:
    """Return the range of the levels that belong to the scan.

    If the lowest or the highest level is drawn, or means that there is no data, it does not belong to the scan.

    Parameters
    ----------
    levels : ndarray of float64, shape (n,)
        Distinct values, ascending.
    numbers : ndarray of int64, shape (n,)
        Number of pixels with each value.

    Returns
    -------
    slice
        Slice of the levels, with a start and a stop that are not negative.
    """
    size = int(numbers.sum())
    start = int(_may_be_excluded(int(numbers[0]), size))
    stop = levels.size - int(_may_be_excluded(int(numbers[-1]), size))
    if stop - start < SCANNED:
        return slice(0, levels.size)
    inner = _percentiles(levels[start:stop], numbers[start:stop])
    if start and not _flattens(inner, levels, numbers):
        start = 0
    if stop < levels.size and not _flattens((-inner[1], -inner[0]), -levels[::-1], numbers[::-1]):
        stop = levels.size
    return slice(start, stop)


def _flattens(inner: Window, levels: NDArray[np.float64], numbers: NDArray[np.int64]) -> bool:
    """Check whether the lowest level is far below the scan, and few pixels have levels in between.

    `inner` contains two percentiles of the scan.
    """
    low, high = inner
    # A level below the scan may belong to the scan if the distance is less than the width of the scan.
    beyond = int(numbers[levels < low - (high - low)].sum())
    far = 0 < high - low < (high - float(levels[0])) * LEAST_USE
    return bool(far and beyond <= int(numbers[0]) * (1 + BETWEEN))


def _may_be_excluded(number: int, size: int) -> bool:
    """Check whether an extreme value has too many pixels for an outlier, but not nearly all pixels."""
    return size * OUTLIERS < number <= size * EXCLUDED


def _percentiles(levels: NDArray[np.float64], numbers: NDArray[np.int64]) -> Window:
    rank = np.cumsum(numbers)
    size = int(rank[-1])
    spare = int(size * OUTLIERS)
    inner = np.searchsorted(rank, [spare, size - 1 - spare], side="right")
    return float(levels[inner[0]]), float(levels[inner[1]])


def _trimmed(extremes: Window, percentiles: Window) -> Window:
    inner = percentiles[1] - percentiles[0]
    # If `inner` is 0, the image shows a few details on a constant background. These details are not hot pixels.
    return percentiles if 0 < inner * STRETCH < extremes[1] - extremes[0] else extremes


def _blocks(size: int) -> Iterator[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, size, _BLOCK))
