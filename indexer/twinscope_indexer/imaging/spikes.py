"""Spikes: isolated pixels far outside all other values of an image, such as X-ray hits of a camera and hot pixels.

Spikes are not part of the recorded field. Therefore, spikes must not define the window of an image, even if they are
more numerous than outliers usually are.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from twinscope_indexer.compute import scratch

_TAIL: Final = 0.01
"""Share of the pixels at each end of the histogram that can be spikes."""
_WIDE: Final = 4.0
"""Spikes are searched only if an end of the window is at least this many times the inner width beyond the percentile.
The inner width is the difference between the two percentiles of `_TAIL`. With a closer end, at least a tenth of the
grey levels remains for the field."""
_FAR: Final = 1.0
"""A pixel can be a spike if its value is at least this many inner widths beyond the percentile. In normally distributed
noise, this is 7 standard deviations above the mean."""
_ISOLATED: Final = 0.9
"""Minimum share of the candidates that must be isolated. The bright details of a field are blurred, so that neighbours
of such a pixel are also bright."""
_MOST_NEIGHBOURS: Final = 1
"""Maximum number of other candidates among the eight neighbours of an isolated pixel. A hit can cover two pixels."""
_MOST_CONSTANT: Final = 0.5
"""If more than this share of the pixels has one value, the image counts single electrons or X-rays. The single pixels
are then the content of the image, not spikes."""
_SAMPLED: Final = 1 << 16  # maximum number of pixels that are used for the percentiles; more only take time
_CHECKED: Final = 1 << 24  # maximum number of pixels, in the middle rows, that are checked for isolated pixels


def without_spikes(samples: NDArray[Any], limits: tuple[float, float]) -> tuple[float, float]:
    """Move the ends of a window towards each other if only isolated pixels lie beyond the new ends.

    Parameters
    ----------
    samples : ndarray of any real dtype, shape (height, width) or (height, width, channels)
        Samples of the image. Colour images are not checked, because cameras that record spikes have no colour.
    limits : tuple of float
        Lowest and highest value of the window.

    Returns
    -------
    tuple of float
        The lowest and the highest value without spikes.
    """
    low, high = limits
    if samples.ndim != 2 or not high > low:
        return limits
    flat = samples.reshape(-1)
    # The step is odd, because values at an even step could all come from only a few columns of the image.
    some = scratch.every(-(-flat.size // _SAMPLED) | 1, flat)
    some = some[(some >= low) & (some <= high)]
    if not some.size:
        return limits
    rank = int(some.size * _TAIL)
    ordered = np.partition(some, (rank, some.size // 2, some.size - 1 - rank))
    first, middle, last = (float(ordered[at]) for at in (rank, some.size // 2, some.size - 1 - rank))
    inner = last - first
    if inner <= 0 or np.count_nonzero(some == middle) > _MOST_CONSTANT * some.size:
        return limits
    rows = min(samples.shape[0], max(1, _CHECKED // samples.shape[1]))
    start = (samples.shape[0] - rows) // 2
    checked = samples[start : start + rows]
    if high - last > _WIDE * inner and _are_isolated(checked > last + _FAR * inner):
        high = last + _FAR * inner
    if first - low > _WIDE * inner and _are_isolated(checked < first - _FAR * inner):
        low = first - _FAR * inner
    return low, high


def _are_isolated(candidates: NDArray[np.bool_]) -> bool:
    """Check whether nearly all candidates have at most one candidate among their neighbours."""
    rows, columns = np.nonzero(candidates)
    if not 0 < len(rows) <= 2 * _TAIL * candidates.size:
        return False
    padded = np.pad(candidates, 1)
    around = [
        padded[rows + 1 + down, columns + 1 + right]
        for down in (-1, 0, 1) for right in (-1, 0, 1) if down or right
    ]  # fmt: skip
    neighbours = np.sum(around, axis=0)
    return bool(np.count_nonzero(neighbours <= _MOST_NEIGHBOURS) >= _ISOLATED * len(rows))
