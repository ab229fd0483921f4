"""Full-size SSIM exactly as the legacy scripts computed it, for comparison with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from twinscope_indexer.hashing.equalize import standardise

if TYPE_CHECKING:
    from numpy.typing import NDArray


def legacy_ssim(query: NDArray[np.uint8], reference: NDArray[np.uint8]) -> float:
    """Compute the SSIM of the legacy scripts.

    Both images are equalised and autocontrasted at their own size. If the shapes differ, the query is resized to
    the shape of the reference (scikit-image ``resize``, anti-aliased, range preserved). The data range is that of the
    standardised reference.

    Parameters
    ----------
    query, reference : ndarray of uint8, shape (height, width)

    Returns
    -------
    float
        -1 to 1; NaN if the reference has a single grey value.
    """
    from skimage.metrics import structural_similarity
    from skimage.transform import resize

    a: NDArray[np.generic] = standardise(query)
    b = standardise(reference)
    if a.shape != b.shape:
        a = resize(a, b.shape, anti_aliasing=True, preserve_range=True).astype(np.uint8)
    return float(structural_similarity(a, b, data_range=int(b.max()) - int(b.min())))
