"""Full-size SSIM exactly as the legacy scripts computed it, for comparisons with these scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from twinscope_indexer.errors import extra_needed
from twinscope_indexer.hashing.equalize import standardise

if TYPE_CHECKING:
    from numpy.typing import NDArray


def legacy_ssim(query: NDArray[np.uint8], reference: NDArray[np.uint8]) -> float:
    """Compute the full-size SSIM as the legacy scripts did.

    The histograms of both images are equalised and their contrast is stretched, before any resizing. If the shapes
    differ, the query is then resized to the shape of the reference (scikit-image ``resize`` with anti-aliasing and
    preserved range). The data range of the SSIM is the grey-level range of the standardised reference.

    Parameters
    ----------
    query, reference : ndarray of uint8, shape (height, width)

    Returns
    -------
    float
        SSIM, -1 to 1. NaN if all pixels of the reference have the same grey value.

    Raises
    ------
    MissingExtraError
        If scikit-image is not installed.
    """
    with extra_needed("the policy legacy", "legacy"):
        from skimage.metrics import structural_similarity
        from skimage.transform import resize

    a: NDArray[np.generic] = standardise(query)
    b = standardise(reference)
    if a.shape != b.shape:
        a = resize(a, b.shape, anti_aliasing=True, preserve_range=True).astype(np.uint8)
    return float(structural_similarity(a, b, data_range=int(b.max()) - int(b.min())))
