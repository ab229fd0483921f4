"""Search by frames: finds the twin even if the query has another info bar, or is rotated, inverted or cropped.

The search has four stages. A stage is used only if no twin was found before. The first stage compares all views of the
query, in all symmetries, with the views of the references. The second stage compares the brightest and the darkest
areas of query and references. The last two stages compare frames of the query with smaller frames of the references,
called windows and panels. To verify a candidate, Twinscope compares all grey levels of the frame that was found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Final

import numpy as np
from twinscope_indexer.errors import ImageError
from twinscope_indexer.hashing.frames import (
    CROPS,
    PANELS,
    SHADES,
    SHIFTS,
    VIEWS,
    WHOLE,
    WINDOWS,
    Frame,
    frame_codes,
    frame_kinds,
)
from twinscope_indexer.hashing.symmetry import SYMMETRIES, Symmetry

from twinscope_service.matching.answer import Match, Transform
from twinscope_service.matching.deepening import deepening
from twinscope_service.matching.geometry import frames_of, whole_bits
from twinscope_service.matching.reference_thumbnails import reference_thumbnail
from twinscope_service.similarity.scene_score import scene_scores
from twinscope_service.thresholds import FAR_CANDIDATES, FAR_WINDOW_SCENE, WHOLE_PREFERENCE

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from twinscope_indexer.index.frames import FrameView, NearFrame
    from twinscope_indexer.store.catalog.catalog import Record
    from twinscope_indexer.store.view import View

    from twinscope_service.matching.policy import Policy

Allowed = Callable[[int, dict[int, "Record"]], bool]
"""Function that takes the number of an image and a dictionary of records, and returns whether the image may be a match.
The keys of the dictionary are the numbers of the images."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the search: which frames of a query are compared with which frames of the references.

    Attributes
    ----------
    name : str
        Kind of the frames of the references.
    reference : tuple of Frame
        Frames of each reference.
    query : tuple of (tuple of Frame, tuple of Symmetry)
        Groups of frames of the query. The search compares each frame of a group in all symmetries of the group.
    """

    name: str
    reference: tuple[Frame, ...]
    query: tuple[tuple[tuple[Frame, ...], tuple[Symmetry, ...]], ...]

    def codes(self, thumbnail: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Compute the codes of all frames of the query in all their symmetries; see `frame_codes`."""
        return np.concatenate([frame_codes(thumbnail, *group) for group in self.query])

    def changes(self) -> list[tuple[Frame, Symmetry]]:
        """Return the frame and the symmetry of each code, in the order of `codes`."""
        return [change for group in self.query for change in product(*group)]

    @property
    def is_partial(self) -> bool:
        """Whether the frames of the references in this stage show only a part of the field."""
        return self.name in {"windows", "panels"}


_UPRIGHT: Final = SYMMETRIES[:1]
_MOST: Final = 16
"""Maximum number of candidates of a stage. The number is small, because one image can take many positions in the
results of the index: one position for each of its frames."""
_DEEPEST: Final = 256
"""Maximum number of images that a search requests if many of the nearest images are excluded."""
_SAME_ASPECT: Final = 0.01
"""If the proportions of two thumbnails differ by at most this share, they count as equal. Two thumbnails of the same
image can have slightly different proportions, because the sides of a thumbnail are whole pixels."""
STAGES: Final = (
    Stage("views", VIEWS, ((VIEWS, SYMMETRIES), (SHIFTS, _UPRIGHT))),
    Stage("shades", SHADES, ((SHADES, SYMMETRIES),)),
    Stage("windows", WINDOWS, ((CROPS, _UPRIGHT),)),
    Stage("panels", PANELS, (((*SHIFTS, VIEWS[-1]), _UPRIGHT),)),
)


def stages(policy: Policy, frames: FrameView) -> tuple[Stage, ...]:
    """Return the stages that the policy requests. Stages for which the store has no frames are left out.

    Two images can have equal brightest or darkest areas, although the distance of their hashes is large. Therefore,
    these areas are not compared if the policy excludes all references at distances above `max_distance`.
    """
    requested = dict(frame_kinds(policy.reach))
    if policy.far_distance <= policy.max_distance:
        requested.pop("shades", None)
    return tuple(stage for stage in STAGES if stage.name in requested and stage.name in frames.base)


