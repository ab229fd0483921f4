"""Index of the hashes of frames: this index finds the images that have a frame with a similar hash."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from twinscope_indexer.hashing.codes import BYTES
from twinscope_indexer.hashing.reach import Reach

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from twinscope_indexer.index.protocol import Index


@dataclass(frozen=True, slots=True)
class NearFrame:
    """Frame of a reference, and a frame of the query with a similar hash.

    Attributes
    ----------
    image : int
        Id of the reference in the catalog.
    frame : int
        Position of the frame in the reference, counted among the frames of the same kind; see
        `hashing.frames.frame_kinds`.
    query : int
        Position of the frame of the query, in the array of codes with which the search was called.
    distance : int
        Distance between the hashes of the two frames, in bits.
    """

    image: int
    frame: int
    query: int
    distance: int

    @property
    def order(self) -> tuple[int, int, int, int]:
        """Key for sorting by `distance`, then by `image`, `frame` and `query`."""
        return self.distance, self.image, self.frame, self.query


@dataclass(frozen=True, slots=True, eq=False)
class FrameIndex:
    """Immutable index of the codes of frames; every image has the same number of frames.

    Attributes
    ----------
    frames : int
        Number of frames of each image.
    index : Index
        Index of the codes. The id of a code is `row * frames + position`. `row` is the row of the image in `images`,
        and `position` is the position of the frame in the image.
    images : ndarray of int64, shape (n,)
        Id of each image, including images that searches ignore.
    """

    frames: int
    index: Index
    images: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def extended(self, images: NDArray[np.int64], codes: NDArray[np.uint8]) -> FrameIndex:
        """Return an index with additional images; codes that are already in the index are not copied.

        Parameters
        ----------
        images : ndarray of int64, shape (n,)
            Ids of the new images, in ascending order; each id must occur only once. All new ids must be larger than the
            ids in the index.
        codes : ndarray of uint8, shape (n, frames, 128)
            Codes of the frames. If a frame is too small to be hashed, all bytes of its code are zero. Searches ignore
            such codes.
        """
        flat = codes.reshape(-1, BYTES)
        positions = np.arange(len(flat), dtype=np.int64) + len(self.images) * self.frames
        index = self.index.extended([(positions, flat)]).without(positions[~flat.any(axis=1)])
        return replace(self, index=index, images=np.concatenate([self.images, images]))

    def without(self, images: NDArray[np.int64]) -> FrameIndex:
        """Return an index without the images whose ids are in `images`; the codes in memory are not copied."""
        rows = np.flatnonzero(np.isin(self.images, images))
        positions = (rows[:, None] * self.frames + np.arange(self.frames)).ravel()
        return replace(self, index=self.index.without(positions))

    @property
    def nbytes(self) -> int:
        """Memory that the index uses, in bytes."""
        return self.index.nbytes + self.images.nbytes

    def __len__(self) -> int:
        """Return the number of codes that searches can find."""
        return len(self.index)

    def search(self, codes: NDArray[np.uint8], k: int, max_distance: int) -> list[NearFrame]:
        """Find the images that have a frame whose hash is similar to at least one of the codes.

        Parameters
        ----------
        codes : ndarray of uint8, shape (n, 128)
            Codes of one query. If a frame of the query cannot be hashed, all bytes of its code are zero. The search
            ignores such codes.
        k : int
            Maximum number of images.
        max_distance : int
            Maximum distance in bits.

        Returns
        -------
        list of NearFrame
            The nearest frame of each image that was found, sorted by `NearFrame.order`.
        """
        hashed = np.flatnonzero(codes.any(axis=1))
        # The k nearest images have at most k * self.frames frames in total.
        found = self.index.search(codes[hashed], k * max(1, self.frames), max_distance)
        best: dict[int, NearFrame] = {}
        for query, near in zip(hashed.tolist(), found, strict=True):
            for position, distance in zip(near.ids.tolist(), near.distances.tolist(), strict=True):
                row, frame = divmod(position, self.frames)
                one = NearFrame(int(self.images[row]), frame, query, distance)
                if one.image not in best or one.order < best[one.image].order:
                    best[one.image] = one
        return sorted(best.values(), key=lambda near: near.order)[:k]


@dataclass(frozen=True, slots=True)
class FrameView:
    """Immutable indexes of the frames in one generation of a store.

    Attributes
    ----------
    reach : str
        Reach of the store: the kinds of frames that are stored.
    since : int
        Number of the newest generation for which all frames were computed again.
    loaded : int
        Number of the generation for which `base` was loaded.
    base, delta : dict
        `base` holds the frames of the generation `loaded`. `delta` holds the frames of newer images. Each dictionary
        contains one index for each kind of frame.
    """

    reach: Reach = "frame"
    since: int = 0
    loaded: int = 0
    base: dict[str, FrameIndex] = field(default_factory=dict)
    delta: dict[str, FrameIndex] = field(default_factory=dict)

    def search(self, kind: str, codes: NDArray[np.uint8], k: int, max_distance: int) -> list[NearFrame]:
        """Find the images that have a frame of the kind `kind` with a similar hash; see `FrameIndex.search`."""
        parts = [part[kind].search(codes, k, max_distance) for part in (self.base, self.delta) if kind in part]
        return sorted((near for part in parts for near in part), key=lambda near: near.order)[:k]

    @property
    def nbytes(self) -> int:
        """Memory that all indexes use, in bytes."""
        return sum(index.nbytes for part in (self.base, self.delta) for index in part.values())


NO_FRAMES: Final = FrameView()
