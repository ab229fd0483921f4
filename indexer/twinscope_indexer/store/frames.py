"""Frame indexes of a store, loaded from its catalogue."""

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
"""All frames are loaded again when more than this share of the images is newer than those in memory."""


def load_frames(catalog: Catalog, held: FrameView, upto: int) -> FrameView:
    """Load the frames of a generation; those that are in memory already are not read again.

    Parameters
    ----------
    catalog : Catalog
        Within a snapshot.
    held : FrameView
        In memory: of an earlier generation, or empty.
    upto : int
        The generation.

    Raises
    ------
    StoreError
        If this release does not know the frames that the store has.
    """
    reach, since = stored_reach(catalog), int(catalog.meta("reframed") or 0)
    if not reference_frames(reach) or catalog.meta("frames_recipe") != FRAMES_RECIPE:
        return FrameView("frame", since, upto)
    file = catalog.newest_file()
    # With a new index file the catalogue forgets what was deleted before.
    known = file is None or file.number <= held.loaded
    if held.base and known and (held.reach, held.since) == (reach, since):
        gone = catalog.changed_since(held.loaded, upto=upto)
        if len(gone) <= _MAX_DELTA_SHARE * len(held.base["views"].images):
            base = {kind: index.without(gone) for kind, index in held.base.items()}
            return replace(held, base=base, delta=_indexes(catalog, reach, held.loaded, upto))
    return FrameView(reach, since, upto, _indexes(catalog, reach, 0, upto))


def _indexes(catalog: Catalog, reach: Reach, above: int, upto: int) -> dict[str, FrameIndex]:
    """Load the frames of the generations in (`above`, `upto`], an index for each kind."""
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
    """Return which frames a store has: those of its last run of the indexer.

    Raises
    ------
    StoreError
        If this release does not know such frames.
    """
    found = catalog.meta("reach") or "frame"
    known = next((reach for reach in REACHES if reach == found), None)
    if known is None:
        msg = (
            f"{catalog.path} has frames of reach {found!r}, this Twinscope knows {', '.join(REACHES)}: use the release "
            "that wrote it, or index again elsewhere"
        )
        raise StoreError(msg)
    return known
