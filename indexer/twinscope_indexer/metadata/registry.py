"""List of all known vendors, with the TIFF tags and the texts that their instruments write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, BinaryIO

from twinscope_indexer.imaging.tiff_directories import Directory, read_value
from twinscope_indexer.metadata import vendors
from twinscope_indexer.metadata.calibration import ImageSize
from twinscope_indexer.metadata.model import LEFT_OUT, InstrumentMetadata
from twinscope_indexer.metadata.text import decode
from twinscope_indexer.metadata.vendor import TagValue, VendorReader, VendorTag, VendorText

_DESCRIPTION = 270  # ImageDescription (TIFF 6.0, page 34)


def read_tags(stream: BinaryIO, directory: Directory) -> InstrumentMetadata:
    """Read the vendor metadata in one directory of a TIFF file.

    Parameters
    ----------
    stream : binary file
        The TIFF file, which must be seekable.
    directory : Directory
        Tags of the directory, and the position of each value in the file.

    Returns
    -------
    InstrumentMetadata
        Metadata of the directory. The metadata are empty if the directory contains no metadata of a known vendor. If
        there are metadata of several vendors, the normalised values are taken from the first in this order: vendor tags
        by number, ImageDescription, tags of camera manufacturers. If this vendor wrote several tags, the values are
        taken from the first tag that contains any. `verbatim` contains the texts of all vendors.
    """
    found = [metadata for tag in _TAGS if (metadata := _read_tag(stream, directory, tag))]
    if not found:
        return InstrumentMetadata()
    nothing = InstrumentMetadata(vendor=found[0].vendor)
    same_vendor = [metadata for metadata in found if metadata.vendor == nothing.vendor]
    chosen = next((metadata for metadata in same_vendor if metadata.normalised != nothing), found[0])
    verbatim: dict[str, Any] = {}
    left_out: dict[str, int] = {}
    for metadata in found:
        verbatim |= metadata.verbatim
        left_out |= metadata.verbatim.get(LEFT_OUT, {})
    return replace(chosen, verbatim={**verbatim, LEFT_OUT: left_out} if left_out else verbatim)


def read_text(text: str, image_size: ImageSize) -> InstrumentMetadata:
    """Read a text that an instrument wrote into the ImageDescription or saved as a file with the image.

    The result is empty if no vendor recognises the text.
    """
    known = _text(text)
    return InstrumentMetadata() if known is None else known.read(text, image_size)


def is_known(text: str) -> bool:
    """Check whether an instrument of a known vendor wrote a text."""
    return _text(text) is not None


def _text(text: str) -> VendorText | None:
    """Return the first vendor's description that recognises a text."""
    return next((reader.text for reader in READERS if reader.text and reader.text.recognise(text)), None)


def _read_tag(stream: BinaryIO, directory: Directory, known: VendorTag) -> InstrumentMetadata:
    tag = directory.tags.get(known.code)
    if tag is None:
        return InstrumentMetadata()
    data = read_value(stream, tag, known.limit)
    metadata = known.read(TagValue(known.key, data, tag, directory, stream))
    missing = tag.size - len(data)
    if not metadata or not missing or not known.limit:
        return metadata
    left_out = {**metadata.verbatim.get(LEFT_OUT, {}), known.key: missing}
    return replace(metadata, verbatim={**metadata.verbatim, LEFT_OUT: left_out})


def _readers() -> Iterator[VendorReader]:
    for module in iter_modules(vendors.__path__, f"{vendors.__name__}."):
        yield import_module(module.name).READER


def _tags() -> Iterator[VendorTag]:
    """Yield the tags of all vendors, in the order that `read_tags` uses."""
    for cameras in (False, True):
        tags = (tag for reader in READERS if reader.makes_cameras is cameras for tag in reader.tags)
        yield from sorted(tags, key=lambda tag: tag.code)
        if not cameras:
            yield VendorTag(_DESCRIPTION, "ImageDescription", lambda tag: read_text(decode(tag.data), tag.image_size))


READERS = tuple(_readers())
"""Readers of all vendors. Each module of `vendors` defines one reader. The readers are in the alphabetical order of
these modules.
"""

CAMERA_MAKERS = frozenset(reader.vendor for reader in READERS if reader.makes_cameras)
"""Names of the vendors that make cameras for microscopes of other manufacturers."""

SIDE_FILES = tuple(
    dict.fromkeys((name, reader.text.convert) for reader in READERS if reader.text for name in reader.text.beside)
)
"""Patterns for the names of all files that instruments save with images, and the functions that make texts from them;
see `VendorText.beside` and `VendorText.convert`."""

_TAGS = tuple(_tags())
