"""Frames: rectangles of an image that are hashed as if they were images, in all symmetries.

The hash of an image differs strongly from that of its twin if its info bar was removed, redrawn or added, or if it was
rotated, mirrored, inverted or cropped. The hashes of a suitable frame of each, turned back, still agree. The hashes of
some frames of a reference are therefore also indexed, and the frames of a query are searched in all symmetries. The
same holds for an image of which half became black when its contrast was raised: its brightest pixels have the same hash
as those of its twin.

All hashes are computed from thumbnails (`thumbnail`): nothing is decoded twice, and a query that was prepared elsewhere
has all that is needed. The hash of a frame follows the recipe of `hashing`, except that the thumbnail replaces the
reduction to 128 x 128 pixels.
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
"""Which grey levels of a frame are hashed: all, or only the brightest or darkest. The others become one level."""

_LEAST_SIDE: Final = 40
"""Minimum side of a frame in pixels. In a smaller one, the 32 frequencies of the hash are those of single pixels."""
_SHADE_SHARE: Final = 0.25
"""Share of the pixels that are hashed as the brightest or darkest. For micrographs of which 46 to 62 % became black,
frames with half of the pixels were up to 536 bits from those of the twins; with a quarter, at most 52 bits."""
_LEAST_SHADE: Final = 0.05
"""Share of the pixels that must differ from the one level; otherwise there is nothing to hash."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A rectangle of an image, upright or turned.

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
        """Return the lowest frequencies, shape (32, 32), of the frame in an image; None if there is nothing to hash."""
        pixels = self.cut(pixels)
        if min(pixels.shape) < _LEAST_SIDE:
            return None
        shown = pixels if self.shades == "all" else _levelled(pixels, self.shades)
        return None if shown is None else low_frequencies(standardise(shown), FREQUENCIES)

    @property
    def rectangle(self) -> Frame:
        """The frame of the same rectangle with all grey levels."""
        return replace(self, shades="all")

    @property
    def is_whole(self) -> bool:
        """Whether the frame is the whole image."""
        return self == WHOLE

    def __str__(self) -> str:
        """Return a readable name."""
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
"""The image without 0 to 4 quarters of the highest info bar, and the image without a margin. A cut within half a
quarter of the edge of a bar leaves the hash within the search distance, so the bar need not be detected. The margin is
for exports that lose some of it."""

SHADES: Final = (replace(VIEWS[-2], shades="bright"), replace(VIEWS[-2], shades="dark"))
"""The field without an info bar, for images of which the rest became black or white."""

SHIFTS: Final = tuple(
    Frame(left, top, left + 1 - 2 * _MARGIN, top + 1 - 2 * _MARGIN)
    for top, left in product((0.0, _MARGIN, 2 * _MARGIN), repeat=2)
    if (top, left) != (_MARGIN, _MARGIN)
)
"""Frames of a query that are as large as the view of a reference without a margin. A shifted query shows this view off
its centre."""


def _grid(side: float, count: int) -> list[Frame]:
    """Return an even grid of rectangles of a share of the width and height; the outermost ones touch the edges."""
    starts = [(1 - side) * position / (count - 1) for position in range(count)]
    return [Frame(left, top, left + side, top + side) for top, left in product(starts, repeat=2)]


def _windows() -> tuple[Frame, ...]:
    """Return rectangles of four sizes on grids, and turned ones at the centre."""
    frames = [frame for side, count in ((0.95, 3), (0.9, 5), (0.85, 5), (0.8, 7)) for frame in _grid(side, count)]
    for angle, side in product((-5.0, -3.5, -2.0, 2.0, 3.5, 5.0), (0.94, 0.88)):
        edge = (1 - side) / 2
        frames.append(Frame(edge, edge, 1 - edge, 1 - edge, angle))
    return tuple(frames)


WINDOWS: Final = _windows()
"""Rectangles of the field. Neighbours of one size are at most 3.75 % of its sides apart."""

PANELS: Final = tuple(_grid(0.5 * (1 - 2 * _MARGIN), 17))
"""Rectangles of the field for queries that are a panel of it, of half its width and height, without the panel's margin.
`SHIFTS` of the panel fall between the positions of this grid."""

CROPS: Final = (WHOLE, *_grid(0.85, 3))
"""Frames of a query that are compared with windows: the whole query, if it is a crop of the field, or the region that
both show."""


FRAMES_RECIPE: Final = (
    "phash1024-thumbnail192-equalize-autocontrast-dct2-median/2-"
    + sha256(repr((VIEWS, SHADES, WINDOWS, PANELS, _SHADE_SHARE, _LEAST_SHADE)).encode()).hexdigest()[:12]
)
"""The name of every step that decides a bit of a frame's hash, and of the frames, like `hashing.RECIPE`."""


def reference_frames(reach: Reach) -> tuple[Frame, ...]:
    """Return the frames of a reference that are indexed in addition to its own hash."""
    return tuple(frame for frames in frame_kinds(reach).values() for frame in frames)


def frame_kinds(reach: Reach) -> dict[str, tuple[Frame, ...]]:
    """Return these frames by kind, in order. Each kind is searched separately."""
    views, windows = {"views": VIEWS, "shades": SHADES}, {"windows": WINDOWS, "panels": PANELS}
    return {"frame": {}, "views": views, "windows": views | windows}[reach]


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
        All symmetries of the first frame, then those of the second, and so on. The codes of a frame with fewer than 40
        pixels on a side, or with too few pixels of its shades, are zeros, which are 512 bits from every hash.
    """
    codes = np.zeros((len(frames), len(symmetries), BYTES), np.uint8)
    for number, frame in enumerate(frames):
        coefficients = frame.coefficients(thumbnail)
        if coefficients is not None:
            codes[number] = [packed_above_median(symmetry.applied_to(coefficients))[0] for symmetry in symmetries]
    return codes.reshape(-1, BYTES)


def _levelled(pixels: NDArray[np.uint8], shades: Shades) -> NDArray[np.uint8] | None:
    """Raise all but the brightest quarter of the pixels to one level, or lower all but the darkest.

    Return None if too few pixels differ from that level.
    """
    if shades == "dark":
        negative = _levelled(255 - pixels, "bright")
        return None if negative is None else 255 - negative
    darker = np.cumsum(grey_histogram(pixels))
    level = int(np.searchsorted(darker, (1 - _SHADE_SHARE) * pixels.size))
    return np.maximum(pixels, np.uint8(level)) if pixels.size - darker[level] >= _LEAST_SHADE * pixels.size else None
