"""Frames: rectangles of an image. Each frame is hashed like a separate image, in one or more symmetries.

If a query was rotated, mirrored, inverted or cropped, the hash of the query differs strongly from the hash of the twin.
The two hashes also differ strongly if the info bar of the query was removed, redrawn or added. However, a frame of the
query can show the same part of the specimen as a frame of the twin. If the rotation, mirroring or inversion is
reversed, the two frames have almost the same hash. Twinscope therefore also indexes the hashes of some frames of each
reference. These hashes are compared with the frames of a query in all symmetries. Frames also help if a higher contrast
made half of a query black. The brightest pixels of the query and the brightest pixels of the twin still have the same
hash.

The hashes of all frames are computed from thumbnails (see `thumbnail`). Therefore, no image is decoded twice. If a
query was prepared on another computer, the thumbnail of the query is sufficient. A frame is hashed by the recipe of
`hashing`, but without the reduction to 128 x 128 pixels.
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
"""The grey levels of a frame that are hashed: all, only the brightest or only the darkest. All other pixels are set to
one common level."""

_LEAST_SIDE: Final = 40
"""Minimum side of a frame in pixels. In a smaller frame, the highest of the 32 frequencies of the hash would only
describe single pixels."""
_SHADE_SHARE: Final = 0.25
"""Share of the pixels that count as the brightest or the darkest pixels. Tests used micrographs in which 46 to 62 % of
the pixels became black. With a share of one half, the distance between a frame and the frame of the twin was up to 536
bits. With a share of one quarter, the distance was at most 52 bits."""
_LEAST_SHADE: Final = 0.05
"""Minimum share of the pixels that must differ from the common level. If fewer pixels differ from the common level, the
frame is not hashed."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A rectangle of an image, upright or rotated.

    Attributes
    ----------
    left, top, right, bottom : float
        Edges of the rectangle as shares of the width and height of the image, from 0 to 1.
    angle : float
        Angle in degrees. The image is rotated counter-clockwise about its centre by this angle before the rectangle is
        cut out.
    shades : {"all", "bright", "dark"}
        Grey levels that are hashed: all, only the brightest, or only the darkest.
    """

    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0
    angle: float = 0.0
    shades: Shades = "all"

    def cut(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the pixels of the frame in an image (uint8, shape (height, width))."""
        if self.angle:
            pixels = np.asarray(Image.fromarray(pixels).rotate(self.angle, Image.Resampling.BICUBIC))
        height, width = pixels.shape
        rows = slice(round(self.top * height), round(self.bottom * height))
        return pixels[rows, round(self.left * width) : round(self.right * width)]

    def coefficients(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64] | None:
        """Return the lowest DCT coefficients of the frame, shape (32, 32).

        Return None if the frame is too small, or if it has too few bright or dark pixels.
        """
        pixels = self.cut(pixels)
        if min(pixels.shape) < _LEAST_SIDE:
            return None
        shown = pixels if self.shades == "all" else _levelled(pixels, self.shades)
        return None if shown is None else low_frequencies(standardise(shown), FREQUENCIES)

    @property
    def rectangle(self) -> Frame:
        """A frame with the rectangle and the angle of this frame, but with all grey levels."""
        return replace(self, shades="all")

    @property
    def is_whole(self) -> bool:
        """Whether the frame is the whole image."""
        return self == WHOLE

    def __str__(self) -> str:
        """Return a readable name of the frame."""
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
"""Views of an image. In five views, a strip is cut off at the bottom. The height of the strip is 0, 1, 2, 3 or 4
quarters of the height of the highest info bar. In the last view, a margin is cut off on all sides. The view without a
margin is for images that lost a part of their margin in an export. Twinscope does not need to detect the edge of an
info bar. The distance from this edge to the nearest bottom edge of a view is at most an eighth of the height of the
highest info bar. The search still finds the hash of a view with this difference."""

SHADES: Final = (replace(VIEWS[-2], shades="bright"), replace(VIEWS[-2], shades="dark"))
"""Frames with only the brightest or only the darkest pixels of the field, without the info bar. These frames are for
images in which all other pixels became black or white."""

SHIFTS: Final = tuple(
    Frame(left, top, left + 1 - 2 * _MARGIN, top + 1 - 2 * _MARGIN)
    for top, left in product((0.0, _MARGIN, 2 * _MARGIN), repeat=2)
    if (top, left) != (_MARGIN, _MARGIN)
)
"""Frames for a query that is shifted against the reference. Each frame has the same size as the view without a margin.
One of the frames can show the same part of the specimen as the view of the reference without a margin."""


