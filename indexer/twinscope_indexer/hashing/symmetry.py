"""The symmetries of a hash: rotations by quarter turns, mirroring and inversion, applied to the DCT coefficients."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from twinscope_indexer.hashing.dct import FREQUENCIES


@dataclass(frozen=True, slots=True)
class Symmetry:
    """One of the 16 symmetries of a rectangular grey image.

    A symmetry consists of up to four steps, in this order: transpose, flip, mirror, invert.
    """

    transposed: bool = False
    flipped: bool = False
    mirrored: bool = False
    inverted: bool = False

    def applied(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Apply the symmetry to an image, uint8, shape (height, width)."""
        turned = pixels.T if self.transposed else pixels
        turned = turned[:: -1 if self.flipped else 1, :: -1 if self.mirrored else 1]
        return np.ascontiguousarray(255 - turned if self.inverted else turned)

    def applied_to(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Apply the symmetry to the DCT coefficients of an image, shape (32, 32).

        Mirroring changes the signs of odd frequencies. Inversion changes all signs except the sign of the constant
        term.
        """
        return (coefficients.T if self.transposed else coefficients) * _signs(self)

    def __str__(self) -> str:
        """Return a readable name of the symmetry: the change that makes the query look like the reference."""
        turn = _TURNS[self.transposed, self.flipped, self.mirrored]
        return ", ".join(word for word in (turn, "inverted" if self.inverted else "") if word)


_TURNS: Final = {
    (False, False, False): "",
    (False, False, True): "mirrored",
    (False, True, False): "flipped",
    (False, True, True): "rotated by 180",
    (True, False, False): "transposed",
    (True, False, True): "rotated by 90",
    (True, True, False): "rotated by 270",
    (True, True, True): "transposed and rotated by 180",
}
"""Readable name of each combination of transposing, flipping and mirroring. Rotations are in
degrees, clockwise."""


SYMMETRIES: Final = tuple(Symmetry(*flags) for flags in product((False, True), repeat=4))
"""All 16 symmetries. The first symmetry is the identity."""


@lru_cache(maxsize=64)
def _signs(symmetry: Symmetry) -> NDArray[np.float64]:
    signs = np.ones((FREQUENCIES, FREQUENCIES))
    if symmetry.flipped:
        signs[1::2] *= -1
    if symmetry.mirrored:
        signs[:, 1::2] *= -1
    if symmetry.inverted:
        signs *= -1
        signs[0, 0] = 1
    return signs
