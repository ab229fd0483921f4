"""Texture: how well two pictures agree beyond the outlines that their scene scores see.

Most of what a scene score measures is in few strong shapes: the bars of a grid, the rim of a hole, one round particle.
Two fields under one kind of grid, or with one particle each, have them in common. A hash weighs all its frequencies
alike, the weak ones too. Laid over each other, recordings of one field agree in most of its bits, and others do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from twinscope_indexer.hashing.arrays import hamming
from twinscope_indexer.hashing.codes import BITS
from twinscope_indexer.hashing.frames import WHOLE, Frame, frame_codes

from twinscope_service.similarity.alignment import lay_over
from twinscope_service.thresholds import (
    CLEAR_TEXTURE_SCENE,
    TEXTURE_BITS,
    TEXTURE_BITS_IF_CLEAR,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MARGIN: Final = 0.12
_FRAMES: Final = (WHOLE, Frame(_MARGIN, _MARGIN, 1 - _MARGIN, 1 - _MARGIN))
"""The second has lost most labels and scale bars."""
_CLIPPED: Final = 0.25
"""Share of the pixels at one end of the grey scale, from which on only those at the other end are compared: a quarter
is what such frames hash."""
_LEVEL: Final = 1.5
"""Grey levels that pixels at one end differ by."""


def texture_distance(query: NDArray[np.uint8], candidate: NDArray[np.uint8]) -> int | None:
    """Return the least Hamming distance of the hashes of what two pictures both show.

    Parameters
    ----------
    query, candidate : ndarray of uint8, shape (height, width)
        Grey thumbnails; each may have its own shape.

    Returns
    -------
    int or None
        Bits; 1024 where they cannot be laid over each other, None where what they share is too small to be hashed.
    """
    overlap = lay_over(query, candidate)
    if overlap is None:
        return BITS
    frames = [*_FRAMES]
    if any(_share_at(picture, picture.min(initial=255)) >= _CLIPPED for picture in overlap.pixels):
        frames.append(Frame(shades="bright"))
    if any(_share_at(picture, picture.max(initial=0)) >= _CLIPPED for picture in overlap.pixels):
        frames.append(Frame(shades="dark"))
    one, other = (frame_codes(np.rint(picture).astype(np.uint8), frames) for picture in overlap.pixels)
    hashed = one.any(axis=1) & other.any(axis=1)
    distances = hamming(one[hashed], other[hashed])
    return int(distances.min()) if len(distances) else None


def agree_in_texture(query: NDArray[np.uint8], candidate: NDArray[np.uint8], score: float) -> bool:
    """Check whether two pictures of a scene score agree in fine structure; true where it cannot be measured."""
    distance = texture_distance(query, candidate)
    return distance is None or distance <= (TEXTURE_BITS if score < CLEAR_TEXTURE_SCENE else TEXTURE_BITS_IF_CLEAR)


def _share_at(picture: NDArray[np.float32], level: float) -> float:
    return float((np.abs(picture - level) <= _LEVEL).mean()) if picture.size else 0.0
