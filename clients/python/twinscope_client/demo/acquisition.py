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
"""For each category: the function that draws the specimen, and the range of magnifications."""

CATEGORIES: tuple[str, ...] = tuple(_SCENES)
"""Names of the ten categories. The folders in the published collection have the same names."""

WINDOW: tuple[int, int] = (2_048, 47_103)
"""Values of the 16-bit scan that become black (0) and white (255) in the 8-bit scan. The two values are not the ends of
the 16-bit range, because detectors do not use the full range."""

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
    """Return a synthetic micrograph.

    The same arguments always give the same pixels. A different seed gives a field of a different specimen.

    Parameters
    ----------
    category : str
        One of `CATEGORIES`.
    seed : int
        Number that selects the specimen. The number must be 0 or larger.
    width, height : int
        Size in pixels, at least 64.
    info_bar : bool
        Whether the info bar is drawn over the bottom of the image. The pixels above the info bar do not depend on this
        option.
    depth : int
        Number of bits per pixel: 8 or 16. The function `window` converts the 16-bit scan to the 8-bit scan.

    Returns
    -------
    NDArray
        The micrograph, shape (height, width); uint16 for a depth of 16, otherwise uint8.

    Raises
    ------
    ValueError
        If the category is unknown, the seed is negative, the size is too small, or the depth is neither 8 nor 16.
    """
    if depth not in (8, 16):
        raise ValueError(f"a micrograph has a depth of 8 or 16 bits, not {depth}")
    if width < _SMALLEST or height < _SMALLEST:
        raise ValueError(f"a micrograph has at least {_SMALLEST} x {_SMALLEST} pixels, not {width} x {height}")
    scene, _ = _SCENES[_known(category)]
    generators = _generators(category, seed)
    image = exposed(scene(width, height, generators[0]), generators[1], min(width / 640, height / 480))
    if info_bar:
        image[height - bar_height(height) :] = draw_bar(conditions(category, seed), width, height)
    counts = np.rint(WINDOW[0] + image * (WINDOW[1] - WINDOW[0])).astype(np.uint16)
    return counts if depth == 16 else window(counts)


def conditions(category: str, seed: int) -> Conditions:
    """Return the instrument conditions of a micrograph. The errors are the same as for `synthesise`."""
    _, magnifications = _SCENES[_known(category)]
    return Conditions.drawn(_generators(category, seed)[2], magnifications)


def window(counts: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Convert a 16-bit scan to an 8-bit scan. The two values of `WINDOW` become 0 and 255, and results are rounded."""
    low, high = WINDOW
    grey: Field = np.rint((counts.astype(np.float32) - low) * np.float32(255 / (high - low)))
    return grey.astype(np.uint8)


def _known(category: str) -> str:
    if category not in _SCENES:
        raise ValueError(f"no micrographs of category {category!r}; choose one of {', '.join(CATEGORIES)}")
    return category


def _generators(category: str, seed: int) -> list[np.random.Generator]:
    """Return independent random generators for the specimen, the detector and the conditions."""
    if seed < 0:
        raise ValueError(f"a seed cannot be negative: {seed}")
    return np.random.default_rng([CATEGORIES.index(category), seed]).spawn(3)
