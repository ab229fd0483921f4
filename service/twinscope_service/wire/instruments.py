"""Conversion of instrument metadata to messages, and back."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from twinscope.v1 import types_pb2
from twinscope_indexer.metadata.reader import InstrumentMetadata, StagePosition

from twinscope_service.wire.rules import Violation, below, check_text
from twinscope_service.wire.text import escaped, unescaped

if TYPE_CHECKING:
    from collections.abc import Iterator

_TEXTS: Final = ("vendor", "instrument", "detector", "acquired")
_MAX_TEXT: Final = 1024
"""Maximum size of a text, in bytes. Texts that are read from image files are far shorter."""
_NUMBERS: Final = (
    "beam_energy_kev", "working_distance_mm", "magnification", "pixel_width_nm", "pixel_height_nm", "field_width_um",
    "data_bar_px",
)  # fmt: skip


def instrument_message(metadata: InstrumentMetadata) -> types_pb2.InstrumentMetadata:
    """Convert instrument metadata to a message.

    The message omits `InstrumentMetadata.verbatim`, the original text of the metadata.
    """
    values: dict[str, Any] = {name: getattr(metadata, name) for name in _NUMBERS}
    for name in _TEXTS:
        text = getattr(metadata, name)
        values[name] = None if text is None else escaped(text)
    stage = {item.name: getattr(metadata.stage, item.name) for item in fields(StagePosition)}
    if any(value is not None for value in stage.values()):
        values["stage"] = types_pb2.StagePosition(**stage)
    return types_pb2.InstrumentMetadata(**values)


def instrument_of(message: types_pb2.InstrumentMetadata) -> InstrumentMetadata:
    """Convert a message to instrument metadata.

    This is the inverse of `instrument_message`, except that messages omit `InstrumentMetadata.verbatim`.
    """
    given = {field.name: value for field, value in message.ListFields() if field.name != "stage"}
    for name in given.keys() & set(_TEXTS):
        given[name] = unescaped(given[name])
    stage = StagePosition(**{field.name: value for field, value in message.stage.ListFields()})
    return InstrumentMetadata(**given, stage=stage)


def check_instrument(message: types_pb2.InstrumentMetadata, path: str) -> Iterator[Violation]:
    """Yield one violation for each rule that is broken by the instrument metadata of a message."""
    for name in _TEXTS:
        yield from check_text(getattr(message, name), below(path, name), 0, _MAX_TEXT)
    numbers = [(name, value) for name, value in ((f.name, v) for f, v in message.ListFields()) if name in _NUMBERS]
    numbers += [(f"stage.{field.name}", value) for field, value in message.stage.ListFields()]
    for name, value in numbers:
        if not math.isfinite(value):
            yield Violation(below(path, name), f"must be a finite number, is {value}")
