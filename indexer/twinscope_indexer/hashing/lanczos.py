"""Lanczos resampling of 8-bit grey images. The result is the same as Pillow's, bit for bit.

Pillow resamples 8-bit images in integer arithmetic. The weights of each new pixel are rounded to 22 bits after the
binary point. Pillow first resizes one side (usually the width), rounds the pixels to 8 bits, and then resizes the other
side. The result therefore does not depend on the order of additions, and a faster implementation can give the same
bits. The implementation in this module can also map the grey levels with a table in the same pass. No second image of
full size is therefore needed. Blocks of 128 rows are transposed, so that the width and the height are resized by the
same code.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from twinscope_indexer.compute import scratch
from twinscope_indexer.compute.jit import compiled
from twinscope_indexer.hashing.arrays import read_only, require_grey

if TYPE_CHECKING:
    from numpy.typing import NDArray

    _Taps = tuple[NDArray[np.int64], NDArray[np.int32]]

_LOBES = 3
_FRACTION_BITS = 22  # 32 bits minus 8 bits for a pixel, minus 2 bits for sums darker than black or brighter than white
_HALF = 1 << (_FRACTION_BITS - 1)
_AT_ONCE = 4  # number of rows whose pixels are packed into one word
_BLOCK = 128  # number of rows in a block; a larger block of a wide image would not fit in the second-level cache
_TILE = 256  # number of columns of a block that are transposed at a time; the columns fit in the first-level cache
_PACKED = np.dtype("<u4")  # type of a word of four pixels; the first pixel is in the lowest byte
_LEVELS = 256

_IDENTITY: Final = np.arange(_LEVELS, dtype=np.uint8)


def lanczos(
    pixels: NDArray[np.uint8], shape: tuple[int, int], table: NDArray[np.uint8] = _IDENTITY
) -> NDArray[np.uint8]:
    """Resize a grey image with a three-lobe Lanczos filter. If the image is reduced, a wider filter prevents aliasing.

    Parameters
    ----------
    pixels : numpy.ndarray of uint8, shape (height, width)
        Grey image with at least one pixel.
    shape : tuple of int
        Height and width of the result, at least 1.
    table : numpy.ndarray of uint8, shape (256,)
        Table with a new level for each old level. The table is applied before resizing. By default, the levels stay
        unchanged.

    Returns
    -------
    numpy.ndarray of uint8, shape `shape`
        Resized image, equal to ``Image.fromarray(table[pixels]).resize((width, height), Image.Resampling.LANCZOS)`` of
        Pillow 13. Earlier versions of Pillow round differently if the height is reduced by more than twice as many
        pixels as the width.

    Raises
    ------
    ValueError
        If `pixels` is not a grey image, `shape` is not two positive numbers, or `table` does not hold 256 levels.
    """
    require_grey(pixels)
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"cannot resize to {shape}: height and width must be at least 1")
    if table.shape != (_LEVELS,) or table.dtype != np.uint8:
        raise ValueError(f"expected a table of 256 levels of uint8, not {table.dtype} of shape {table.shape}")
    rows, columns = (_taps(old, new) for old, new in zip(pixels.shape, shape, strict=True))
    if _rows_come_first(pixels.shape, shape):
        lower = _lower(pixels, table, rows)
        return _resized_columns(read_only(lower), read_only(_IDENTITY), columns)
    narrower = np.concatenate(
        [
            _resized_columns(read_only(pixels[band]), read_only(table), columns)
            for band in scratch.bands(pixels, multiple=_BLOCK)
        ]
    )
    return _resized_rows(read_only(narrower), rows)


def _lower(pixels: NDArray[np.uint8], table: NDArray[np.uint8], taps: _Taps) -> NDArray[np.uint8]:
    """Map the levels of an image, and resize the height. A scratch array is handled in strips of a few columns."""
    height, width = pixels.shape
    if not scratch.is_scratch(pixels):
        return _resized_rows(read_only(table[pixels]), taps)
    lower = np.empty((len(taps[0]), width), np.uint8)
    across = max(2 * scratch.STEP // height // _BLOCK, 1) * _BLOCK
    for left in range(0, width, across):
        strip = np.empty((height, min(across, width - left)), np.uint8)
        for band in scratch.bands(pixels):
            strip[band] = table[pixels[band, left : left + across]]
        lower[:, left : left + across] = _resized_rows(read_only(strip), taps)
    return lower


def _rows_come_first(old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Check whether the height is resized before the width, as in Pillow 13 and later.

    The order of the two steps affects the rounding. Earlier versions of Pillow always resize the width first.
    """
    return old[0] - new[0] > 2 * max(0, old[1] - new[1])


@lru_cache(maxsize=32)
def _taps(old: int, new: int) -> _Taps:
    """Return the weights that convert `old` pixels along one side into `new` pixels.

    The weights are cached because the images of a collection have only a few different sizes.

    Returns
    -------
    spans : numpy.ndarray of int64, shape (new, 2)
        For each new pixel: the first old pixel that contributes to the new pixel, and the number of contributing old
        pixels.
    weights : numpy.ndarray of int32, shape (new, n)
        Weights of the contributing old pixels in units of 2 ** -22, padded with zeros.
    """
    taps: _Taps = _lanczos_taps(old, new)
    return taps


