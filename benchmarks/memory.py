"""Rows of the speed table for the memory of indexing and of a server, measured in separate processes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Final

import numpy as np
from collection_stores import Work, small_files
from harness import Row, Target, row
from load import synthetic_store
from twinscope_client.connect import connect
from twinscope_indexer.hashing.perceptual import PHash
from twinscope_service.server.warmup import warm

CODE_BYTES: Final = 128
_NEWER: Final = 0.12
"""Number of hashes that are added while a server runs, as a fraction of the old number. If this fraction is at least a
tenth, a new index file is written."""


def rows(work: Work) -> list[Row]:
    """Measure the memory of indexing and of a server, each at two sizes."""
    warm()  # stores the compiled code on disk, so that the processes below need no memory for compilation
    few, many = (500, 1_500) if work.quick else (4_000, 16_000)
    with tempfile.TemporaryDirectory(dir=work.folder) as scratch:
        peaks = [indexing_peak(Path(scratch), count, work.seed) for count in (few, many)]
    grown = (peaks[1] - peaks[0]) / (many - few)
    note = f"{peaks[0] / 2**20:.0f} MiB at {few:,} images, {peaks[1] / 2**20:.0f} MiB at {many:,}"
    found = [
        row(
            "additional peak memory per image while indexing", "", [(0.0, grown)], Target("value", 400), unit="B",
            note=note,
        )
    ]  # fmt: skip
    few, many = (25_000, 250_000) if work.quick else (25_000, 1_000_000)  # both servers read their index file
    with tempfile.TemporaryDirectory(dir=work.folder) as scratch:
        served = [server_memory(Path(scratch), count, work.seed) for count in (few, many)]
    for name, place, grown in (
        ("at its peak", "VmHWM", 1.0), ("after its queries", "VmRSS", 1.0),
        ("at its peak while it loads a new generation", "loading", 1 + _NEWER),
    ):  # fmt: skip
        each = (served[1][place] - served[0][place]) / (many - few) / grown
        small, large = (one[place] / 2**20 for one in served)
        note = f"{small:.0f} MiB with {grown * few:,.0f} hashes, {large:.0f} MiB with {grown * many:,.0f}"
        stage = f"additional memory of a server per hash, {name}"
        found.append(row(stage, "the code alone", [(CODE_BYTES, each)], Target("share", 1.5), unit="B", note=note))
    return found


def status(process: int | str) -> dict[str, int]:
    """Return the memory sizes of a process in bytes, by the names of the Linux kernel.

    ``VmHWM`` is the peak of the resident memory, and ``VmRSS`` is the present resident memory.
    """
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    split = (line.split() for line in lines)
    return {parts[0].rstrip(":"): 1024 * int(parts[1]) for parts in split if parts[-1] == "kB"}


def indexing_peak(folder: Path, count: int, seed: int) -> int:
    """Index small files in another process, and return the peak memory of that process in bytes."""
    files = folder / f"files-{count}"
    small_files(files, count, seed)
    return int(alone("index", files, folder / f"store-{count}")["peak"])


def alone(*task: str | Path) -> dict[str, float]:
    """Run a task of this module in a separate process, and return the measurements that it prints."""
    command = [sys.executable, __file__, *map(str, task)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def server_memory(folder: Path, count: int, seed: int) -> dict[str, int]:
    """Serve random hashes in another process, send queries, add hashes, and return the memory of that process."""
    codes = np.random.default_rng(seed).integers(0, 256, (count, CODE_BYTES), dtype=np.uint8)
    store = folder / f"{count}.store"
    synthetic_store(store, codes)
    command = [str(Path(sys.executable).with_name("twinscope")), "serve", str(store), "--port", "0", "--quiet"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        try:
            if running.stderr is None:
                raise RuntimeError(command)
            line = next(line for line in running.stderr if "grpc://" in line)
            threading.Thread(target=running.stderr.read, daemon=True).start()
            address = line.partition("grpc://")[2].partition(";")[0].strip()
            with connect(f"grpc://{address}") as engine:
                for code in codes[:200]:
                    engine.search_hashes([PHash(code.tobytes())])
                found = status(running.pid)
                fresh = np.random.default_rng(seed + 1).integers(0, 256, (int(_NEWER * count), CODE_BYTES), np.uint8)
                newest = synthetic_store(store, fresh, first=count)
                while engine.stats()["generation"] < newest:
                    time.sleep(0.1)
                engine.search_hashes([PHash(fresh[0].tobytes())])
            return found | {"loading": status(running.pid)["VmHWM"]}
        finally:
            running.terminate()


def _index(files: str, store: str) -> dict[str, float]:
    from twinscope_indexer.indexing.run import index

    warm()
    start = time.perf_counter()
    index([files], Path(store), reach="views")
    return {"seconds": time.perf_counter() - start, "peak": status("self")["VmHWM"]}


def _label(files: str, store: str, out: str) -> dict[str, float]:
    from twinscope_client.labelling.journal import Journal
    from twinscope_client.labelling.run import LabelSettings, label

    warm()
    start = time.perf_counter()
    journal = Journal(Path(out))
    try:
        with connect(Path(store)) as engine:
            report = label([files], engine, journal, Path(out), LabelSettings())
    finally:
        journal.close()
    taken = {"seconds": time.perf_counter() - start, "peak": status("self")["VmHWM"]}
    return taken | {"written": report.counts["written"]}


def _search(size: str, seed: str) -> dict[str, float]:
    """Time one query and a batch of 64 within 300 bits, and measure the memory that the index adds."""
    from harness import milliseconds
    from load import changed
    from scans import BATCH, LIMIT, NEAREST, as_stored

    kernel = np.zeros((1, CODE_BYTES), np.uint8)
    as_stored(kernel).search(kernel, NEAREST, LIMIT)  # a first search loads the compiled code into memory
    empty = status("self")["VmRSS"]
    codes = np.random.default_rng(int(seed)).integers(0, 256, (int(size), CODE_BYTES), dtype=np.uint8)
    queries, index = changed(codes, BATCH), as_stored(codes)
    del codes
    found: dict[str, float] = {"bytes": status("self")["VmRSS"] - empty}
    for name, some in (("one", queries[:1]), ("batch", queries)):
        index.search(some, NEAREST, LIMIT)
        times = sorted(milliseconds(lambda some=some: index.search(some, NEAREST, LIMIT)) for _ in range(7))
        found[name] = times[3] / len(some)
    return found


if __name__ == "__main__":
    print(json.dumps({"index": _index, "label": _label, "search": _search}[sys.argv[1]](*sys.argv[2:])))
