"""Hypothesis strategies for instrument metadata."""

from __future__ import annotations

from hypothesis import strategies as st
from twinscope_indexer.metadata import InstrumentMetadata, StagePosition

NUMBERS = st.none() | st.floats(allow_nan=False, allow_infinity=False)
WORDS = st.none() | st.text(max_size=10)
STAGES = st.builds(StagePosition, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS)
JSON = st.recursive(
    st.text(max_size=5) | st.integers(-(1 << 53), 1 << 53),
    lambda inner: st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
POSITIVE = st.none() | st.floats(1e-3, 1e6)
METADATA = st.builds(
    InstrumentMetadata,
    vendor=st.sampled_from([None, "Zeiss", "FEI", "Olympus-SIS"]),
    instrument=WORDS,
    beam_energy_kev=POSITIVE,
    working_distance_mm=POSITIVE,
    magnification=POSITIVE,
    pixel_width_nm=POSITIVE,
    pixel_height_nm=POSITIVE,
    field_width_um=POSITIVE,
    detector=WORDS,
    stage=STAGES,
    acquired=WORDS,
    data_bar_px=st.none() | st.integers(0, 1000),
    verbatim=st.dictionaries(st.text(max_size=5), JSON, max_size=3),
)