@dataclass(frozen=True, slots=True)
class Found:
    """Frames of references that one stage found.

    Attributes
    ----------
    stage : Stage
    near : list of NearFrame
        Frames within the policy's `max_distance`; the nearest frame is first.
    far : list of NearFrame
        A few frames at distances above `max_distance`. These frames are compared only if no twin was found before.
    records : dict
        Maps the number of each of these references to its record.
    """

    stage: Stage
    near: list[NearFrame]
    far: list[NearFrame]
    records: dict[int, Record]


def find(stage: Stage, thumbnail: NDArray[np.uint8], view: View, policy: Policy, allowed: Allowed) -> Found:
    """Find the images whose frames are nearest to the frames of the query.

    If too many of the nearest images are excluded, the search is repeated with more results.

    Parameters
    ----------
    stage : Stage
    thumbnail : ndarray of uint8, shape (height, width)
        Thumbnail of the query.
    view : View
        Source of frames and records.
    policy : Policy
    allowed : callable
        Function that returns whether an image may be a match.
    """
    codes, wanted = stage.codes(thumbnail), min(policy.k, _MOST)
    limit = max(policy.max_distance, policy.far_distance)
    kept: list[NearFrame] = []
    records: dict[int, Record] = {}

    def search(depth: int) -> list[NearFrame]:
        return view.frames.search(stage.name, codes, depth, limit)

    for nearest in deepening(search, wanted + 1, _DEEPEST):  # one more, because the query itself may be found
        records = view.records([one.image for one in nearest])
        kept = [one for one in nearest if one.image in records and allowed(one.image, records)]
        if len(kept) >= wanted:
            break
    near = [one for one in kept if one.distance <= policy.max_distance]
    return Found(stage, near[:wanted], kept[len(near) :][:FAR_CANDIDATES], records)


def scored(found: Found, some: Sequence[NearFrame], thumbnail: NDArray[np.uint8], view: View) -> list[Match]:
    """Return some frames that a stage found as candidates with scene scores; the candidates are not sorted."""
    return [_scored(found.stage, thumbnail, one, found.records[one.image], view) for one in some]


def scored_far(found: Found, thumbnail: NDArray[np.uint8], view: View) -> list[Match]:
    """Return the frames at distances above `max_distance` as candidates, without windows of low scene score."""
    matches = scored(found, found.far, thumbnail, view)
    if not found.stage.is_partial:
        return matches
    return [one for one in matches if frames_of(one)[2].is_whole or (one.scene_score or 0.0) >= FAR_WINDOW_SCENE]


def _scored(stage: Stage, thumbnail: NDArray[np.uint8], near: NearFrame, record: Record, view: View) -> Match:
    hashed, symmetry = stage.changes()[near.query]
    frame, reference = hashed.rectangle, stage.reference[near.frame].rectangle
    match = Match.of(record, near.distance)
    try:
        known = reference_thumbnail(view, record.id)
    except ImageError as error:
        return _changed(replace(match, note=error.detail), symmetry, frame, reference)
    oriented = symmetry.applied(thumbnail)
    compared, shown = symmetry.applied(frame.cut(thumbnail)), reference.cut(known)
    if hashed != frame:  # the found hash uses only some grey levels; compute a hash of all
        match = replace(match, distance=whole_bits(compared, shown))
    [found] = scene_scores(compared, [shown])
    same_frame = abs(oriented.shape[0] * known.shape[1] / (oriented.shape[1] * known.shape[0]) - 1) <= _SAME_ASPECT
    if same_frame and not (frame.is_whole and reference.is_whole):
        [whole] = scene_scores(oriented, [known])
        if whole.score >= found.score - WHOLE_PREFERENCE:
            found, frame, reference = whole, WHOLE, WHOLE
    match = replace(match, scene_score=found.score, shift=(found.shift_x, found.shift_y))
    return _changed(match, symmetry, frame, reference)


def _changed(match: Match, symmetry: Symmetry, frame: Frame, reference: Frame) -> Match:
    """Add the transform to a match, unless the whole images were compared unchanged."""
    transform = Transform(str(symmetry), str(frame), str(reference))
    return replace(match, transform=transform) if transform.symmetry or not transform.is_whole else match
