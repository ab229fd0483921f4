"""Scene score: a correlation of two thumbnails that shows whether both show one field.

The scene score hardly depends on size, contrast and encoding. Both thumbnails are reduced to the same size, smoothed,
corrected for uneven illumination, and locally centred and scaled (`local_contrast`). The shift between the two
thumbnails is found by phase correlation (`phase_correlation`). The scene score is the zero-mean normalised
cross-correlation (ZNCC) of their overlap.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from twinscope_indexer.compute.jit import compiled
from twinscope_indexer.hashing.arrays import require_grey
from twinscope_indexer.imaging.infobar import field_rows

from twinscope_service.similarity.local_contrast import normalised
from twinscope_service.similarity.phase_correlation import spectrum, translation
from twinscope_service.thresholds import LEAST_ASPECT, SAME_ASPECT

# All values were chosen with real micrographs. The aspect of an image is its height divided by its width.
_MARGIN = 1 / 24  # share of each side that is excluded at the border, where local means use pixels of one side only
_WORTH_CHECKING = 0.3  # minimum score of two images for an additional comparison of their fields, without info bars
_NEGLIGIBLE = 1e-3  # the shift of the fields is not measured if their score is lower by at most this value
_LEAST_ENERGY = 1e-3  # minimum variance of normalised pixels; pixels with less (0.05 grey levels) have no content

_PREPARED = 64
"""Maximum number of prepared images in the cache. Each image needs 0.25 MB of memory."""


@dataclass(frozen=True, slots=True)
class SceneScore:
    """Scene score of two thumbnails, and the shift between the two thumbnails."""

    score: float
    """ZNCC of the overlap, -1 to 1. The score is near 0 if the images show different scenes, and above 0.5 if both show
    the same scene."""
    shift_x: float
    """Horizontal shift, divided by the width of the image. The shift is positive if the content of the candidate is
    further to the right than the content of the query."""
    shift_y: float
    """Vertical shift, divided by the height of the query. The shift is positive if the content of the candidate is
    further down than the content of the query."""


@dataclass(frozen=True, slots=True, eq=False)
class SceneImage:
    """A thumbnail that is prepared for `score`. One prepared thumbnail can be compared with many others."""

    normal: NDArray[np.float32]
    """Locally centred and scaled pixels; shape (height, width)."""

    _spectra: list[NDArray[np.complex64]] = field(default_factory=list)

    @property
    def spectrum(self) -> NDArray[np.complex64]:
        """Spectrum for `phase_correlation`, computed at the first use.

        If two threads need the spectrum at the same time, both may compute it.
        """
        if not self._spectra:
            self._spectra.append(spectrum(self.normal))
        return self._spectra[0]


def prepare(thumbnail: NDArray[np.uint8], shape: tuple[int, int] | None = None) -> SceneImage:
    """Prepare a thumbnail for comparison.

    Parameters
    ----------
    thumbnail : numpy.ndarray of uint8, shape (height, width)
        Grey thumbnail.
    shape : tuple of int, optional
        Height and width to which the thumbnail is reduced first, by area averaging. By default, the thumbnail is not
        reduced.

    Returns
    -------
    SceneImage
        Normalised pixels.

    Raises
    ------
    ValueError
        If `thumbnail` is not a two-dimensional array of uint8, or if `shape` exceeds the shape of `thumbnail`.
    """
    return SceneImage(normalised(thumbnail, shape or thumbnail.shape))


def score(query: SceneImage, candidate: SceneImage, enough: float = math.inf) -> SceneScore:
    """Compare two prepared thumbnails of equal shape twice: without a shift, and with the shift found for them.

    Two correlations are computed for each of the two positions: one of the whole overlap, and one without the rows that
    an info bar may cover (`field_rows`). The smaller correlation is the score of the position, because equal info bars
    do not mean that the scenes are equal. The function returns the higher score of the two positions.

    Parameters
    ----------
    query, candidate : SceneImage
        Thumbnails of equal shape, from `prepare`.
    enough : float
        If the score without a shift is at least this value, the function does not search for a shift. By default, every
        comparison includes a search for the shift between the two images.

    Returns
    -------
    SceneScore
        Score and shift. The score is 0 if a thumbnail has no features.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    shape = query.normal.shape
    if shape != candidate.normal.shape:
        raise ValueError(
            f"prepared images differ in shape: {shape} and {candidate.normal.shape}; prepare both to one shape"
        )
    height, width = shape
    best = SceneScore(_agreement(query, candidate, 0, 0), 0.0, 0.0)
    if best.score >= enough:
        return best
    proposed = translation(query.spectrum, candidate.spectrum, shape)
    if proposed != (0, 0):
        down, right = proposed
        moved = _agreement(query, candidate, down, right)
        if moved > best.score:
            best = SceneScore(moved, right / width, down / height)
    return best


