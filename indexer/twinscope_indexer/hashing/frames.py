"""Frames: parts of an image that are hashed as if they were images, and the symmetries of a hash.

An image whose info bar was cut away, drawn anew or added, that was rotated, mirrored, inverted or cropped, has quite
another hash than its twin. But the hash of a part of it, turned back, has not. So a reference is also known by the
hashes of some of its parts, its frames, and a query is looked for by its own frames in all symmetries. So it is with an
image of which half went black as its contrast was raised: its brightest parts have the hash of those of its twin.

All of it is computed from thumbnails (`thumbnail`): nothing is decoded twice, and a query that was made elsewhere has
all that is needed. A frame's hash is that of `hashing`, but for the reduction to 128 x 128 pixels: the thumbnail takes
its place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import product
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from PIL import Image

from twinscope_indexer.hashing.arrays import packed_above_median
from twinscope_indexer.hashing.codes import BYTES
from twinscope_indexer.hashing.dct import FREQUENCIES, low_frequencies
from twinscope_indexer.hashing.equalize import grey_histogram, standardise
from twinscope_indexer.hashing.reach import Reach
from twinscope_indexer.hashing.symmetry import SYMMETRIES, Symmetry
from twinscope_indexer.imaging.infobar import MAX_HEIGHT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Shades = Literal["all", "bright", "dark"]
"""Which grey levels of a frame count: all, or its brightest or darkest ones, the others being made one level."""

_LEAST_SIDE: Final = 40
"""Pixels of a frame. In a smaller one the 32 frequencies of the hash would be those of single pixels."""
_COUNTING: Final = 0.25
"""Share of the pixels that are the brightest, or the darkest. Of micrographs of which 46 to 62 % went black, frames
with a half of them were up to 536 bits from those of the twins, with a quarter at most 52."""
_LEAST_COUNTING: Final = 0.05
"""Share of the pixels that must differ from the one level, or there is nothing to hash."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A part of an image: an upright rectangle, or one that is turned about its centre.

    Attributes
    ----------
    left, top, right, bottom : float
        Edges as shares of the image's width and height, 0 to 1.
    angle : float
        Degrees by which the image is turned, counter-clockwise, about its centre before the rectangle is cut out.
    shades : {"all", "bright", "dark"}
        Which grey levels are hashed.
    """

    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0
    angle: float = 0.0
    shades: Shades = "all"

    def cut(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Cut the frame out of an image, uint8, shape (height, width)."""
        if self.angle:
            pixels = np.asarray(Image.fromarray(pixels).rotate(self.angle, Image.Resampling.BICUBIC))
        height, width = pixels.shape
        rows = slice(round(self.top * height), round(self.bottom * height))
        return pixels[rows, round(self.left * width) : round(self.right * width)]

    def coefficients(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64] | None:
        """Return the lowest frequencies, shape (32, 32), of the frame in an image; None if it has nothing to hash."""
        pixels = self.cut(pixels)
        if min(pixels.shape) < _LEAST_SIDE:
            return None
        shown = pixels if self.shades == "all" else _levelled(pixels, self.shades)
        return None if shown is None else low_frequencies(standardise(shown), FREQUENCIES)

    @property
    def rectangle(self) -> Frame:
        """The same rectangle, with all its grey levels."""
        return replace(self, shades="all")

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole image."""
        return self == WHOLE

    def __str__(self) -> str:
        """Name it, for people."""
        if self.is_whole:
            return "whole"
        if (self.left, self.top, self.right, self.angle) == (0, 0, 1, 0):
            return f"bottom {100 * (1 - self.bottom):g} % cut"
        box = f"{self.left:.3g},{self.top:.3g} to {self.right:.3g},{self.bottom:.3g}"
        return f"{box} turned by {self.angle:g} degrees" if self.angle else box


WHOLE: Final = Frame()

_MARGIN: Final = 0.03

VIEWS: Final = (
    *(Frame(bottom=1 - round(MAX_HEIGHT * quarters / 4, 3)) for quarters in range(5)),
    Frame(_MARGIN, _MARGIN, 1 - _MARGIN, 1 - _MARGIN),
)
"""What is left of an image without an info bar, in quarters of the highest one, and without a margin. Half a quarter
beside the edge of a bar leaves a hash within reach, so no bar need be found. The margin is for exports that lose
some."""

SHADES: Final = (replace(VIEWS[-2], shades="bright"), replace(VIEWS[-2], shades="dark"))
"""What is left of a field, without any info bar, of which the rest went black, or white."""

SHIFTS: Final = tuple(
    Frame(left, top, left + 1 - 2 * _MARGIN, top + 1 - 2 * _MARGIN)
    for top, left in product((0.0, _MARGIN, 2 * _MARGIN), repeat=2)
    if (top, left) != (_MARGIN, _MARGIN)
)
"""Parts of a query as large as that without a margin of a reference: a shifted query shows it beside its centre."""


def _grid(side: float, places: int) -> list[Frame]:
    """Lay rectangles of a share of the width and height evenly, the outermost along the edges."""
    starts = [(1 - side) * place / (places - 1) for place in range(places)]
    return [Frame(left, top, left + side, top + side) for top, left in product(starts, repeat=2)]


def _windows() -> tuple[Frame, ...]:
    """Lay rectangles of four sizes on grids, and turned ones on the centre."""
    frames = [frame for side, grid in ((0.95, 3), (0.9, 5), (0.85, 5), (0.8, 7)) for frame in _grid(side, grid)]
    for angle, side in product((-5.0, -3.5, -2.0, 2.0, 3.5, 5.0), (0.94, 0.88)):
        edge = (1 - side) / 2
        frames.append(Frame(edge, edge, 1 - edge, 1 - edge, angle))
    return tuple(frames)


WINDOWS: Final = _windows()
"""Parts of the field: at most 3.3 % of it between neighbours of one size."""

PANELS: Final = tuple(_grid(0.5 * (1 - 2 * _MARGIN), 17))
"""What a panel shows of the field, half of its width and height, without the panel's margin: so `SHIFTS` of the panel
fall between the places of this grid."""

CROPS: Final = (WHOLE, *_grid(0.85, 3))
"""What a query is looked for by among windows: as it is, if it is a part of the field, or by what it shares with it."""


FRAMES_RECIPE: Final = (
    "phash1024-thumbnail192-equalize-autocontrast-dct2-median/2-"
    + sha256(repr((VIEWS, SHADES, WINDOWS, PANELS, _COUNTING, _LEAST_COUNTING)).encode()).hexdigest()[:12]
)
"""Names every step that decides a bit of a frame's hash, and the frames; see `hashing.RECIPE`."""


