"""JPEG streams: their marker structure, what decoders do not check or only warn of; and the faster of two decoders.

Pillow decodes whatever is a JPEG. Plain streams, as most cameras and programs write them, imagecodecs decodes as well:
the same pixels, in about a tenth less time, and without Pillow's reading of the header.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import features

from twinscope_indexer.errors import ImageError

# ITU-T T.81, table B.1
_START_OF_IMAGE = b"\xff\xd8"
_END_OF_IMAGE = b"\xff\xd9"
_START_OF_SCAN = 0xDA
_BASELINE_FRAME = 0xC0
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# A marker but those that no segment follows, stuffed bytes and fill bytes; the next one is where it is found first,
# as the second byte of none of these begins another.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
_METADATA = frozenset({*range(0xE0, 0xF0), 0xFE}) - {0xE0, 0xEE}  # JFIF and Adobe's segment tell the colour space
_QUANTISATION = 0xDB
_TABLE = 65  # bytes of a quantisation table of 8-bit steps (ITU-T T.81, B.2.4.1)
_JFIF = 0xE0
_JFIF_LENGTH = 14  # of its content (JFIF 1.02), but for a thumbnail
_PLAIN = frozenset({0xC0, 0xC4, 0xDA, _QUANTISATION, _JFIF})  # the others: frame, Huffman tables, scan
_SEARCHED = 1 << 18  # bytes at a time; of damaged ones all may look like markers
_MOST_SEGMENTS = 65_536  # real headers have some hundred at most; a hostile one could fill the memory with them
_MAX_SIDE = 65_500  # of libjpeg; imagecodecs may be built for more
# The parts of a baseline frame header and of its only scan's that tell how components are sampled and interleaved:
# grey; Y, Cb, Cr with 4:4:4, 4:2:2 and 4:2:0. `.` is the number of a table.
_PLAIN_FRAME = re.compile(rb"\x01.\x11.|\x03\x01[\x11\x21\x22].\x02\x11.\x03\x11.", re.DOTALL)
_PLAIN_SCAN = re.compile(rb"\x01..\x00\x3f\x00|\x03\x01.\x02.\x03.\x00\x3f\x00", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Frame:
    """What the frame header of a JPEG stream claims (ITU-T T.81, B.2.2)."""

    precision: int
    """Bits per sample."""
    height: int
    width: int
    components: int

    @property
    def mode(self) -> str:
        """Pillow's name for the pixels of a plain stream."""
        return "L" if self.components == 1 else "RGB"


def frame(data: bytes, name: str) -> Frame:
    """Read the frame header, and see that the stream has an end.

    Raises
    ------
    ImageError
        ``damaged`` if there is no frame before the first scan; ``truncated`` if the stream stops inside its header,
        or has no end marker. `name` is what the error calls it.
    """
    for marker, start, end in _segments(data, name):
        if marker in _FRAMES:
            if end - start < 10:
                raise ImageError(name, "damaged", "the JPEG frame header is too short")
            found = _frame_at(data, start)
            if data.rfind(_END_OF_IMAGE, end) < 0:
                raise ImageError(name, "truncated", "the JPEG stream has no end marker")
            return found
    raise ImageError(name, "damaged", "the JPEG stream has no frame header")


def without_metadata(data: bytes, name: str) -> bytes:
    """Leave out comments and application segments (Exif, ICC, thumbnails) but those that tell the colour space.

    Metadata has no influence on the pixels, but much on how decoders fail.

    Raises
    ------
    ImageError
        As for `frame`.
    """
    segments = list(_segments(data, name))
    if sum(end - start for marker, start, end in segments if marker not in _METADATA) == segments[-1][2] - 2:
        return data  # nothing is between the segments either
    parts = [_START_OF_IMAGE]
    for marker, start, end in segments:
        if marker == _START_OF_SCAN:
            parts.append(data[start:])
        elif marker not in _METADATA:
            parts.append(data[start:end])
    return b"".join(parts)


