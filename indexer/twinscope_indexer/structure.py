"""Structure: whether an image shows anything that could identify it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, get_args

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Reason = Literal["featureless", "saturated", "noise", "degenerate"]
REASONS: Final[tuple[Reason, ...]] = get_args(Reason)

_FIELD: Final = 0.85
"""Share of the height, from the top, that no info bar covers."""
_SIDE: Final = 128
_LEAST_CONTRAST: Final = 0.75
"""Grey levels. A field that varies less, shading apart, is empty (beam off, blank): whatever is left for the hash to
hold on to is the info bar, which images of quite different fields share. Of 178 real micrographs the flattest has 4."""
_MOST_CLIPPED: Final = 0.98
"""Share of the field at one end of the grey scale. Of 178 real micrographs the most clipped has 0.16."""
_BLOCK: Final = 4
_MOST_ALIKE: Final = 2.0
"""Times that the means of blocks vary as they would if no pixel knew of its neighbours. White noise: 0.9 to 1.1."""
_LEAST_PEAK: Final = 13.0
"""Times the mean of its power spectrum that the strongest wave of a reduced field has. That of white noise is
exponentially distributed, so of the 7,000 waves of a field of 109 x 128 pixels one exceeds 13 in 1 of 60 images; of 178
real micrographs the weakest has 21."""
_LEAST_SLOW: Final = 1.25
"""Times the power of the others that slow waves have on average. White noise: 1, with a standard deviation of 0.08; of
178 real micrographs the least has 1.85."""
_SLOW: Final = (2.5, 10.0)
"""Waves across the picture; slower ones are taken for shading."""
_LEAST_SIDE: Final = 96
"""Pixels. Of smaller fields too few waves are known."""


@dataclass(frozen=True, slots=True)
class Unhashable:
    """An image without enough structure for a hash to identify it.

    Attributes
    ----------
    reason : str
        ``featureless`` (one grey value, or an empty field above the info bar), ``saturated`` (nearly all of the field
        is black, or white), ``noise`` (nothing else is in the field) or ``degenerate`` (the structure it has leaves
        most bits to rounding, as plain stripes do).
    detail : str
        The same, for people.
    """

    reason: Reason
    detail: str


def find_lack(pixels: NDArray[np.uint8]) -> Unhashable | None:
    """Tell why the field above the info bar could not identify an image; None where it could.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width)
        Grey levels.
    """
    field = pixels[: round(pixels.shape[0] * _FIELD) or 1]
    # Every n-th pixel, not means of them: fine texture and noise count as contrast.
    sample = field[:: -(-field.shape[0] // _SIDE), :: -(-field.shape[1] // _SIDE)]
    rest = _without_shading(sample)
    contrast = float(np.sqrt(np.einsum("ij,ij", rest, rest) / rest.size))
    if contrast < _LEAST_CONTRAST:
        return Unhashable("featureless", f"the field is empty: its grey values vary by {contrast:.2f} levels only")
    clipped = max(np.count_nonzero(sample == end) for end in (0, 255)) / sample.size
    if clipped > _MOST_CLIPPED:
        return Unhashable("saturated", f"{clipped:.1%} of the field are black, or white")
    if min(field.shape) >= _LEAST_SIDE and _block_variation(rest) < _MOST_ALIKE and _is_white(field):
        return Unhashable("noise", "the field shows nothing but noise")
    return None


def _without_shading(picture: NDArray[np.generic]) -> NDArray[np.float64]:
    """Give a picture less its quadratic shading."""
    values = picture.astype(np.float64).ravel()
    shading = _quadratics(*picture.shape)
    # Not as matrix products, which BLAS would spread over threads.
    strengths = np.einsum("ji,i->j", shading, values)
    rest: NDArray[np.float64] = (values - np.einsum("ji,j->i", shading, strengths)).reshape(picture.shape)
    return rest


def _block_variation(rest: NDArray[np.float64]) -> float:
    """Give the variance of means of blocks, as a multiple of what independent pixels would give."""
    rows, columns = (side // _BLOCK for side in rest.shape)
    blocks = rest[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK).mean(axis=(1, 3))
    return float(_BLOCK**2 * blocks.var() / rest.var())


def _is_white(field: NDArray[np.uint8]) -> bool:
    """Tell whether a field, reduced by means, has the spectrum of independent pixels.

    A grid or an edge has a wave that stands out; anything else that can be recognised has slow waves above the noise.
    """
    steps = [max(1, side // _SIDE) for side in field.shape]
    rows, columns = (side // step for side, step in zip(field.shape, steps, strict=True))
    whole = field[: rows * steps[0], : columns * steps[1]]
    reduced = whole.reshape(rows, steps[0], columns, steps[1]).mean(axis=(1, 3))
    power = np.abs(np.fft.rfft2(_without_shading(reduced))) ** 2
    waves = np.hypot(rows * np.fft.fftfreq(rows)[:, None], np.arange(power.shape[1])[None])
    slow, fast = (waves >= _SLOW[0]) & (waves <= _SLOW[1]), waves > _SLOW[1]
    return bool(power.max() < _LEAST_PEAK * power.mean() and power[slow].mean() < _LEAST_SLOW * power[fast].mean())


@lru_cache(maxsize=64)
def _quadratics(height: int, width: int) -> NDArray[np.float64]:
    """Give an orthonormal basis of the surfaces 1, x, y, x^2, xy, y^2, shape (6 or fewer, height * width)."""
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    surfaces = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1).reshape(-1, 6)
    left, strength, _ = np.linalg.svd(surfaces, full_matrices=False)
    return np.ascontiguousarray(left[:, strength > 1e-9 * strength[0]].T)
