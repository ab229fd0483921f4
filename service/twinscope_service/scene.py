"""Scene score of two thumbnails: how surely they show one field, whatever was done to size, contrast or encoding.

Both thumbnails are brought to one size, smoothed, freed of uneven illumination, and locally centred and scaled, so
that contrast and brightness no longer matter. Phase correlation proposes a translation (Kuglin and Hines 1975, Proc.
Int. Conf. Cybernetics and Society, 163-165), and the zero-mean normalised cross-correlation (ZNCC) of the overlap is
the score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from twinscope_indexer.compiled import compiled
from twinscope_indexer.thumbnail import area_reduce

# Lengths are pixels of a thumbnail, levels its grey levels. All were chosen on real micrographs.
_SMOOTHING = 1.0  # standard deviation of the Gaussian against noise
_SURROUNDINGS = 10.0  # standard deviation of the Gaussian of the local mean and variance
_VARIANCE_FLOOR = 2.0  # added to the local variance: less than 1.4 levels of contrast is not amplified to full
_SHADING_DEGREE = 2  # in x and in y: the polynomial surface taken for uneven illumination
_REACH = 1 / 6  # largest translation looked for, as a share of the frame
_MARGIN = 1 / 24  # of the frame on each side left out of the score: local means are one-sided there
_BAR = 0.15  # of the frame at its bottom without which the score has to hold, too: an info bar is at most 14 %
_WORTH_CHECKING = 0.3  # scores below it mean different scenes whatever the field alone would say
# Standard deviations that the peak of the phase correlation stands out by in one scene, however noisy: of 18,900 pairs
# of different scenes none had more than 7.7, of 12 of one scene that correlated by 0.36 to 0.46 none less than 27.
_SHARP = 15.0
_LEAST_ENERGY = 1e-3  # of the normalised pixels; below it (0.05 levels of contrast) there is nothing to compare
_NEGLIGIBLE_GAIN = 1e-6
_SAME_ASPECT = 0.99  # height to width, the flatter image's over the other's: above it they count as equal,
_LEAST_ASPECT = 0.8  # and below this one as those of different frames


@dataclass(frozen=True, slots=True)
class SceneScore:
    """How well two thumbnails agree, and where."""

    score: float
    """ZNCC of the overlap, -1 to 1: near 0 for different scenes, above 0.5 for one scene."""
    shift_x: float
    """Translation as a share of the frame's width: positive if the candidate shows things further to the right."""
    shift_y: float
    """Translation as a share of the query frame's height: positive if the candidate shows things further down."""


@dataclass(frozen=True, slots=True, eq=False)
class SceneImage:
    """A thumbnail made ready for `score`; worth keeping while it is compared with many."""

    normal: NDArray[np.float32]
    """Shape (height, width): locally centred and scaled pixels."""
    spectrum: NDArray[np.complex64]
    """Half spectrum of `normal` under a Hann window, padded to `_padded` of its shape."""


def prepare(thumbnail: NDArray[np.uint8], shape: tuple[int, int] | None = None) -> SceneImage:
    """Make a thumbnail ready for comparison.

    Parameters
    ----------
    thumbnail : numpy.ndarray of uint8, shape (height, width)
        Grey thumbnail.
    shape : tuple of int, optional
        Height and width to reduce it to first, by area averaging; its own shape if not given.

    Returns
    -------
    SceneImage
        Normalised pixels and their spectrum.

    Raises
    ------
    ValueError
        If `thumbnail` is not a two-dimensional array of uint8 or `shape` is not within its shape.
    """
    pixels = _smoothed(area_reduce(thumbnail, shape or thumbnail.shape), _gaussian(_SMOOTHING))
    level = pixels - _projected(pixels, _polynomials)
    centred = level - _projected(level, _low_pass)
    variance = np.maximum(_projected(centred * centred, _low_pass), 0)  # a float32 result can be barely negative
    normal = (centred / np.sqrt(variance + np.float32(_VARIANCE_FLOOR))).astype(np.float32, copy=False)
    spectrum: NDArray[np.complex64] = scipy.fft.rfft2(normal * _hann(normal.shape), s=_padded(normal.shape))
    return SceneImage(normal, spectrum)