@compiled(error_model="numpy")
def _lanczos_taps(old: int, new: int) -> _Taps:
    # The operations and their order are the same as in Pillow. Otherwise, rounding could change the span of old pixels
    # that contribute to a new pixel.
    scale = old / new
    stretch = max(scale, 1.0)
    support = _LOBES * stretch
    most = math.ceil(support) * 2 + 1
    spans = np.empty((new, 2), np.int64)
    weights = np.zeros((new, most), np.int32)
    exact = np.empty(most)
    for position in range(new):
        centre = (position + 0.5) * scale
        first = max(int(centre - support + 0.5), 0)
        count = min(int(centre + support + 0.5), old) - first
        total = 0.0
        for k in range(count):
            exact[k] = _lanczos_window((k + first - centre + 0.5) * (1.0 / stretch))
            total += exact[k]
        for k in range(count):
            share = exact[k] / total * (1 << _FRACTION_BITS)
            weights[position, k] = int(share - 0.5) if share < 0 else int(share + 0.5)
        spans[position, 0], spans[position, 1] = first, count
    return spans, weights


@compiled(error_model="numpy")
def _lanczos_window(x: float) -> float:
    """Return ``sinc(x) * sinc(x / 3)`` if x lies between -3 and 3, otherwise 0."""
    if not -_LOBES <= x < _LOBES:
        return 0.0
    if x == 0:
        return 1.0
    a, b = x * math.pi, x / _LOBES * math.pi
    return math.sin(a) / a * (math.sin(b) / b)


@compiled()
def _resized_rows(pixels: NDArray[np.uint8], taps: _Taps) -> NDArray[np.uint8]:
    height, width = pixels.shape
    lines = np.zeros((height, _BLOCK), np.uint8)
    added = np.empty((len(taps[0]), _BLOCK), np.uint8)
    resized = np.empty((len(taps[0]), width), np.uint8)
    for left in range(0, width, _BLOCK):
        right = min(left + _BLOCK, width)
        _move(pixels[:, left:right], lines)
        _add_lines(lines.reshape(-1), taps, added)
        _move(added[:, : right - left], resized[:, left:right])
    return resized


@compiled()
def _move(source: NDArray[np.uint8], target: NDArray[np.uint8]) -> None:
    """Copy an array. This function is ten times as fast as Numba's assignment of slices."""
    for row in range(len(source)):
        line, here = source[row], target[row]
        for x in range(len(line)):
            here[x] = line[x]


@compiled()
def _resized_columns(pixels: NDArray[np.uint8], table: NDArray[np.uint8], taps: _Taps) -> NDArray[np.uint8]:
    height, width = pixels.shape
    packed = np.zeros((width, _BLOCK // _AT_ONCE), _PACKED)
    added = np.empty((len(taps[0]), _BLOCK), np.uint8)
    resized = np.empty((height, len(taps[0])), np.uint8)
    for top in range(0, height, _BLOCK):
        _pack_columns(pixels, table, top, packed)
        _add_lines(packed.reshape(-1).view(np.uint8), taps, added)
        for row in range(min(_BLOCK, height - top)):
            for x in range(len(added)):
                resized[top + row, x] = added[x, row]
    return resized


@compiled()
def _pack_columns(pixels: NDArray[np.uint8], table: NDArray[np.uint8], top: int, packed: NDArray[np.uint32]) -> None:
    """Map the levels of a block of rows with the table, and transpose the block. The columns of the block become lines.

    If the block extends below the image, the pixels below the image are undefined.
    """
    last, width = pixels.shape[0] - 1, pixels.shape[1]
    groups = min(packed.shape[1], (last - top) // _AT_ONCE + 1)
    for left in range(0, width, _TILE):
        right = min(left + _TILE, width)
        for group in range(groups):
            row = top + group * _AT_ONCE
            a = pixels[min(row, last), left:right]
            b = pixels[min(row + 1, last), left:right]
            c = pixels[min(row + 2, last), left:right]
            d = pixels[min(row + 3, last), left:right]
            line = packed[left:right, group]
            for x in range(right - left):
                line[x] = (
                    np.uint32(table[a[x]])
                    | np.uint32(table[b[x]]) << np.uint32(8)
                    | np.uint32(table[c[x]]) << np.uint32(16)
                    | np.uint32(table[d[x]]) << np.uint32(24)
                )


@compiled()
def _add_lines(lines: NDArray[np.uint8], taps: _Taps, added: NDArray[np.uint8]) -> None:
    """Compute each new line as the weighted sum of several old lines. Results are rounded and clipped to 0 to 255.

    The lines are contiguous and have `_BLOCK` pixels each. The compiler knows the length of a line, so that one address
    is sufficient for eight lines.
    """
    spans, weights = taps
    total = np.empty(_BLOCK, np.int32)
    for position in range(len(spans)):
        first, count = spans[position]
        weight = weights[position]
        total[:] = _HALF
        together = count - count % 8
        for k in range(0, together, 8):
            eight = lines[(first + k) * _BLOCK : (first + k + 8) * _BLOCK]
            a, b, c, d = weight[k], weight[k + 1], weight[k + 2], weight[k + 3]
            e, f, g, h = weight[k + 4], weight[k + 5], weight[k + 6], weight[k + 7]
            for x in range(_BLOCK):
                total[x] += (
                    a * eight[x]
                    + b * eight[x + _BLOCK]
                    + c * eight[x + 2 * _BLOCK]
                    + d * eight[x + 3 * _BLOCK]
                    + e * eight[x + 4 * _BLOCK]
                    + f * eight[x + 5 * _BLOCK]
                    + g * eight[x + 6 * _BLOCK]
                    + h * eight[x + 7 * _BLOCK]
                )
        for k in range(together, count):
            one, of_one = lines[(first + k) * _BLOCK : (first + k + 1) * _BLOCK], weight[k]
            for x in range(_BLOCK):
                total[x] += of_one * one[x]
        line = added[position]
        for x in range(_BLOCK):
            line[x] = min(max(total[x] >> _FRACTION_BITS, 0), 255)
