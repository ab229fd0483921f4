"""Rows of the table: exact search within 300 bits, beside FAISS's flat index."""

from __future__ import annotations

from functools import partial
from typing import Final

import faiss
import numpy as np
from collection_stores import Work
from harness import Row, Target, alternating, cores_at_hand, row
from load import changed
from numpy.typing import NDArray
from twinscope_indexer.index.segments import Segments, segment_size

SIZES: Final = (3_000, 25_000, 1_000_000)
BATCH: Final = 64
LIMIT: Final = 300
NEAREST: Final = 5
_WANTED: Final = {(1_000_000, 1): 0.5, (1_000_000, BATCH): 0.4}


def rows(work: Work) -> list[Row]:
    """Measure one query and a batch at each size, on as many cores as this process has."""
    faiss.omp_set_num_threads(cores_at_hand())
    found = []
    for size in SIZES:
        codes = np.random.default_rng(work.seed).integers(0, 256, (size, 128), dtype=np.uint8)
        queries = changed(codes, BATCH)
        flat, ours = faiss.IndexBinaryFlat(1024), as_stored(codes)
        flat.add(codes)
        del codes
        for together in (1, BATCH):
            some = queries[:together]
            rounds, times = _repetitions(size * together, quick=work.quick)
            pairs = alternating(
                partial(flat.search, some, NEAREST), partial(ours.search, some, NEAREST, LIMIT), rounds, times
            )
            wanted = _WANTED.get((size, together)) if cores_at_hand() == 1 else None
            name = f"search {size:,} hashes, {'one query' if together == 1 else f'{together} queries'}"
            found.append(row(name, "FAISS IndexBinaryFlat", pairs, Target("share", wanted)))
        if cores_at_hand() > 1 and len(ours.parts) > 1:
            found.append(_divided(f"search {size:,} hashes, one query", ours, queries[:1], quick=work.quick))
    return found


def as_stored(codes: NDArray[np.uint8]) -> Segments:
    """Give the index that a store over some codes has."""
    size = segment_size(len(codes))
    numbers = np.arange(len(codes))
    return Segments().joined((numbers[at : at + size], codes[at : at + size]) for at in range(0, len(codes), size))


def _divided(name: str, index: Segments, query: NDArray[np.uint8], *, quick: bool) -> Row:
    """Compare all cores with one, which goes through one segment after the other."""

    def alone() -> None:
        for part in index.parts:
            part.search(query, NEAREST, LIMIT)

    rounds, times = _repetitions(len(index), quick=quick)
    pairs = alternating(alone, partial(index.search, query, NEAREST, LIMIT), rounds, times)
    return row(name, "our own scan, one core", pairs, Target("faster", 1.0))


def _repetitions(comparisons: int, *, quick: bool) -> tuple[int, int]:
    """Give the rounds, and the calls in each: many of what takes no time."""
    if comparisons > 10_000_000:
        return 3, 1
    return (4, 3) if quick else (15, 10)
