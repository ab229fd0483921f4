"""Warm-up: before the first query, the server compiles the functions that a query needs.

Functions that were compiled earlier are loaded from the cache on disk.
"""

from __future__ import annotations

import numpy as np
from twinscope_indexer.hashing.codes import BYTES
from twinscope_indexer.hashing.frames import WHOLE, frame_codes
from twinscope_indexer.hashing.hashability import find_lack
from twinscope_indexer.hashing.perceptual import PHash
from twinscope_indexer.hashing.symmetry import SYMMETRIES
from twinscope_indexer.imaging.luma import luma
from twinscope_indexer.index.choice import image_index

from twinscope_service.matching.query import Query
from twinscope_service.similarity.scene_score import scene_scores
from twinscope_service.similarity.ssim import standardised_ssim

_SIDE = 64


def warm() -> None:
    """Call every compiled function once.

    The calls take about 1 s, or about 10 s if no function is cached yet.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (_SIDE, _SIDE), dtype=np.uint8)
    query = Query.of_pixels(pixels)
    code = query.hashed.packed[None] if isinstance(query.hashed, PHash) else np.zeros((1, BYTES), np.uint8)
    index = image_index(2).extended([(np.arange(2), np.repeat(code, 2, axis=0))])
    index.search(code, 1, 0)
    index.without(np.ones(1, np.int64)).compacted()  # the next generation of a store may need this
    if query.thumbnail is not None:
        # The second thumbnail has another shape, so that `scene_scores` also calls the functions that reduce an image.
        scene_scores(query.thumbnail, [query.thumbnail[: _SIDE * 9 // 10]])
        frame_codes(query.thumbnail, (WHOLE,), SYMMETRIES)
    find_lack(np.tile(pixels, (2, 2)))  # large enough for the noise check
    luma(np.dstack((pixels, pixels, pixels)))
    standardised_ssim(pixels, pixels)