def scene_scores(query: NDArray[np.uint8], candidates: Sequence[NDArray[np.uint8]]) -> list[SceneScore]:
    """Compute the scene scores of one thumbnail with many other thumbnails.

    Two thumbnails of different shapes are reduced to the smaller of the two heights and the smaller of the two widths.
    The proportions of two thumbnails can differ slightly because the info bar, or more rows at the bottom, were removed
    from one image. In this case, the thumbnails are also compared at equal widths, aligned at the top, and the higher
    score is used. If the proportions differ by more than a fifth, the images cannot show one field, and the score is 0.

    If the score is at least 0.3, the fields are also compared without the info bars, and the lower score is used. The
    info bars are removed before any processing. Otherwise, an equal info bar in both images would change the local
    means and the shading of an empty field beside it. If the score of the fields without a shift is lower than the
    score of the thumbnails by at most 0.001, the function does not search for a shift of the fields.

    Parameters
    ----------
    query : numpy.ndarray of uint8, shape (height, width)
        Grey thumbnail.
    candidates : sequence of numpy.ndarray of uint8
        Grey thumbnails. Their shapes may differ.

    Returns
    -------
    list of SceneScore
        One score for each candidate, in the order of the candidates.

    Raises
    ------
    ValueError
        If a thumbnail is empty or is not a two-dimensional array of uint8.
    """
    for thumbnail in (query, *candidates):
        require_grey(thumbnail)
    scores = []
    for candidate in candidates:
        best: SceneScore | None = None  # remains None if the proportions of the two thumbnails differ too much
        for query_rows, candidate_rows, shape in common_shapes(query.shape, candidate.shape):
            found = _compared(query[:query_rows], candidate[:candidate_rows], shape)
            if found.score >= _WORTH_CHECKING:
                fields = query[: field_rows(query_rows)], candidate[: field_rows(candidate_rows)]
                alone = _compared(*fields, (field_rows(shape[0]), shape[1]), found.score - _NEGLIGIBLE)
                found = replace(found, score=min(found.score, alone.score))
            if best is None or found.score > best.score:
                best = replace(found, shift_y=found.shift_y * query_rows / query.shape[0])
        scores.append(best or SceneScore(0.0, 0.0, 0.0))
    return scores


def _compared(
    query: NDArray[np.uint8], candidate: NDArray[np.uint8], shape: tuple[int, int], enough: float = math.inf
) -> SceneScore:
    """Reduce two thumbnails to the same shape, and compute their scene score."""
    first, second = (prepared(image.tobytes(), image.shape, shape) for image in (query, candidate))
    return score(first, second, enough)


@lru_cache(maxsize=_PREPARED)
def prepared(pixels: bytes, size: tuple[int, ...], shape: tuple[int, int]) -> SceneImage:
    """Return the result of `prepare` for the pixels of a thumbnail. A cache contains the last results.

    The cache saves time because a search compares the query with many candidates in several stages, and compares some
    candidates more than once.

    Parameters
    ----------
    pixels : bytes
        Pixels of the thumbnail, uint8.
    size : tuple of int
        Height and width of the thumbnail.
    shape : tuple of int
        Height and width to which the thumbnail is reduced.
    """
    return prepare(np.frombuffer(pixels, np.uint8).reshape(size), shape)


