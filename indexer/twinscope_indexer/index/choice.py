"""Choice of the index engine: Twinscope uses the engine that is fastest on this machine.

The choice is made separately for one query, for batches of queries, and for frames. All engines give the same answers,
so the choice never changes a result. For a small store no engine is measured, because all engines are fast enough. The
module `measurement` measures the engines.
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
"""Name of the environment variable that forces an engine. The value of the variable is the name of the engine."""
DEFAULT: Final = "scan"
"""Name of the engine that is used if nothing was measured, or if no other engine is clearly faster."""
MEASURED_FROM: Final = 250_000
"""Minimum number of codes for which the engines are measured. With fewer codes, every engine answers a query within
about two milliseconds. A measurement takes about two seconds."""
_CLEARLY: Final = 1.1
"""Minimum ratio of speeds for the choice of another engine than the default. An engine other than the
default is chosen only if it is more than this many times as fast as the default."""
_WORTH_TWICE: Final = 1.5
"""Minimum slowdown that justifies a second engine, which needs a second copy of all codes. Two engines are used only if
each engine alone would take at least this many times as long as the faster engine, either for single queries or for
batches."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Names of the chosen engines, and the reason for the choice.

    Attributes
    ----------
    single, batch : str
        Names of the engines that search the hashes of images: for one query, and for a batch of queries.
    frames : str
        Name of the engine that searches the hashes of frames.
    reason : str
        Reason for the choice, in words.
    """

    single: str
    batch: str
    frames: str
    reason: str


def image_index(count: int) -> Index:
    """Return an empty index for the hashes of `count` images; its engines are those that `choose` returns.

    Raises
    ------
    IndexEngineError
        If the environment variable `ENGINE_VARIABLE` names an unknown engine.
    """
    choice = choose(count)
    batch = engine_index(choice.batch, choice.reason)
    if choice.single == choice.batch:
        return batch
    return PairedIndex(engine_index(choice.single), batch)


def frame_index(count: int) -> Index:
    """Return an empty index for the hashes of `count` frames; this raises the same errors as `image_index`."""
    choice = choose(count)
    return engine_index(choice.frames, choice.reason)


def choose(count: int) -> Choice:
    """Choose the engines for an index of `count` codes; this raises the same errors as `image_index`."""
    forced = os.environ.get(ENGINE_VARIABLE, "").strip()
    if forced:
        if forced not in ENGINES:
            msg = f"{ENGINE_VARIABLE} is {forced!r}; set it to one of {', '.join(ENGINES)}, or unset it"
            raise IndexEngineError(msg)
        return Choice(forced, forced, forced, f"set by {ENGINE_VARIABLE}")
    if count < MEASURED_FROM:
        reason = f"chosen without a measurement, because the index has fewer than {MEASURED_FROM:,} hashes"
        return Choice(DEFAULT, DEFAULT, DEFAULT, reason)
    with _measuring:
        return _measured()


_measuring = threading.Lock()


@cache
def _measured() -> Choice:
    """Measure the engines and choose the fastest; this is done at most once per process."""
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
    reason = f"measured on this machine with {measurement.SIZE:,} hashes, in ms per query: {'; '.join(shown)}"
    return Choice(single, batch, frames, reason)


def _fastest(times: dict[str, float]) -> str:
    best = min(times, key=times.__getitem__)
    return best if times[DEFAULT] > _CLEARLY * times[best] else DEFAULT
