"""Regions: how well two pictures agree in each region of their field.

One field agrees everywhere, but for what was laid over it. Two fields that share something in one place (a panel, a
mask, the rim of an aperture, a logo) agree there and nowhere else, however well they do on the whole. Where both are
flat they show nothing, though the mask beside it has left a trace in the normalised pixels: that is no agreement.
Where one has gone black or white, as pictures made darker or brighter do, and the other is dark or bright as well, they
do not contradict each other either.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from twinscope_service.similarity.alignment import lay_over
from twinscope_service.thresholds import (
    CLEAR_REGION,
    CLEAR_REGION_SHARE,
    CLIPPED_REGION,
    INNER_REGION_SHARE,
    INNER_REGIONS_APART,
    REGION_SHARE,
    REGIONS_APART,
    REGIONS_CLIPPED,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_Value = TypeVar("_Value", np.float32, np.bool_)

_SIDE: Final = 5
"""Parts in a row, and in a column."""
_LEAST_ENERGY: Final = 1e-3
"""Of the normalised pixels of a part; below it there is nothing to compare."""
_FLAT: Final = 1.5
"""Standard deviation in grey levels of a thumbnail, below which lines and parts are flat."""


@dataclass(frozen=True, slots=True)
class Regions:
    """Correlations of the parts of two fields, row by row from the top left."""

    correlations: tuple[float, ...]
    flat: tuple[bool, ...]
    """Whether a part shows nothing in either of them; then it does not count."""
    clipped: tuple[bool, ...]
    """Whether a part has gone black or white in one of them, and is as dark or bright in the other as this implies."""

    @property
    def usual(self) -> float:
        """That of the median part: what is laid over a few of them does not count. 0 where all are flat."""
        return _median(np.array(self.correlations)[~np.array(self.flat)])

    @property
    def agree(self) -> bool:
        """Whether nearly all regions agree, and those in the middle no less than the others."""
        parts, flat, clipped = (
            np.reshape(values, (_SIDE, _SIDE)) for values in (self.correlations, self.flat, self.clipped)
        )
        middle = np.zeros_like(flat)
        middle[1:-1, 1:-1] = True
        share = CLEAR_REGION_SHARE if self.usual >= CLEAR_REGION else REGION_SHARE
        apart = (parts < share * self.usual) & ~flat
        if (apart & clipped).sum() <= REGIONS_CLIPPED:
            flat = flat | (apart & clipped)
            apart = apart & ~clipped
        return bool(
            self.usual > 0
            and apart.sum() <= REGIONS_APART * (~flat).mean()
            and apart[middle].sum() <= INNER_REGIONS_APART * (~flat[middle]).mean()
            and _median(parts[middle & ~flat], self.usual) >= INNER_REGION_SHARE * self.usual
        )


def compare_regions(query: NDArray[np.uint8], candidate: NDArray[np.uint8]) -> Regions:
    """Compare two thumbnails part by part, laid over each other as for the scene score.

    Parameters
    ----------
    query, candidate : ndarray of uint8, shape (height, width)
        Grey thumbnails; each may have its own shape.

    Returns
    -------
    Regions
        Flat everywhere if the proportions differ too much to lay one over the other.
    """
    overlap = lay_over(query, candidate)
    if overlap is None:
        return Regions((0.0,) * _SIDE**2, (True,) * _SIDE**2, (False,) * _SIDE**2)
    shown = _shown(*overlap.pixels)
    normal, pixels = ([_divided(picture[shown]) for picture in pair] for pair in (overlap.normal, overlap.pixels))
    first, second = (picture[shown] for picture in overlap.pixels)
    clipped = [_divided(at) for at in (*_extremes(first, second), *_extremes(second, first))]
    return Regions(
        tuple(_correlation(*parts) for parts in zip(*normal, strict=True)),
        tuple(all(part.size == 0 or part.std() < _FLAT for part in parts) for parts in zip(*pixels, strict=True)),
        tuple(
            any(part.size and part.mean() >= CLIPPED_REGION for part in parts) for parts in zip(*clipped, strict=True)
        ),
    )


def _shown(*pictures: NDArray[np.float32]) -> tuple[slice, slice]:
    """Find the rectangle outside of which all pictures are flat: what lies behind a mask, or beside an aperture."""
    spans = []
    for across in (1, 0):
        lines = np.flatnonzero(np.max([picture.std(axis=across) for picture in pictures], axis=0) >= _FLAT)
        spans.append(slice(lines[0], lines[-1] + 1) if len(lines) else slice(0, 0))
    return spans[0], spans[1]


def _extremes(one: NDArray[np.float32], other: NDArray[np.float32]) -> Iterator[NDArray[np.bool_]]:
    """Find which pixels of a picture are at its darkest level, then at its brightest, and among the other's as well.

    Clipping keeps the order of grey levels: where a share of the one is clipped, it is that share of the other, too.
    """
    for sign in (1, -1):
        level, others = sign * one, sign * other
        at = level <= level.min(initial=np.inf) + _FLAT
        yield at & (others <= np.quantile(others, at.mean()) + _FLAT) if at.size else at


def _divided(picture: NDArray[_Value]) -> list[NDArray[_Value]]:
    return [part for band in np.array_split(picture, _SIDE) for part in np.array_split(band, _SIDE, axis=1)]


def _median(values: NDArray[np.float64], of_none: float = 0.0) -> float:
    return float(np.median(values)) if len(values) else of_none


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    if one.size == 0:
        return 0.0
    one, other = one - one.mean(), other - other.mean()
    energies = float((one * one).mean()), float((other * other).mean())
    if min(energies) < _LEAST_ENERGY:
        return 0.0
    product = float((one * other).mean())
    return product / math.sqrt(energies[0] * energies[1])
