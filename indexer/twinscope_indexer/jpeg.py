"""The marker structure of JPEG streams: what decoders do not check, or only warn of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from twinscope_indexer.errors import ImageError

# ITU-T T.81, table B.1
_START_OF_IMAGE = b"\xff\xd8"
_END_OF_IMAGE = b"\xff\xd9"
_START_OF_SCAN = 0xDA
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LONE = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})  # markers that no segment follows, and stuffed bytes
_METADATA = frozenset({*range(0xE0, 0xF0), 0xFE}) - {0xE0, 0xEE}  # JFIF and Adobe's segment tell the colour space


@dataclass(frozen=True, slots=True)
class Frame:
    """What the frame header of a JPEG stream claims (ITU-T T.81, B.2.2)."""

    precision: int
    """Bits per sample."""
    height: int
    width: int
    components: int


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
            found = Frame(
                precision=data[start + 4],
                height=int.from_bytes(data[start + 5 : start + 7], "big"),
                width=int.from_bytes(data[start + 7 : start + 9], "big"),
                components=data[start + 9],
            )
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
    parts = [_START_OF_IMAGE]
    for marker, start, end in _segments(data, name):
        if marker == _START_OF_SCAN:
            parts.append(data[start:])
        elif marker not in _METADATA:
            parts.append(data[start:end])
    return b"".join(parts)


def _segments(data: bytes, name: str) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of every segment up to and with the first start of scan."""
    if not data.startswith(_START_OF_IMAGE):
        raise ImageError(name, "damaged", "the JPEG stream has no start marker")
    at = 2
    while True:
        at = data.find(b"\xff", at)
        if at < 0 or at + 4 > len(data):
            raise ImageError(name, "truncated", "the JPEG stream stops inside its header")
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _LONE:
            at += 2
        elif marker == 0xD9:
            raise ImageError(name, "damaged", "the JPEG stream ends before its picture")
        else:
            end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            if end > len(data):
                raise ImageError(name, "truncated", "the JPEG stream stops inside its header")
            if end < at + 4:
                raise ImageError(name, "damaged", "the JPEG stream has a segment of impossible length")
            yield marker, at, end
            if marker == _START_OF_SCAN:
                return
            at = end
