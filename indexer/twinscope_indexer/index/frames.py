"""The index of frames: the images that have a frame that looks like a hash."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from twinscope_indexer.hashing.codes import BYTES
from twinscope_indexer.hashing.reach import Reach
from twinscope_indexer.index.segments import Segments

if TYPE_CHECKING:
    from numpy.typing import NDArray


_NOTHING: Final = Segments()


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
