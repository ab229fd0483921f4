"""What the scripts that Twinscope replaces would have said to the candidates that a labelling run recorded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from twinscope_service.matching.grades import LABELLED
from twinscope_service.matching.policy import POLICIES

if TYPE_CHECKING:
    from twinscope_client.labelling.journal import Decision

RULE: Final = POLICIES["legacy"]


@dataclass(frozen=True, slots=True)
class OldAnswer:
    """What the old rule says to one image."""

    category: str = ""
    """The label; empty where it is refused, or not known."""
    unknown: str = ""
    """Why the run does not tell; empty where it does."""


REFUSED: Final = OldAnswer()


class _Candidate(NamedTuple):
    category: str
    distance: int
    ssim: float | None
    image_id: str


def old_answer(decision: Decision) -> OldAnswer:
    """Apply policy ``reference`` to what a run recorded of one image.

    The recorded candidates, the best one and the best of another category, stand for the two nearest ones: within
    149 bits a preliminary match, within 119 verified by full-size SSIM, labelled above 0.95. The SSIM is the recorded
    one, which differs from that of the old scripts where query and reference differ in size.

    Parameters
    ----------
    decision : Decision

    Returns
    -------
    OldAnswer
        Unknown where the run did not look or compare as far as the rule does, or looked in another frame.
    """
    policy = _policy(decision)
    if decision.grade in {"failed", "unhashable"}:
        return REFUSED
    if policy.get("name") == RULE.name:  # the run was decided by this rule
        return OldAnswer(decision.category) if decision.grade in LABELLED else REFUSED
    if not decision.match_id:
        return _without_candidates(policy)
    elsewhere = _elsewhere(decision, policy)
    return OldAnswer(unknown=elsewhere) if elsewhere else _of_candidates(_candidates(decision))


def _policy(decision: Decision) -> dict[str, Any]:
    """Give the policy that a decision was made by; empty where it is not recorded in a form that is known."""
    try:
        found = json.loads(decision.decided_by)
    except ValueError:
        return {}
    known = isinstance(found, list) and len(found) == 2 and isinstance(found[1], dict)
    return dict(found[1]) if known else {}


def _without_candidates(policy: dict[str, Any]) -> OldAnswer:
    if policy.get("max_distance", -1) >= RULE.max_distance:
        return REFUSED
    return OldAnswer(unknown=f"no candidate, but the run did not look as far as {RULE.max_distance} bits")


def _elsewhere(decision: Decision, policy: dict[str, Any]) -> str:
    """Say why the recorded distances may not be those of the whole images; empty if they are."""
    if policy.get("reach") == "frame":
        return ""
    as_it_is = decision.query_frame == decision.reference_frame == "whole" and not decision.symmetry
    if not as_it_is or decision.rival_transform:
        return "found in another frame or orientation: the distance of the whole image is not recorded"
    return ""


def _candidates(decision: Decision) -> list[_Candidate]:
    found = []
    if decision.distance is not None:
        found.append(_Candidate(decision.category, decision.distance, decision.ssim, decision.match_id))
    if decision.rival_distance is not None:
        found.append(
            _Candidate(decision.rival_category, decision.rival_distance, decision.rival_ssim, decision.rival_id)
        )
    return found


def _of_candidates(candidates: list[_Candidate]) -> OldAnswer:
    verified = [candidate for candidate in candidates if candidate.distance <= RULE.ssim_distance]
    if not verified:
        return REFUSED
    ordered = sorted((-c.ssim, c.distance, c.image_id, c.category) for c in verified if c.ssim is not None)
    if len(ordered) < len(verified):
        return OldAnswer(unknown=f"a candidate within {RULE.ssim_distance} bits has no full-size SSIM in the run")
    ssim, _, _, category = ordered[0]
    return OldAnswer(category) if -ssim > RULE.excellent_ssim else REFUSED
