"""The legacy rule, applied to the candidates that a labelling run recorded."""

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
class LegacyAnswer:
    """The answer of the legacy rule for one image."""

    category: str = ""
    """Category of the label; empty if the image gets no label, or if the answer is unknown."""
    unknown: str = ""
    """Reason why the answer is unknown; empty if the answer is known."""


REFUSED: Final = LegacyAnswer()


class _Candidate(NamedTuple):
    category: str
    distance: int
    ssim: float | None
    image_id: str


def legacy_answer(decision: Decision) -> LegacyAnswer:
    """Apply the policy ``legacy`` to the decision that a run has recorded about one image.

    A run records two candidates: the best candidate, and the best candidate of another category. The legacy scripts
    used the two nearest candidates; this function uses the two recorded candidates instead. A candidate at a distance
    of at most 149 bits is a preliminary match. For a candidate at a distance of at most 119 bits, the full-size SSIM is
    also checked. If the SSIM is above 0.95, the image gets the category of the candidate as its label. If the query and
    the reference have different sizes, the recorded SSIM differs from the SSIM that the legacy scripts computed.

    Parameters
    ----------
    decision : Decision

    Returns
    -------
    LegacyAnswer
        The answer. The answer is unknown in three cases:

        - The run found no candidate, but did not search up to the maximum distance of the legacy rule.
        - The run did not compute an SSIM that the legacy rule needs.
        - The run found the match or the rival in another frame or orientation.
    """
    policy = _policy(decision)
    if decision.grade in {"failed", "unhashable"}:
        return REFUSED
    if policy.get("name") == RULE.name:  # the run itself used the legacy rule
        return LegacyAnswer(decision.category) if decision.grade in LABELLED else REFUSED
    if not decision.match_id:
        return _without_candidates(policy)
    reason = _distance_unknown(decision, policy)
    return LegacyAnswer(unknown=reason) if reason else _of_candidates(_candidates(decision))


def _policy(decision: Decision) -> dict[str, Any]:
    """Return the policy that was used for a decision; empty if the recorded policy cannot be read."""
    try:
        recorded = json.loads(decision.decided_by)
    except ValueError:
        return {}
    known = isinstance(recorded, list) and len(recorded) == 2 and isinstance(recorded[1], dict)
    return dict(recorded[1]) if known else {}


def _without_candidates(policy: dict[str, Any]) -> LegacyAnswer:
    if policy.get("max_distance", -1) >= RULE.max_distance:
        return REFUSED
    return LegacyAnswer(
        unknown=f"there is no candidate, but the run did not search up to a distance of {RULE.max_distance} bits"
    )


def _distance_unknown(decision: Decision, policy: dict[str, Any]) -> str:
    """Return the reason why the distance between the whole images is unknown; empty if the distance is known."""
    if policy.get("reach") == "frame":
        return ""
    unchanged = decision.query_frame == decision.reference_frame == "whole" and not decision.symmetry
    if not unchanged or decision.rival_transform:
        return "the match is in another frame or orientation: the distance between the whole images is not recorded"
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


def _of_candidates(candidates: list[_Candidate]) -> LegacyAnswer:
    verified = [candidate for candidate in candidates if candidate.distance <= RULE.ssim_distance]
    if not verified:
        return REFUSED
    ordered = sorted((-c.ssim, c.distance, c.image_id, c.category) for c in verified if c.ssim is not None)
    if len(ordered) < len(verified):
        return LegacyAnswer(
            unknown=f"no full-size SSIM was computed for a candidate at a distance of at most {RULE.ssim_distance} bits"
        )
    ssim, _, _, category = ordered[0]
    return LegacyAnswer(category) if -ssim > RULE.excellent_ssim else REFUSED
