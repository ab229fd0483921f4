"""Check and decoding of the strips or tiles that contain the pixels of one page of a TIFF file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffPage

from twinscope_indexer.errors import ImageError
from twinscope_indexer.imaging import jpeg
from twinscope_indexer.imaging.limits import DEFLATE_RATIO, check_budget
from twinscope_indexer.imaging.sniffing import ImageFile

JPEG = 7
"""Value of the compression tag for JPEG strips and tiles (TIFF Technical Note 2)."""

# Value of the compression tag -> maximum number of decompressed bytes for each compressed byte. The first five values
# mean: no compression, LZW (4096 bytes from 12 bits), Deflate (two values), PackBits. The value 0 means that there is
# no useful limit (JPEG, LZMA and Zstandard).
_GROWTH = {1: 1, 5: 2731, 8: DEFLATE_RATIO, 32946: DEFLATE_RATIO, 32773: 64, JPEG: 0, 34925: 0, 50000: 0}
_PREDICTORS = frozenset({1, 2, 3})  # none, horizontal, floating point
_SAMPLE_FORMATS = frozenset({1, 2, 3, 4})  # unsigned, signed, floating point, undefined
_SEPARATE = 2  # PlanarConfiguration


@dataclass(frozen=True, slots=True)
class _Grid:
    """The division of a page into segments: strips as wide as the page, or tiles."""

    width: int
    """Width of a segment in pixels."""
    height: int
    """Number of rows of a segment; the last strip may have fewer rows."""
    depth: int
    """Number of planes of a volume that one segment contains."""
    channels: int
    """Number of samples per pixel in a segment."""
    across: int
    down: int
    volume: int
    """If the channels are stored separately: number of segments of one channel in all planes of a volume."""

    @classmethod
    def of(cls, page: TiffPage) -> _Grid:
        if page.is_tiled:
            width, height, depth = page.tilewidth, page.tilelength, page.tiledepth
        else:
            width, height, depth = page.imagewidth, page.rowsperstrip, 1
        across, down = math.ceil(page.imagewidth / width), math.ceil(page.imagelength / height)
        channels = 1 if page.planarconfig == _SEPARATE else page.samplesperpixel
        return cls(width, height, depth, channels, across, down, across * down * math.ceil(page.imagedepth / depth))

    def indices(self, planes: int) -> Iterator[int]:
        """Yield the indices of all segments that contain the first plane of a volume, for `planes` channels."""
        return (plane * self.volume + cell for plane in range(planes) for cell in range(self.across * self.down))


def decode(page: TiffPage, file: ImageFile, planes: int, budget: int) -> NDArray[Any]:
    """Decode the samples of a page.

    Parameters
    ----------
    page : TiffPage
        Page to decode. The caller has checked that the width and the height are positive integers.
    file : ImageFile
        File that contains the page.
    planes : int
        Number of channels to decode if the channels are stored separately.
    budget : int
        Maximum number of pixels to decode.

    Returns
    -------
    ndarray of the page's dtype, shape (height, width, channels)
        Samples of the page, or of the first plane if the page is a volume. If the channels are stored together, the
        array contains all channels. If the channels are stored separately, the array contains the first `planes`
        channels.

    Raises
    ------
    ImageError
        If the tags contradict each other, or if some samples are not in the file.
    """
    name = file.name
    dtype = _check_tags(page, planes, name)
    check_budget(name, page.imagewidth, page.imagelength, budget)
    grid = _Grid.of(page)
    if page.planarconfig != _SEPARATE or page.samplesperpixel == 1:
        planes = 1
    _check_segments(page, grid, planes, file, budget)
    shape = planes, page.imagelength, page.imagewidth, grid.channels
    if page.is_contiguous and page.predictor == 1 and page.fillorder == 1 and (planes == 1 or page.imagedepth == 1):
        stored = dtype.newbyteorder(page.parent.byteorder)
        samples = page.parent.filehandle.read_array(stored, math.prod(shape), page.dataoffsets[0]).reshape(shape)
    else:
        samples = np.empty(shape, dtype)
        for index in grid.indices(planes):
            _decode_segment(page, grid, index, file, samples)
    return samples[0] if planes == 1 else np.moveaxis(samples[..., 0], 0, -1)


def _decode_segment(page: TiffPage, grid: _Grid, index: int, file: ImageFile, samples: NDArray[Any]) -> None:
    """Decode one segment and copy the pixels into `samples`."""
    file.stream.seek(page.dataoffsets[index])
    data = file.stream.read(page.databytecounts[index])
    if page.compression == JPEG:
        _check_jpeg(page, grid, index, data, file.name)
    segment, (plane, _, top, left, _), _ = page.decode(
        data, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader, _fullsize=False
    )
    if segment is None:
        raise ImageError(file.name, "damaged", f"strip or tile {index} of the TIFF file is empty")
    target = samples[plane, top : top + grid.height, left : left + grid.width]
    target[...] = segment[0, : target.shape[0], : target.shape[1]]


def _check_tags(page: TiffPage, planes: int, name: str) -> np.dtype[Any]:
    """Check the tags that describe the samples, and return the data type of the samples."""
    numbers = (
        *(page.samplesperpixel, page.bitspersample, page.imagedepth, page.compression, page.planarconfig),
        *((page.tilewidth, page.tilelength, page.tiledepth) if page.is_tiled else (page.rowsperstrip,)),
    )
    if not all(isinstance(number, int) and number > 0 for number in numbers):
        raise ImageError(name, "damaged", "the TIFF tags for the layout of the pixels are invalid")
    if page.samplesperpixel < planes:
        raise ImageError(name, "damaged", f"the TIFF image has {page.samplesperpixel} of {planes} colour channels")
    if page.compression not in _GROWTH:
        raise ImageError(name, "unsupported", f"TIFF compression {page.compression!s} is not supported")
    if page.dtype is None or page.sampleformat not in _SAMPLE_FORMATS or page.predictor not in _PREDICTORS:
        raise ImageError(
            name,
            "unsupported",
            f"{page.bitspersample}-bit samples of TIFF sample format {page.sampleformat!s}, predictor "
            f"{page.predictor!s} are not supported",
        )
    return page.dtype


def _check_segments(page: TiffPage, grid: _Grid, planes: int, file: ImageFile, budget: int) -> None:
    """Check that the file contains all segments, and that each segment has enough bytes for the size in the tags."""
    name, size = file.name, file.size
    if grid.width * grid.height * grid.depth * grid.channels > max(4 * budget, 1 << 22):
        raise ImageError(name, "damaged", "the TIFF tags describe strips or tiles of impossible size")
    last = (planes - 1) * grid.volume + grid.across * grid.down
    offsets, counts = np.asarray(page.dataoffsets[:last]), np.asarray(page.databytecounts[:last])
    if min(offsets.size, counts.size) < last:
        raise ImageError(name, "truncated", "the TIFF file lacks the offsets of some of its strips or tiles")
    wanted = np.fromiter(grid.indices(planes), np.intp)
    if offsets.dtype.kind not in "iu" or counts.dtype.kind not in "iu":
        raise ImageError(name, "damaged", "the TIFF tags for the offsets of the pixels are invalid")
    offsets, counts = offsets[wanted], counts[wanted]
    if offsets.min() < 1 or counts.min() < 1:
        raise ImageError(name, "damaged", "strips or tiles of the TIFF file are missing")
    if offsets.max() > size or counts.max() > size or (offsets.astype(np.int64) + counts.astype(np.int64)).max() > size:
        raise ImageError(name, "truncated", f"the file ends after {size} bytes, before the end of its strips or tiles")
    rows: NDArray[Any] = np.full(wanted.shape, grid.height)
    if not page.is_tiled:  # the last strip may have fewer rows
        rows = np.minimum(rows, page.imagelength - wanted % grid.down * grid.height)
    row = (grid.width * grid.channels * page.bitspersample + 7) // 8
    growth = _GROWTH[page.compression]
    if growth and (counts.astype(np.int64) * growth < row * rows).any():
        raise ImageError(name, "damaged", "strips or tiles of the TIFF file have too few bytes for their pixels")


def _check_jpeg(page: TiffPage, grid: _Grid, index: int, data: bytes, name: str) -> None:
    """Check that a JPEG stream has an end marker, and the size of the strip or tile that the tags describe.

    The check is needed because decoders accept streams of wrong size, and incomplete streams.
    """
    frame = jpeg.frame(data, name)
    cell = index % grid.volume
    # A JPEG stream can omit the pixels outside the page, or contain more rows, up to a whole number of blocks.
    widths = {grid.width, page.imagewidth - cell % grid.across * grid.width}
    least = min(grid.height, page.imagelength - cell // grid.across % grid.down * grid.height)
    fits = frame.width in widths and least <= frame.height <= grid.height + 15
    if not fits or frame.components != grid.channels or frame.precision > page.bitspersample:
        raise ImageError(
            name,
            "damaged",
            f"the JPEG stream has {frame.width} x {frame.height} pixels, but the tags describe a strip or tile of "
            "another size",
        )
