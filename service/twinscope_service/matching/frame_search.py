"""Reaching further: what has no twin as it is may have one without its info bar, turned, inverted, or in part.

In stages, each tried only where the one before found nothing sure: all views of the query in all symmetries against
the views of the references; its brightest and its darkest parts against theirs; then the query against the windows of
the references. A candidate is verified in the frame that it was found by, with all its grey levels.
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
from twinscope_service.thresholds import (
    FAR_CANDIDATES,
    FAR_WINDOW_SCENE,
    WHOLE_PREFERENCE,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from twinscope_indexer.index.frames import FrameView, NearFrame
    from twinscope_indexer.store.catalog.catalog import Record
    from twinscope_indexer.store.view import View

    from twinscope_service.matching.policy import Policy

Allowed = Callable[[int, dict[int, "Record"]], bool]
"""Whether an image may be answered with."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: which frames of a query are looked for among which of the references.

    Attributes
    ----------
    name : str
        The kind of the references' frames.
    reference : tuple of Frame
        Of the references.
    query : tuple of (tuple of Frame, tuple of Symmetry)
        Frames of the query, and the symmetries that each of these is looked for in.
    """

    name: str
    reference: tuple[Frame, ...]
    query: tuple[tuple[tuple[Frame, ...], tuple[Symmetry, ...]], ...]

    def codes(self, thumbnail: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Hash a query's frames in their symmetries; see `frame_codes`."""
        return np.concatenate([frame_codes(thumbnail, *group) for group in self.query])

    def changes(self) -> list[tuple[Frame, Symmetry]]:
        """Give the frame and the symmetry of each of the codes."""
        return [change for group in self.query for change in product(*group)]

    @property
    def of_parts(self) -> bool:
        """Whether it looks for parts of the field."""
        return self.name in {"windows", "panels"}


_UPRIGHT: Final = SYMMETRIES[:1]
_MOST: Final = 16
"""Candidates of a stage; every one may be found by all of its frames, so each costs a place for every frame."""
_DEEPEST: Final = 256
"""Images looked at where others that may not be answered with have taken the first places."""
_SAME_ASPECT: Final = 0.01
"""By how much the proportions of thumbnails of one frame may differ, as their sides are whole pixels."""
STAGES: Final = (
    Stage("views", VIEWS, ((VIEWS, SYMMETRIES), (SHIFTS, _UPRIGHT))),
    Stage("shades", SHADES, ((SHADES, SYMMETRIES),)),
    Stage("windows", WINDOWS, ((CROPS, _UPRIGHT),)),
    Stage("panels", PANELS, (((*SHIFTS, VIEWS[-1]), _UPRIGHT),)),
)


def stages(policy: Policy, frames: FrameView) -> tuple[Stage, ...]:
    """Give the stages that a policy asks for and a store has.

    Pictures with the same brightest or darkest parts can be any distance apart, so these are not looked for where
    nothing beyond the usual distance is.
    """
    asked = dict(frame_kinds(policy.reach))
    if policy.far_distance <= policy.max_distance:
        asked.pop("shades", None)
    return tuple(stage for stage in STAGES if stage.name in asked and stage.name in frames.base)


@dataclass(frozen=True, slots=True)
class Found:
    """What one stage has found.

    Attributes
    ----------
    stage : Stage
    near : list of NearFrame
        Within the policy's distance, nearest first.
    far : list of NearFrame
        Beyond it; few, and to be compared only where nothing else was found.
    records : dict
        Of all of these, by number.
    """

    stage: Stage
    near: list[NearFrame]
    far: list[NearFrame]
    records: dict[int, Record]


def find(stage: Stage, thumbnail: NDArray[np.uint8], view: View, policy: Policy, allowed: Allowed) -> Found:
    """Find the nearest images by frames; deeper where others, that may not be answered with, have taken their places.

    Parameters
    ----------
    stage : Stage
    thumbnail : ndarray of uint8, shape (height, width)
        Of the query.
    view : View
        For frames and records.
    policy : Policy
    allowed : callable
        Whether an image may be answered with.
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
    """Make candidates of some that a stage has found: each is scored in the frame that it was found by; not ordered."""
    return [_scored(found.stage, thumbnail, one, found.records[one.image], view) for one in some]


def scored_far(found: Found, thumbnail: NDArray[np.uint8], view: View) -> list[Match]:
    """Make candidates of what a stage has found beyond the usual distance; see `scored`. Weak parts are left out."""
    matches = scored(found, found.far, thumbnail, view)
    if not found.stage.of_parts:
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
    seen = symmetry.applied(thumbnail)
    compared, shown = symmetry.applied(frame.cut(thumbnail)), reference.cut(known)
    if hashed != frame:  # what a part of the grey levels has in common says less than all of them
        match = replace(match, distance=whole_bits(compared, shown))
    [found] = scene_scores(compared, [shown])
    same_frame = abs(seen.shape[0] * known.shape[1] / (seen.shape[1] * known.shape[0]) - 1) <= _SAME_ASPECT
    if same_frame and not (frame.is_whole and reference.is_whole):
        [whole] = scene_scores(seen, [known])
        if whole.score >= found.score - WHOLE_PREFERENCE:
            found, frame, reference = whole, WHOLE, WHOLE
    match = replace(match, scene_score=found.score, shift=(found.shift_x, found.shift_y))
    return _changed(match, symmetry, frame, reference)


def _changed(match: Match, symmetry: Symmetry, frame: Frame, reference: Frame) -> Match:
    """Note how the query was changed, if it was."""
    transform = Transform(str(symmetry), str(frame), str(reference))
    return replace(match, transform=transform) if transform.symmetry or not transform.is_whole else match
