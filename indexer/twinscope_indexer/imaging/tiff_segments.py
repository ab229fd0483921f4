"""Check and decoding of the strips or tiles that contain the pixels of one page of a TIFF file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffPage

from twinscope_indexer.compute import scratch
from twinscope_indexer.errors import ImageError
from twinscope_indexer.imaging import jpeg
from twinscope_indexer.imaging.limits import check_budget
from twinscope_indexer.imaging.sniffing import ImageFile
from twinscope_indexer.imaging.tiff_codecs import (
    FAX,
    JPEGS,
    LZW,
    OLD_JPEG,
    UNCOMPRESSED,
    claimed_size,
    codec_of,
    trimmed,
)
from twinscope_indexer.imaging.tiff_old_jpeg import decode_old_jpeg

_COUNT_TAGS = (325, 279)  # byte counts of tiles, and of strips
_WHOLE_BYTES = frozenset({8, 16, 32, 64})
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
    if page.compression == OLD_JPEG:
        return decode_old_jpeg(page, file)
    grid = _Grid.of(page)
    if page.planarconfig != _SEPARATE or page.samplesperpixel == 1:
        planes = 1
    extents = _extents(page, grid, planes, file, budget)
    shape = planes, page.imagelength, page.imagewidth, grid.channels
    if _is_contiguous(page, grid, extents):
        stored = dtype.newbyteorder(page.parent.byteorder)
        samples = _read_contiguous(page, stored, int(extents.offsets[0]), shape)
    else:
        samples = scratch.empty(shape, dtype) if extents.counts.all() else scratch.zeros(shape, dtype)
        usage = scratch.Usage(samples)
        for number, index in enumerate(grid.indices(planes)):
            if extents.counts[number]:
                usage.add(_decode_segment(page, grid, index, file, extents.extent(number), samples))
    return samples[0] if planes == 1 else np.moveaxis(samples[..., 0], 0, -1)


def _read_contiguous(page: TiffPage, stored: np.dtype[Any], offset: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """Read samples that are stored one after another. The result has the byte order of this machine."""
    samples = scratch.empty(shape, stored.newbyteorder("="))
    flat = samples.reshape(-1)
    for part in scratch.bands(flat):
        page.parent.filehandle.read_array(
            stored, flat[part].size, offset + part.start * stored.itemsize, out=flat[part]
        )
    return samples


def _decode_segment(
    page: TiffPage, grid: _Grid, index: int, file: ImageFile, extent: _Extent, samples: NDArray[Any]
) -> NDArray[Any]:
    """Decode one segment and copy the pixels into `samples`. Return this part of `samples`."""
    file.stream.seek(extent.offset)
    data = file.stream.read(extent.count)
    try:
        if page.compression in JPEGS:
            data = _complete_jpeg(page, grid, index, data, file.name)
        elif size := claimed_size(page.compression, data, file.name):
            _check_size(page, grid, index, size, file.name)
        segment, (plane, _, top, left, _), _ = _decoded(page, index, data, extent.needed)
        if extent.is_cut and page.compression == LZW:  # the decoder reads missing bits as zeros
            again = _decoded(page, index, data + b"\xff\xff", extent.needed)[0]
            if not np.array_equal(segment, again):
                raise _cut_off(file)
    except (ImageError, RuntimeError, ValueError, TypeError, LookupError, ArithmeticError) as error:
        if extent.is_cut:
            raise _cut_off(file) from error
        raise
    if segment is None:
        raise ImageError(file.name, "damaged", f"strip or tile {index} of the TIFF file is empty")
    if page.compression not in FAX and not np.can_cast(segment.dtype, samples.dtype):
        raise ImageError(file.name, "damaged", f"strip or tile {index} of the TIFF file has {segment.dtype} samples")
    target = samples[plane, top : top + grid.height, left : left + grid.width]
    target[...] = segment[0, : target.shape[0], : target.shape[1]]
    return target


def _decoded(page: TiffPage, index: int, data: bytes, needed: int) -> Any:
    """Decode one segment. Return the samples, the position on the page, and the shape; see `TiffPage.decode`."""
    options = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader, "_fullsize": False}
    try:
        return page.decode(data, index, **options)
    except (RuntimeError, ValueError):
        content = trimmed(page.compression, data, needed)
        if len(content) == len(data):
            raise
    return page.decode(content, index, **options)  # the byte count is too large, and other bytes follow


def _check_tags(page: TiffPage, planes: int, name: str) -> np.dtype[Any]:
    """Check the tags that describe the samples, and return the data type of the samples."""
    bits: Any = page.bitspersample
    if isinstance(bits, tuple):
        raise ImageError(name, "unsupported", f"TIFF samples of {bits} bits are not supported")
    numbers = (
        *(page.samplesperpixel, page.bitspersample, page.imagedepth, page.compression, page.planarconfig),
        *((page.tilewidth, page.tilelength, page.tiledepth) if page.is_tiled else (page.rowsperstrip,)),
    )
    if not all(isinstance(number, int) and number > 0 for number in numbers):
        raise ImageError(name, "damaged", "the TIFF tags for the layout of the pixels are invalid")
    if page.samplesperpixel < planes:
        raise ImageError(name, "damaged", f"the TIFF image has {page.samplesperpixel} of {planes} colour channels")
    codec_of(page.compression, name)
    if page.is_subsampled and page.compression not in {*JPEGS, OLD_JPEG}:
        raise ImageError(name, "unsupported", "TIFF images with subsampled colour (YCbCr) are only supported as JPEG")
    if page.dtype is None or page.sampleformat not in _SAMPLE_FORMATS or page.predictor not in _PREDICTORS:
        raise ImageError(
            name,
            "unsupported",
            f"{page.bitspersample}-bit samples of TIFF sample format {page.sampleformat!s}, predictor "
            f"{page.predictor!s} are not supported",
        )
    return page.dtype


@dataclass(frozen=True, slots=True)
class _Extent:
    """The position of the bytes of one segment."""

    offset: int
    count: int
    """Number of bytes that can belong to the pixels. 0: the segment is not stored, and is all zeros."""
    needed: int
    """Number of decompressed bytes that the pixels need."""
    is_cut: bool
    """Whether the segment extends beyond the end of the file, according to the tags."""


@dataclass(frozen=True, slots=True, eq=False)
class _Extents:
    """The positions of the bytes of all segments that are decoded, in the order of `_Grid.indices`.

    The attributes have the same meaning as the attributes of `_Extent`.
    """

    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    needed: NDArray[np.int64]
    is_cut: NDArray[np.bool_]

    def extent(self, number: int) -> _Extent:
        return _Extent(
            int(self.offsets[number]),
            int(self.counts[number]),
            int(self.needed[number]),
            bool(self.is_cut[number]),
        )


def _extents(page: TiffPage, grid: _Grid, planes: int, file: ImageFile, budget: int) -> _Extents:
    """Find the bytes of all segments, and check that each segment can have enough bytes for its pixels.

    The byte counts in the tags are not trusted: many programs write byte counts that are too large, or no byte counts.
    """
    name, size = file.name, file.size
    if grid.width * grid.height * grid.depth * grid.channels > max(4 * budget, 1 << 22):
        raise ImageError(name, "damaged", "the TIFF tags describe strips or tiles of impossible size")
    last = (planes - 1) * grid.volume + grid.across * grid.down
    wanted = np.fromiter(grid.indices(planes), np.intp)
    offsets = _positions(page.dataoffsets, last, file)[wanted]
    has_counts = any(code in page.tags for code in _COUNT_TAGS)
    counts = _positions(page.databytecounts, last, file)[wanted] if has_counts else np.zeros_like(offsets)
    is_sparse = (offsets == 0) & (counts == 0)
    if counts.any() or not offsets.any():
        if ((offsets == 0) != (counts == 0)).any():
            raise ImageError(name, "damaged", "strips or tiles of the TIFF file are missing")
    else:  # the file has no byte counts: a segment extends to the next segment
        counts = _following(offsets, page.dataoffsets[:last], size) - offsets
        if is_sparse.any():
            raise ImageError(name, "damaged", "strips or tiles of the TIFF file are missing")
    if (offsets >= size)[~is_sparse].any():
        raise _cut_off(file)
    is_cut = offsets + counts > size
    here = np.minimum(counts, size - offsets)
    needed = _needed(page, grid, wanted)
    growth = codec_of(page.compression, name).growth
    lacks = ~is_sparse & (here * growth < needed) if growth else np.zeros_like(is_sparse)
    if (lacks & is_cut).any() or (page.compression in FAX and is_cut.any()):
        raise _cut_off(file)
    if lacks.any():
        raise ImageError(name, "damaged", "strips or tiles of the TIFF file have too few bytes for their pixels")
    if page.compression == UNCOMPRESSED:
        here = np.minimum(here, needed)
    return _Extents(offsets, np.where(is_sparse, 0, here), needed, is_cut)


def _cut_off(file: ImageFile) -> ImageError:
    return ImageError(
        file.name, "truncated", f"the file ends after {file.size} bytes, before the end of its strips or tiles"
    )


def _positions(values: Any, last: int, file: ImageFile) -> NDArray[np.int64]:
    """Convert the first `last` offsets or byte counts of a tag to an array. Values above the file size are reduced."""
    found = np.asarray(values[:last])
    if found.size < last:
        raise ImageError(file.name, "truncated", "the TIFF file lacks the offsets of some of its strips or tiles")
    if found.dtype.kind not in "iu" or found.min() < 0:
        raise ImageError(file.name, "damaged", "the TIFF tags for the offsets of the pixels are invalid")
    positions: NDArray[np.int64] = np.minimum(found, file.size + 1).astype(np.int64)
    return positions


def _following(offsets: NDArray[np.int64], others: Any, size: int) -> NDArray[np.int64]:
    """For every offset, return the next higher offset in `others`, or the size of the file if no offset is higher."""
    ends = np.unique(np.append(np.minimum(np.asarray(others), size), size)).astype(np.int64)
    after: NDArray[np.int64] = ends[np.minimum(np.searchsorted(ends, offsets, side="right"), ends.size - 1)]
    return after


def _needed(page: TiffPage, grid: _Grid, wanted: NDArray[np.intp]) -> NDArray[np.int64]:
    """Return the number of decompressed bytes that the pixels of every segment need."""
    row = (grid.width * grid.channels * page.bitspersample + 7) // 8
    rows = np.minimum(grid.height, page.imagelength - wanted // grid.across % grid.down * grid.height)
    if grid.depth > 1:  # the rows of the next plane follow
        rows = np.full_like(wanted, grid.height * grid.depth)
    return row * rows.astype(np.int64)


def _is_contiguous(page: TiffPage, grid: _Grid, extents: _Extents) -> bool:
    """Check whether all samples are stored one after another, as NumPy reads them."""
    is_plain = page.compression == UNCOMPRESSED and page.predictor == 1 and page.fillorder == 1
    if not is_plain or page.bitspersample not in _WHOLE_BYTES or grid.width != page.imagewidth or grid.depth > 1:
        return False
    ends = extents.offsets + extents.counts
    return bool(extents.counts.all() and (extents.offsets[1:] == ends[:-1]).all())


def _complete_jpeg(page: TiffPage, grid: _Grid, index: int, data: bytes, name: str) -> bytes:
    """Return a JPEG stream with an end marker. Check that the tags of the strip or tile contain the same size.

    The check is needed because decoders accept streams of wrong size, and incomplete streams.
    """
    header = jpeg.header(data, name)
    _check_size(page, grid, index, (header.width, header.height), name)
    if header.components != grid.channels or header.precision > page.bitspersample:
        raise _wrong_size(header.width, header.height, name)
    return jpeg.completed(data, header, name, page.jpegtables or b"")


def _check_size(page: TiffPage, grid: _Grid, index: int, size: tuple[int, int], name: str) -> None:
    """Check that a compressed stream has the size of the strip or tile that the tags describe."""
    width, height = size
    cell = index % grid.volume
    # A stream can omit the pixels outside the page, or contain more rows, up to a whole number of JPEG blocks.
    widths = {grid.width, page.imagewidth - cell % grid.across * grid.width}
    least = min(grid.height, page.imagelength - cell // grid.across % grid.down * grid.height)
    if width not in widths or not least <= height <= grid.height + 15:
        raise _wrong_size(width, height, name)


def _wrong_size(width: int, height: int, name: str) -> ImageError:
    return ImageError(
        name,
        "damaged",
        f"the compressed stream has {width} x {height} pixels, but the tags describe a strip or tile of another size",
    )
