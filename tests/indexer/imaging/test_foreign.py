"""If a file has the name of an image but is something else, the message says what the file is, and what to do."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
import zipfile

import pytest
from PIL import Image
from twinscope_indexer.errors import ImageError
from twinscope_indexer.imaging.reader import read_image


def saved(form: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (40, 30), 99).save(buffer, form)
    return buffer.getvalue()


def packed(form: str) -> bytes:
    buffer = io.BytesIO()
    if form == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("a.jpg", b"a")
    else:
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("a.jpg"))
    return buffer.getvalue()


FILES = {
    "Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "run 'git lfs pull'"),
    "HTML": (b"\n <!DOCTYPE html><html><title>Sign in</title>", "an HTML page: download the image again"),
    "HTML with a BOM": (b"\xef\xbb\xbf<HTML><body>", "an HTML page"),
    "zeros": (bytes(5000), "contains only zeros"),
    "one zero": (b"\0", "contains only zeros"),
    "zeros and a value": (bytes(2 << 20) + b"\1", "is not a TIFF"),
    "7z": (b"7z\xbc\xaf'\x1c" + bytes(100), "a 7z archive: unpack it"),
    "rar": (b"Rar!\x1a\7\0" + bytes(100), "a RAR archive"),
    "zip": (packed("zip"), "a zip archive"),
    "tar": (packed("tar"), "a tar archive"),
    "gzip": (gzip.compress(b"a"), "compressed with gzip"),
    "xz": (lzma.compress(b"a"), "compressed with xz"),
    "PDF": (saved("PDF"), "a PDF document"),
    "GIF": (saved("GIF"), "a GIF image: save it as PNG"),
    "dm3": (b"\0\0\0\3" + bytes(200), r"\.dm3"),
    "dm4": (b"\0\0\0\4" + bytes(200), r"\.dm4"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(200), "HDF5"),
    "MRC": (bytes([1] * 208) + b"MAP DD\0\0", "MRC"),
    "SER": (b"II\x97\1" + bytes(99), "TIA series"),
    "MP4": (b"\0\0\0\x20ftypisom" + bytes(99), "MP4"),
    "HEIC": (b"\0\0\0\x20ftypheic" + bytes(99), "HEIC"),
    "AVI": (b"RIFF\1\0\0\0AVI LIST", "AVI video"),
    "OLE": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), "OLE file"),
    "SVG": (b"<?xml version='1.0'?>\n<svg width='1'/>", "an SVG drawing"),
    "XML": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML file"),
    "JSON": (b'{"message": "Not found"}', "a JSON file"),
    "text": ("Probe 7, 15 kV, Größe\n".encode(), "a text file that begins with 'Probe 7, 15 kV"),
    "UTF-16": ("Probe 7".encode("utf-16"), "a text file that begins with 'Probe 7'"),
    "text cut inside a character": (b"a" + "ö".encode() * 4000, "a text file"),
    "PPM": (saved("PPM"), "Netpbm"),
    "NumPy": (b"\x93NUMPY\1\0", "NumPy"),
    "other": (b"\x81\x92\x03" * 30, "is not a TIFF, JPEG, PNG, BMP, WebP or JPEG 2000 file"),
}


@pytest.mark.parametrize("kind", FILES)
def test_message_says_what_the_file_is(kind: str) -> None:
    data, words = FILES[kind]
    with pytest.raises(ImageError, match=words) as caught:
        read_image(data, name="a.jpg")
    assert caught.value.fault == "unsupported"
    assert "\n" not in str(caught.value)


def test_every_short_file_has_a_message() -> None:
    for first in range(256):
        for data in (bytes([first]), bytes([first, 0x8B]), bytes([first]) * 4096):
            with pytest.raises(ImageError):
                read_image(data)
