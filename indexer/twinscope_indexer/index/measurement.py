"""Measurement of the speed of each index engine on this machine.

The speeds are measured once, in a separate process, and saved in the cache folder of the user. The measured speeds are
valid only for this processor and these package versions. The speeds are not saved in the store, because another machine
may also read the store.
"""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from twinscope_indexer.index.engines import ENGINES, engine_index

Times = dict[str, dict[str, float]]
"""CPU time per query on one core, in milliseconds. The outer keys are the names in `WORKLOADS`. The inner keys are the
names of the engines."""

WORKLOADS: Final = ("single", "batch", "frames")
"""Kinds of search that are measured: one query, queries of several images, and all symmetries of one frame."""
SIZE: Final = 250_000
"""Number of codes in the index for the measurement. These codes take 32 MB, which is more than most processor caches
hold."""
LIMITS: Final = {"single": (300, 430), "batch": (300, 430), "frames": (430,)}
"""Distance limits for each workload, in bits; these are the limits of the default policy."""
_BATCH: Final = 8
_NEAREST: Final = 5
_ROUNDS: Final = 6
_ENOUGH: Final = 2.0
"""After this time in seconds, no new round of measurements begins. Only a measurement on a busy machine reaches this
time."""
_TIMEOUT: Final = 120.0
"""Maximum time of the whole measurement, in seconds. The measurement takes 2 to 3 s on a quiet machine, and 10 s more
if the functions in `kernels` must be compiled first."""
_PACKAGES: Final = ("twinscope", "numpy", "numba", "faiss-cpu")
_PROCESSOR: Final = ("model name", "flags", "CPU implementer", "CPU part", "Features")
"""Names of the lines of /proc/cpuinfo that identify an x86 or ARM processor."""
_PROGRAM: Final = """
import os, sys
sys.path[:], os.cpu_count = sys.argv[1:], lambda: 1
from twinscope_indexer.index.measurement import main
main()
"""


class MeasurementError(Exception):
    """The engines cannot be measured on this machine; the message gives the reason."""


def times() -> Times:
    """Return the times of all engines, from the cache folder or from a new measurement.

    If the cache folder has no times, the function measures the engines and writes the times to the folder. If the
    folder cannot be written, the next process measures again.

    Raises
    ------
    MeasurementError
        If the times are not in the cache folder and cannot be measured.
    """
    key, path = _key(), cache_file()
    known = None if path is None else _read(path, key)
    if known is not None:
        return known
    measured = _measure_apart()
    if path is not None:
        _write(path, key, measured)
    return measured


def cache_file() -> Path | None:
    """Return the path of the cache file for this processor and these package versions.

    The file is ``$XDG_CACHE_HOME/twinscope/...``, or ``~/.cache/twinscope/...`` if the variable ``XDG_CACHE_HOME`` is
    not set. The result is None if the variable is not set and the home folder is unknown.
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        folder = given if given.is_absolute() else Path.home() / ".cache"
    except RuntimeError:
        return None
    digest = sha256(json.dumps(_key(), sort_keys=True).encode()).hexdigest()[:16]
    return folder / "twinscope" / f"index-engines-{digest}.json"


def _key() -> dict[str, Any]:
    """Return the conditions under which measured times are valid: processor, package versions, engines and workload."""
    return {
        "processor": _processor(),
        "versions": {package: _version(package) for package in _PACKAGES},
        "engines": sorted(ENGINES),
        "workload": [SIZE, LIMITS, _BATCH, _NEAREST],
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0].splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "; ".join(line for line in lines if line.partition("\t")[0].strip() in _PROCESSOR)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _read(path: Path, key: dict[str, Any]) -> Times | None:
    """Read the times from the cache file; return None if the file has no valid times for the conditions `key`."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return _checked(kept["times"]) if kept["key"] == json.loads(json.dumps(key)) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _checked(found: Any) -> Times:
    """Check that there is a time for each workload and engine, and return the times.

    Raises
    ------
    ValueError, KeyError, TypeError
        If a time is missing or is not a positive number.
    """
    checked = {workload: {name: float(found[workload][name]) for name in ENGINES} for workload in WORKLOADS}
    if not all(0 < value < math.inf for each in checked.values() for value in each.values()):
        msg = "a time is not a positive number"
        raise ValueError(msg)
    return checked


