"""Thumbnails: small images that are stored with the hashes, to check whether two images show the same field."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twinscope_indexer.compute.jit import compiled
from twinscope_indexer.errors import ImageError
from twinscope_indexer.hashing.arrays import require_grey
from twinscope_indexer.hashing.resampling import area_reduce
from twinscope_indexer.imaging import jpeg

LONG_SIDE = 192
"""Maximum number of pixels on the long side of a thumbnail. A smaller image is not reduced."""

MIN_SIDE = 24
"""Minimum number of pixels on the short side of a reduced image. A very long and narrow image is therefore reduced more
along the long side than along the short side."""

_MAX_GAIN = 16  # maximum gain of the contrast stretch; a higher gain would only amplify rounding errors
# The three constants of `_quantisation` were chosen together, in tests with 178 real micrographs.
_STEP_SHARE = 0.3
_SOFTNESS = 0.9
_DETAIL_BLOCK = 4


def thumbnail_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Return the shape of the thumbnail of an image.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the image in pixels.

    Returns
    -------
    tuple of int
        Height and width of the thumbnail in pixels, at most `LONG_SIDE` and never larger than the image. The thumbnail
        has the same proportions as the image, unless one side would be shorter than `MIN_SIDE`.
    """
    scale = min(1.0, LONG_SIDE / max(shape))
    height, width = (min(side, max(MIN_SIDE, round(side * scale))) for side in shape)
    return height, width


def encode_thumbnail(pixels: NDArray[np.uint8]) -> bytes:
    """Reduce an image to a thumbnail, stretch its contrast, and compress the thumbnail as JPEG.

    Without the stretch, rounding and compression would remove the detail of a low-contrast image. The stretch is
    linear. The darkest pixel of the reduced image becomes 0, and the brightest pixel becomes 255, if this requires a
    gain of at most 16. Otherwise, the gain is 16. Because the gain is limited, featureless images stay featureless. The
    pixels of the reduced image are not rounded before the stretch. Because of the stretch, two thumbnails of the same
    field can differ in brightness and contrast. The scene score does not depend on brightness and contrast.

    Parameters
    ----------
    pixels : numpy.ndarray of uint8, shape (height, width)
        Grey image without an info bar. An info bar in `pixels` would also be visible in the thumbnail.

    Returns
    -------
    bytes
        A grey JPEG, typically 7 KB.

    Raises
    ------
    ValueError
        If `pixels` is not a grey image (see `require_grey`).
    """
    require_grey(pixels)
    height, width = pixels.shape
    stretched = _stretched(area_reduce(pixels, thumbnail_shape((height, width))))
    data = io.BytesIO()
    Image.fromarray(stretched).save(data, "JPEG", qtables=[_quantisation(stretched)])
    return data.getvalue()


def decode_thumbnail(data: bytes) -> NDArray[np.uint8]:
    """Return the pixels of a thumbnail.

    Parameters
    ----------
    data : bytes
        Output of `encode_thumbnail`. The data can come from an untrusted source, because the size of the thumbnail is
        checked before any pixel is decoded.

    Returns
    -------
    numpy.ndarray of uint8, shape (height, width)
        Grey image, read-only. Each side has at most `LONG_SIDE` pixels.

    Raises
    ------
    ImageError
        If the data is damaged, is not a grey JPEG, or has a side of more than `LONG_SIDE` pixels.
    """
    try:
        pixels = _decoded(data)
    except ImageError as error:
        if error.fault == "unsupported":
            raise
        raise ImageError("thumbnail", "damaged", f"not a thumbnail, or damaged ({error.detail})") from error
    pixels.flags.writeable = False
    return pixels


def _decoded(data: bytes) -> NDArray[np.uint8]:
    claimed = jpeg.frame(data, "thumbnail")
    if claimed.components != 1 or max(claimed.width, claimed.height) > LONG_SIDE:
        raise ImageError(
            "thumbnail",
            "unsupported",
            f"expected a grey image of at most {LONG_SIDE} pixels a side, not {claimed.components} components of "
            f"{claimed.width} x {claimed.height}; encode it with encode_thumbnail",
        )
    return np.asarray(jpeg.decode(data, claimed, "thumbnail").content)


def _stretched(means: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Stretch the levels `means` linearly, with a limited gain. All levels stay in the range 0 to 255.

    The middle between the lowest and the highest level changes only as much as necessary.
    """
    low, high = float(means.min()), float(means.max())
    gain = min(255 / (high - low), _MAX_GAIN) if high > low else 1.0
    half = gain * (high - low) / 2
    middle = (low + high) / 2
    centre = min(max(middle, half), 255 - half)
    numbers = np.array((middle, gain, centre), np.float32)
    stretched: NDArray[np.uint8] = _mapped(np.ascontiguousarray(means), numbers)
    return stretched


def _quantisation(pixels: NDArray[np.uint8]) -> list[int]:
    """Return a JPEG quantisation table: 64 steps, row by row. The table keeps only the detail that a scene score uses.

    To calculate the scene score, thumbnails are smoothed with a Gaussian filter. Then the contrast of each pixel with
    the surrounding pixels is measured. The steps of the table are therefore inversely proportional to the transfer
    function of the Gaussian filter. The steps increase with the frequency. The first step is proportional to the detail
    of the image. The detail is the average difference between the means of neighbouring 4 x 4 blocks, because these
    means contain little noise. With this table, a thumbnail is a third smaller than with a standard table (quality 85
    to 90). Faint detail is preserved.
    """
    detail = _detail(np.ascontiguousarray(pixels))
    frequency = np.pi * np.arange(8) / 8  # frequencies of the coefficients of an 8-point DCT, in radians per pixel
    steps = max(1.0, _STEP_SHARE * detail) * np.exp(
        0.5 * _SOFTNESS**2 * (frequency[:, None] ** 2 + frequency[None, :] ** 2)
    )
    return [int(step) for step in np.clip(np.rint(steps), 1, 255).ravel()]


@compiled(error_model="numpy")
def _mapped(means: NDArray[np.float32], numbers: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return ``rint((means - middle) * gain + centre)``, computed in 32-bit floating point and clipped to 0 to 255."""
    middle, gain, centre = numbers
    mapped = np.empty(means.shape, np.uint8)
    for y in range(means.shape[0]):
        for x in range(means.shape[1]):
            level = np.rint((means[y, x] - middle) * gain + centre)
            mapped[y, x] = np.uint8(min(max(level, np.float32(0)), np.float32(255)))
    return mapped


@compiled(error_model="numpy")
def _detail(pixels: NDArray[np.uint8]) -> float:
    """Return the average difference between the means of neighbouring 4 x 4 blocks, vertically and horizontally."""
    height, width = pixels.shape[0] // _DETAIL_BLOCK, pixels.shape[1] // _DETAIL_BLOCK
    if height < 2 or width < 2:
        return 0.0
    sums = np.zeros((height, width), np.int64)
    for y in range(height * _DETAIL_BLOCK):
        for x in range(width):
            for column in range(x * _DETAIL_BLOCK, (x + 1) * _DETAIL_BLOCK):
                sums[y // _DETAIL_BLOCK, x] += pixels[y, column]
    down, right = 0, 0
    for y in range(height):
        for x in range(width):
            down += abs(sums[y, x] - sums[y - 1, x]) if y else 0
            right += abs(sums[y, x] - sums[y, x - 1]) if x else 0
    area = _DETAIL_BLOCK**2
    return float(down / area / ((height - 1) * width) + right / area / (height * (width - 1))) / 2