def common_shapes(query: tuple[int, ...], candidate: tuple[int, ...]) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Yield the ways to register two images of these shapes.

    Each way consists of the number of rows of the query that are used, the number of rows of the candidate that are
    used, and the common shape to which both images are reduced.
    """
    aspects = query[0] / query[1], candidate[0] / candidate[1]
    flatter = min(aspects)
    if flatter < LEAST_ASPECT * max(aspects):
        return
    height, width = min(query[0], candidate[0]), min(query[1], candidate[1])
    yield query[0], candidate[0], (height, width)
    if flatter < SAME_ASPECT * max(aspects):
        query_rows, candidate_rows = round(flatter * query[1]), round(flatter * candidate[1])
        rows = min(query_rows, candidate_rows, round(flatter * width))
        if rows > 0:
            yield query_rows, candidate_rows, (rows, width)


def _agreement(query: SceneImage, candidate: SceneImage, down: int, right: int) -> float:
    """Return the smaller of two ZNCCs: with and without the bottom rows. The candidate is shifted first."""
    height, width = query.normal.shape
    margins = int(height * _MARGIN), int(width * _MARGIN)
    agreement: float = _least_zncc(query.normal, candidate.normal, field_rows(height), down, right, *margins)
    return agreement


@compiled(fastmath=True, error_model="numpy")
def _least_zncc(
    query: NDArray[np.float32],
    candidate: NDArray[np.float32],
    field: int,
    down: int,
    right: int,
    margin_y: int,
    margin_x: int,
) -> float:
    """Return the smaller of two ZNCCs of query[y, x] and candidate[y + down, x + right], without the margins.

    The first ZNCC is computed from all rows, and the second from the first `field` rows only. The sums for the second
    ZNCC are intermediate results of the sums for the first ZNCC.
    """
    rows = query.shape[0]
    top, bottom = max(margin_y, margin_y - down), min(rows - margin_y, rows - margin_y - down)
    field_bottom = bottom - (rows - field)
    left, end = max(margin_x, margin_x - right), min(query.shape[1] - margin_x, query.shape[1] - margin_x - right)
    least = 1.0 if field_bottom > top else 0.0  # the ZNCC of no rows is 0
    sum_q, sum_c, square_q, square_c, product = 0.0, 0.0, 0.0, 0.0, 0.0
    for y in range(top, bottom):
        query_row, candidate_row = query[y, left:end], candidate[y + down, left + right : end + right]
        zero = np.float32(0)
        row_q, row_c, row_qq, row_cc, row_qc = zero, zero, zero, zero, zero
        for x in range(end - left):
            q, c = query_row[x], candidate_row[x]
            row_q += q
            row_c += c
            row_qq += q * q
            row_cc += c * c
            row_qc += q * c
        sum_q += float(row_q)
        sum_c += float(row_c)
        square_q += float(row_qq)
        square_c += float(row_cc)
        product += float(row_qc)
        if y + 1 == field_bottom or y + 1 == bottom:
            count = (y + 1 - top) * (end - left)
            least = min(least, _correlation(sum_q, sum_c, square_q, square_c, product, count))
    return least


@compiled(fastmath=True, error_model="numpy")
def _correlation(sum_q: float, sum_c: float, square_q: float, square_c: float, product: float, count: int) -> float:
    """Return the Pearson correlation of `count` pairs of values, computed from sums; 0 if an image has no features."""
    count = max(count, 1)
    mean_q, mean_c = sum_q / count, sum_c / count
    energy_q, energy_c = square_q / count - mean_q * mean_q, square_c / count - mean_c * mean_c
    if energy_q < _LEAST_ENERGY or energy_c < _LEAST_ENERGY:
        return 0.0
    correlation: float = (product / count - mean_q * mean_c) / np.sqrt(energy_q * energy_c)
    return min(max(correlation, -1.0), 1.0)
