"""Check whether an image has enough structure, so that the hash can identify the image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, Self, get_args

import numpy as np

from twinscope_indexer.compute import scratch
from twinscope_indexer.compute.jit import compiled
from twinscope_indexer.imaging.infobar import field_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

Reason = Literal["featureless", "saturated", "noise", "degenerate"]
REASONS: Final[tuple[Reason, ...]] = get_args(Reason)

_SIDE: Final = 128
_LEAST_CONTRAST: Final = 0.75
"""Minimum contrast of a field in grey levels, after the shading is removed. A field with less contrast counts as empty,
for example because the beam was off. If the field is empty, the hash of the image would depend on the info bar. Images
of different fields can have the same info bar. In 178 real micrographs, the lowest contrast is 4 grey levels."""
_MOST_CLIPPED: Final = 0.98
"""Maximum share of black pixels in a field. The maximum share of white pixels is the same. In 178 real micrographs, the
highest share of black or white pixels is 0.16."""
_FEW_LEVELS: Final = 3
"""A field is a mask if at least `_MASK_SHARE` of its pixels have one of this many grey values. Masks of different
fields can have the same outline, and a mask has no other content that could show the difference."""
_MASK_SHARE: Final = 0.999
_BLOCK: Final = 4
_MOST_BLOCK_VARIATION: Final = 2.0
"""Maximum variance of the block means in an image of noise, divided by the variance that independent pixels would give.
For white noise, this ratio is 0.9 to 1.1."""
_LEAST_PEAK: Final = 13.0
"""Minimum power of the strongest wave in a reduced field with structure, divided by the mean power of all waves. The
power of white noise is exponentially distributed. For white noise of 109 x 128 pixels with 7,000 waves, the ratio
exceeds 13 in 1 of 60 images. In each of 178 real micrographs, the ratio is at least 21."""
_SLOW: Final = ((2.5, 10.0, 1.25), (2.5, 20.0, 1.15))
"""Two bands of slow waves. The first two numbers of a band are the lowest and the highest number of waves across the
image. Even slower waves count as shading. The third number is the minimum of a ratio: the mean power of the band,
divided by the mean power of faster waves. A field also has structure if the ratio of at least one band reaches the
minimum. For white noise, the ratio is 1, with standard deviations of 0.08 and 0.04 for the two bands. Each of 178 real
micrographs reaches at least one minimum. The lowest ratios are 1.85 and 1.23."""
_LEAST_SIDE: Final = 96
"""Minimum side in pixels of a field that is checked for noise. A smaller field has too few waves for this check."""


@dataclass(frozen=True, slots=True)
class Unhashable:
    """An image with too little structure. The hash cannot identify the image.

    Attributes
    ----------
    reason : str
        Code of the reason. ``featureless``: the image has only one grey value, or the field above the info bar is
        empty, or the field is a mask. ``saturated``: nearly all of the field is black, or nearly all of the field is
        white. ``noise``: the field shows only noise. ``degenerate``: many bits of the hash would depend on rounding
        errors, for example in an image of plain stripes.
    detail : str
        Reason as readable text.
    """

    reason: Reason
    detail: str

    def to_text(self) -> str:
        """Return the form that a catalog stores: the code, a colon, a space and the readable text."""
        return f"{self.reason}: {self.detail}"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read the result of `to_text`.

        Raises
        ------
        ValueError
            If the text has another form.
        """
        code, colon, detail = text.partition(": ")
        reason = next((one for one in REASONS if one == code), None)
        if reason is None or not colon:
            msg = f"{text!r} is not the stored reason of an unhashable image"
            raise ValueError(msg)
        return cls(reason, detail)


