"""Whose tags and texts these are, and who reads them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, BinaryIO

from twinscope_indexer.imaging.tiff_directories import Directory, read_at, read_value
from twinscope_indexer.metadata.model import LEFT_OUT, InstrumentMetadata
from twinscope_indexer.metadata.text import decode
from twinscope_indexer.metadata.vendors import fei, hitachi, jeol, olympus, sightx, tescan, zeiss

MOST_TEXT = 1 << 18
"""Bytes of a text that are read; the longest that was seen is 66 kB."""

_MOST_TESCAN = 1 << 20  # a thumbnail comes before the text
_DESCRIPTION = 270  # ImageDescription (TIFF 6.0, page 34)
_DATE_TIME = 306  # page 31
_MOST = {zeiss.TAG: MOST_TEXT, **dict.fromkeys(fei.TAGS, MOST_TEXT), tescan.TAG: _MOST_TESCAN, _DESCRIPTION: MOST_TEXT}
_NAMES = {zeiss.TAG: zeiss.KEY, **fei.TAGS, tescan.TAG: tescan.KEY, _DESCRIPTION: "ImageDescription"}


def read_tags(stream: BinaryIO, directory: Directory) -> InstrumentMetadata:
    """Read what makers have written into one directory of a TIFF file.

    Parameters
    ----------
    stream : binary file
        Seekable.
    directory : Directory
        Where the values of its tags lie.

    Returns
    -------
    InstrumentMetadata
        Of several makers the values of the first (Zeiss, FEI, TESCAN, JEOL or Hitachi, Olympus-SIS), and the texts
        of all. Empty if there is none.
    """
    found = [metadata for code in _MOST if (metadata := _read_tag(stream, directory, code))]
    if olympus.TAG in directory.tags and (metadata := _read_olympus(stream, directory)):
        found.append(metadata)
    if not found:
        return InstrumentMetadata()
    verbatim: dict[str, Any] = {}
    left_out: dict[str, int] = {}
    for metadata in found:
        verbatim |= metadata.verbatim
        left_out |= metadata.verbatim.get(LEFT_OUT, {})
    return replace(found[0], verbatim={**verbatim, LEFT_OUT: left_out} if left_out else verbatim)


def read_text(text: str, width: int | None, height: int | None) -> InstrumentMetadata:
    """Read a text that an instrument wrote beside a picture, or as its description.

    Parameters
    ----------
    text : str
    width, height : int or None
        Of the picture in pixels.

    Returns
    -------
    InstrumentMetadata
        Empty if it is no such text.
    """
    if jeol.is_text(text):
        return jeol.read(text, width, height)
    if sightx.is_text(text):
        return sightx.read(text, width)
    if hitachi.is_text(text):
        return hitachi.read(text, width, height)
    if tescan.is_text(text):
        return tescan.read_header(text, width, height)
    return InstrumentMetadata()


def _read_tag(stream: BinaryIO, directory: Directory, code: int) -> InstrumentMetadata:
    tag = directory.tags.get(code)
    if tag is None:
        return InstrumentMetadata()
    data = read_value(stream, tag, _MOST[code])
    width, height = directory.width, directory.height
    if code == zeiss.TAG:
        metadata = zeiss.read(data, width, height)
    elif code in fei.TAGS:
        metadata = fei.read(data, fei.TAGS[code], width, height)
    elif code == tescan.TAG:
        metadata = tescan.read(data, directory.order, width, height)
    else:
        metadata = read_text(decode(data), width, height)
    missing = tag.size - len(data)
    if not metadata or not missing:
        return metadata
    left_out = {**metadata.verbatim.get(LEFT_OUT, {}), _NAMES[code]: missing}
    return replace(metadata, verbatim={**metadata.verbatim, LEFT_OUT: left_out})


def _read_olympus(stream: BinaryIO, directory: Directory) -> InstrumentMetadata:
    """Read the structure that the tag points to; its size is none of the tag's business."""
    tag = directory.tags[olympus.TAG]
    offset = tag.offset
    if tag.size <= tag.inline:
        offset = int.from_bytes(read_at(stream, offset, tag.inline), "little" if directory.order == "<" else "big")
    written = directory.tags.get(_DATE_TIME)
    date_time = decode(read_value(stream, written, olympus.MOST_DATE_TIME)) if written is not None else ""
    return olympus.read(lambda at, size: read_at(stream, at, size), offset, directory.width, date_time)
