"""Regions: the agreement of two images in each of the 25 regions of their field.

Two images of one field agree in all regions, except where something was drawn over the field. Images of two fields that
share only a panel, a mask, the rim of an aperture or a logo agree only in the regions of this object, even if their
scene score is high.

Two kinds of regions are no evidence against a match. First, a region that is flat in both images has no content to
compare. Such a region is not counted, even if a mask beside the region changes the normalised pixels of the region.
Second, some regions of an image become black or white if this image was made darker or brighter. If such a region is
dark or bright in the other image too, the region is called clipped and does not have to agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from twinscope_service.similarity.alignment import align
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
"""Number of regions in each row and in each column."""
_LEAST_ENERGY: Final = 1e-3
"""Minimum variance of the normalised pixels of a region. A region with less variance has no content to compare."""
_FLAT: Final = 1.5
"""A line or a region of pixels counts as flat if its standard deviation is below this value, in grey levels."""


@dataclass(frozen=True, slots=True)
class Regions:
    """Correlation of two fields in each region. The regions are listed row by row; the top left region is first."""

    correlations: tuple[float, ...]
    flat: tuple[bool, ...]
    """Whether each region is flat in both images. Flat regions are not counted."""
    clipped: tuple[bool, ...]
    """Whether each region is clipped to black or white in one image, and is also dark or bright in the other image."""

    @property
    def median(self) -> float:
        """Median correlation of the regions that are not flat; 0 if all regions are flat.

        An overlay that covers only a few regions hardly changes the median.
        """
        return _median(np.array(self.correlations)[~np.array(self.flat)])

    @property
    def agree(self) -> bool:
        """Whether nearly all regions agree, and the regions in the middle agree about as well as all regions."""
        values, flat, clipped = (
            np.reshape(each, (_SIDE, _SIDE)) for each in (self.correlations, self.flat, self.clipped)
        )
        middle = np.zeros_like(flat)
        middle[1:-1, 1:-1] = True
        share = CLEAR_REGION_SHARE if self.median >= CLEAR_REGION else REGION_SHARE
        apart = (values < share * self.median) & ~flat
        if (apart & clipped).sum() <= REGIONS_CLIPPED:
            flat = flat | (apart & clipped)
            apart = apart & ~clipped
        return bool(
            self.median > 0
            and apart.sum() <= REGIONS_APART * (~flat).mean()
            and apart[middle].sum() <= INNER_REGIONS_APART * (~flat[middle]).mean()
            and _median(values[middle & ~flat], self.median) >= INNER_REGION_SHARE * self.median
        )


def compare_regions(query: NDArray[np.uint8], candidate: NDArray[np.uint8]) -> Regions:
    """Register two thumbnails in the same way as the scene score, and compare them region by region.

    Parameters
    ----------
    query, candidate : ndarray of uint8, shape (height, width)
        Grey thumbnails. Their shapes may differ.

    Returns
    -------
    Regions
        All regions are marked as flat if the proportions of the thumbnails differ too much for a registration.
    """
    overlap = align(query, candidate)
    if overlap is None:
        return Regions((0.0,) * _SIDE**2, (True,) * _SIDE**2, (False,) * _SIDE**2)
    used = _structured(*overlap.pixels)
    normal, pixels = ([_divided(image[used]) for image in pair] for pair in (overlap.normal, overlap.pixels))
    first, second = (image[used] for image in overlap.pixels)
    clipped = [_divided(extreme) for extreme in (*_extremes(first, second), *_extremes(second, first))]
    return Regions(
        tuple(_correlation(*pair) for pair in zip(*normal, strict=True)),
        tuple(all(region.size == 0 or region.std() < _FLAT for region in pair) for pair in zip(*pixels, strict=True)),
        tuple(
            any(region.size and region.mean() >= CLIPPED_REGION for region in regions)
            for regions in zip(*clipped, strict=True)
        ),
    )


def _structured(*images: NDArray[np.float32]) -> tuple[slice, slice]:
    """Return the smallest rectangle that contains all structure of the images.

    Outside this rectangle all images are flat, for example behind a mask or outside an aperture.
    """
    spans = []
    for across in (1, 0):
        lines = np.flatnonzero(np.max([image.std(axis=across) for image in images], axis=0) >= _FLAT)
        spans.append(slice(lines[0], lines[-1] + 1) if len(lines) else slice(0, 0))
    return spans[0], spans[1]


def _extremes(one: NDArray[np.float32], other: NDArray[np.float32]) -> Iterator[NDArray[np.bool_]]:
    """Yield a mask of the pixels that are darkest in both images, then a mask of the pixels that are brightest in both.

    A pixel of `one` counts as darkest if it has the darkest grey level of `one`, because such a pixel may be clipped.
    Clipping does not change the order of grey levels. Therefore, a clipped pixel must also be one of the darkest pixels
    of `other`. The share of darkest pixels is the same in both images.
    """
    for sign in (1, -1):
        level, others = sign * one, sign * other
        extreme = level <= level.min(initial=np.inf) + _FLAT
        yield extreme & (others <= np.quantile(others, extreme.mean()) + _FLAT) if extreme.size else extreme


def _divided(image: NDArray[_Value]) -> list[NDArray[_Value]]:
    return [region for band in np.array_split(image, _SIDE) for region in np.array_split(band, _SIDE, axis=1)]


def _median(values: NDArray[np.float64], default: float = 0.0) -> float:
    return float(np.median(values)) if len(values) else default


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    if one.size == 0:
        return 0.0
    one, other = one - one.mean(), other - other.mean()
    energies = float((one * one).mean()), float((other * other).mean())
    if min(energies) < _LEAST_ENERGY:
        return 0.0
    product = float((one * other).mean())
    return product / math.sqrt(energies[0] * energies[1])
