"""Parts: how well two pictures agree in each part of their field.

One field agrees everywhere, but for what was laid over it. Two fields that share something in one place (a panel, a
mask, the rim of an aperture, a logo) agree there and nowhere else, however well they do on the whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from twinscope_service.scene import SceneImage, common_frames, field_rows, prepared, score

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SIDE: Final = 5
"""Parts in a row, and in a column."""
_LEAST_SHARE: Final = 0.3
"""Of the usual part's correlation: a part that has less does not agree."""
_MOST_APART: Final = 5
"""Parts that need not agree, as a label, an arrow or a scale bar may cover them. Of pictures of other fields with one
half a panel or one logo more do not; of 178 real micrographs, annotated, rotated, under noise, 4 did not at most."""
_MOST_INNER: Final = 3
"""Of the nine parts in the middle."""
_INNER_SHARE: Final = 0.7
"""Of the usual part's correlation, that the median of the nine in the middle has. One aperture's rim surrounds them: of
pictures of different fields with one they had up to 0.65, of real twins at least 0.78."""
_LEAST_ENERGY: Final = 1e-3
"""Of the normalised pixels of a part; below it there is nothing to compare."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Correlations of the parts of two fields, row by row from the top left."""

    correlations: tuple[float, ...]

    @property
    def usual(self) -> float:
        """That of the median part: what is laid over a few of them does not count."""
        return float(np.median(self.correlations))

    @property
    def everywhere(self) -> bool:
        """Whether nearly all parts agree, and those in the middle no less than the others."""
        parts = np.reshape(self.correlations, (_SIDE, _SIDE))
        inner, least = parts[1:-1, 1:-1], _LEAST_SHARE * self.usual
        few = np.count_nonzero(parts < least) <= _MOST_APART and np.count_nonzero(inner < least) <= _MOST_INNER
        return bool(few and np.median(inner) >= _INNER_SHARE * self.usual)


def compare_parts(query: NDArray[np.uint8], candidate: NDArray[np.uint8]) -> Parts:
    """Compare two thumbnails part by part, laid over each other as for the scene score.

    Parameters
    ----------
    query, candidate : ndarray of uint8, shape (height, width)
        Grey thumbnails; each may have its own shape.

    Returns
    -------
    Parts
        All 0 if the proportions differ too much to lay one over the other.
    """
    best, pair = -2.0, None
    for query_rows, candidate_rows, (height, width) in common_frames(query.shape, candidate.shape):
        fields = query[: field_rows(query_rows)], candidate[: field_rows(candidate_rows)]
        one, other = (prepared(field.tobytes(), field.shape, (field_rows(height), width)) for field in fields)
        found = score(one, other)
        if found.score > best:
            best, pair = found.score, _overlap(one, other, found.shift_y, found.shift_x)
    if pair is None:
        return Parts((0.0,) * _SIDE**2)
    return Parts(tuple(_correlation(*parts) for parts in zip(*map(_divided, pair), strict=True)))


def _overlap(
    query: SceneImage, candidate: SceneImage, shift_y: float, shift_x: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cut out what both show, given the candidate's translation as shares of height and width."""
    height, width = query.normal.shape
    down, right = round(shift_y * height), round(shift_x * width)
    rows, columns = (slice(max(0, -by), size - max(0, by)) for by, size in ((down, height), (right, width)))
    moved = slice(rows.start + down, rows.stop + down), slice(columns.start + right, columns.stop + right)
    return query.normal[rows, columns], candidate.normal[moved]


def _divided(picture: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    return [part for band in np.array_split(picture, _SIDE) for part in np.array_split(band, _SIDE, axis=1)]


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    if one.size == 0:
        return 0.0
    one, other = one - one.mean(), other - other.mean()
    energies = float((one * one).mean()), float((other * other).mean())
    if min(energies) < _LEAST_ENERGY:
        return 0.0
    product = float((one * other).mean())
    return product / math.sqrt(energies[0] * energies[1])