def score(query: SceneImage, candidate: SceneImage) -> SceneScore:
    """Compare two prepared thumbnails of equal shape, unmoved and at the translation of the phase correlation.

    Noise lowers the correlation of all pixels, but hardly the certainty of where they lie: between 0.3 and 0.6 the
    score is z / (z + 15) where that is more, z being the height of the phase correlation's peak in standard deviations.

    At each of the two positions the score is the smaller of that of the whole overlap and that without the bottom
    15 % of the frame: a shared info bar is no shared scene. The better position counts.

    Parameters
    ----------
    query, candidate : SceneImage
        Results of `prepare`, of equal shape.

    Returns
    -------
    SceneScore
        Score and translation; score 0 if one of the two has no features.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    shape = query.normal.shape
    if shape != candidate.normal.shape:
        raise ValueError(f"prepared images of shapes {shape} and {candidate.normal.shape}: prepare both to one shape")
    height, width = shape
    correlation = scipy.fft.irfft2(_whitened(query.spectrum, candidate.spectrum), s=_padded(shape))
    proposed = _peak(correlation, int(height * _REACH), int(width * _REACH))
    best = SceneScore(_agreement(query, candidate, 0, 0), 0.0, 0.0)
    if proposed != (0, 0):
        down, right = proposed
        moved = _agreement(query, candidate, down, right)
        if moved > best.score:
            best = SceneScore(moved, right / width, down / height)
    if _WORTH_CHECKING <= best.score < 2 * _WORTH_CHECKING:
        best = replace(best, score=max(best.score, _certainty(correlation, proposed)))
    return best


def scene_scores(query: NDArray[np.uint8], candidates: Sequence[NDArray[np.uint8]]) -> list[SceneScore]:
    """Compare one thumbnail with many.

    Thumbnails of different shapes are compared at the smaller height and the smaller width of the two. If their
    proportions differ by a little, because one has lost its info bar (or more of its bottom), they are also
    compared at equal widths from the top down, and the better score counts. What scores well is compared again by its
    field alone, cut off above the info bar before anything else, and the smaller score counts: a shared bar reaches
    into the local means and the shading of an empty field beside it. If their proportions differ by more than
    a fifth, they are not one frame and score 0.

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
        if thumbnail.ndim != 2 or thumbnail.dtype != np.uint8 or thumbnail.size == 0:
            raise ValueError(
                f"expected grey thumbnails, uint8 of shape (height, width), not {thumbnail.dtype} of shape "
                f"{thumbnail.shape}"
            )
    prepared: dict[tuple[int, tuple[int, int]], SceneImage] = {}

    def compared(other: NDArray[np.uint8], rows: int, other_rows: int, shape: tuple[int, int]) -> SceneScore:
        if (rows, shape) not in prepared:
            prepared[rows, shape] = prepare(query[:rows], shape)
        return score(prepared[rows, shape], prepare(other[:other_rows], shape))

    scores = []
    for candidate in candidates:
        best: SceneScore | None = None  # of the ways to compare these two; none if their proportions forbid it
        for query_rows, candidate_rows, shape in _common_frames(query.shape, candidate.shape):
            found = compared(candidate, query_rows, candidate_rows, shape)
            if found.score >= _WORTH_CHECKING:
                fields = (_field(query_rows), _field(candidate_rows), (_field(shape[0]), shape[1]))
                alone = compared(candidate, *fields)
                found = replace(found, score=min(found.score, alone.score))
            if best is None or found.score > best.score:
                best = replace(found, shift_y=found.shift_y * query_rows / query.shape[0])
        scores.append(best or SceneScore(0.0, 0.0, 0.0))
    return scores


def _field(rows: int) -> int:
    """Rows of a frame that no info bar covers."""
    return rows - round(rows * _BAR)


def _common_frames(query: tuple[int, ...], candidate: tuple[int, ...]) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Ways to lay two shapes over each other: rows used of the one, rows used of the other, common shape."""
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
    """ZNCC of two images, the candidate moved by whole pixels; the smaller of with and without the bottom."""
    height, width = query.normal.shape
    margins = int(height * _MARGIN), int(width * _MARGIN)
    whole: float = _zncc(query.normal, candidate.normal, height, down, right, *margins)
    upper: float = _zncc(query.normal, candidate.normal, height - round(height * _BAR), down, right, *margins)
    return min(whole, upper)


def _projected(pixels: NDArray[np.float32], basis: Callable[[int], NDArray[np.float32]]) -> NDArray[np.float32]:
    """Apply B B^T along both axes, where B, of shape (side, few), is the basis for a side of that length.

    Not by BLAS: its last digits depend on its number of threads, and a score must not depend on who asks.
    """
    rows, columns = basis(pixels.shape[0]), basis(pixels.shape[1])
    few = _product(_product(np.ascontiguousarray(rows.T), pixels), columns)
    return _product(_product(rows, few), np.ascontiguousarray(columns.T))


@lru_cache(maxsize=1024)
def _low_pass(side: int) -> NDArray[np.float32]:
    """Basis of the Gaussian filter of the surroundings, with mirrored borders, in one dimension.

    That filter is diagonal in the DCT-II, with the Gaussian's transfer function exp(-(sigma omega)^2 / 2) at
    omega = pi k / side; a wide Gaussian leaves so few coefficients that two thin matrix products are the fastest
    exact filter.
    """
    gains = np.exp(-0.5 * (_SURROUNDINGS * np.pi * np.arange(side) / side) ** 2)
    kept = np.count_nonzero(gains > _NEGLIGIBLE_GAIN)
    cosines = scipy.fft.idct(np.eye(side), norm="ortho", axis=0)[:, :kept]
    return np.ascontiguousarray(cosines * np.sqrt(gains[:kept]), dtype=np.float32)


@lru_cache(maxsize=1024)
def _polynomials(side: int) -> NDArray[np.float32]:
    """Orthonormal basis of the polynomials of the shading's degree on `side` points."""
    powers = np.vander(np.linspace(-1, 1, side), _SHADING_DEGREE + 1)
    return np.ascontiguousarray(np.linalg.qr(powers).Q, dtype=np.float32)


