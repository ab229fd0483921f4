"""The choice of the index engine: the fastest on this machine for one query, for batches and for frames.

All engines give the same answers, so the choice never changes a result. Small stores are not worth measuring.
`measurement` measures the engines.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

from twinscope_indexer.errors import IndexEngineError
from twinscope_indexer.index import measurement
from twinscope_indexer.index.engines import ENGINES, engine_index
from twinscope_indexer.index.measurement import MeasurementError, Times
from twinscope_indexer.index.paired import PairedIndex

if TYPE_CHECKING:
    from twinscope_indexer.index.protocol import Index

ENGINE_VARIABLE: Final = "TWINSCOPE_INDEX_ENGINE"
"""Environment variable that forces an engine, by its name."""
DEFAULT: Final = "scan"
MEASURED_FROM: Final = 250_000
"""Codes. Below this, every engine answers within about two milliseconds, and measuring takes about two seconds."""
_CLEARLY: Final = 1.1
"""An engine other than the default must be this many times as fast."""
_WORTH_TWICE: Final = 1.5
"""A second engine holds all codes again; it must be this many times as fast at its kind of search."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The engines that were chosen.

    Attributes
    ----------
    single, batch : str
        Engines for one query of images, and for several.
    frames : str
        Engine for frames of images.
    reason : str
        Why these were chosen, in words.
    """

    single: str
    batch: str
    frames: str
    reason: str


def image_index(count: int) -> Index:
    """Return an empty index for `count` images.

    Raises
    ------
    IndexEngineError
        If the environment names an unknown engine.
    """
    choice = choose(count)
    batch = engine_index(choice.batch, choice.reason)
    if choice.single == choice.batch:
        return batch
    return PairedIndex(engine_index(choice.single), batch)


def frame_index(count: int) -> Index:
    """Return an empty index for `count` frames of images; see `image_index`."""
    choice = choose(count)
    return engine_index(choice.frames, choice.reason)


def choose(count: int) -> Choice:
    """Choose the engines for `count` codes; see `image_index`."""
    forced = os.environ.get(ENGINE_VARIABLE, "").strip()
    if forced:
        if forced not in ENGINES:
            msg = f"{ENGINE_VARIABLE} is {forced!r}; set it to one of {', '.join(ENGINES)}, or unset it"
            raise IndexEngineError(msg)
        return Choice(forced, forced, forced, f"set by {ENGINE_VARIABLE}")
    if count < MEASURED_FROM:
        return Choice(DEFAULT, DEFAULT, DEFAULT, f"not measured below {MEASURED_FROM:,} hashes")
    with _measuring:
        return _measured()


_measuring = threading.Lock()


@cache
def _measured() -> Choice:
    """Choose by measuring, once per process."""
    try:
        return fastest(measurement.times())
    except MeasurementError as error:
        return Choice(DEFAULT, DEFAULT, DEFAULT, str(error))


def fastest(times: Times) -> Choice:
    """Choose the engines from measured times."""
    single, batch, frames = (_fastest(times[workload]) for workload in measurement.WORKLOADS)
    if single != batch:
        losses = {
            name: max(times["single"][name] / times["single"][single], times["batch"][name] / times["batch"][batch])
            for name in ENGINES
        }
        alone = min(losses, key=losses.__getitem__)
        if losses[alone] < _WORTH_TWICE:
            single = batch = alone
    shown = (
        f"{workload} " + ", ".join(f"{name} {value:.2f}" for name, value in each.items())
        for workload, each in times.items()
    )
    reason = f"measured on this machine, in ms a query of {measurement.SIZE:,} hashes: {'; '.join(shown)}"
    return Choice(single, batch, frames, reason)


def _fastest(times: dict[str, float]) -> str:
    best = min(times, key=times.__getitem__)
    return best if times[DEFAULT] > _CLEARLY * times[best] else DEFAULT
