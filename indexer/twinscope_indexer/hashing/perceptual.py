"""The 1024-bit perceptual hash: recipe, packed form and Hamming distance.

The recipe is the legacy rule. This rule was used to find the twins in the existing labelled collections::

    imagehash.phash(ImageOps.autocontrast(ImageOps.equalize(image.convert("L"))), hash_size=32)

The steps of the recipe are:

1. Equalise the grey levels, and stretch them to the full range (autocontrast).
2. Resize the image to 128 x 128 pixels with Pillow's Lanczos filter.
3. Compute the two-dimensional DCT-II and keep the 32 x 32 lowest frequencies.
4. Calculate the median of these 1024 coefficients. Set the bit of each coefficient that is above the median.

For every 8-bit image, `phash` returns the same 1024 bits as imagehash with Pillow 13. These bits do not depend on the
installed version of Pillow. The bits that imagehash returns depend on the version of Pillow. Before version 13, Pillow
rounds differently if the height of an image is more than about twice the width (see `lanczos`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from twinscope_indexer.errors import RecipeError, extra_needed
from twinscope_indexer.hashing.arrays import hamming, packed_above_median, require_grey
from twinscope_indexer.hashing.codes import BITS, BYTES
from twinscope_indexer.hashing.dct import FREQUENCIES, low_frequencies
from twinscope_indexer.hashing.equalize import grey_histogram, standardise_table
from twinscope_indexer.hashing.hashability import Unhashable, find_lack
from twinscope_indexer.hashing.lanczos import lanczos

if TYPE_CHECKING:
    import imagehash
    from numpy.typing import NDArray

RECIPE: Final = "phash1024-equalize-autocontrast-lanczos128-dct2-median/1"
"""Name of the recipe for the hash of 8-bit pixels. The name lists everything that affects a bit: grey levels,
resampling, transform, threshold, bit order and revision. The module `window` defines how pixels of more than 8 bits are
converted to 8-bit pixels."""


_SIDE = 128
_ROUNDING: Final = 1e-5
"""A coefficient counts as equal to the median if the difference is at most this value. Coefficients are at most 1.7e7,
so the rounding errors of float64 are near 1e-8 for any order of summation."""

_MAX_TIES: Final = 64
"""Maximum number of coefficients that may be equal to the median. If more coefficients are equal to the median, many
bits of the hash depend on rounding errors instead of the image."""


@dataclass(frozen=True, slots=True)
class PHash:
    """A packed 1024-bit perceptual hash.

    Attributes
    ----------
    code : bytes
        The 128 bytes of the hash. The bytes contain the bits of the 32 x 32 matrix row by row, with the most
        significant bit of each byte first (`numpy.packbits`).
    recipe : str
        Name of the recipe by which the hash was made. Hashes of different recipes are never compared.
    """

    code: bytes
    recipe: str = RECIPE

    def __post_init__(self) -> None:
        if len(self.code) != BYTES:
            msg = f"a hash has {BYTES} bytes ({BITS} bits), this one has {len(self.code)}"
            raise ValueError(msg)

    @classmethod
    def from_hex(cls, text: str, recipe: str = RECIPE) -> PHash:
        """Create a hash from the 256 hexadecimal digits that ``str(imagehash.ImageHash)`` writes.

        Raises
        ------
        ValueError
            If `text` is not 256 hexadecimal digits.
        """
        try:
            code = bytes.fromhex(text)
        except ValueError:
            code = b""
        if len(code) != BYTES or len(text) != 2 * BYTES:
            msg = f"a hash is written as {2 * BYTES} hexadecimal digits; got {len(text)} characters: {text[:40]!r}"
            raise ValueError(msg)
        return cls(code, recipe)

    @classmethod
    def from_imagehash(cls, value: imagehash.ImageHash) -> PHash:
        """Convert an `imagehash.ImageHash` of 32 x 32 bits that was made by the recipe of this module."""
        return cls(np.packbits(np.asarray(value.hash, dtype=bool).ravel()).tobytes())

    @property
    def hex(self) -> str:
        """The hash as 256 hexadecimal digits, in the same form as ``str(imagehash.ImageHash)``."""
        return self.code.hex()

    def to_imagehash(self) -> imagehash.ImageHash:
        """Convert to an `imagehash.ImageHash` of 32 x 32 bits.

        Raises
        ------
        MissingExtraError
            If the package imagehash is not installed.
        """
        with extra_needed("PHash.to_imagehash", "legacy"):
            import imagehash

        return imagehash.ImageHash(np.unpackbits(self.packed).reshape(FREQUENCIES, FREQUENCIES).astype(bool))

    @property
    def packed(self) -> NDArray[np.uint8]:
        """The code as an array, uint8, shape (128,)."""
        return np.frombuffer(self.code, dtype=np.uint8)

    def distance(self, other: PHash) -> int:
        """Return the Hamming distance in bits, 0 to 1024.

        Raises
        ------
        RecipeError
            If the two hashes were made by different recipes.
        """
        require_recipe(other.recipe, self.recipe)
        return int(hamming(self.packed, other.packed))


def require_recipe(found: str, expected: str = RECIPE) -> None:
    """Raise an error if the recipe of a hash is not the expected recipe.

    Raises
    ------
    RecipeError
        If `found` and `expected` differ.
    """
    if found != expected:
        raise RecipeError(found, expected)


def phash(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the hash of 8-bit grey pixels. All bits are the same as in the hash from imagehash.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width)
        Grey levels.

    Returns
    -------
    ndarray of uint8, shape (128,)
        Code of the hash. If the image has no structure, the hash cannot identify the image (see `hash_pixels`).

    Raises
    ------
    ValueError
        If `pixels` is not a two-dimensional uint8 array with at least one pixel.
    """
    require_grey(pixels)
    code, _ = _code(pixels, grey_histogram(pixels))
    return code


