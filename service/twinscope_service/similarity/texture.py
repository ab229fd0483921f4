"""Texture: the agreement of two images in fine structure, without the outlines that dominate the scene score.

The scene score depends mostly on a few strong shapes: the bars of a grid, the rim of a hole, or one round particle. Two
different fields with the same kind of grid, or with one particle each, can have these shapes in common. A hash gives
all frequencies equal weight, including weak frequencies. Therefore, the hashes of two registered images agree in most
bits if the images show one field, but not if they show different fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from twinscope_indexer.hashing.arrays import hamming
from twinscope_indexer.hashing.codes import BITS
from twinscope_indexer.hashing.frames import WHOLE, Frame, frame_codes

from twinscope_service.similarity.alignment import align
from twinscope_service.thresholds import (
    CLEAR_TEXTURE_SCENE,
    TEXTURE_BITS,
    TEXTURE_BITS_IF_CLEAR,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MARGIN: Final = 0.12
"""Width of the border that the second frame excludes, as a share of each side of the image."""
_FRAMES: Final = (WHOLE, Frame(_MARGIN, _MARGIN, 1 - _MARGIN, 1 - _MARGIN))
"""Frames that are hashed: the whole overlap, and its middle, which excludes most labels and scale bars."""
_CLIPPED: Final = 0.25
"""If at least this share of the pixels is at one end of the grey scale, the other end is also compared. The value is a
quarter, because a quarter of the pixels is used for the hash of one end."""
_LEVEL: Final = 1.5
"""A pixel is at one end of the grey scale if its difference from the extreme value is at most this many grey levels."""


def texture_distance(query: NDArray[np.uint8], candidate: NDArray[np.uint8]) -> int | None:
    """Register two images, and return the smallest Hamming distance between the hashes of their common area.

    Parameters
    ----------
    query, candidate : ndarray of uint8, shape (height, width)
        Grey thumbnails. Their shapes may differ.

    Returns
    -------
    int or None
        Distance in bits. 1024 if the images cannot be registered; None if their common area has no hash.
    """
    overlap = align(query, candidate)
    if overlap is None:
        return BITS
    frames = [*_FRAMES]
    if any(_share_at(image, image.min(initial=255)) >= _CLIPPED for image in overlap.pixels):
        frames.append(Frame(shades="bright"))
    if any(_share_at(image, image.max(initial=0)) >= _CLIPPED for image in overlap.pixels):
        frames.append(Frame(shades="dark"))
    one, other = (frame_codes(np.rint(image).astype(np.uint8), frames) for image in overlap.pixels)
    hashed = one.any(axis=1) & other.any(axis=1)
    distances = hamming(one[hashed], other[hashed])
    return int(distances.min()) if len(distances) else None


def agree_in_texture(query: NDArray[np.uint8], candidate: NDArray[np.uint8], score: float) -> bool:
    """Return whether two images agree in fine structure. `score` is the scene score of the two images.

    The result is also True if the agreement cannot be measured.
    """
    distance = texture_distance(query, candidate)
    return distance is None or distance <= (TEXTURE_BITS if score < CLEAR_TEXTURE_SCENE else TEXTURE_BITS_IF_CLEAR)


def _share_at(image: NDArray[np.float32], level: float) -> float:
    return float((np.abs(image - level) <= _LEVEL).mean()) if image.size else 0.0
