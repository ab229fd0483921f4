"""Noise residual: the agreement of the grain of two images. A high agreement proves that both show one acquisition.

Grain is the finest detail of an image, including its noise. Different fields can have similar outlines: one grid
resembles another grid, and a bare grating looks the same after a shift by one bar. The detail between outlines does not
repeat, and the noise of each acquisition is different. Therefore, if the outlines are not sufficient as proof,
Twinscope correlates the smooth areas of the full-size pixels. The result is the height of the peak of the
cross-correlation, relative to all other values of the cross-correlation. The same measure is used to identify a camera
by its noise (Goljan 2008, Digital camera identification from images, IWDW, LNCS 5450, 454-468).
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
"""Longer side, in pixels, of the reduced images that are compared. Encoders and noise destroy finer detail first."""
_LEAST_SIDE: Final = 48
"""Minimum length of the shorter side, in pixels, of the reduced images."""
_DETAIL: Final = (3, 9)
"""Sides, in pixels, of two mean filters. The difference between the filtered images is the detail, without the noise of
single pixels and without larger shapes."""
_CONTRAST_SIDE: Final = 13
"""Side, in pixels, of the neighbourhood of a pixel in which the contrast is measured. The detail is divided by this
contrast."""
_FLAT: Final = 0.1
"""Value added to the squared contrast, in squared grey levels. Smaller contrasts are only rounding errors."""
_SLOPE: Final = 5
"""Side, in pixels, of the mean filter that is applied before slopes are measured to find outlines."""
_OUTLINE_SIDE: Final = 9
"""Side, in pixels, of the square around a pixel of an outline. In this square, the outline changes the detail."""
_SMOOTH: Final = 0.5
"""Share of the pixels that are compared. The pixels with the smallest slopes are used."""
_COVERED: Final = 0.1
"""Minimum share of the pixels that must have grain. Black or white areas have no grain. If only a few spots have grain,
the standard deviation of the correlation is meaningless. In coarsely encoded images of grids, the share is at
least 0.18."""
_LEAST_GRAIN: Final = 0.01
"""Minimum absolute value of the grain, relative to a contrast of 1. Smaller values are rounding errors."""


def grain_score(query: NDArray[np.uint8], candidate: NDArray[np.uint8]) -> float:
    """Measure how well the grain of two images agrees, at the shift with the best agreement.

    Parameters
    ----------
    query, candidate : ndarray of uint8, shape (height, width)
        Grey pixels at full size. The shapes may differ. If the proportions differ, the function assumes that rows were
        removed or added at the bottom.

    Returns
    -------
    float
        Peak of the cross-correlation, in standard deviations of the cross-correlation. 0 if the proportions differ too
        much, if the images are too small, or if most of an image has no grain.
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
    """Return the detail of an image, divided by the local contrast. Outside smooth areas, the result is 0."""
    fine, coarse = _DETAIL
    smooth = uniform_filter(pixels, fine)
    detail = smooth - uniform_filter(smooth, coarse)
    slopes = maximum_filter(np.hypot(*np.gradient(uniform_filter(pixels, _SLOPE))), _OUTLINE_SIDE)
    contrast = np.sqrt(np.maximum(uniform_filter(detail * detail, _CONTRAST_SIDE), 0) + _FLAT)
    grain: NDArray[np.float32] = np.where(slopes <= np.quantile(slopes, _SMOOTH), detail / contrast, 0)
    return grain if (np.abs(grain) > _LEAST_GRAIN).mean() >= _COVERED else np.zeros_like(grain)


def _peak(query: NDArray[np.float32], candidate: NDArray[np.float32]) -> float:
    """Return the maximum of the correlations for all shifts, in standard deviations of these correlations."""
    shape = tuple(scipy.fft.next_fast_len(side, real=True) for side in query.shape)
    product = np.conj(scipy.fft.rfft2(query, shape)) * scipy.fft.rfft2(candidate, shape)
    correlations = scipy.fft.irfft2(product, shape)
    deviation = float(correlations.std())
    return float(correlations.max()) / deviation if deviation > 0 else 0.0
