"""The rules that decide, each with what switches it off: a function or a threshold of the product is replaced.

A rule that was not asked about a query did not change its answer, so `asked` notes which ones were.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, Final, NamedTuple
from unittest.mock import patch

from twinscope_indexer.hashing import perceptual
from twinscope_indexer.hashing.codes import BITS
from twinscope_indexer.index.frames import FrameView
from twinscope_service.matching import frame_search, pipeline, verdict
from twinscope_service.matching.evidence import Evidence
from twinscope_service.matching.full_size import PixelComparison
from twinscope_service.matching.lookalikes import Neighbourhood, neighbourhood
from twinscope_service.matching.policy import Policy
from twinscope_service.similarity.regions import Regions


class Place(NamedTuple):
    """A module or a class, and the name of what it holds."""

    owner: Any
    name: str


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes
    ----------
    name : str
    without : mapping of Place to object
        What is replaced where the rule is switched off, and by what.
    asked_by : tuple of Place
        Functions of which one is called wherever the rule can change an answer; empty: those that are replaced.
    """

    name: str
    without: dict[Place, object]
    asked_by: tuple[Place, ...] = ()

    @contextmanager
    def off(self) -> Iterator[None]:
        """Switch the rule off, in this process."""
        with ExitStack() as stack:
            for place, substitute in self.without.items():
                stack.enter_context(patch.object(*place, substitute))
            yield


@contextmanager
def asked(rules: Sequence[Rule]) -> Iterator[set[str]]:
    """Note the names of the rules that are asked."""
    names: set[str] = set()
    by_place: dict[Place, list[str]] = defaultdict(list)
    for rule in rules:
        for place in rule.asked_by or rule.without:
            by_place[place].append(rule.name)
    with ExitStack() as stack:
        for place, some in by_place.items():
            stack.enter_context(patch.object(*place, _noting(vars(place.owner)[place.name], some, names)))
        yield names


def _noting(original: Any, some: Sequence[str], names: set[str]) -> Any:
    """Wrap a function, or a property, so that it notes its call."""
    if isinstance(original, property):
        return property(_noting(original.fget, some, names))

    @wraps(original)
    def noting(*arguments: Any, **keywords: Any) -> Any:
        names.update(some)
        return original(*arguments, **keywords)

    return noting


_ALL: Final = 25
"""Regions of a field."""
_ALL_AGREE: Final = Regions((1.0,) * _ALL, (False,) * _ALL, (False,) * _ALL)


def _regions_agree(*arguments: Any) -> Neighbourhood:
    return replace(neighbourhood(*arguments), regions=_ALL_AGREE)


def _texture_agrees(*arguments: Any) -> Neighbourhood:
    return replace(neighbourhood(*arguments), textured=True)


_stages = frame_search.stages


def _no_shades(policy: Policy, frames: FrameView) -> tuple[frame_search.Stage, ...]:
    return tuple(stage for stage in _stages(policy, frames) if stage.name != "shades")


def _no_limit(evidence: Evidence, policy: Policy) -> verdict.Verdict:
    return verdict.decide(evidence, replace(policy, max_p_wrong=1.0))


def _none(*_: object) -> None:
    """Return nothing."""


def _false(*_: object) -> bool:
    return False


RULES: Final = (
    Rule("look-alikes", {Place(Neighbourhood, "lookalike"): lambda *_: 0.0}),
    Rule("regions agree", {
        Place(pipeline, "neighbourhood"): _regions_agree,
        Place(pipeline, "regions_of"): lambda *_: _ALL_AGREE,
    }),
    Rule("texture agrees", {Place(pipeline, "neighbourhood"): _texture_agrees}),
    Rule("noise residual proves", {Place(PixelComparison, "proof"): lambda *_: 0.0}),
    Rule("lone field", {Place(pipeline, "_alone"): _none}),
    Rule("instruments contradict", {Place(pipeline, "contradictions"): lambda *_: ()}),
    Rule("two categories, scene score", {Place(verdict, "_is_field_as_well"): _false}),
    Rule("two categories, SSIM", {Place(verdict, "_is_acquisition_as_well"): _false}),
    Rule("copies hide no other label", {Place(pipeline, "contested"): lambda *arguments: arguments[2]}),
    Rule("far candidates", {Place(pipeline, "_beyond_distance"): _none}),
    Rule("far windows threshold", {Place(frame_search, "FAR_WINDOW_SCENE"): -1.0}, (Place(pipeline, "scored_far"),)),
    Rule("shades", {Place(pipeline, "stages"): _no_shades}, (Place(pipeline, "by_frames"),)),
    Rule(
        "whole images preferred", {Place(frame_search, "WHOLE_PREFERENCE"): -2.0},
        (Place(pipeline, "scored"), Place(pipeline, "scored_far")),
    ),
    Rule("windows as well", {Place(pipeline, "_also_windows"): lambda *arguments: arguments[2]}),
    Rule("better neighbour", {Place(Neighbourhood, "better"): property(_none)}),
    Rule("limit on p_wrong", {Place(pipeline, "decide"): _no_limit}, (Place(verdict, "_doubt"),)),
    Rule(
        "hashability", {Place(perceptual, "find_lack"): _none, Place(perceptual, "_MAX_TIES"): BITS},
        (Place(pipeline, "_unhashable"),),
    ),
)  # fmt: skip
"""All rules. ``far candidates`` holds the lone field, which is one of them."""
