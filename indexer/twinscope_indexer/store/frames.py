"""Functions that load the frame indexes of a store from the catalog."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from typing import Final

import numpy as np

from twinscope_indexer.errors import StoreError
from twinscope_indexer.hashing.frames import FRAMES_RECIPE, frame_kinds, reference_frames
from twinscope_indexer.hashing.reach import REACHES, Reach
from twinscope_indexer.index.choice import frame_index
from twinscope_indexer.index.frames import FrameIndex, FrameView
from twinscope_indexer.index.segments import segment_size
from twinscope_indexer.store.catalog.catalog import Catalog

_MAX_DELTA_SHARE: Final = 0.1
"""Maximum share of images that may be newer than the frames in memory. If more images are newer, all frames are
loaded again."""


def load_frames(catalog: Catalog, held: FrameView, upto: int) -> FrameView:
    """Load the frames of a generation; frames that are already in memory are not read again.

    Parameters
    ----------
    catalog : Catalog
        Catalog of a snapshot.
    held : FrameView
        Frames of an earlier generation, which are already in memory; may be empty.
    upto : int
        Number of the generation to load.

    Raises
    ------
    StoreError
        If this release of Twinscope does not know the reach of the store.
    """
    reach, since = stored_reach(catalog), int(catalog.meta("reframed") or 0)
    if not reference_frames(reach) or catalog.meta("frames_recipe") != FRAMES_RECIPE:
        return FrameView("frame", since, upto)
    file = catalog.newest_file()
    # When a new index file is published, the list of deleted images in the catalog is cleared.
    known = file is None or file.number <= held.loaded
    if held.base and known and (held.reach, held.since) == (reach, since):
        changed = catalog.changed_since(held.loaded, upto=upto)
        if len(changed) <= _MAX_DELTA_SHARE * len(held.base["views"].images):
            base = {kind: index.without(changed) for kind, index in held.base.items()}
            return replace(held, base=base, delta=_indexes(catalog, reach, held.loaded, upto))
    return FrameView(reach, since, upto, _indexes(catalog, reach, 0, upto))


def _indexes(catalog: Catalog, reach: Reach, above: int, upto: int) -> dict[str, FrameIndex]:
    """Load the frames of images into one index for each kind of frame.

    The function loads only images whose generation is greater than `above` and at most `upto`.
    """
    count, kinds = len(reference_frames(reach)), frame_kinds(reach)
    images = catalog.count_framed(count, above=above, upto=upto)
    size = segment_size(count * images) // count
    ends = list(accumulate(len(frames) for frames in kinds.values()))
    found = {kind: FrameIndex(len(frames), frame_index(len(frames) * images)) for kind, frames in kinds.items()}
    for numbers, codes in catalog.frame_parts(count, max(1, size), above=above, upto=upto):
        for kind, part in zip(kinds, np.split(codes, ends[:-1], axis=1), strict=True):
            found[kind] = found[kind].extended(numbers, part)
    return found


def stored_reach(catalog: Catalog) -> Reach:
    """Return the reach of a store, as set by the last indexing run.

    Raises
    ------
    StoreError
        If this release of Twinscope does not know the reach.
    """
    found = catalog.meta("reach") or "frame"
    known = next((reach for reach in REACHES if reach == found), None)
    if known is None:
        msg = (
            f"{catalog.path} has frames of reach {found!r}, but this Twinscope knows only {', '.join(REACHES)}; use "
            "the release of Twinscope that wrote the store, or index the collection again into a new store"
        )
        raise StoreError(msg)
    return known