def _write(path: Path, key: dict[str, Any], measured: Times) -> None:
    """Write the times atomically, so that another process never reads only a part of the times."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(json.dumps({"key": key, "times": measured}, indent=1), encoding="utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError:
        return


def _measure_apart() -> Times:
    """Measure the engines in a separate process.

    The separate process uses only one thread. When the separate process ends, all its memory is freed.
    """
    if not Path(sys.executable or "").name.startswith(("python", "pypy")):
        msg = "the engines were not measured, because there is no Python interpreter for a separate process"
        raise MeasurementError(msg)
    command = [sys.executable, "-c", _PROGRAM, *sys.path]
    try:
        done = subprocess.run(  # noqa: S603  the interpreter of this process
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_TIMEOUT,
            check=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        return _checked(json.loads(done.stdout))
    except subprocess.TimeoutExpired as error:
        msg = f"the engines were not measured within {_TIMEOUT:.0f} s"
        raise MeasurementError(msg) from error
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        msg = f"measuring the engines failed: {error}"
        raise MeasurementError(msg) from error


def measure() -> Times:
    """Measure all engines in this process.

    The measurement takes two seconds, and needs three times as much memory as the codes. The function measures CPU
    time, alternates between the engines, and uses the shortest time of each engine. Therefore a busy machine gives the
    same result as a quiet machine.
    """
    from itertools import product
    from statistics import fmean
    from time import perf_counter, process_time

    import numpy as np

    from twinscope_indexer.index.segments import segment_size

    generator = np.random.default_rng(0)
    codes = generator.integers(0, 256, (SIZE, 128), dtype=np.uint8)
    ids, size = np.arange(SIZE), segment_size(SIZE)
    parts = [(ids[at : at + size], codes[at : at + size]) for at in range(0, SIZE, size)]
    indexes = {name: engine_index(name).extended(parts) for name in ENGINES}
    queries = _queries(codes)
    best: dict[tuple[str, str, int], float] = {}
    searches = [(*pair, limit) for pair in product(WORKLOADS, ENGINES) for limit in LIMITS[pair[0]]]
    begin = perf_counter()
    for number in range(_ROUNDS):
        if number > 1 and perf_counter() - begin > _ENOUGH:
            break
        for workload, name, limit in searches:
            start = process_time()
            indexes[name].search(queries[workload], _NEAREST, limit)
            taken = 1000 * (process_time() - start) / len(queries[workload])
            best[workload, name, limit] = min(taken, best.get((workload, name, limit), math.inf))
    return {
        workload: {name: fmean(best[workload, name, limit] for limit in LIMITS[workload]) for name in ENGINES}
        for workload in WORKLOADS
    }


def _queries(codes: Any) -> dict[str, Any]:
    """Return the queries of each workload; the queries of `single` and `batch` are similar to stored codes."""
    import numpy as np

    from twinscope_indexer.hashing.frames import WHOLE, frame_codes
    from twinscope_indexer.hashing.symmetry import SYMMETRIES

    near = codes[:: SIZE // _BATCH][:_BATCH].copy()
    near[:, :4] ^= np.uint8(0x55)
    y, x = np.mgrid[:144, :192]
    thumbnail = np.clip(128 + 60 * np.sin(x / 9 + y / 31) + 40 * np.cos(x * y / 900), 0, 255).astype(np.uint8)
    return {"single": near[:1], "batch": near, "frames": frame_codes(thumbnail, (WHOLE,), SYMMETRIES)}


def main() -> None:
    """Print the result of `measure` as JSON; the separate process runs this function."""
    sys.stdout.write(json.dumps(measure()))
