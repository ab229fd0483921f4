"""Texture: how well two images agree beyond the outlines that dominate their scene score.

A scene score measures mostly a few strong shapes: the bars of a grid, the rim of a hole, one round particle. Two
fields with the same kind of grid, or with one particle each, share these shapes. A hash weights all its frequencies
equally, including the weak ones: the hashes of two registered images of one field agree in most bits, those of
different fields do not.
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
_FRAMES: Final = (WHOLE, Frame(_MARGIN, _MARGIN, 1 - _MARGIN, 1 - _MARGIN))
"""The second frame excludes most labels and scale bars."""
_CLIPPED: Final = 0.25
"""Share of the pixels at one end of the grey scale from which the other end is also compared: the frames for one end
hash a quarter of the pixels."""
_LEVEL: Final = 1.5
"""Grey levels by which pixels at one end may differ."""


def texture_distance(query: NDArray[np.uint8], candidate: NDArray[np.uint8]) -> int | None:
    """Return the least Hamming distance between the hashes of the common area of two images.

    Parameters
    ----------
    query, candidate : ndarray of uint8, shape (height, width)
        Grey thumbnails; each may have its own shape.

    Returns
    -------
    int or None
        Bits; 1024 if the images cannot be registered, None if their common area has no hash.
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
    """Check whether two images with the given scene score agree in fine structure; true if it cannot be measured."""
    distance = texture_distance(query, candidate)
    return distance is None or distance <= (TEXTURE_BITS if score < CLEAR_TEXTURE_SCENE else TEXTURE_BITS_IF_CLEAR)


def _share_at(image: NDArray[np.float32], level: float) -> float:
    return float((np.abs(image - level) <= _LEVEL).mean()) if image.size else 0.0
