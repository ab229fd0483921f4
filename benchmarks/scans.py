"""Rows of the table: exact search within the limits in use, against FAISS's flat index."""

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
"""Bits, of the default policy: the limit for candidates, and the limit if none of them is a twin."""
SIZES: Final = {3_000: (LIMIT,), 25_000: (LIMIT,), 1_000_000: (LIMIT, FAR_LIMIT)}
"""Limits that are measured, by the number of hashes."""
BATCH: Final = 64
NEAREST: Final = 5
_WANTED: Final = {(1_000_000, 1, LIMIT): 0.5, (1_000_000, BATCH, LIMIT): 0.4}
_FEATURES: Final = {"avx512vpopcntdq": "AVX-512 VPOPCNTDQ", "avx2": "AVX2"}
"""Processor features that decide the speed of counting bits; the first one that is present is shown."""


def rows(work: Work) -> list[Row]:
    """Measure one query and a batch at each size and limit, on the cores of this process.

    The index is the one that a store of this size has on this machine; ``TWINSCOPE_INDEX_ENGINE`` forces another one.
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
    """Return the name of the processor and its best instructions for counting bits."""
    about = machine()
    features = about["features"].split()
    return " ".join([about["processor"], *[name for flag, name in _FEATURES.items() if flag in features][:1]])


def as_stored(codes: NDArray[np.uint8]) -> Index:
    """Build the index that a store of these codes has on this machine."""
    size = segment_size(len(codes))
    numbers = np.arange(len(codes))
    parts = ((numbers[at : at + size], codes[at : at + size]) for at in range(0, len(codes), size))
    return image_index(len(codes)).extended(parts)


def _divided(name: str, index: SegmentedIndex, query: NDArray[np.uint8], *, quick: bool) -> Row:
    """Compare all cores with one core that searches the segments one by one."""

    def alone() -> None:
        for segment in index.segments:
            segment.search(query, NEAREST, LIMIT)

    rounds, times = _repetitions(len(index), quick=quick)
    pairs = alternating(alone, partial(index.search, query, NEAREST, LIMIT), rounds, times)
    return row(name, "our own scan, one core", pairs, Target("faster", 1.0))


def _repetitions(comparisons: int, *, quick: bool) -> tuple[int, int]:
    """Return the number of rounds and of calls per round; fewer if a call takes long."""
    if comparisons > 10_000_000:
        return 3, 1
    return (4, 3) if quick else (15, 10)