def reference_frames(reach: Reach) -> tuple[Frame, ...]:
    """Return the frames by which a reference is known, besides its own hash."""
    return tuple(frame for frames in frame_kinds(reach).values() for frame in frames)


def frame_kinds(reach: Reach) -> dict[str, tuple[Frame, ...]]:
    """Return the kinds of these frames, in their order; each kind is looked for by itself."""
    views, parts = {"views": VIEWS, "shades": SHADES}, {"windows": WINDOWS, "panels": PANELS}
    return {"frame": {}, "views": views, "windows": views | parts}[reach]


def frame_codes(
    thumbnail: NDArray[np.uint8], frames: Sequence[Frame], symmetries: Sequence[Symmetry] = SYMMETRIES[:1]
) -> NDArray[np.uint8]:
    """Hash the frames of a thumbnail, each in every symmetry.

    Parameters
    ----------
    thumbnail : ndarray of uint8, shape (height, width)
    frames : sequence of Frame
    symmetries : sequence of Symmetry
        By default the identity alone.

    Returns
    -------
    ndarray of uint8, shape (frames * symmetries, 128)
        All symmetries of the first frame, then those of the second, ... A frame of less than 40 pixels on a side, or
        without the shades that it should have, has zeros, which are 512 bits from every hash.
    """
    codes = np.zeros((len(frames), len(symmetries), BYTES), np.uint8)
    for number, frame in enumerate(frames):
        coefficients = frame.coefficients(thumbnail)
        if coefficients is not None:
            codes[number] = [packed_above_median(symmetry.applied_to(coefficients))[0] for symmetry in symmetries]
    return codes.reshape(-1, BYTES)


def _levelled(pixels: NDArray[np.uint8], shades: Shades) -> NDArray[np.uint8] | None:
    """Raise all but the brightest quarter of the pixels to one level, or lower all but the darkest; None for none."""
    if shades == "dark":
        negative = _levelled(255 - pixels, "bright")
        return None if negative is None else 255 - negative
    darker = np.cumsum(grey_histogram(pixels))
    level = int(np.searchsorted(darker, (1 - _COUNTING) * pixels.size))
    return np.maximum(pixels, np.uint8(level)) if pixels.size - darker[level] >= _LEAST_COUNTING * pixels.size else None
