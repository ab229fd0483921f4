"""The index of frames: the images that have a frame that looks like a hash."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Final

import numpy as np

from twinscope_indexer.errors import StoreError
from twinscope_indexer.frames import FRAMES_RECIPE, REACHES, Reach, frame_kinds, reference_frames
from twinscope_indexer.hashing import BYTES
from twinscope_indexer.segments import Segments, segment_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from twinscope_indexer.catalog import Catalog


_NOTHING: Final = Segments()
_MAX_DELTA_SHARE: Final = 0.1
"""All is loaded again when more than this share of the images is newer than what is held."""


@dataclass(frozen=True, slots=True)
class NearFrame:
    """A frame of a reference near a frame of a query.

    Attributes
    ----------
    image : int
        The catalogue's number of the reference.
    frame : int
        Which of its frames of the kind that was asked for; see `frames.frame_kinds`.
    query : int
        Which code of the query.
    distance : int
        Bits.
    """

    image: int
    frame: int
    query: int
    distance: int

    @property
    def order(self) -> tuple[int, int, int, int]:
        """Sort key: by distance, then image, frame and code."""
        return self.distance, self.image, self.frame, self.query


class FrameIndex:
    """Codes of frames, the same number for every image.

    Parameters
    ----------
    images : ndarray of int64, shape (n,)
        Distinct, in ascending order.
    codes : ndarray of uint8, shape (n, frames, 128)
    """

    def __init__(self, images: NDArray[np.int64], codes: NDArray[np.uint8]) -> None:
        self._images = np.empty(0, np.int64)
        self._frames = codes.shape[1]
        self._hold(images, codes)

    def _hold(self, images: NDArray[np.int64], codes: NDArray[np.uint8], whole: Segments = _NOTHING) -> None:
        """Take up images besides those of `whole`; frames too small to be hashed are left out."""
        flat = codes.reshape(-1, BYTES)
        positions = np.arange(len(flat), dtype=np.int64) + len(self._images) * self._frames
        self._images = np.concatenate([self._images, images])
        self._whole = whole.joined([(positions, flat)]).leaving_out(positions[~flat.any(axis=1)])
        self._index = self._whole

    def joined(self, images: NDArray[np.int64], codes: NDArray[np.uint8]) -> FrameIndex:
        """Give an index over the same codes, not copied, and those of other images, whose numbers follow."""
        made = self.leaving_out(self._images[:0])
        made._hold(images, codes, self._whole)
        return made

    def leaving_out(self, images: NDArray[np.int64]) -> FrameIndex:
        """Give an index over the same codes, not copied, that never answers with some images."""
        made = FrameIndex.__new__(FrameIndex)
        made._images, made._frames, made._whole = self._images, self._frames, self._whole
        rows = np.flatnonzero(np.isin(self._images, images))
        made._index = self._whole.leaving_out((rows[:, None] * self._frames + np.arange(self._frames)).ravel())
        return made

    @property
    def images(self) -> int:
        """Count the images, those left out included."""
        return len(self._images)

    def __len__(self) -> int:
        """Count the codes that it may answer with."""
        return len(self._index)

    def search(self, codes: NDArray[np.uint8], k: int, max_distance: int) -> list[NearFrame]:
        """Find the images that have a frame near any of the codes.

        Parameters
        ----------
        codes : ndarray of uint8, shape (n, 128)
            Of one query; those that are zero, of frames with nothing to hash, are near nothing.
        k : int
            Most images.
        max_distance : int
            Bits.

        Returns
        -------
        list of NearFrame
            The nearest frame of each image, by distance, then image, frame and code.
        """
        hashed = np.flatnonzero(codes.any(axis=1))
        # k images have k * frames frames at most.
        found = self._index.search(codes[hashed], k * max(1, self._frames), max_distance)
        best: dict[int, NearFrame] = {}
        for query, near in zip(hashed.tolist(), found, strict=True):
            for position, distance in zip(near.ids.tolist(), near.distances.tolist(), strict=True):
                row, frame = divmod(position, self._frames)
                one = NearFrame(int(self._images[row]), frame, query, distance)
                if one.image not in best or one.order < best[one.image].order:
                    best[one.image] = one
        return sorted(best.values(), key=lambda near: near.order)[:k]


@dataclass(frozen=True, slots=True)
class FrameView:
    """The frames of one published state of a store; immutable.

    Attributes
    ----------
    reach : str
        Which frames it has.
    since : int
        The generation in which all of them were made anew.
    loaded : int
        The generation that `base` is of.
    base, delta : dict
        The frames of that generation, and of newer images: an index for each of their kinds.
    """

    reach: Reach = "frame"
    since: int = 0
    loaded: int = 0
    base: dict[str, FrameIndex] = field(default_factory=dict)
    delta: dict[str, FrameIndex] = field(default_factory=dict)

    def search(self, kind: str, codes: NDArray[np.uint8], k: int, max_distance: int) -> list[NearFrame]:
        """Find the images that have a frame of one kind near any of the codes; see `FrameIndex.search`."""
        parts = [part[kind].search(codes, k, max_distance) for part in (self.base, self.delta) if kind in part]
        return sorted((near for part in parts for near in part), key=lambda near: near.order)[:k]


NO_FRAMES: Final = FrameView()


def load_frames(catalog: Catalog, held: FrameView, upto: int) -> FrameView:
    """Load the frames of a generation; what is held already is not read again.

    Parameters
    ----------
    catalog : Catalog
        Within a snapshot.
    held : FrameView
        Of an earlier generation, or an empty one.
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
        if len(gone) <= _MAX_DELTA_SHARE * held.base["views"].images:
            base = {kind: index.leaving_out(gone) for kind, index in held.base.items()}
            return replace(held, base=base, delta=_indexes(catalog, reach, held.loaded, upto))
    return FrameView(reach, since, upto, _indexes(catalog, reach, 0, upto))


def _indexes(catalog: Catalog, reach: Reach, above: int, upto: int) -> dict[str, FrameIndex]:
    count, kinds = len(reference_frames(reach)), frame_kinds(reach)
    size = segment_size(count * catalog.count_framed(count, above=above, upto=upto)) // count
    ends = list(accumulate(len(frames) for frames in kinds.values()))
    nothing = np.split(np.empty((0, count, BYTES), np.uint8), ends[:-1], axis=1)
    found = {kind: FrameIndex(np.empty(0, np.int64), part) for kind, part in zip(kinds, nothing, strict=True)}
    for images, codes in catalog.frame_parts(count, max(1, size), above=above, upto=upto):
        for kind, part in zip(kinds, np.split(codes, ends[:-1], axis=1), strict=True):
            found[kind] = found[kind].joined(images, part)
    return found


def stored_reach(catalog: Catalog) -> Reach:
    """Give the frames that a store has: those of its last run of the indexer.

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
