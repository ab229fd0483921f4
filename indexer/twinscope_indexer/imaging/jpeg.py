"""Decoding of JPEG files, after a check of the marker structure.

The check is needed because decoders ignore faults in the marker structure, or only issue a warning. Two decoders are
used. Pillow decodes every kind of JPEG. simplejpeg does not read the metadata and copies no pixel twice, and is
therefore faster. Both decoders use libjpeg-turbo. If both decoders can decode a stream without a warning, they return
equal pixels.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import simplejpeg
from PIL import features
from PIL.JpegImagePlugin import JpegImageFile

from twinscope_indexer.errors import ImageError
from twinscope_indexer.imaging.limits import check_budget
from twinscope_indexer.imaging.pillow import decoding
from twinscope_indexer.imaging.raster import Raster
from twinscope_indexer.imaging.sniffing import ImageFile

# ITU-T T.81, table B.1
_START_OF_IMAGE = b"\xff\xd8"
_END_OF_IMAGE = b"\xff\xd9"
_START_OF_SCAN = 0xDA
_BASELINE_FRAME = 0xC0
_PROGRESSIVE_FRAMES = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Two bytes that are the marker of a segment. Pairs with a stuffed byte or a fill byte do not match. A marker never
# begins at a stuffed byte. A marker can begin at a fill byte, and the search continues at this byte. The first match is
# therefore the next marker.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
_HUFFMAN_TABLES, _RESTART_INTERVAL, _QUANTISATION_TABLES = 0xC4, 0xDD, 0xDB
_EXIF = 0xE1
_JFIF, _ADOBE = 0xE0, 0xEE  # both kinds of segments define the colour space
_METADATA = frozenset({*range(0xE0, 0xF0), 0xFE}) - {_JFIF, _ADOBE}
_PLAIN = _METADATA | {_BASELINE_FRAME, _HUFFMAN_TABLES, _RESTART_INTERVAL, _START_OF_SCAN}
_QUANTISATION_TABLE = 65  # bytes: one for the number of the table, and 64 for its 8-bit steps (ITU-T T.81, B.2.4.1)
_COEFFICIENTS = 64  # of a block
_MOST_SCANS = 1000
_SPACES = {1: "GRAY", 3: "RGB", 4: "CMYK"}  # number of components -> name of the colour space in simplejpeg
_MODES = {1: "L", 3: "RGB"}  # number of components -> Pillow's mode
# Pillow can also be built with another JPEG library. Such a library rounds differently.
_SAME_LIBRARY = features.check_feature("libjpeg_turbo")
_SEARCHED = 1 << 18  # number of bytes that are searched at a time; in damaged data, every byte can look like a marker
_MOST_SEGMENTS = 65_536  # real headers have at most a few hundred segments; a hostile header could fill the memory


@dataclass(frozen=True, slots=True)
class Frame:
    """The values in the frame header of a JPEG stream (ITU-T T.81, B.2.2). The values can be wrong."""

    precision: int
    """Bits per sample."""
    height: int
    width: int
    components: int


def frame(data: bytes, name: str) -> Frame:
    """Read the frame header of a JPEG stream, and check that the stream has an end marker.

    Raises
    ------
    ImageError
        The fault is ``damaged`` if the stream has no frame header before the first scan. The fault is ``truncated`` if
        the stream stops inside its header, or has no end marker. The error message begins with `name`.
    """
    found = header(data, name)
    if not _has_end(data, name):
        raise ImageError(name, "truncated", "the JPEG stream has no end marker")
    return found


def header(data: bytes, name: str) -> Frame:
    """Read the frame header of a JPEG stream. The rest of the stream is not checked.

    Raises
    ------
    ImageError
        The fault is ``damaged`` if the stream has no frame header before the first scan. The fault is ``truncated`` if
        the stream stops inside its header.
    """
    return _frame_at(data, _frame_segment(data, name)[0])


def completed(data: bytes, claimed: Frame, name: str, tables: bytes = b"") -> bytes:
    """Return a JPEG stream with an end marker.

    Some cameras and frame grabbers write no end marker. If the end marker is the only part that is missing, it is
    added. A stream in which pixels are missing is refused.

    Parameters
    ----------
    data : bytes
        Content of the JPEG stream.
    claimed : Frame
        Frame header of the stream, as returned by `header`. The caller has checked that the pixels fit in memory.
    name : str
        Name of the image in error messages.
    tables : bytes
        JPEG stream that contains only the tables for `data`. Empty if the tables are in `data`.

    Raises
    ------
    ImageError
        The fault is ``truncated`` if pixels are missing.
    """
    if _has_end(data, name):
        return data
    whole = _without_padding(data) + _END_OF_IMAGE
    if _has_all_scans(whole[:-2], claimed, name) and _has_all_blocks(tables[:-2] + whole[2 * bool(tables) :], claimed):
        return whole
    raise ImageError(name, "truncated", "the JPEG stream has no end marker, and some of its pixels are missing")


def _has_end(data: bytes, name: str) -> bool:
    return data.rfind(_END_OF_IMAGE, _frame_segment(data, name)[1]) >= 0


def _without_padding(data: bytes) -> bytes:
    """Remove the zeros that some programs write after a stream, because they could stand for lost blocks."""
    content = data.rstrip(b"\0")
    belongs = content.endswith(b"\xff") or len(data) == len(content) + 1
    return data[: len(content) + 1] if belongs else content


def _has_all_scans(data: bytes, claimed: Frame, name: str) -> bool:
    """Check whether the scans of a stream without end marker contain all coefficients of all components."""
    progressive = data[_frame_segment(data, name)[0] + 1] in _PROGRESSIVE_FRAMES
    missing_bits: dict[int, list[int]] = {}  # component -> for every coefficient, number of missing low bits
    at = next(start for marker, start, _ in _segments(data, name) if marker == _START_OF_SCAN)
    for _ in range(_MOST_SCANS):
        if data[at + 1] == _START_OF_SCAN:
            count = data[at + 4]
            if at + 8 + 2 * count > len(data):
                return False
            first, last, bits = data[at + 5 + 2 * count : at + 8 + 2 * count]
            for component in data[at + 5 : at + 5 + 2 * count : 2]:
                lack = missing_bits.setdefault(component, [16] * _COEFFICIENTS)
                for coefficient in range(first, min(last + 1, _COEFFICIENTS)) if progressive else range(_COEFFICIENTS):
                    lack[coefficient] = bits & 15 if progressive else 0
        at = _next_marker(data, at + 2)
        if at < 0 or at + 5 > len(data):
            return len(missing_bits) == claimed.components and not any(any(lack) for lack in missing_bits.values())
    return False


def _has_all_blocks(data: bytes, claimed: Frame) -> bool:
    """Check whether libjpeg decodes a stream without a warning. libjpeg warns if blocks are missing."""
    space = _SPACES.get(claimed.components)
    if space is None or claimed.precision != 8:
        return False
    try:
        simplejpeg.decode_jpeg(data, space, strict=True)
    except (ValueError, RuntimeError, MemoryError):
        return False
    return True


def exif(data: bytes, name: str) -> bytes:
    """Return the content of the first Exif segment of a JPEG stream. Without such a segment, the result is empty.

    Raises
    ------
    ImageError
        As for `header`.
    """
    contents = (data[start + 4 : end] for marker, start, end in _segments(data, name) if marker == _EXIF)
    return next((content for content in contents if content.startswith(b"Exif\0\0")), b"")


def without_metadata(data: bytes, name: str) -> bytes:
    """Remove comments and application segments (Exif, ICC, thumbnails), but keep segments that define the colour space.

    The removed segments do not affect the pixels, but can cause errors in decoders.

    Raises
    ------
    ImageError
        As for `frame`.
    """
    segments = list(_segments(data, name))
    if sum(end - start for marker, start, end in segments if marker not in _METADATA) == segments[-1][2] - 2:
        return data  # the header has no metadata, and no bytes between the segments
    pieces = [_START_OF_IMAGE]
    for marker, start, end in segments:
        if marker == _START_OF_SCAN:
            pieces.append(data[start:])
        elif marker not in _METADATA:
            pieces.append(data[start:end])
    return b"".join(pieces)


def read_jpeg(file: ImageFile, budget: int) -> Raster:
    """Read a JPEG file completely and decode it.

    Raises
    ------
    ImageError
    """
    file.stream.seek(0)
    data = file.stream.read()
    claimed = header(data, file.name)
    check_budget(file.name, claimed.width, claimed.height, budget)
    return decode(completed(data, claimed, file.name), claimed, file.name)


def decode(data: bytes, claimed: Frame, name: str) -> Raster:
    """Decode a JPEG stream.

    Parameters
    ----------
    data : bytes
        Content of the JPEG stream.
    claimed : Frame
        Frame header of the stream, as returned by `header`. The caller has checked that the pixels fit in memory.
    name : str
        Name of the image in error messages.

    Returns
    -------
    Raster
        Decoded image. The pixels are the same as if Pillow had decoded the stream.

    Raises
    ------
    ImageError
    """
    mode = _MODES.get(claimed.components)
    if _SAME_LIBRARY and mode is not None and claimed.precision == 8 and _is_plain(data):
        with suppress(ValueError, RuntimeError, MemoryError):  # after an error, Pillow decodes the stream below
            # With `strict=True`, every warning of libjpeg is an error. Pillow therefore decodes all damaged streams.
            pixels = simplejpeg.decode_jpeg(data, "GRAY" if mode == "L" else mode, strict=True)
            return Raster(pixels[..., 0] if mode == "L" else pixels, "JPEG", mode, claimed.precision)
    essential = without_metadata(data, name)
    with decoding(name):
        image = JpegImageFile(io.BytesIO(essential))
        image.load()
    return Raster(image, "JPEG", image.mode, claimed.precision)


def _is_plain(data: bytes) -> bool:
    """Check whether a stream has only common segments.

    Most cameras and programs write such segments, and Pillow accepts them.
    """
    try:
        return all(_is_plain_segment(marker, data[start + 4 : end]) for marker, start, end in _segments(data, ""))
    except ImageError:
        return False


def _is_plain_segment(marker: int, content: bytes) -> bool:
    """Check whether a plain stream can contain a segment. A plain stream contains only segments that Pillow accepts."""
    if marker == _QUANTISATION_TABLES:
        return len(content) % _QUANTISATION_TABLE == 0 and max(content[::_QUANTISATION_TABLE], default=0) < 4
    if marker == _JFIF:
        return len(content) >= 14 or not content.startswith(b"JFIF")
    if marker == _ADOBE:
        return len(content) >= 12 or not content.startswith(b"Adobe")
    return marker in _PLAIN


def _frame_segment(data: bytes, name: str) -> tuple[int, int]:
    """Return the start and the end of the frame header of a stream."""
    for marker, start, end in _segments(data, name):
        if marker in _FRAMES:
            if end - start < 10:
                raise ImageError(name, "damaged", "the JPEG frame header is too short")
            return start, end
    raise ImageError(name, "damaged", "the JPEG stream has no frame header")


def _frame_at(data: bytes, start: int) -> Frame:
    """Read the frame header whose marker is at `start`."""
    return Frame(
        precision=data[start + 4],
        height=int.from_bytes(data[start + 5 : start + 7], "big"),
        width=int.from_bytes(data[start + 7 : start + 9], "big"),
        components=data[start + 9],
    )


def _segments(data: bytes, name: str) -> Iterator[tuple[int, int, int]]:
    """Yield the marker, the start and the end of every segment, up to and including the first start-of-scan segment."""
    if not data.startswith(_START_OF_IMAGE):
        raise ImageError(name, "damaged", "the JPEG stream has no start marker")
    at = 2
    for _ in range(_MOST_SEGMENTS):
        at = _next_marker(data, at)
        if at < 0 or at + 4 > len(data):
            raise ImageError(name, "truncated", "the JPEG stream stops inside its header")
        marker = data[at + 1]
        if marker == 0xD9:
            raise ImageError(name, "damaged", "the JPEG stream ends before its pixels")
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end > len(data):
            raise ImageError(name, "truncated", "the JPEG stream stops inside its header")
        if end < at + 4:
            raise ImageError(name, "damaged", "the JPEG stream has a segment of impossible length")
        yield marker, at, end
        if marker == _START_OF_SCAN:
            return
        at = end
    raise ImageError(name, "damaged", f"the JPEG stream has more than {_MOST_SEGMENTS:,} segments before its pixels")


def _next_marker(data: bytes, start: int) -> int:
    """Return the position of the first marker at or after `start` in a header. Return -1 if there is no such marker."""
    for first in range(start, len(data) - 1, _SEARCHED):  # in steps, because each search holds Python's global lock
        if found := _MARKER.search(data, first, first + _SEARCHED + 1):
            return found.start()
    return -1