@lru_cache(maxsize=1)
def _gaussian(sigma: float) -> NDArray[np.float32]:
    """Weights of a Gaussian filter, cut at four standard deviations as in SciPy."""
    radius = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    normalised: NDArray[np.float32] = (weights / weights.sum()).astype(np.float32)
    return normalised


@lru_cache(maxsize=64)
def _hann(shape: tuple[int, int]) -> NDArray[np.float32]:
    rows, columns = (np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2 for side in shape)
    return np.outer(rows, columns).astype(np.float32)


@lru_cache(maxsize=1024)
def _padded(shape: tuple[int, int]) -> tuple[int, int]:
    """Shape of the transform: the next sides that an FFT is fast on."""
    return scipy.fft.next_fast_len(shape[0]), scipy.fft.next_fast_len(shape[1], real=True)


def _certainty(correlation: NDArray[np.float32], peak: tuple[int, int]) -> float:
    """Give 0 to 1, and half where the peak of a phase correlation stands out as it does for one scene only."""
    z = (float(correlation[peak]) - float(correlation.mean())) / float(correlation.std())
    return max(0.0, z) / (max(0.0, z) + _SHARP)


@compiled(error_model="numpy")
def _product(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """Matrix product, summed in one fixed order."""
    product = np.zeros((left.shape[0], right.shape[1]), np.float32)
    for i in range(left.shape[0]):
        line = product[i]
        for k in range(left.shape[1]):
            factor = left[i, k]
            other = right[k]
            for j in range(right.shape[1]):
                line[j] += factor * other[j]
    return product


@compiled(fastmath=True, error_model="numpy")
def _smoothed(pixels: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Separable filter; outside the image it continues mirrored, the border pixel twice (d c b a | a b c d)."""
    height, width = pixels.shape
    radius = weights.size // 2
    smooth = np.empty((height, width), np.float32)
    padded = np.empty(width + 2 * radius, np.float32)
    line = padded[radius : radius + width]
    for y in range(height):
        line[:] = 0
        for k in range(2 * radius + 1):
            mirrored = (y + k - radius) % (2 * height)
            source = pixels[min(mirrored, 2 * height - 1 - mirrored)]
            weight = weights[k]
            for x in range(width):
                line[x] += weight * source[x]
        for k in range(radius):
            mirrored = k % (2 * width)
            inner = min(mirrored, 2 * width - 1 - mirrored)
            padded[radius - 1 - k] = line[inner]
            padded[radius + width + k] = line[width - 1 - inner]
        target = smooth[y]
        target[:] = 0
        for k in range(2 * radius + 1):
            moved = padded[k : k + width]
            weight = weights[k]
            for x in range(width):
                target[x] += weight * moved[x]
    return smooth


@compiled(fastmath=True, error_model="numpy")
def _whitened(query: NDArray[np.complex64], candidate: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Cross-power spectrum conj(query) * candidate, every coefficient scaled to modulus 1."""
    white = np.empty_like(query)
    for y in range(query.shape[0]):
        for x in range(query.shape[1]):
            q, c = query[y, x], candidate[y, x]
            real = q.real * c.real + q.imag * c.imag
            imaginary = q.real * c.imag - q.imag * c.real
            scale = np.float32(1) / (np.sqrt(real * real + imaginary * imaginary) + np.float32(1e-6))
            white[y, x] = complex(real * scale, imaginary * scale)
    return white


@compiled(error_model="numpy")
def _peak(correlation: NDArray[np.float32], reach_y: int, reach_x: int) -> tuple[int, int]:
    """Find the translation (down, right) with the largest value within reach; negative ones are at the far end."""
    height, width = correlation.shape
    best, best_y, best_x = correlation[0, 0], 0, 0
    for y in range(-reach_y, reach_y + 1):
        row = correlation[y % height]
        for x in range(-reach_x, reach_x + 1):
            if row[x % width] > best:
                best, best_y, best_x = row[x % width], y, x
    return best_y, best_x


@compiled(fastmath=True, error_model="numpy")
def _zncc(
    query: NDArray[np.float32],
    candidate: NDArray[np.float32],
    rows: int,
    down: int,
    right: int,
    margin_y: int,
    margin_x: int,
) -> float:
    """ZNCC of query[y, x] and candidate[y + down, x + right] in the first `rows` rows of both, margins left out."""
    top, bottom = max(margin_y, margin_y - down), min(rows - margin_y, rows - margin_y - down)
    left, end = max(margin_x, margin_x - right), min(query.shape[1] - margin_x, query.shape[1] - margin_x - right)
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
    count = max((bottom - top) * (end - left), 1)
    mean_q, mean_c = sum_q / count, sum_c / count
    energy_q, energy_c = square_q / count - mean_q * mean_q, square_c / count - mean_c * mean_c
    if energy_q < _LEAST_ENERGY or energy_c < _LEAST_ENERGY:
        return 0.0
    correlation: float = (product / count - mean_q * mean_c) / np.sqrt(energy_q * energy_c)
    return min(max(correlation, -1.0), 1.0)
