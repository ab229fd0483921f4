"""Alignment: registers two images in the same way as the scene score, and cuts both images to their overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from twinscope_indexer.hashing.resampling import area_reduce
from twinscope_indexer.imaging.infobar import field_rows

from twinscope_service.similarity.scene_score import SceneScore, common_shapes, prepared, score

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Pair = tuple["NDArray[np.float32]", "NDArray[np.float32]"]
"""The pixels of a query and of a candidate; both arrays have the same shape."""


@dataclass(frozen=True, slots=True, eq=False)
class Overlap:
    """The area that the fields of two images have in common, without the rows that an info bar may cover.

    Attributes
    ----------
    normal : pair of ndarray of float32, shape (height, width)
        Locally centred and scaled pixels of both images; see `local_contrast`.
    pixels : pair of ndarray of float32, shape (height, width)
        Grey levels of the same pixels.
    """

    normal: Pair
    pixels: Pair


def align(query: NDArray[np.uint8], candidate: NDArray[np.uint8]) -> Overlap | None:
    """Return the overlap of a query and a candidate, for the shift and the size with the best agreement.

    Parameters
    ----------
    query, candidate : ndarray of uint8, shape (height, width)
        Grey thumbnails. Their shapes may differ.

    Returns
    -------
    Overlap or None
        None if the proportions of the two images differ too much.
    """
    best, overlap = -2.0, None
    for query_rows, candidate_rows, (height, width) in common_shapes(query.shape, candidate.shape):
        fields = query[: field_rows(query_rows)], candidate[: field_rows(candidate_rows)]
        one, other = (prepared(field.tobytes(), field.shape, (field_rows(height), width)) for field in fields)
        found = score(one, other)
        if found.score > best:
            small = [area_reduce(field, one.normal.shape) for field in fields]
            best = found.score
            overlap = Overlap(_moved((one.normal, other.normal), found), _moved((small[0], small[1]), found))
    return overlap


def _moved(pair: Pair, found: SceneScore) -> Pair:
    """Cut both images of a pair to their common area. `found` contains the shift of the second image."""
    height, width = pair[0].shape
    down, right = round(found.shift_y * height), round(found.shift_x * width)
    rows, columns = (slice(max(0, -by), size - max(0, by)) for by, size in ((down, height), (right, width)))
    moved = slice(rows.start + down, rows.stop + down), slice(columns.start + right, columns.stop + right)
    return pair[0][rows, columns], pair[1][moved]
