"""Choice of the index engine: Twinscope uses the engine that is fastest on this machine.

Twinscope chooses separate engines for single queries, for batches of queries, and for frames. All engines give the same
answers, so the choice never changes a result. If the store is small, Twinscope does not measure the engines, because
every engine is fast enough. The module `measurement` measures the engines.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

from twinscope_indexer.errors import IndexEngineError
from twinscope_indexer.index import measurement
from twinscope_indexer.index.engines import ENGINES, engine_index, installed_engines
from twinscope_indexer.index.measurement import MeasurementError, Times
from twinscope_indexer.index.paired import PairedIndex

if TYPE_CHECKING:
    from twinscope_indexer.index.protocol import Index

ENGINE_VARIABLE: Final = "TWINSCOPE_INDEX_ENGINE"
"""Name of the environment variable that forces an engine. The value of the variable is the name of the engine."""
DEFAULT: Final = "scan"
"""Name of the engine that is used if the engines were not measured, or if no other engine is clearly faster."""
MEASURED_FROM: Final = 250_000
"""The engines are measured only if the index has at least this number of codes. With fewer codes, every engine answers
a query within about two milliseconds. A measurement takes about two seconds."""
_CLEARLY: Final = 1.1
"""The speed of another engine is divided by the speed of the default engine. The other engine is chosen only if this
ratio is larger than `_CLEARLY`."""
_WORTH_TWICE: Final = 1.5
"""Minimum slowdown that justifies two engines in one index. Two engines need two copies of all codes. The slowdown of
an engine is its time divided by the time of the fastest engine, for single queries or for batches (the larger value).
Two engines are used only if every engine alone has at least this slowdown."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Names of the chosen engines, and the reason for the choice.

    Attributes
    ----------
    single, batch : str
        Names of the engines that search the hashes of images. `single` is used for one query, and `batch` is used for
        several queries.
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
    """Return an empty index for the hashes of `count` images, with the engines that `choose` selects.

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
    """Return an empty index for the hashes of `count` frames; the errors are the same as for `image_index`."""
    choice = choose(count)
    return engine_index(choice.frames, choice.reason)


def choose(count: int) -> Choice:
    """Choose the engines for an index of `count` codes; the errors are the same as for `image_index`."""
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
    """Measure the engines and choose the fastest engines; each process measures at most once."""
    if installed_engines() == (DEFAULT,):
        return Choice(DEFAULT, DEFAULT, DEFAULT, "the only index engine that is installed")
    try:
        return fastest(measurement.times())
    except MeasurementError as error:
        return Choice(DEFAULT, DEFAULT, DEFAULT, str(error))


def fastest(times: Times) -> Choice:
    """Choose the engines by their measured times."""
    single, batch, frames = (_fastest(times[workload]) for workload in measurement.WORKLOADS)
    if single != batch:
        losses = {
            name: max(times["single"][name] / times["single"][single], times["batch"][name] / times["batch"][batch])
            for name in times["single"]
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
