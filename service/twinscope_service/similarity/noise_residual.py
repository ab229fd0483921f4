"""Grain: the finest detail of an image, including its noise, which identifies copies of one acquisition.

Outlines repeat: one grid resembles another, and a bare grating resembles itself one bar further. The detail between
outlines does not repeat, and every acquisition has its own noise. If the outlines are inconclusive, the full-size
pixels are correlated in their smooth areas only. The measure is the one used to identify a camera by its noise: the
height of the peak of the cross-correlation relative to the other values (Goljan 2008, Digital camera identification
from images, IWDW, LNCS 5450, 454-468).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import scipy.fft
from scipy.ndimage import maximum_filter, uniform_filter
from twinscope_indexer.hashing.resampling import area_reduce
from twinscope_indexer.imaging.infobar import field_rows

from twinscope_service.similarity.scene_score import common_shapes

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SIDE: Final = 640
"""Longer side in pixels to which images are reduced; encoders and noise destroy finer detail first."""
_LEAST_SIDE: Final = 48
_DETAIL: Final = (3, 9)
"""Sides in pixels of the two means whose difference is the detail: single-pixel noise and shapes are excluded."""
_CONTRAST_SIDE: Final = 13
"""Side in pixels of the neighbourhood whose contrast divides the detail."""
_FLAT: Final = 0.1
"""Squared grey levels below which there is no contrast, only rounding."""
_SLOPE: Final = 5
"""Side in pixels of the mean whose slope detects outlines."""
_OUTLINE_SIDE: Final = 9
"""Side in pixels of the neighbourhood that an outline affects."""
_SMOOTH: Final = 0.5
"""Share of the image that is compared: the pixels with the smallest slopes."""
_COVERED: Final = 0.1
"""Least share of the image with grain. Black or white smooth areas have no grain, and the correlation of a few specks
has no meaningful standard deviation. Coarsely encoded grids have a share of at least 0.18."""
_LEAST_GRAIN: Final = 0.01
"""Relative to a contrast of 1; smaller values are rounding."""


def grain_score(query: NDArray[np.uint8], candidate: NDArray[np.uint8]) -> float:
    """Measure how far the grain of two images agrees beyond chance, at the translation of best agreement.

    Parameters
    ----------
    query, candidate : ndarray of uint8, shape (height, width)
        Grey pixels at full size. Each may have its own shape; different proportions mean that rows were removed or
        added at the bottom.

    Returns
    -------
    float
        Peak of the cross-correlation in its standard deviations; 0 if the proportions differ too much, the images are
        too small, or most of one image has no grain.
    """
    best = 0.0
    for query_rows, candidate_rows, (height, width) in common_shapes(query.shape, candidate.shape):
        scale = min(1.0, _SIDE / max(height, width))
        shape = round(field_rows(height) * scale), round(width * scale)
        if min(shape) < _LEAST_SIDE:
            continue
        fields = query[: field_rows(query_rows)], candidate[: field_rows(candidate_rows)]
        best = max(best, _peak(*(_grain(area_reduce(np.ascontiguousarray(field), shape)) for field in fields)))
    return best


def _grain(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the detail of an image in its smooth areas, with equalised contrast; 0 elsewhere."""
    fine, coarse = _DETAIL
    smooth = uniform_filter(pixels, fine)
    detail = smooth - uniform_filter(smooth, coarse)
    slopes = maximum_filter(np.hypot(*np.gradient(uniform_filter(pixels, _SLOPE))), _OUTLINE_SIDE)
    contrast = np.sqrt(np.maximum(uniform_filter(detail * detail, _CONTRAST_SIDE), 0) + _FLAT)
    grain: NDArray[np.float32] = np.where(slopes <= np.quantile(slopes, _SMOOTH), detail / contrast, 0)
    return grain if (np.abs(grain) > _LEAST_GRAIN).mean() >= _COVERED else np.zeros_like(grain)


def _peak(query: NDArray[np.float32], candidate: NDArray[np.float32]) -> float:
    """Return the highest correlation over all translations, in standard deviations of the correlations."""
    shape = tuple(scipy.fft.next_fast_len(side, real=True) for side in query.shape)
    product = np.conj(scipy.fft.rfft2(query, shape)) * scipy.fft.rfft2(candidate, shape)
    correlations = scipy.fft.irfft2(product, shape)
    deviation = float(correlations.std())
    return float(correlations.max()) / deviation if deviation > 0 else 0.0
