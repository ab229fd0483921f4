"""Grain: the finest detail of a picture, its noise included, by which recordings of one exposure know each other.

Outlines repeat: one grid is like another, one bare grating is like itself a bar further on. What lies between them does
not, and of the noise every exposure has its own. Where outlines leave a doubt, full-size pixels are correlated by their
calm parts alone. The measure is the one that tells a camera by its noise: how far the peak of a cross-correlation
stands out of the rest (Goljan 2008, Digital camera identification from images, IWDW, LNCS 5450, 454-468).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import scipy.fft
from scipy.ndimage import maximum_filter, uniform_filter
from twinscope_indexer.hashing.resampling import area_reduce
from twinscope_indexer.imaging.infobar import field_rows

from twinscope_service.similarity.scene_score import common_frames

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SIDE: Final = 640
"""Pixels of the longer side that pictures are reduced to; what is finer, encoders and noise take first."""
_LEAST_SIDE: Final = 48
_DETAIL: Final = (3, 9)
"""Sides in pixels of the means between which detail lies: noise of single pixels and shapes are left out."""
_EVEN: Final = 13
"""Side of the neighbourhood by whose contrast detail is divided."""
_FLAT: Final = 0.1
"""Squared grey levels below which there is no contrast, only rounding."""
_SLOPE: Final = 5
"""Side of the mean whose slope tells outlines."""
_REACH: Final = 9
"""Side of the neighbourhood in which an outline disturbs."""
_CALM: Final = 0.5
"""Share of the picture, that with the least slopes, which is looked at."""
_COVERED: Final = 0.1
"""Least share of the picture that has any grain. Calm parts that are black or white have none, and what a few specks
correlate by has no standard deviation. Of coarsely encoded grids it is 0.18 at least."""
_ANY: Final = 0.01
"""Of a contrast of 1; less is rounding."""


def grain_score(query: NDArray[np.uint8], candidate: NDArray[np.uint8]) -> float:
    """Measure how far the grain of two pictures agrees beyond chance, at the translation at which it agrees best.

    Parameters
    ----------
    query, candidate : ndarray of uint8, shape (height, width)
        Grey pixels, full size; each may have its own shape, a candidate of other proportions has lost or won rows at
        the bottom.

    Returns
    -------
    float
        Peak of the cross-correlation in its standard deviations; 0 where the proportions differ too much, the pictures
        are too small, or most of one is without grain.
    """
    best = 0.0
    for query_rows, candidate_rows, (height, width) in common_frames(query.shape, candidate.shape):
        scale = min(1.0, _SIDE / max(height, width))
        shape = round(field_rows(height) * scale), round(width * scale)
        if min(shape) < _LEAST_SIDE:
            continue
        fields = query[: field_rows(query_rows)], candidate[: field_rows(candidate_rows)]
        best = max(best, _peak(*(_grain(area_reduce(np.ascontiguousarray(field), shape)) for field in fields)))
    return best


def _grain(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the detail of the calm parts of a picture, everywhere of like contrast; 0 elsewhere."""
    fine, coarse = _DETAIL
    smooth = uniform_filter(pixels, fine)
    detail = smooth - uniform_filter(smooth, coarse)
    slopes = maximum_filter(np.hypot(*np.gradient(uniform_filter(pixels, _SLOPE))), _REACH)
    contrast = np.sqrt(np.maximum(uniform_filter(detail * detail, _EVEN), 0) + _FLAT)
    grain: NDArray[np.float32] = np.where(slopes <= np.quantile(slopes, _CALM), detail / contrast, 0)
    return grain if (np.abs(grain) > _ANY).mean() >= _COVERED else np.zeros_like(grain)


def _peak(query: NDArray[np.float32], candidate: NDArray[np.float32]) -> float:
    """Return the highest of all correlations, in standard deviations; see `grain_score`."""
    shape = tuple(scipy.fft.next_fast_len(side, real=True) for side in query.shape)
    product = np.conj(scipy.fft.rfft2(query, shape)) * scipy.fft.rfft2(candidate, shape)
    correlations = scipy.fft.irfft2(product, shape)
    deviation = float(correlations.std())
    return float(correlations.max()) / deviation if deviation > 0 else 0.0
