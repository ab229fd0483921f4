"""Instrument metadata as it is stored."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import example, given
from metadata_strategies import METADATA
from twinscope_indexer.errors import StoreError
from twinscope_indexer.metadata import InstrumentMetadata, StagePosition


@given(METADATA)
@example(InstrumentMetadata())
def test_metadata_survives_json(metadata: InstrumentMetadata) -> None:
    stored = json.dumps(metadata.to_dict(), allow_nan=False)
    assert InstrumentMetadata.from_dict(json.loads(stored)) == metadata


def test_integers_and_later_keys_are_accepted() -> None:
    found = InstrumentMetadata.from_dict(
        {"vendor": "FEI", "magnification": 500, "stage": {"x_mm": 1}, "colour": "blue"}
    )
    assert found == InstrumentMetadata(vendor="FEI", magnification=500.0, stage=StagePosition(x_mm=1.0))
    assert isinstance(found.magnification, float)


@pytest.mark.parametrize(
    "damaged",
    [
        {"vendor": 5},
        {"magnification": "5"},
        {"magnification": True},
        {"magnification": math.nan},
        {"magnification": 10**400},
        {"data_bar_px": 1.5},
        {"data_bar_px": True},
        {"verbatim": []},
        {"stage": [1, 2]},
        {"stage": {"x_mm": "1"}},
    ],
)
def test_damaged_stored_metadata_is_refused(damaged: dict[str, object]) -> None:
    with pytest.raises(StoreError, match="index the image again"):
        InstrumentMetadata.from_dict(damaged)
