"""The decision rules of Twinscope. For each rule, the module lists the functions or thresholds to replace.

A replacement switches the rule off. If Twinscope did not call a rule for a query, the rule did not change the answer.
The function `asked` records the rules that Twinscope calls.
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


class Attribute(NamedTuple):
    """An attribute, given by the module or class that has it and by its name."""

    owner: Any
    name: str


@dataclass(frozen=True)
class Rule:
    """One decision rule.

    Attributes
    ----------
    name : str
    without : mapping of Attribute to object
        Attributes that are replaced to switch the rule off, with their replacements.
    asked_by : tuple of Attribute
        Functions that show whether the rule is called. If the rule can change an answer, Twinscope calls at least one
        of these functions. If the tuple is empty, the attributes of `without` are used.
    """

    name: str
    without: dict[Attribute, object]
    asked_by: tuple[Attribute, ...] = ()

    @contextmanager
    def off(self) -> Iterator[None]:
        """Switch the rule off in this process while the context is active."""
        with ExitStack() as stack:
            for attribute, substitute in self.without.items():
                stack.enter_context(patch.object(*attribute, substitute))
            yield


@contextmanager
def asked(rules: Sequence[Rule]) -> Iterator[set[str]]:
    """Record the names of the rules that Twinscope calls while the context is active."""
    names: set[str] = set()
    by_attribute: dict[Attribute, list[str]] = defaultdict(list)
    for rule in rules:
        for attribute in rule.asked_by or rule.without:
            by_attribute[attribute].append(rule.name)
    with ExitStack() as stack:
        for attribute, some in by_attribute.items():
            stack.enter_context(patch.object(*attribute, _noting(vars(attribute.owner)[attribute.name], some, names)))
        yield names


def _noting(original: Any, some: Sequence[str], names: set[str]) -> Any:
    """Wrap a function or a property so that each call adds the names of the rules to the record."""
    if isinstance(original, property):
        return property(_noting(original.fget, some, names))

    @wraps(original)
    def noting(*arguments: Any, **keywords: Any) -> Any:
        names.update(some)
        return original(*arguments, **keywords)

    return noting


_ALL: Final = 25
"""Number of regions into which a field is divided."""
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
    Rule("look-alikes", {Attribute(Neighbourhood, "lookalike"): lambda *_: 0.0}),
    Rule("regions agree", {
        Attribute(pipeline, "neighbourhood"): _regions_agree,
        Attribute(pipeline, "regions_of"): lambda *_: _ALL_AGREE,
    }),
    Rule("texture agrees", {Attribute(pipeline, "neighbourhood"): _texture_agrees}),
    Rule("noise residual proves", {Attribute(PixelComparison, "proof"): lambda *_: 0.0}),
    Rule("lone field", {Attribute(pipeline, "_alone"): _none}),
    Rule("instruments contradict", {Attribute(pipeline, "contradictions"): lambda *_: ()}),
    Rule("two categories, scene score", {Attribute(verdict, "_is_field_as_well"): _false}),
    Rule("two categories, SSIM", {Attribute(verdict, "_is_acquisition_as_well"): _false}),
    Rule("copies hide no other label", {Attribute(pipeline, "contested"): lambda *arguments: arguments[2]}),
    Rule("far candidates", {Attribute(pipeline, "_beyond_distance"): _none}),
    Rule(
        "far windows threshold", {Attribute(frame_search, "FAR_WINDOW_SCENE"): -1.0},
        (Attribute(pipeline, "scored_far"),),
    ),
    Rule("shades", {Attribute(pipeline, "stages"): _no_shades}, (Attribute(pipeline, "by_frames"),)),
    Rule(
        "whole images preferred", {Attribute(frame_search, "WHOLE_PREFERENCE"): -2.0},
        (Attribute(pipeline, "scored"), Attribute(pipeline, "scored_far")),
    ),
    Rule("windows as well", {Attribute(pipeline, "_also_windows"): lambda *arguments: arguments[2]}),
    Rule("better neighbour", {Attribute(Neighbourhood, "better"): property(_none)}),
    Rule("limit on p_wrong", {Attribute(pipeline, "decide"): _no_limit}, (Attribute(verdict, "_doubt"),)),
    Rule(
        "hashability", {Attribute(perceptual, "find_lack"): _none, Attribute(perceptual, "_MAX_TIES"): BITS},
        (Attribute(pipeline, "_unhashable"),),
    ),
)  # fmt: skip
"""All rules. The rule ``far candidates`` includes the rule ``lone field``, which can accept one far candidate."""
