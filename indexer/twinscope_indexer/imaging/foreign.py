"""Description of files that have the name of an image, but are not images that Twinscope reads."""

from __future__ import annotations

import re
from typing import BinaryIO, Final

_HEAD: Final = 4096  # bytes
_BLOCK: Final = 1 << 20  # bytes
_SHOWN: Final = 40  # characters of a text file
_UNPACK: Final = "unpack it first"
_SAVE: Final = "save it as TIFF or PNG"

# Position, first bytes, what the file is, what to do. The first match counts.
_SIGNATURES: Final[tuple[tuple[int, bytes, str, str], ...]] = (
    (0, b"version https://git-lfs.github.com/", "a Git LFS pointer instead of the image", "run 'git lfs pull'"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (0, b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (0, b"PK\x03\x04", "a zip archive or an Office document", _UNPACK),
    (0, b"PK\x05\x06", "an empty zip archive", ""),
    (0, b"\x1f\x8b", "a file compressed with gzip", _UNPACK),
    (0, b"BZh", "a file compressed with bzip2", _UNPACK),
    (0, b"\xfd7zXZ\0", "a file compressed with xz", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "a file compressed with Zstandard", _UNPACK),
    (257, b"ustar", "a tar archive", _UNPACK),
    (0, b"%PDF-", "a PDF document", "save its pictures as TIFF or PNG"),
    (0, b"%!PS", "a PostScript document", _SAVE),
    (0, b"{\\rtf", "an RTF document", ""),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an OLE file (an old Office document, or .zvi, .oib)", _SAVE),
    (0, b"GIF87a", "a GIF image", "save it as PNG"),
    (0, b"GIF89a", "a GIF image", "save it as PNG"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file (.h5, .hdf5, .emd, .ims)", _SAVE),
    (0, b"\0\0\0\3", "a DigitalMicrograph file (.dm3)", _SAVE),
    (0, b"\0\0\0\4", "a DigitalMicrograph file (.dm4)", _SAVE),
    (0, b"II\x97\x01", "a TIA series (.ser)", _SAVE),
    (0, b"JK\0\2", "a TIA file (.emi)", _SAVE),
    (208, b"MAP ", "an MRC file (.mrc, .map, .rec)", _SAVE),
    (0, b"AAMVHFSS", "a Bruker file (.bcf)", _SAVE),
    (0, b"ZISRAWFILE", "a Zeiss file (.czi)", _SAVE),
    (0, b"\xda\xce\xbe\x0a", "a Nikon file (.nd2)", _SAVE),
    (0, b"\x70\0\0\0", "a Leica file (.lif)", _SAVE),
    (128, b"DICM", "a DICOM file", _SAVE),
    (0, b"SIMPLE  =", "a FITS file", _SAVE),
    (0, b"\x93NUMPY", "a NumPy array (.npy)", _SAVE),
    (0, b"MATLAB 5.0", "a MATLAB file (.mat)", _SAVE),
    (0, b"8BPS", "a Photoshop image (.psd)", _SAVE),
    (0, b"v/1\x01", "an OpenEXR image", _SAVE),
    (0, b"\0\0\1\0", "a Windows icon (.ico)", _SAVE),
    (0, b"II\xbc\1", "a JPEG XR image", _SAVE),
    (0, b"\xff\x0a", "a JPEG XL image", _SAVE),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL image", _SAVE),
    (4, b"ftypavif", "an AVIF image", _SAVE),
    (4, b"ftyphei", "a HEIC image", _SAVE),
    (4, b"ftypmif1", "a HEIF image", _SAVE),
    (4, b"ftyp", "an MP4 or QuickTime video", "save its pictures as TIFF or PNG"),
    (8, b"AVI ", "an AVI video", "save its pictures as TIFF or PNG"),
    (0, b"\x1aE\xdf\xa3", "a Matroska or WebM video", "save its pictures as TIFF or PNG"),
    (0, b"\0\5\x16\7", "an AppleDouble file of macOS without the image", "use the file without the '._'"),
    (0, b"L\0\0\0\1\x14\2\0", "a Windows shortcut to another file", "copy the file itself"),
    (0, b"SQLite format 3", "an SQLite database", ""),
    (0, b"MZ", "a Windows program", ""),
    (0, b"\x7fELF", "a program", ""),
)  # fmt: skip
_NETPBM = re.compile(rb"P[1-7]\s")
_TEXTS: Final = (
    (re.compile(r"\s*(<!doctype html|<html|<head|<body)", re.IGNORECASE), "an HTML page", "download the image again"),
    (re.compile(r"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<svg", re.IGNORECASE | re.DOTALL), "an SVG drawing", _SAVE),
    (re.compile(r"\s*<\?xml", re.IGNORECASE), "an XML file", ""),
    (re.compile(r"\s*[{\[]\s*[\"{\[\]}]"), "a JSON file", ""),
)


def what_it_is(stream: BinaryIO) -> str:
    """Describe a file that is not an image that Twinscope reads, and say what the user can do.

    Parameters
    ----------
    stream : binary file
        Seekable content of the file. The position after the call is undefined.

    Returns
    -------
    str
        A part of a sentence, for example ``is a PDF document: save its pictures as TIFF or PNG``.
    """
    stream.seek(0)
    head = stream.read(_HEAD)
    if not head.strip(b"\0") and _is_zero(stream):
        return "contains only zeros: copy the file again"
    for at, start, kind, advice in _SIGNATURES:
        if head.startswith(start, at):
            return _sentence(kind, advice)
    if _NETPBM.match(head):
        return _sentence("a Netpbm image (.pgm, .ppm)", _SAVE)
    text = _text(head)
    for pattern, kind, advice in _TEXTS:
        if pattern.match(text):
            return _sentence(kind, advice)
    if text:
        return f"is a text file that begins with {text.strip()[:_SHOWN]!r}"
    return "is not a TIFF, JPEG, PNG, BMP, WebP or JPEG 2000 file"


def _sentence(kind: str, advice: str) -> str:
    return f"is {kind}: {advice}" if advice else f"is {kind}"


def _is_zero(stream: BinaryIO) -> bool:
    """Check whether the rest of a file contains only zeros."""
    while block := stream.read(_BLOCK):
        if block.strip(b"\0"):
            return False
    return True


def _text(head: bytes) -> str:
    """Return the first part of a file as text, or an empty string if the file is not a text."""
    wide = head.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = head.decode("utf-16" if wide else "utf-8-sig", errors="replace")
    if len(head) == _HEAD:
        text = text.rstrip("\ufffd")  # the last character can be cut
    is_text = all(character.isprintable() or character.isspace() for character in text) and "\ufffd" not in text
    return text if is_text and text.strip() else ""
