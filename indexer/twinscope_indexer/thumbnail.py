"""Thumbnails: small pictures kept beside the hashes, enough to tell whether two images show one scene."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from twinscope_indexer.compiled import compiled
from twinscope_indexer.errors import ImageError

LONG_SIDE = 192
"""Pixels on the long side of a thumbnail; smaller images keep their size."""

MIN_SIDE = 24
"""Pixels on the short side that a reduction leaves: a longer strip is squeezed along its length instead."""

_MAX_GAIN = 16  # of the contrast stretch; more would only enlarge what 8 bits rounded away
# The three constants of the quantisation; see `_quantisation`. Chosen together on 178 real micrographs.
_STEP_SHARE = 0.3
_SOFTNESS = 0.9
_DETAIL_BLOCK = 4


def thumbnail_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Shape of the thumbnail of an image.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the image in pixels.

    Returns
    -------
    tuple of int
        Height and width of the thumbnail: at most `LONG_SIDE`, in the proportions of the image unless a side would
        fall below `MIN_SIDE`, and never larger than the image.
    """
    scale = min(1.0, LONG_SIDE / max(shape))
    height, width = (min(side, max(MIN_SIDE, round(side * scale))) for side in shape)
    return height, width


def area_reduce(pixels: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Reduce an image by area averaging: each new pixel is the mean of the rectangle that it covers.

    Parameters
    ----------
    pixels : numpy.ndarray of uint8, shape (height, width)
        Grey image.
    shape : tuple of int
        Height and width of the result, at least 1 and at most those of the image.

    Returns
    -------
    numpy.ndarray of float32, shape `shape`
        Means in grey levels, not rounded; pixels on a boundary count with the share that lies inside.

    Raises
    ------
    ValueError
        If `pixels` is not a two-dimensional array of uint8 or `shape` is not within its shape.
    """
    _check_grey(pixels)
    if not all(1 <= new <= old for new, old in zip(shape, pixels.shape, strict=True)):
        raise ValueError(
            f"cannot reduce an image of shape {pixels.shape} to {shape}: sides from 1 to those of the image"
        )
    if shape == pixels.shape:
        return pixels.astype(np.float32)
    frozen = np.ascontiguousarray(pixels).view()
    frozen.flags.writeable = False  # one compiled variant for writable and read-only images
    means: NDArray[np.float32] = _area_means(frozen, *shape)
    return means


def encode_thumbnail(pixels: NDArray[np.uint8]) -> bytes:
    """Reduce an image to its thumbnail, stretch the contrast and compress it.

    The stretch is linear, from the darkest and brightest mean of the reduced image (which are finer than grey
    levels) to 0 and 255, but at most sixteen-fold: a low-contrast image would otherwise lose its detail to rounding
    and compression. Featureless images stay featureless. Thumbnails are therefore comparable up to brightness and
    contrast, which is all that a scene score needs.

    Parameters
    ----------
    pixels : numpy.ndarray of uint8, shape (height, width)
        Grey image, without an info bar: it would show in the thumbnail.

    Returns
    -------
    bytes
        A grey JPEG, typically 7 KB.

    Raises
    ------
    ValueError
        If `pixels` is not a two-dimensional array of uint8, or is empty.
    """
    _check_grey(pixels)
    if pixels.size == 0:
        raise ValueError(f"an image without pixels has no thumbnail; its shape is {pixels.shape}")
    height, width = pixels.shape
    stretched = _stretched(area_reduce(pixels, thumbnail_shape((height, width))))
    jpeg = io.BytesIO()
    Image.fromarray(stretched).save(jpeg, "JPEG", qtables=[_quantisation(stretched)])
    return jpeg.getvalue()


def decode_thumbnail(data: bytes) -> NDArray[np.uint8]:
    """Pixels of a thumbnail.

    Parameters
    ----------
    data : bytes
        What `encode_thumbnail` returned. It may come from elsewhere: nothing is decoded before its size is known.

    Returns
    -------
    numpy.ndarray of uint8, shape (height, width)
        Grey image, read-only; no side longer than `LONG_SIDE`.

    Raises
    ------
    ImageError
        If the data is not a grey JPEG of a thumbnail's size, or is damaged.
    """
    try:
        # Not `Image.open`, which warns of a huge size, declared in the header, before it can be refused here.
        image = JpegImageFile(io.BytesIO(data))
        if image.mode != "L" or max(image.size) > LONG_SIDE:
            raise ImageError(
                "thumbnail",
                "unsupported",
                f"expected a grey image of at most {LONG_SIDE} pixels a side, not {image.mode} of "
                f"{image.width} x {image.height}; encode it with encode_thumbnail",
            )
        image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError("thumbnail", "damaged", f"not a thumbnail, or a damaged one ({error})") from error
    return np.asarray(image)


def _check_grey(pixels: NDArray[np.uint8]) -> None:
    if pixels.ndim != 2 or pixels.dtype != np.uint8:
        raise ValueError(
            f"expected a grey image, uint8 of shape (height, width), not {pixels.dtype} of shape {pixels.shape}"
        )


def _stretched(means: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Stretch linearly towards 0 to 255, about the middle of the range, which moves only as far as it must."""
    low, high = float(means.min()), float(means.max())
    gain = min(255 / (high - low), _MAX_GAIN) if high > low else 1.0
    half = gain * (high - low) / 2
    middle = (low + high) / 2
    centre = min(max(middle, half), 255 - half)
    stretched: NDArray[np.uint8] = np.clip(np.rint((means - middle) * gain + centre), 0, 255).astype(np.uint8)
    return stretched


def _quantisation(pixels: NDArray[np.uint8]) -> list[int]:
    """Quantisation table (64 steps, row by row) of a JPEG that keeps just what a scene score sees.

    The score smooths with a Gaussian and measures contrast against its surroundings. So the steps grow with the
    frequency as that Gaussian's transfer function falls, and the first one is a share of the image's own detail,
    measured where noise is averaged out: the mean difference of neighbouring 4 x 4 blocks. Compared with
    a standard table (quality 85 to 90) this takes a third off the size, and faint detail survives.
    """
    height, width = (side // _DETAIL_BLOCK for side in pixels.shape)
    detail = 0.0
    if height > 1 and width > 1:
        whole = pixels[: height * _DETAIL_BLOCK, : width * _DETAIL_BLOCK]
        blocks = whole.reshape(height, _DETAIL_BLOCK, width, _DETAIL_BLOCK).mean(axis=(1, 3))
        detail = float(np.abs(np.diff(blocks, axis=0)).mean() + np.abs(np.diff(blocks, axis=1)).mean()) / 2
    frequency = np.pi * np.arange(8) / 8  # radians a pixel of the coefficients of an 8-point DCT
    steps = max(1.0, _STEP_SHARE * detail) * np.exp(
        0.5 * _SOFTNESS**2 * (frequency[:, None] ** 2 + frequency[None, :] ** 2)
    )
    return [int(step) for step in np.clip(np.rint(steps), 1, 255).ravel()]


@compiled(error_model="numpy")
def _area_means(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float32]:
    rows, columns = pixels.shape
    step_y, step_x = rows / height, columns / width
    means = np.empty((height, width), np.float32)
    line = np.empty(columns, np.float32)
    for y in range(height):
        top, bottom = y * step_y, (y + 1) * step_y
        line[:] = 0
        for row in range(int(top), min(int(np.ceil(bottom)), rows)):
            share = np.float32(min(row + 1, bottom) - max(row, top))
            source = pixels[row]
            for x in range(columns):
                line[x] += share * np.float32(source[x])
        if width == columns:  # the same sums, seven times as fast
            for x in range(width):
                means[y, x] = float(line[x]) / step_y
            continue
        for x in range(width):
            left, right = x * step_x, (x + 1) * step_x
            total = 0.0
            for column in range(int(left), min(int(np.ceil(right)), columns)):
                total += (min(column + 1, right) - max(column, left)) * line[column]
            means[y, x] = total / (step_y * step_x)
    return means