def find_lack(pixels: NDArray[np.uint8]) -> Unhashable | None:
    """Return the reason why the field above the info bar cannot identify an image, or None if there is no such reason.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width)
        Grey levels.
    """
    field = pixels[: field_rows(pixels.shape[0])]
    # The sample contains every n-th pixel, not means of pixels. Means would remove fine texture and noise, which also
    # count as contrast.
    down, across = (-(-side // _SIDE) for side in field.shape)
    sample = np.ascontiguousarray(scratch.every(down, field)[:, ::across])
    rest = _without_shading(sample)
    contrast = float(np.sqrt(np.einsum("ij,ij", rest, rest) / rest.size))
    if contrast < _LEAST_CONTRAST:
        return Unhashable("featureless", f"the field is empty: its grey values vary by only {contrast:.2f} levels")
    clipped = max(np.count_nonzero(sample == end) for end in (0, 255)) / sample.size
    if clipped > _MOST_CLIPPED:
        return Unhashable("saturated", f"{clipped:.1%} of the field is black, or white")
    if min(field.shape) >= _LEAST_SIDE and _block_variation(rest) < _MOST_BLOCK_VARIATION and _is_white(field):
        return Unhashable("noise", "the field shows only noise")
    counts = np.sort(np.bincount(sample.ravel(), minlength=_FEW_LEVELS))
    if counts[-_FEW_LEVELS:].sum() >= _MASK_SHARE * sample.size:
        return Unhashable("featureless", f"the field is a mask: it has only {np.count_nonzero(counts)} grey values")
    return None


def _without_shading(image: NDArray[np.generic]) -> NDArray[np.float64]:
    """Subtract the quadratic shading from an image, and return the result."""
    rest = np.array(image, np.float64, order="C")
    _remove_shading(rest, *map(_parabolas, rest.shape))
    return rest


@compiled(error_model="numpy", fastmath={"reassoc"})  # the sums may be computed in any order
def _remove_shading(rest: NDArray[np.float64], down: NDArray[np.float64], across: NDArray[np.float64]) -> None:
    """Subtract the shading from `rest`: a constant, two slopes, two curvatures and a twist.

    Each term of the shading is a product of a function along the columns and a function along the rows. The terms of
    the shading are orthonormal.
    """
    strengths = np.zeros((3, 3))
    for y in range(len(rest)):
        for order in range(3):
            total = 0.0
            for x in range(rest.shape[1]):
                total += across[order, x] * rest[y, x]
            for other in range(3 - order):
                strengths[other, order] += down[other, y] * total
    for y in range(len(rest)):
        constant, slope, curvature = 0.0, 0.0, strengths[0, 2] * down[0, y]
        for other in range(3):
            constant += strengths[other, 0] * down[other, y]
            slope += strengths[other, 1] * down[other, y]
        for x in range(rest.shape[1]):
            rest[y, x] -= constant * across[0, x] + slope * across[1, x] + curvature * across[2, x]


def _block_variation(rest: NDArray[np.float64]) -> float:
    """Return the variance of the block means, divided by the variance that independent pixels would give."""
    return float(_BLOCK**2 * _block_means(rest).var() / rest.var())


@compiled(error_model="numpy")
def _block_means(rest: NDArray[np.float64]) -> NDArray[np.float64]:
    rows, columns = rest.shape[0] // _BLOCK, rest.shape[1] // _BLOCK
    means = np.zeros((rows, columns))
    for y in range(rows * _BLOCK):
        for x in range(columns):
            total = 0.0
            for column in range(x * _BLOCK, (x + 1) * _BLOCK):
                total += rest[y, column]
            means[y // _BLOCK, x] += total / _BLOCK**2
    return means


def _is_white(field: NDArray[np.uint8]) -> bool:
    """Check whether a field has the power spectrum of independent pixels (white noise).

    The field is first reduced by averaging.

    A grid or an edge has one dominant wave. In all other recognisable structures, the power of slow waves is higher
    than in noise.
    """
    steps = [max(1, side // _SIDE) for side in field.shape]
    rows, columns = (side // step for side, step in zip(field.shape, steps, strict=True))
    whole = field[: rows * steps[0], : columns * steps[1]]
    reduced = np.concatenate(
        [
            whole[band].reshape(-1, steps[0], columns, steps[1]).mean(axis=(1, 3))
            for band in scratch.bands(whole, multiple=steps[0])
        ]
    )
    power = np.abs(np.fft.rfft2(_without_shading(reduced))) ** 2
    waves = np.hypot(rows * np.fft.fftfreq(rows)[:, None], np.arange(power.shape[1])[None])
    if power.max() >= _LEAST_PEAK * power.mean():
        return False
    bands = ((power[(waves >= low) & (waves <= high)], power[waves > high], least) for low, high, least in _SLOW)
    return all(slow.mean() < least * fast.mean() for slow, fast, least in bands)


@lru_cache(maxsize=64)
def _parabolas(length: int) -> NDArray[np.float64]:
    """Return three orthonormal functions, shape (3, length): a constant, a slope and a curvature.

    If `length` is less than 3, the curvature is 0. If `length` is 1, the slope is also 0.
    """
    positions = np.linspace(-1, 1, length)
    found = np.zeros((3, length))
    for order in range(min(3, length)):
        power = positions**order
        power -= found.T @ (found @ power)
        found[order] = power / np.linalg.norm(power)
    return found
