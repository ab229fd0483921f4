"""point electronic DISS: TIFF tag 700 (XMP). DISS scans the beam of microscopes of other manufacturers.

The value of the tag is XMP, which is XML. The XMP can have several elements ``rdf:Description``. The value of a
quantity is its text, or the element ``rdf:value`` beside an element with the unit. DISS 5 writes its name into
``xmp:CreatorTool``. All versions use namespaces of ``ns.pointelectronic.com``.

Sources: The names HV, WD, Mag, PixelSizeX and PixelSizeY, and metre as unit of the pixel sizes, are from pynxtools-em.
The namespaces and ``rdf:value`` are from public programs that read images of DISS 6.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from twinscope_indexer.metadata.model import InstrumentMetadata
from twinscope_indexer.metadata.quantity import (
    LENGTH,
    MAGNIFICATION,
    VOLTAGE,
    iso_moment,
    positive,
    quantity,
)
from twinscope_indexer.metadata.text import decode, parse_xml
from twinscope_indexer.metadata.vendor import MappedValue, TagValue, VendorReader, VendorTag

_VENDOR = "point electronic"
_SIGNS = ("point electronic DISS", "ns.pointelectronic.com")


def _read(tag: TagValue) -> InstrumentMetadata:
    """Read the value of the tag. If another program wrote the XMP, the result is empty."""
    text = decode(tag.data)
    if not any(sign in text for sign in _SIGNS):
        return InstrumentMetadata()
    tree = parse_xml(text)
    values: dict[str, str] = {}
    for name, value in _values(tree):
        values.setdefault(name, value)
    if not values:
        return InstrumentMetadata()
    return InstrumentMetadata(
        vendor=_VENDOR,
        beam_energy_kev=positive(quantity(values.get("HV"), VOLTAGE, -3)),
        working_distance_mm=positive(quantity(values.get("WD"), LENGTH, 3)),
        magnification=positive(quantity(values.get("Mag"), MAGNIFICATION)),
        **tag.image_size.calibrated(
            positive(quantity(values.get("PixelSizeX"), LENGTH, 9, unit="m")),
            pixel_height_nm=positive(quantity(values.get("PixelSizeY"), LENGTH, 9, unit="m")),
        )._asdict(),
        acquired=iso_moment(values.get("CreateDate")),
        verbatim={tag.key: tree},
    )


def _values(tree: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name and the value of all quantities, in the order of the file.

    The prefix of a namespace is removed from the name. If a quantity has a unit, the value ends with this unit.
    """
    for key, value in tree.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str):
                yield _name(key), item
                continue
            parts: dict[str, str] = {}
            for name, part in _texts(item):
                parts.setdefault(name.casefold(), part)
            number = parts.get("value") or item.get("", "")
            if number:
                yield _name(key), f"{number} {parts.get('unit') or parts.get('units', '')}".strip()
            yield from _values(item)


def _texts(tree: Mapping[str, Any], levels: int = 2) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of all attributes and elements on the outer levels."""
    for key, value in tree.items() if levels else ():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str):
                yield _name(key), item
            else:
                yield from _texts(item, levels - 1)


def _name(key: str) -> str:
    return key.removeprefix("@").rpartition(":")[2]


READER = VendorReader(
    _VENDOR,
    tags=(VendorTag(700, "DISS", _read),),
    makes_cameras=True,
    mapped=(
        MappedValue("beam_energy_kev", "HV", "written"),
        MappedValue("working_distance_mm", "WD", "written"),
        MappedValue("magnification", "Mag"),
        MappedValue("pixel_width_nm", "PixelSizeX", "m"),
        MappedValue("pixel_height_nm", "PixelSizeY", "m"),
        MappedValue("field_width_um", "PixelSizeX multiplied by the width of the image"),
        MappedValue("acquired", "xmp:CreateDate"),
    ),
    checked=(
        "Only files that were made for the tests. pynxtools-em 0.4.6, which was tested with files of DISS 5.15, "
        "finds the same names and reads the same values from them. No real file of DISS 6 was available."
    ),
)
