"""What the instrument says of an acquisition: the maker's own words, and the same in one set of units."""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from twinscope_indexer.errors import StoreError

LEFT_OUT = "left_out"
"""Key of `InstrumentMetadata.verbatim` under which stands what was not kept, and how many bytes that was."""


@dataclass(frozen=True, slots=True)
class StagePosition:
    """Where the stage stood, in the instrument's own system of coordinates; None where it is not told."""

    x_mm: float | None = None
    y_mm: float | None = None
    z_mm: float | None = None
    rotation_deg: float | None = None
    tilt_deg: float | None = None


@dataclass(frozen=True, slots=True)
class InstrumentMetadata:
    """Metadata of one acquisition; false if the file has none.

    None stands for whatever the instrument does not tell, tells in a way that cannot be understood, or tells twice
    with different values. What it wrote is in `verbatim` in any case.
    """

    vendor: str | None = None
    """Short name of the maker, for example ``Zeiss``: see the modules of `twinscope_indexer.metadata.vendors`."""
    instrument: str | None = None
    """The model, as the instrument calls itself."""
    beam_energy_kev: float | None = None
    """Energy that the accelerating voltage gives; a bias of the stage is not taken off."""
    working_distance_mm: float | None = None
    magnification: float | None = None
    """Times, on whatever medium the maker refers to; compare field widths, not magnifications."""
    pixel_width_nm: float | None = None
    """Of the pixels in this file."""
    pixel_height_nm: float | None = None
    field_width_um: float | None = None
    """Of the whole width of the picture in this file."""
    detector: str | None = None
    stage: StagePosition = StagePosition()
    acquired: str | None = None
    """ISO 8601 date, or date and time by the instrument's clock; a time zone, which few write, is left out."""
    data_bar_px: int | None = None
    """Rows at the bottom that the instrument added below the scanned field; 0 if it is known that there are none."""
    verbatim: dict[str, Any] = field(default_factory=dict)
    """What was read, decoded to text but otherwise as it was written; plain JSON. Binary values and what is beyond
    the limits is not kept: `LEFT_OUT` tells how many bytes."""

    def __bool__(self) -> bool:
        return self.vendor is not None or bool(self.verbatim)

    @property
    def normalised(self) -> InstrumentMetadata:
        """The same without `verbatim`."""
        return replace(self, verbatim={})

    def to_dict(self) -> dict[str, Any]:
        """Make a dictionary of plain JSON values, without what is not known."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["stage"] = {item.name: getattr(self.stage, item.name) for item in fields(self.stage)}
        values["stage"] = {key: value for key, value in values["stage"].items() if value is not None}
        return {key: value for key, value in values.items() if value is not None and value != {}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> InstrumentMetadata:
        """Read what `to_dict` made; keys of later versions are passed over.

        Raises
        ------
        StoreError
            A value has not the type that it should have.
        """
        stage = values.get("stage", {})
        if not isinstance(stage, Mapping):
            raise StoreError(f"stored instrument metadata is damaged: stage is {stage!r:.60}; index the image again")
        known = {key: _checked(key, values[key]) for key in _TYPES if key in values}
        axes = {item.name: _number(item.name, stage.get(item.name)) for item in fields(StagePosition)}
        return replace(cls(**known), stage=StagePosition(**axes))


NO_METADATA = InstrumentMetadata()
"""Of a file without any."""


def pack_verbatim(metadata: InstrumentMetadata) -> bytes:
    """Return what the instrument wrote as compressed JSON, for the catalogue."""
    return zlib.compress(json.dumps(metadata.verbatim).encode())


def unpack_verbatim(data: bytes) -> dict[str, Any]:
    """Read what `pack_verbatim` made.

    Raises
    ------
    StoreError
        If it is damaged.
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
    wanted = _TYPES[key]
    if wanted is float:
        return _number(key, value)
    if not isinstance(value, wanted) or isinstance(value, bool):
        raise StoreError(f"stored instrument metadata is damaged: {key} is {value!r:.60}; index the image again")
    return value


def _number(key: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
        return float(value)
    raise StoreError(f"stored instrument metadata is damaged: {key} is {value!r:.60}; index the image again")