def plain_frame(data: bytes) -> Frame | None:
    """Give the frame header of a stream that decoders cannot but agree on, damaged pixels included; None of others.

    Such a plain stream is a baseline picture, grey or Y, Cb, Cr, in one scan, without metadata, restarts and anything
    between its segments; the first marker after its pixels is the end, where decoders stop, whatever follows. Then one
    that has the whole stream in memory and one that is given it in pieces do the same: neither ever asks for more than
    there is, looks for a lost marker, or smooths a picture that is sent in refinements. Without Adobe's segment,
    components 1, 2 and 3 are Y, Cb and Cr to both. Nor is anything in its header that Pillow refuses, or reads
    otherwise than libjpeg does.
    """
    from twinscope_indexer.imaging.jpeg_scan import first_marker  # here, because Numba takes long to import

    try:
        segments = list(_segments(data, ""))
    except ImageError:
        return None
    frames = [start for marker, start, _ in segments if marker == _BASELINE_FRAME]
    _, start, end = segments[-1]
    if (
        len(frames) != 1
        or not all(_is_plain_segment(marker, data[begin + 4 : stop]) for marker, begin, stop in segments)
        or sum(stop - begin for _, begin, stop in segments) != end - len(_START_OF_IMAGE)  # something is between
    ):
        return None
    (at,) = frames
    sampling = data[at + 9 : at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")]
    order = data[start + 4 : end]
    if not (_PLAIN_FRAME.fullmatch(sampling) and _PLAIN_SCAN.fullmatch(order) and sampling[0] == order[0]):
        return None
    found = _frame_at(data, at)
    if found.precision != 8 or not all(0 < side <= _MAX_SIDE for side in (found.height, found.width)):
        return None
    marker = first_marker(np.frombuffer(data, np.uint8)[end:])
    return found if marker >= 0 and data.startswith(_END_OF_IMAGE, end + marker) else None


def decode_plain(data: bytes, plain: Frame) -> NDArray[np.uint8]:
    """Decode a plain stream by imagecodecs.

    Parameters
    ----------
    data : bytes
        The stream.
    plain : Frame
        What `plain_frame` gave of it; the caller has seen that there is memory for so many pixels.

    Returns
    -------
    ndarray of uint8, shape (height, width) or (height, width, 3)
        Grey, or red, green and blue: what Pillow makes of it.

    Raises
    ------
    RuntimeError, ValueError, MemoryError
        If it is refused: then Pillow has to tell what is wrong, if anything is.
    """
    if not _decoders_agree():
        raise RuntimeError("imagecodecs and Pillow decode by different libraries")
    pixels: NDArray[np.uint8] = imagecodecs.jpeg8_decode(data)
    shape = (plain.height, plain.width) if plain.components == 1 else (plain.height, plain.width, plain.components)
    if pixels.dtype != np.uint8 or pixels.shape != shape:
        raise ValueError(f"pixels of {pixels.dtype}, shape {pixels.shape}, are not those of a frame of shape {shape}")
    return pixels


def _is_plain_segment(marker: int, content: bytes) -> bool:
    """Tell whether a segment is one of a plain stream, and as Pillow wants it."""
    if marker == _QUANTISATION:
        # Pillow knows tables of 64 bytes, each after its number; those of 16-bit steps are of another process.
        return len(content) % _TABLE == 0 and all(number < 16 for number in content[::_TABLE])
    if marker == _JFIF:
        return len(content) >= _JFIF_LENGTH or not content.startswith(b"JFIF")
    return marker in _PLAIN


def _frame_at(data: bytes, start: int) -> Frame:
    """Read the frame header whose marker is at `start`."""
    return Frame(
        precision=data[start + 4],
        height=int.from_bytes(data[start + 5 : start + 7], "big"),
        width=int.from_bytes(data[start + 7 : start + 9], "big"),
        components=data[start + 9],
    )


@cache
def _decoders_agree() -> bool:
    """Tell whether Pillow and imagecodecs both decode by libjpeg-turbo, whose versions give equal pixels."""
    turbo = imagecodecs.JPEG8.available and str(imagecodecs.jpeg8_version()).startswith("libjpeg_turbo")
    return bool(turbo and features.check_feature("libjpeg_turbo"))


def _segments(data: bytes, name: str) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of every segment up to and with the first start of scan."""
    if not data.startswith(_START_OF_IMAGE):
        raise ImageError(name, "damaged", "the JPEG stream has no start marker")
    at = 2
    for _ in range(_MOST_SEGMENTS):
        at = _next_marker(data, at)
        if at < 0 or at + 4 > len(data):
            raise ImageError(name, "truncated", "the JPEG stream stops inside its header")
        marker = data[at + 1]
        if marker == 0xD9:
            raise ImageError(name, "damaged", "the JPEG stream ends before its picture")
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end > len(data):
            raise ImageError(name, "truncated", "the JPEG stream stops inside its header")
        if end < at + 4:
            raise ImageError(name, "damaged", "the JPEG stream has a segment of impossible length")
        yield marker, at, end
        if marker == _START_OF_SCAN:
            return
        at = end
    raise ImageError(name, "damaged", f"the JPEG stream has more than {_MOST_SEGMENTS:,} segments before its picture")


def _next_marker(data: bytes, start: int) -> int:
    """Find the next marker in a header from `start` on; -1 if there is none."""
    for first in range(start, len(data) - 1, _SEARCHED):  # Python's lock is held for one go
        if found := _MARKER.search(data, first, first + _SEARCHED + 1):
            return found.start()
    return -1
