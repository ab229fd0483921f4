"""Rows of the table: exact search within 300 bits, beside FAISS's flat index."""

from __future__ import annotations

from functools import partial
from typing import Final

import faiss
import numpy as np
from comparison import Row, Target, alternating, cores_at_hand, row
from load import changed
from shelves import Work
from twinscope_indexer.blocked import BlockedIndex

SIZES: Final = (25_000, 1_000_000)
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
        flat, ours = faiss.IndexBinaryFlat(1024), BlockedIndex(np.arange(size), codes)
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
    return found


def _repetitions(comparisons: int, *, quick: bool) -> tuple[int, int]:
    """Give the rounds, and the calls in each: many of what takes no time."""
    if comparisons > 10_000_000:
        return (3, 1) if quick else (7, 1)
    return (7, 3) if quick else (21, 5)