def _grid(side: float, count: int) -> list[Frame]:
    """Return `count` x `count` rectangles on a regular grid.

    Each rectangle has `side` times the width and the height of the image. The outermost rectangles touch the edges of
    the image.
    """
    starts = [(1 - side) * position / (count - 1) for position in range(count)]
    return [Frame(left, top, left + side, top + side) for top, left in product(starts, repeat=2)]


def _windows() -> tuple[Frame, ...]:
    """Return rectangles of four sizes on regular grids, and rotated rectangles at the centre of the image."""
    frames = [frame for side, count in ((0.95, 3), (0.9, 5), (0.85, 5), (0.8, 7)) for frame in _grid(side, count)]
    for angle, side in product((-5.0, -3.5, -2.0, 2.0, 3.5, 5.0), (0.94, 0.88)):
        edge = (1 - side) / 2
        frames.append(Frame(edge, edge, 1 - edge, 1 - edge, angle))
    return tuple(frames)


WINDOWS: Final = _windows()
"""Rectangles of the field. The distance between neighbouring rectangles of the same size is at most 3.75 % of the width
or height of the field."""

PANELS: Final = tuple(_grid(0.5 * (1 - 2 * _MARGIN), 17))
"""Rectangles of the field for queries that show only a panel. A panel has half the width and half the height of the
field. Each rectangle has the size of a panel without a margin. The frames `SHIFTS` of a query add positions between the
positions of this grid."""

CROPS: Final = (WHOLE, *_grid(0.85, 3))
"""Frames of a query that are compared with windows of a reference. The frame `WHOLE` is for queries that show only a
part of the field of the reference. The smaller frames are for queries that only partly overlap with the field of the
reference."""


FRAMES_RECIPE: Final = (
    "phash1024-thumbnail192-equalize-autocontrast-dct2-median/2-"
    + sha256(repr((VIEWS, SHADES, WINDOWS, PANELS, _SHADE_SHARE, _LEAST_SHADE)).encode()).hexdigest()[:12]
)
"""Name of the recipe for the hashes of frames. Like `hashing.RECIPE`, the name lists everything that affects a bit of a
hash. The name ends with a checksum of the set of frames."""


def reference_frames(reach: Reach) -> tuple[Frame, ...]:
    """Return the frames of a reference that are indexed in addition to the hash of the full-size image."""
    return tuple(frame for frames in frame_kinds(reach).values() for frame in frames)


def frame_kinds(reach: Reach) -> dict[str, tuple[Frame, ...]]:
    """Return the indexed frames of a reference, grouped by kind, in a fixed order. Each kind is searched separately."""
    views, windows = {"views": VIEWS, "shades": SHADES}, {"windows": WINDOWS, "panels": PANELS}
    return {"frame": {}, "views": views, "windows": views | windows}[reach]


def frame_codes(
    thumbnail: NDArray[np.uint8], frames: Sequence[Frame], symmetries: Sequence[Symmetry] = SYMMETRIES[:1]
) -> NDArray[np.uint8]:
    """Hash frames of a thumbnail. Each frame is hashed once for each symmetry.

    Parameters
    ----------
    thumbnail : ndarray of uint8, shape (height, width)
    frames : sequence of Frame
    symmetries : sequence of Symmetry
        Symmetries in which each frame is hashed; by default, only the identity.

    Returns
    -------
    ndarray of uint8, shape (frames * symmetries, 128)
        The codes of the first frame in all symmetries, then the codes of the next frames. If a frame is too small
        (fewer than 40 pixels on a side), or has too few bright or dark pixels, all bits of the codes are 0. The
        distance between such a code and every hash is 512 bits.
    """
    codes = np.zeros((len(frames), len(symmetries), BYTES), np.uint8)
    for number, frame in enumerate(frames):
        coefficients = frame.coefficients(thumbnail)
        if coefficients is not None:
            codes[number] = [packed_above_median(symmetry.applied_to(coefficients))[0] for symmetry in symmetries]
    return codes.reshape(-1, BYTES)


def _levelled(pixels: NDArray[np.uint8], shades: Shades) -> NDArray[np.uint8] | None:
    """Set all pixels to one common level, except the brightest quarter or the darkest quarter of the pixels.

    Return None if too few pixels differ from the common level.
    """
    if shades == "dark":
        negative = _levelled(255 - pixels, "bright")
        return None if negative is None else 255 - negative
    darker = np.cumsum(grey_histogram(pixels))
    level = int(np.searchsorted(darker, (1 - _SHADE_SHARE) * pixels.size))
    return np.maximum(pixels, np.uint8(level)) if pixels.size - darker[level] >= _LEAST_SHADE * pixels.size else None
