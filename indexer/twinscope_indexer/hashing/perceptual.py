"""The 1024-bit perceptual hash: its recipe, its packed form, and its Hamming distance.

The recipe is the legacy rule, with which labelled collections were matched::

    imagehash.phash(ImageOps.autocontrast(ImageOps.equalize(image.convert("L"))), hash_size=32)

That is: equalise and autocontrast the grey levels, resize to 128 x 128 pixels with Pillow's Lanczos filter,
take the two-dimensional DCT-II, keep the 32 x 32 lowest frequencies, and set a bit if a coefficient exceeds
their median. `phash` returns the same 1024 bits as imagehash for every 8-bit image, with any version of Pillow.
(imagehash itself does not: before version 13, Pillow rounds differently if an image is more than about twice as high
as wide; see `lanczos`.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from twinscope_indexer.errors import RecipeError
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
"""The name of every step that decides a bit of the hash of 8-bit pixels: grey levels, resampler, transform, threshold,
bit order, revision. `window` defines how deeper pixels become 8-bit pixels."""


_SIDE = 128
_ROUNDING: Final = 1e-5
"""Distance from the median up to which a coefficient is tied with it. Coefficients reach 1.7e7, so the errors of
float64 are near 1e-8, in any order of summation."""

_MAX_TIES: Final = 64
"""If more coefficients than this are tied at the median, rounding decides the bits, not the image."""


@dataclass(frozen=True, slots=True)
class PHash:
    """A packed 1024-bit perceptual hash.

    Attributes
    ----------
    code : bytes
        128 bytes; the row-major bits of the 32 x 32 matrix, most significant bit first (`numpy.packbits`).
    recipe : str
        The recipe that made the hash. Hashes of different recipes are never compared.
    """

    code: bytes
    recipe: str = RECIPE

    def __post_init__(self) -> None:
        if len(self.code) != BYTES:
            msg = f"a hash has {BYTES} bytes ({BITS} bits), this one has {len(self.code)}"
            raise ValueError(msg)

    @classmethod
    def from_hex(cls, text: str, recipe: str = RECIPE) -> PHash:
        """Read the 256 hexadecimal digits that ``str(imagehash.ImageHash)`` writes.

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
        """Convert a 32 x 32 `imagehash.ImageHash`; it must have been made by the recipe of this module."""
        return cls(np.packbits(np.asarray(value.hash, dtype=bool).ravel()).tobytes())

    @property
    def hex(self) -> str:
        """The hash as 256 hexadecimal digits, as ``str(imagehash.ImageHash)`` writes it."""
        return self.code.hex()

    def to_imagehash(self) -> imagehash.ImageHash:
        """Convert to an `imagehash.ImageHash` of 32 x 32 bits."""
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
    """Raise an error if a hash has another recipe.

    Raises
    ------
    RecipeError
        If `found` is not `expected`.
    """
    if found != expected:
        raise RecipeError(found, expected)


def phash(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Hash 8-bit grey pixels, bit for bit as imagehash does.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width)
        Grey levels.

    Returns
    -------
    ndarray of uint8, shape (128,)
        The packed bits. Those of an image without structure identify nothing (see `hash_pixels`).

    Raises
    ------
    ValueError
        If `pixels` is not a two-dimensional uint8 array with at least one pixel.
    """
    require_grey(pixels)
    code, _ = _code(pixels, grey_histogram(pixels))
    return code


def hash_pixels(pixels: NDArray[np.uint8]) -> PHash | Unhashable:
    """Hash 8-bit grey pixels, or return why no hash could identify them.

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
        return Unhashable("degenerate", f"{ties} of {BITS} bits would be decided by rounding (plain stripes or bands)")
    return PHash(code.tobytes())


def _code(pixels: NDArray[np.uint8], histogram: NDArray[np.int64]) -> tuple[NDArray[np.uint8], int]:
    """Return the packed bits, and how many of them are decided by rounding."""
    small = lanczos(pixels, (_SIDE, _SIDE), standardise_table(histogram))
    code, ties = _thresholded(low_frequencies(small, FREQUENCIES))
    return (code, 0) if ties == 0 else _thresholded(_by_scipy(small))


def _by_scipy(small: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the 32 x 32 lowest DCT-II coefficients, computed by the function that imagehash calls.

    Coefficients tied at the median then fall on the same side. Without ties, `low_frequencies` gives the same bits in a
    third of the time.
    """
    from scipy.fftpack import dct

    coefficients = dct(dct(small.astype(np.float64), axis=0)[:FREQUENCIES], axis=1)[:, :FREQUENCIES]
    return np.ascontiguousarray(coefficients)


def _thresholded(coefficients: NDArray[np.float64]) -> tuple[NDArray[np.uint8], int]:
    """Return the packed bits, and the number of coefficients that are tied at the median."""
    code, median = packed_above_median(coefficients)
    return code, int(np.count_nonzero(np.abs(coefficients - median) <= _ROUNDING))
