"""Synthetic electron micrographs: a specimen, its signal, the noise and the info bar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from twinscope_client.demo import devices, living, materials, surfaces
from twinscope_client.demo.detector import exposed
from twinscope_client.demo.infobar import Conditions, bar_height, draw_bar
from twinscope_client.demo.relief import Field

_Scene = Callable[[int, int, np.random.Generator], Field]

_SCENES: dict[str, tuple[_Scene, tuple[float, float]]] = {
    "Fibres": (materials.fibres, (500, 20_000)),
    "Particles": (materials.particles, (20_000, 200_000)),
    "Nanowires": (materials.nanowires, (10_000, 100_000)),
    "Porous_Sponge": (materials.porous_sponge, (100, 20_000)),
    "Powder": (materials.powder, (200, 10_000)),
    "Patterned_surface": (surfaces.patterned_surface, (5_000, 80_000)),
    "Tips": (surfaces.tips, (1_000, 100_000)),
    "Films_Coated_Surface": (surfaces.films_coated_surface, (1_000, 100_000)),
    "MEMS_devices_and_electrodes": (devices.mems, (50, 2_000)),
    "Biological": (living.biological, (1_500, 6_000)),
}
"""How a category's specimens look, and the magnifications at which they are taken."""

CATEGORIES: tuple[str, ...] = tuple(_SCENES)
"""The ten categories, named as the folders of the published collection."""

WINDOW: tuple[int, int] = (2_048, 47_103)
"""Counts of the 16-bit scan that the 8-bit one shows as black and as white: detectors do not use the whole range."""

_SMALLEST = 64


@overload
def synthesise(
    category: str, seed: int, *, width: int = ..., height: int = ..., info_bar: bool = ..., depth: Literal[8] = ...
) -> NDArray[np.uint8]: ...
@overload
def synthesise(
    category: str, seed: int, *, width: int = ..., height: int = ..., info_bar: bool = ..., depth: Literal[16]
) -> NDArray[np.uint16]: ...
@overload
def synthesise(
    category: str, seed: int, *, width: int = ..., height: int = ..., info_bar: bool = ..., depth: int
) -> NDArray[np.uint8] | NDArray[np.uint16]: ...
def synthesise(
    category: str, seed: int, *, width: int = 640, height: int = 480, info_bar: bool = True, depth: int = 8
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return a micrograph of a specimen that was never made.

    The same arguments give the same pixels; another seed gives another field of another specimen.

    Parameters
    ----------
    category : str
        One of `CATEGORIES`.
    seed : int
        Chooses the specimen; not negative.
    width, height : int
        Size in pixels, at least 64.
    info_bar : bool
        Lay the instrument's strip over the foot of the picture; the pixels above it do not depend on it.
    depth : int
        Bits of a pixel. The 8-bit scan is `window` of the 16-bit one.

    Returns
    -------
    NDArray
        Shape (height, width), uint8 or (depth 16) uint16.

    Raises
    ------
    ValueError
        If the category is unknown, the seed negative, the size too small or the depth neither 8 nor 16.
    """
    if depth not in (8, 16):
        raise ValueError(f"a micrograph has a depth of 8 or 16 bits, not {depth}")
    if width < _SMALLEST or height < _SMALLEST:
        raise ValueError(f"a micrograph has at least {_SMALLEST} x {_SMALLEST} pixels, not {width} x {height}")
    scene, _ = _SCENES[_known(category)]
    chance = _chance(category, seed)
    picture = exposed(scene(width, height, chance[0]), chance[1], min(width / 640, height / 480))
    if info_bar:
        picture[height - bar_height(height) :] = draw_bar(conditions(category, seed), width, height)
    counts = np.rint(WINDOW[0] + picture * (WINDOW[1] - WINDOW[0])).astype(np.uint16)
    return counts if depth == 16 else window(counts)


def conditions(category: str, seed: int) -> Conditions:
    """Return how the micrograph of this category and seed was taken; `ValueError` as `synthesise`."""
    _, magnifications = _SCENES[_known(category)]
    return Conditions.drawn(_chance(category, seed)[2], magnifications)


def window(counts: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Return the 8-bit scan of a 16-bit one, of its shape: `WINDOW` spread over 0 to 255 and rounded."""
    low, high = WINDOW
    grey: Field = np.rint((counts.astype(np.float32) - low) * np.float32(255 / (high - low)))
    return grey.astype(np.uint8)


def _known(category: str) -> str:
    if category not in _SCENES:
        raise ValueError(f"no micrographs of category {category!r}; take one of {', '.join(CATEGORIES)}")
    return category


def _chance(category: str, seed: int) -> list[np.random.Generator]:
    """Return independent sources of chance for the specimen, the detector and the conditions."""
    if seed < 0:
        raise ValueError(f"a seed is not negative: {seed}")
    return np.random.default_rng([CATEGORIES.index(category), seed]).spawn(3)
