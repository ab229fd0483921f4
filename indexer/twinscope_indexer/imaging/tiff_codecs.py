"""The compressions of TIFF strips and tiles that can be decoded, and the sizes that compressed streams claim.

Some decoders allocate memory for any size that a stream claims. Other decoders fill missing pixels without an error.
This module therefore checks a stream before it is decoded.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import imagecodecs
from tifffile import COMPRESSION

from twinscope_indexer.errors import ImageError
from twinscope_indexer.imaging import codestream
from twinscope_indexer.imaging.limits import DEFLATE_RATIO

UNCOMPRESSED, LZW, OLD_JPEG, LZMA = 1, 5, 6, 34925
"""Values of the compression tag. Old-style JPEG is described in TIFF 6.0, section 22."""
FAX: Final = frozenset({2, 3, 4})
"""Values of the compression tag for the fax codes. The decoder does not notice if a part of the data is missing."""

_LZW_RATIO, _PACKBITS_RATIO = 2731, 64  # LZW: 4096 bytes from 12 bits
_UNLIMITED = 0


@dataclass(frozen=True, slots=True)
class Codec:
    """A compression that can be decoded."""

    name: str
    growth: int = _UNLIMITED
    """Maximum number of decompressed bytes for each compressed byte. 0 means that there is no useful limit."""
    decoder: str = ""
    """Name of the decoder in imagecodecs. Empty: the decoder is always present."""


_CODECS: Final = {
    UNCOMPRESSED: Codec("no compression", 1),
    2: Codec("CCITT run lengths", decoder="CCITTRLE"),
    3: Codec("CCITT fax group 3", decoder="CCITTFAX3"),
    4: Codec("CCITT fax group 4", decoder="CCITTFAX4"),
    LZW: Codec("LZW", _LZW_RATIO),
    OLD_JPEG: Codec("old-style JPEG"),
    7: Codec("JPEG"),
    8: Codec("Deflate", DEFLATE_RATIO),
    32946: Codec("Deflate", DEFLATE_RATIO),
    32773: Codec("PackBits", _PACKBITS_RATIO),
    22610: Codec("JPEG XR", decoder="JPEGXR"),
    33003: Codec("JPEG 2000", decoder="JPEG2K"),
    33004: Codec("JPEG 2000", decoder="JPEG2K"),
    33005: Codec("JPEG 2000", decoder="JPEG2K"),
    33007: Codec("JPEG"),
    34712: Codec("JPEG 2000", decoder="JPEG2K"),
    34887: Codec("LERC", decoder="LERC"),
    34892: Codec("JPEG"),
    LZMA: Codec("LZMA", decoder="LZMA"),
    34926: Codec("Zstandard", decoder="ZSTD"),
    34927: Codec("WebP", decoder="WEBP"),
    34933: Codec("PNG", decoder="PNG"),
    34934: Codec("JPEG XR", decoder="JPEGXR"),
    50000: Codec("Zstandard", decoder="ZSTD"),
    50001: Codec("WebP", decoder="WEBP"),
    50002: Codec("JPEG XL", decoder="JPEGXL"),
    52546: Codec("JPEG XL", decoder="JPEGXL"),
}
JPEGS: Final = frozenset(number for number, codec in _CODECS.items() if codec.name == "JPEG")
"""Values of the compression tag for strips and tiles that are JPEG streams."""


def codec_of(compression: int, name: str) -> Codec:
    """Return the codec for a value of the compression tag.

    Parameters
    ----------
    compression : int
        Value of the compression tag.
    name : str
        Name of the image in error messages.

    Raises
    ------
    ImageError
        If the compression cannot be decoded. The message contains the name and the number of the compression.
    """
    codec = _CODECS.get(compression)
    if codec is None:
        raise ImageError(name, "unsupported", f"TIFF compression {_named(compression)} is not supported")
    if codec.decoder and not getattr(getattr(imagecodecs, codec.decoder, None), "available", False):
        raise ImageError(
            name,
            "unsupported",
            f"TIFF compression {codec.name} ({compression}) needs a decoder that the installed imagecodecs lacks",
        )
    return codec


def _named(compression: int) -> str:
    try:
        return f"{COMPRESSION(compression).name} ({int(compression)})"
    except ValueError:
        return f"number {int(compression)}"


def trimmed(compression: int, data: bytes, needed: int) -> bytes:
    """Remove the bytes that follow a compressed stream, for the compressions whose decoder refuses further bytes.

    Parameters
    ----------
    compression : int
        Value of the compression tag.
    data : bytes
        The compressed stream, and bytes that may follow it.
    needed : int
        Number of decompressed bytes.
    """
    trim = _ENDS.get(_CODECS[compression].name)
    return data if trim is None else data[: trim(data, needed)]


def claimed_size(compression: int, data: bytes, name: str) -> tuple[int, int] | None:
    """Read the width and height that a compressed stream claims, and check that the stream is complete.

    The completeness is only checked for the compressions whose decoder does not check it.

    Parameters
    ----------
    compression : int
        Value of the compression tag.
    data : bytes
        Content of a strip or tile.
    name : str
        Name of the image in error messages.

    Returns
    -------
    tuple of int or None
        Width and height in pixels. None if the streams of this compression do not contain a size.

    Raises
    ------
    ImageError
        If the header of the stream is invalid, or if the stream is incomplete.
    """
    read = _SIZES.get(_CODECS[compression].name)
    if read is None:
        return None
    try:
        return read(data)
    except codestream.IncompleteError as error:
        raise ImageError(name, "truncated", str(error)) from error
    except (struct.error, LookupError, ValueError) as error:
        raise ImageError(
            name, "damaged", f"a strip or tile of the TIFF file is not a {_CODECS[compression].name} stream"
        ) from error


_ENDS: Final = {
    "LZMA": codestream.lzma_end,
    "PackBits": codestream.packbits_end,
    "Zstandard": codestream.zstd_end,
}
_SIZES: Final = {
    "JPEG 2000": codestream.jpeg2000_size,
    "JPEG XL": codestream.jpegxl_size,
    "JPEG XR": codestream.jpegxr_size,
    "LERC": codestream.lerc_size,
    "PNG": codestream.png_size,
    "WebP": codestream.webp_size,
}
