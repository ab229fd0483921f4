"""Rows of the speed table for the exact search of hashes, compared with FAISS's flat index."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Final

import faiss
import numpy as np
from collection_stores import Work
from harness import Row, Target, alternating, cores_at_hand, row
from load import changed
from numpy.typing import NDArray
from twinscope_client.doctor import machine
from twinscope_indexer.index.choice import image_index
from twinscope_indexer.index.protocol import Index
from twinscope_indexer.index.segments import SegmentedIndex, segment_size

LIMIT, FAR_LIMIT = 300, 430
"""Limits of the default policy in bits: maximum distance of candidates, and maximum distance if no candidate is a twin.
"""
SIZES: Final = {3_000: (LIMIT,), 25_000: (LIMIT,), 1_000_000: (LIMIT, FAR_LIMIT)}
"""Maximum distances that are measured, in bits. The key is the number of hashes."""
BATCH: Final = 64
NEAREST: Final = 5
_WANTED: Final = {(1_000_000, 1, LIMIT): 0.5, (1_000_000, BATCH, LIMIT): 0.4}
_FEATURES: Final = {"avx512vpopcntdq": "AVX-512 VPOPCNTDQ", "avx2": "AVX2"}
"""Processor features that determine the speed of counting bits. The table shows the first feature that is present."""


def rows(work: Work) -> list[Row]:
    """Measure one query and a batch of queries for each number of hashes and each limit, on the cores of this process.

    By default, the index engine is the engine that a store of this size uses on this machine. The environment variable
    ``TWINSCOPE_INDEX_ENGINE`` selects another engine.
    """
    faiss.omp_set_num_threads(cores_at_hand())
    found = []
    for size, limits in SIZES.items():
        codes = np.random.default_rng(work.seed).integers(0, 256, (size, 128), dtype=np.uint8)
        queries = changed(codes, BATCH)
        flat, ours = faiss.IndexBinaryFlat(1024), as_stored(codes)
        flat.add(codes)
        del codes
        for limit, together in product(limits, (1, BATCH)):
            some = queries[:together]
            rounds, times = _repetitions(size * together, quick=work.quick)
            pairs = alternating(
                partial(flat.search, some, NEAREST), partial(ours.search, some, NEAREST, limit), rounds, times
            )
            wanted = _WANTED.get((size, together, limit)) if cores_at_hand() == 1 else None
            name = f"search {size:,} hashes, {'one query' if together == 1 else f'{together} queries'}, {limit} bits"
            found.append(row(name, f"FAISS IndexBinaryFlat, {processor()}", pairs, Target("share", wanted)))
        if cores_at_hand() > 1 and isinstance(ours, SegmentedIndex) and len(ours.segments) > 1:
            name = f"search {size:,} hashes, one query, {LIMIT} bits"
            found.append(_divided(name, ours, queries[:1], quick=work.quick))
    return found


def processor() -> str:
    """Return the name of the processor, with the best feature for counting bits that it has."""
    about = machine()
    features = about["features"].split()
    return " ".join([about["processor"], *[name for flag, name in _FEATURES.items() if flag in features][:1]])


def as_stored(codes: NDArray[np.uint8]) -> Index:
    """Build the same index as a store of these codes would have on this machine."""
    size = segment_size(len(codes))
    numbers = np.arange(len(codes))
    parts = ((numbers[at : at + size], codes[at : at + size]) for at in range(0, len(codes), size))
    return image_index(len(codes)).extended(parts)


def _divided(name: str, index: SegmentedIndex, query: NDArray[np.uint8], *, quick: bool) -> Row:
    """Compare a search on all cores with a search on one core, which searches one segment after the other."""

    def alone() -> None:
        for segment in index.segments:
            segment.search(query, NEAREST, LIMIT)

    rounds, times = _repetitions(len(index), quick=quick)
    pairs = alternating(alone, partial(index.search, query, NEAREST, LIMIT), rounds, times)
    return row(name, "our own scan, one core", pairs, Target("faster", 1.0))


def _repetitions(comparisons: int, *, quick: bool) -> tuple[int, int]:
    """Return the number of rounds and the number of calls per round. A long call is repeated less often."""
    if comparisons > 10_000_000:
        return 3, 1
    return (4, 3) if quick else (15, 10)
