"""The frames and the symmetry that were used to compare a query and a candidate."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from twinscope_indexer.hashing.arrays import hamming
from twinscope_indexer.hashing.codes import BITS
from twinscope_indexer.hashing.frames import CROPS, PANELS, SHIFTS, VIEWS, WHOLE, WINDOWS, Frame, frame_codes
from twinscope_indexer.hashing.symmetry import SYMMETRIES, Symmetry

from twinscope_service.matching.answer import Match

_FRAMES: Final = {str(frame): frame for frame in (WHOLE, *VIEWS, *SHIFTS, *WINDOWS, *CROPS, *PANELS)}
"""All frames of queries and references, by name."""


def turned(match: Match, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the pixels of a query, changed by the symmetry that was used to compare the query with a candidate."""
    symmetry, _, _ = frames_of(match)
    return pixels if match.transform is None else symmetry.applied(pixels)


def whole_bits(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    """Return the Hamming distance between the hashes of two whole images; 1024 if an image is too small for a hash."""
    first, second = (frame_codes(image, (WHOLE,))[0] for image in (one, other))
    return int(hamming(first, second)) if first.any() and second.any() else BITS


def frames_of(match: Match) -> tuple[Symmetry, Frame, Frame]:
    """Return the symmetry, the query frame and the reference frame that were used to compare query and candidate."""
    changed = match.transform
    if changed is None:
        return SYMMETRIES[0], WHOLE, WHOLE
    symmetry = next(one for one in SYMMETRIES if str(one) == changed.symmetry)
    return symmetry, _FRAMES[changed.query_frame], _FRAMES[changed.reference_frame]
