"""Instrument metadata of an acquisition: the original text, and the values in fixed units."""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from twinscope_indexer.errors import StoreError

LEFT_OUT = "left_out"
"""Name of an entry in `InstrumentMetadata.verbatim`. This entry lists the values that were not kept, and their
sizes."""


@dataclass(frozen=True, slots=True)
class StagePosition:
    """Position of the stage in the coordinate system of the instrument. An unknown coordinate is None."""

    x_mm: float | None = None
    y_mm: float | None = None
    z_mm: float | None = None
    rotation_deg: float | None = None
    tilt_deg: float | None = None


@dataclass(frozen=True, slots=True)
class InstrumentMetadata:
    """Metadata of one acquisition. ``bool(metadata)`` is False if the file has no metadata.

    A value is None if the instrument did not write the value, if the text cannot be interpreted, or if the file
    contains two different values. `verbatim` always contains the original text of the instrument.
    """

    vendor: str | None = None
    """Short name of the manufacturer, for example ``Zeiss``; see the package `twinscope_indexer.metadata.vendors`."""
    instrument: str | None = None
    """Name of the instrument model, exactly as in the file."""
    beam_energy_kev: float | None = None
    """Beam energy in kiloelectronvolts, calculated from the accelerating voltage. A stage bias is not subtracted."""
    working_distance_mm: float | None = None
    magnification: float | None = None
    """Magnification for the size of print or screen that the manufacturer assumes. To compare images, use field widths
    instead."""
    pixel_width_nm: float | None = None
    """Width of a pixel of the image in this file, in nanometres."""
    pixel_height_nm: float | None = None
    field_width_um: float | None = None
    """Width of the whole image in this file, in micrometres."""
    detector: str | None = None
    stage: StagePosition = StagePosition()
    acquired: str | None = None
    """Date of the acquisition in ISO 8601. If the file contains the time of the instrument's clock, the time is
    included. A time zone is not included, because few instruments write one."""
    data_bar_px: int | None = None
    """Height of the info bar below the scanned field, in rows of pixels. The value is 0 if the image certainly has no
    such info bar."""
    verbatim: dict[str, Any] = field(default_factory=dict)
    """The original values, as text in plain JSON. Binary values and texts that are too long are not kept. The entry
    `LEFT_OUT` contains their sizes in bytes."""

    def __bool__(self) -> bool:
        return self.vendor is not None or bool(self.verbatim)

    @property
    def normalised(self) -> InstrumentMetadata:
        """The same metadata without `verbatim`."""
        return replace(self, verbatim={})

    def to_dict(self) -> dict[str, Any]:
        """Return the known values as a dictionary of plain JSON. Unknown values have no entry."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["stage"] = {item.name: getattr(self.stage, item.name) for item in fields(self.stage)}
        values["stage"] = {key: value for key, value in values["stage"].items() if value is not None}
        return {key: value for key, value in values.items() if value is not None and value != {}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> InstrumentMetadata:
        """Build metadata from the result of `to_dict`. Keys that are unknown to this version of Twinscope are ignored.

        Raises
        ------
        StoreError
            If a value has the wrong type.
        """
        stage = values.get("stage", {})
        if not isinstance(stage, Mapping):
            raise StoreError(f"stored instrument metadata is damaged: stage is {stage!r:.60}; index the image again")
        known = {key: _checked(key, values[key]) for key in _TYPES if key in values}
        axes = {item.name: _number(item.name, stage.get(item.name)) for item in fields(StagePosition)}
        return replace(cls(**known), stage=StagePosition(**axes))


NO_METADATA = InstrumentMetadata()
"""The metadata of a file that contains no instrument metadata."""


def pack_verbatim(metadata: InstrumentMetadata) -> bytes:
    """Return `verbatim` as compressed JSON, which is stored in the catalog."""
    return zlib.compress(json.dumps(metadata.verbatim).encode())


def unpack_verbatim(data: bytes) -> dict[str, Any]:
    """Return the value of `verbatim` from the compressed JSON that `pack_verbatim` returned.

    Raises
    ------
    StoreError
        If `data` is damaged.
    """
    try:
        return dict(json.loads(zlib.decompress(data)))
    except (zlib.error, ValueError, TypeError) as error:
        raise StoreError("stored instrument metadata is damaged; index the image again") from error


_TYPES: dict[str, type] = {
    "vendor": str,
    "instrument": str,
    "beam_energy_kev": float,
    "working_distance_mm": float,
    "magnification": float,
    "pixel_width_nm": float,
    "pixel_height_nm": float,
    "field_width_um": float,
    "detector": str,
    "acquired": str,
    "data_bar_px": int,
    "verbatim": dict,
}


def _checked(key: str, value: Any) -> Any:
    expected = _TYPES[key]
    if expected is float:
        return _number(key, value)
    if not isinstance(value, expected) or isinstance(value, bool):
        raise StoreError(f"stored instrument metadata is damaged: {key} is {value!r:.60}; index the image again")
    return value


def _number(key: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
        return float(value)
    raise StoreError(f"stored instrument metadata is damaged: {key} is {value!r:.60}; index the image again")