def hash_pixels(pixels: NDArray[np.uint8]) -> PHash | Unhashable:
    """Return the hash of 8-bit grey pixels, or the reason why no hash can identify the image.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width)
        Grey levels.

    Returns
    -------
    PHash or Unhashable

    Raises
    ------
    ValueError
        If `pixels` is not a two-dimensional uint8 array with at least one pixel.
    """
    require_grey(pixels)
    histogram = grey_histogram(pixels)
    levels = np.flatnonzero(histogram)
    if levels.size == 1:
        return Unhashable("featureless", f"every pixel has the grey value {levels[0]}")
    lack = find_lack(pixels)
    if lack is not None:
        return lack
    code, ties = _code(pixels, histogram)
    if ties > _MAX_TIES:
        return Unhashable("degenerate", f"rounding would decide {ties} of {BITS} bits, as for plain stripes or bands")
    return PHash(code.tobytes())


def _code(pixels: NDArray[np.uint8], histogram: NDArray[np.int64]) -> tuple[NDArray[np.uint8], int]:
    """Return the code of the hash, and the number of bits that depend on rounding errors."""
    small = lanczos(pixels, (_SIDE, _SIDE), standardise_table(histogram))
    code, ties = _thresholded(low_frequencies(small, FREQUENCIES))
    return (code, 0) if ties == 0 else _thresholded(_by_scipy(small))


def _by_scipy(small: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Compute the 32 x 32 lowest DCT-II coefficients with the function that imagehash also calls.

    If coefficients are equal to the median, only this function gives the same bits as imagehash. If no coefficient is
    equal to the median, `low_frequencies` gives the same bits as imagehash in a third of the time.
    """
    from scipy.fftpack import dct

    coefficients = dct(dct(small.astype(np.float64), axis=0)[:FREQUENCIES], axis=1)[:, :FREQUENCIES]
    return np.ascontiguousarray(coefficients)


def _thresholded(coefficients: NDArray[np.float64]) -> tuple[NDArray[np.uint8], int]:
    """Return the code of the hash, and the number of coefficients that are almost equal to the median."""
    code, median = packed_above_median(coefficients)
    return code, int(np.count_nonzero(np.abs(coefficients - median) <= _ROUNDING))
