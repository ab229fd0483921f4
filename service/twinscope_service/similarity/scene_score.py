"""Scene score of two thumbnails: whether they show one field, independent of size, contrast and encoding.

Both thumbnails are reduced to one size, smoothed, corrected for uneven illumination, and locally centred and scaled, so
that contrast and brightness no longer matter (`local_contrast`). Phase correlation proposes a translation
(`phase_correlation`), and the zero-mean normalised cross-correlation (ZNCC) of the overlap is the score.
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

# All were chosen on real micrographs.
_MARGIN = 1 / 24  # share of each side that is excluded from the score, because local means are one-sided there
_WORTH_CHECKING = 0.3  # lower scores mean different scenes, so the field alone is not compared
_NEGLIGIBLE = 1e-3  # if the unmoved field scores at most this much less than the whole, no translation is searched
_LEAST_ENERGY = 1e-3  # of the normalised pixels; below it (0.05 levels of contrast) there is nothing to compare
_SAME_ASPECT = 0.99  # ratio of the two aspects (height to width), smaller to larger, from which they count as equal
_LEAST_ASPECT = 0.8  # below this ratio the two images cannot show one field

_PREPARED = 64
"""Prepared images in the cache, 0.25 MB each."""


@dataclass(frozen=True, slots=True)
class SceneScore:
    """Agreement of two thumbnails, and the translation between them."""

    score: float
    """ZNCC of the overlap, -1 to 1: near 0 for different scenes, above 0.5 for one scene."""
    shift_x: float
    """Translation as a share of the image's width; positive if the candidate's content is further to the right."""
    shift_y: float
    """Translation as a share of the query's height; positive if the candidate's content is further down."""


@dataclass(frozen=True, slots=True, eq=False)
class SceneImage:
    """A thumbnail prepared for `score`; reuse it if it is compared with many others."""

    normal: NDArray[np.float32]
    """Shape (height, width): locally centred and scaled pixels."""

    _spectra: list[NDArray[np.complex64]] = field(default_factory=list)

    @property
    def spectrum(self) -> NDArray[np.complex64]:
        """Spectrum for `phase_correlation`; computed at first use, possibly by two threads at the same time."""
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
        Height and width to which it is first reduced, by area averaging; by default its own shape.

    Returns
    -------
    SceneImage
        Normalised pixels.

    Raises
    ------
    ValueError
        If `thumbnail` is not a two-dimensional array of uint8 or `shape` is not within its shape.
    """
    return SceneImage(normalised(thumbnail, shape or thumbnail.shape))


def score(query: SceneImage, candidate: SceneImage, enough: float = math.inf) -> SceneScore:
    """Compare two prepared thumbnails of equal shape, unmoved and at the translation of the phase correlation.

    At each of the two positions the score is the smaller of two: that of the whole overlap, and that without the rows
    that an info bar may cover (`field_rows`), because a shared info bar is not a shared scene. The better position
    counts.

    Parameters
    ----------
    query, candidate : SceneImage
        Results of `prepare`, of equal shape.
    enough : float
        The unmoved score from which no translation is searched; by default one is always searched.

    Returns
    -------
    SceneScore
        Score and translation; score 0 if one thumbnail has no features.

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
    """Compare one thumbnail with many.

    Thumbnails of different shapes are compared at the smaller height and the smaller width of the two. If their
    proportions differ slightly, because one has lost its info bar (or more of its bottom), they are also compared at
    equal widths from the top down, and the better score counts. If the score is high, the fields alone are compared
    again, cut off above the info bar before any processing, and the smaller score counts: a shared bar affects the
    local means and the shading of an empty field next to it. (If the unmoved fields score at most 0.001 less than the
    whole, no translation is searched for them.) If the proportions differ by more than a fifth, the images cannot show
    one field and score 0.

    Parameters
    ----------
    query : numpy.ndarray of uint8, shape (height, width)
        Grey thumbnail.
    candidates : sequence of numpy.ndarray of uint8
        Grey thumbnails; each may have its own shape.

    Returns
    -------
    list of SceneScore
        One for each candidate, in the same order.

    Raises
    ------
    ValueError
        If a thumbnail is not a two-dimensional array of uint8, or is empty.
    """
    for thumbnail in (query, *candidates):
        require_grey(thumbnail)
    scores = []
    for candidate in candidates:
        best: SceneScore | None = None  # stays None if the proportions differ too much
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
    """Compare two thumbnails, both reduced to one shape first."""
    first, second = (prepared(image.tobytes(), image.shape, shape) for image in (query, candidate))
    return score(first, second, enough)


@lru_cache(maxsize=_PREPARED)
def prepared(pixels: bytes, size: tuple[int, ...], shape: tuple[int, int]) -> SceneImage:
    """Return the result of `prepare` for a thumbnail of shape `size`, reduced to `shape`; the last results are cached.

    A query is compared with many candidates in several stages of a search, and a candidate again as a rival.
    """
    return prepare(np.frombuffer(pixels, np.uint8).reshape(size), shape)


def common_shapes(query: tuple[int, ...], candidate: tuple[int, ...]) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Yield the ways to register two images: rows used of the query, rows used of the candidate, common shape."""
    aspects = query[0] / query[1], candidate[0] / candidate[1]
    flatter = min(aspects)
    if flatter < _LEAST_ASPECT * max(aspects):
        return
    height, width = min(query[0], candidate[0]), min(query[1], candidate[1])
    yield query[0], candidate[0], (height, width)
    if flatter < _SAME_ASPECT * max(aspects):
        query_rows, candidate_rows = round(flatter * query[1]), round(flatter * candidate[1])
        rows = min(query_rows, candidate_rows, round(flatter * width))
        if rows > 0:
            yield query_rows, candidate_rows, (rows, width)


def _agreement(query: SceneImage, candidate: SceneImage, down: int, right: int) -> float:
    """Return the smaller ZNCC, with or without the bottom rows, of two images; the candidate is moved first."""
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
    """Return the smaller of two ZNCCs of query[y, x] and candidate[y + down, x + right] without the margins.

    One ZNCC is that of all rows, the other that of the first `field` rows, whose sums are intermediate results.
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
    """Return the Pearson correlation of `count` pairs from their sums; 0 if one side has no features."""
    count = max(count, 1)
    mean_q, mean_c = sum_q / count, sum_c / count
    energy_q, energy_c = square_q / count - mean_q * mean_q, square_c / count - mean_c * mean_c
    if energy_q < _LEAST_ENERGY or energy_c < _LEAST_ENERGY:
        return 0.0
    correlation: float = (product / count - mean_q * mean_c) / np.sqrt(energy_q * energy_c)
    return min(max(correlation, -1.0), 1.0)
