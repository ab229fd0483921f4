"""Search by frames: finds twins of queries that have another info bar, are rotated, inverted or cropped.

The search has stages; each is used only if the previous one found no twin. First, all views of the query in all
symmetries are compared with the views of the references; then its brightest and darkest areas with theirs; then the
query with the windows of the references. A candidate is verified in the frame that found it, with all grey levels.
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
"""Returns whether an image may be a match."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the search: which frames of a query are compared with which frames of the references.

    Attributes
    ----------
    name : str
        The kind of the references' frames.
    reference : tuple of Frame
        Frames of the references.
    query : tuple of (tuple of Frame, tuple of Symmetry)
        Groups of frames of the query with the symmetries that apply to each frame of the group.
    """

    name: str
    reference: tuple[Frame, ...]
    query: tuple[tuple[tuple[Frame, ...], tuple[Symmetry, ...]], ...]

    def codes(self, thumbnail: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Compute the codes of the query's frames in their symmetries; see `frame_codes`."""
        return np.concatenate([frame_codes(thumbnail, *group) for group in self.query])

    def changes(self) -> list[tuple[Frame, Symmetry]]:
        """Return the frame and the symmetry of each code."""
        return [change for group in self.query for change in product(*group)]

    @property
    def is_partial(self) -> bool:
        """Whether the stage finds smaller frames of a field."""
        return self.name in {"windows", "panels"}


_UPRIGHT: Final = SYMMETRIES[:1]
_MOST: Final = 16
"""Maximum candidates of a stage: each can be found by all its frames, so it needs a position for every frame."""
_DEEPEST: Final = 256
"""Maximum number of images in a search if excluded images take the first positions."""
_SAME_ASPECT: Final = 0.01
"""Maximum difference of the proportions of two thumbnails of one frame, whose sides are whole pixels."""
STAGES: Final = (
    Stage("views", VIEWS, ((VIEWS, SYMMETRIES), (SHIFTS, _UPRIGHT))),
    Stage("shades", SHADES, ((SHADES, SYMMETRIES),)),
    Stage("windows", WINDOWS, ((CROPS, _UPRIGHT),)),
    Stage("panels", PANELS, (((*SHIFTS, VIEWS[-1]), _UPRIGHT),)),
)


def stages(policy: Policy, frames: FrameView) -> tuple[Stage, ...]:
    """Return the stages that a policy requests and a store has.

    Images with the same brightest or darkest areas can be any distance apart, so these are not searched if the policy
    excludes everything beyond the usual distance.
    """
    requested = dict(frame_kinds(policy.reach))
    if policy.far_distance <= policy.max_distance:
        requested.pop("shades", None)
    return tuple(stage for stage in STAGES if stage.name in requested and stage.name in frames.base)


@dataclass(frozen=True, slots=True)
class Found:
    """The results of one stage.

    Attributes
    ----------
    stage : Stage
    near : list of NearFrame
        Within the policy's distance, nearest first.
    far : list of NearFrame
        Beyond that distance; few, and compared only if nothing else was found.
    records : dict
        The records of all these images, by number.
    """

    stage: Stage
    near: list[NearFrame]
    far: list[NearFrame]
    records: dict[int, Record]


def find(stage: Stage, thumbnail: NDArray[np.uint8], view: View, policy: Policy, allowed: Allowed) -> Found:
    """Find the nearest images by frames; search deeper if excluded images take the first positions.

    Parameters
    ----------
    stage : Stage
    thumbnail : ndarray of uint8, shape (height, width)
        The thumbnail of the query.
    view : View
        Source of frames and records.
    policy : Policy
    allowed : callable
        Returns whether an image may be a match.
    """
    codes, wanted = stage.codes(thumbnail), min(policy.k, _MOST)
    limit = max(policy.max_distance, policy.far_distance)
    kept: list[NearFrame] = []
    records: dict[int, Record] = {}

    def search(depth: int) -> list[NearFrame]:
        return view.frames.search(stage.name, codes, depth, limit)

    for nearest in deepening(search, wanted + 1, _DEEPEST):  # the query itself may be among them
        records = view.records([one.image for one in nearest])
        kept = [one for one in nearest if one.image in records and allowed(one.image, records)]
        if len(kept) >= wanted:
            break
    near = [one for one in kept if one.distance <= policy.max_distance]
    return Found(stage, near[:wanted], kept[len(near) :][:FAR_CANDIDATES], records)


def scored(found: Found, some: Sequence[NearFrame], thumbnail: NDArray[np.uint8], view: View) -> list[Match]:
    """Return some results of a stage as unordered candidates, each scored in the frame that found it."""
    return [_scored(found.stage, thumbnail, one, found.records[one.image], view) for one in some]


def scored_far(found: Found, thumbnail: NDArray[np.uint8], view: View) -> list[Match]:
    """Return the results beyond the usual distance as candidates, without weak windows; see `scored`."""
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
    if hashed != frame:  # found by some grey levels only: compare all of them
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
    """Add the transform of the query, if there is one."""
    transform = Transform(str(symmetry), str(frame), str(reference))
    return replace(match, transform=transform) if transform.symmetry or not transform.is_whole else match
