"""Parts: how well two pictures agree in each part of their field.

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

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_Value = TypeVar("_Value", np.float32, np.bool_)

_SIDE: Final = 5
"""Parts in a row, and in a column."""
_LEAST_SHARE: Final = 0.3
"""Of the usual part's correlation: a part that has less does not agree."""
_CLEAR: Final = 0.85
_CLEAR_SHARE: Final = 0.55
"""Where the usual part has so much, one that has less than this share does not agree: there is little noise, and the
normalised pixels beside a shared panel take after it."""
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
_FLAT: Final = 1.5
"""Standard deviation in grey levels of a thumbnail, below which lines and parts are flat."""
_CLIPPED: Final = 0.9
"""Of the pixels of a part, that one picture has at its darkest or brightest level, and the other nearly so."""
_MOST_CLIPPED: Final = 8
"""Parts that may be excused for that. Of a blank picture beside a panel of half the field more would have to be."""


@dataclass(frozen=True, slots=True)
class Parts:
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
    def everywhere(self) -> bool:
        """Whether nearly all parts agree, and those in the middle no less than the others."""
        parts, flat, clipped = (
            np.reshape(values, (_SIDE, _SIDE)) for values in (self.correlations, self.flat, self.clipped)
        )
        middle = np.zeros_like(flat)
        middle[1:-1, 1:-1] = True
        share = _CLEAR_SHARE if self.usual >= _CLEAR else _LEAST_SHARE
        apart = (parts < share * self.usual) & ~flat
        if (apart & clipped).sum() <= _MOST_CLIPPED:
            flat = flat | (apart & clipped)
            apart = apart & ~clipped
        return bool(
            self.usual > 0
            and apart.sum() <= _MOST_APART * (~flat).mean()
            and apart[middle].sum() <= _MOST_INNER * (~flat[middle]).mean()
            and _median(parts[middle & ~flat], self.usual) >= _INNER_SHARE * self.usual
        )


def compare_parts(query: NDArray[np.uint8], candidate: NDArray[np.uint8]) -> Parts:
    """Compare two thumbnails part by part, laid over each other as for the scene score.

    Parameters
    ----------
    query, candidate : ndarray of uint8, shape (height, width)
        Grey thumbnails; each may have its own shape.

    Returns
    -------
    Parts
        Flat everywhere if the proportions differ too much to lay one over the other.
    """
    overlap = lay_over(query, candidate)
    if overlap is None:
        return Parts((0.0,) * _SIDE**2, (True,) * _SIDE**2, (False,) * _SIDE**2)
    shown = _shown(*overlap.pixels)
    normal, pixels = ([_divided(picture[shown]) for picture in pair] for pair in (overlap.normal, overlap.pixels))
    first, second = (picture[shown] for picture in overlap.pixels)
    clipped = [_divided(at) for at in (*_extremes(first, second), *_extremes(second, first))]
    return Parts(
        tuple(_correlation(*parts) for parts in zip(*normal, strict=True)),
        tuple(all(part.size == 0 or part.std() < _FLAT for part in parts) for parts in zip(*pixels, strict=True)),
        tuple(any(part.size and part.mean() >= _CLIPPED for part in parts) for parts in zip(*clipped, strict=True)),
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
