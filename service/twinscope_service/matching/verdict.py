"""The verdict: grade and reasons from the evidence. No other module makes grades or reasons."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from twinscope_service.matching.grades import LABELLED
from twinscope_service.matching.reasons import Reason, ReasonCode, reason, sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from twinscope_service.matching.answer import Match
    from twinscope_service.matching.evidence import Evidence
    from twinscope_service.matching.grades import Grade
    from twinscope_service.matching.policy import Policy


class Finding(Enum):
    """What the candidates show according to hashes and pixels alone."""

    NOTHING = auto()
    """There is no candidate."""
    OTHER_FIELD = auto()
    """The best candidate shows another field."""
    UNVERIFIED = auto()
    """The pixels of the best candidate were not compared."""
    SAME_FIELD = auto()
    """The best candidate shows the same field."""
    SAME_ACQUISITION = auto()
    """The best candidate is the same acquisition."""
    CONTESTED = auto()
    """The best candidate and one of another category show the same field."""

    @property
    def settled(self) -> bool:
        """Whether pixels confirm a twin, so that the search can end."""
        return self in {Finding.SAME_FIELD, Finding.SAME_ACQUISITION, Finding.CONTESTED}

    @property
    def empty(self) -> bool:
        """Whether nothing was found."""
        return self in {Finding.NOTHING, Finding.OTHER_FIELD}


@dataclass(frozen=True, slots=True)
class Verdict:
    """A grade with its reasons."""

    grade: Grade
    reasons: tuple[Reason, ...]

    @property
    def sentence(self) -> str:
        """The reasons as one sentence for people."""
        return sentence(self.reasons)


def finding(evidence: Evidence, policy: Policy) -> Finding:
    """Return what hashes and pixels show, before anything that speaks against it is considered.

    Under the ``legacy`` rule only full-size SSIM counts, and categories are not compared.
    """
    if not evidence.matches:
        return Finding.NOTHING
    best = evidence.matches[0]
    if policy.rule == "legacy":
        return Finding.SAME_ACQUISITION if _same_acquisition(best, policy) else Finding.UNVERIFIED
    if evidence.lone:
        return Finding.SAME_FIELD
    if _same_acquisition(best, policy) or _same_field(best, policy):
        if _contender(evidence.matches, policy) is not None:
            return Finding.CONTESTED
        return Finding.SAME_ACQUISITION if _same_acquisition(best, policy) else Finding.SAME_FIELD
    return Finding.UNVERIFIED if best.scene_score is None else Finding.OTHER_FIELD


def decide(evidence: Evidence, policy: Policy) -> Verdict:
    """Decide on the grade and the reasons of a query.

    Parameters
    ----------
    evidence : Evidence
    policy : Policy
        The thresholds.

    Returns
    -------
    Verdict
        ``doubtful`` if pixels show a twin and something speaks against it: contradicting instrument metadata (not
        under policy ``legacy``, whose scripts read none), something shared apart from the field, or a probability
        of being wrong above `Policy.max_p_wrong`. Only the first of these is added as a reason.
    """
    if evidence.unhashable is not None:
        lack, detail = evidence.unhashable.reason, evidence.unhashable.detail
        return Verdict("unhashable", (reason(ReasonCode.UNHASHABLE, lack=lack, detail=detail),))
    by_pixels = (_by_legacy_rule if policy.rule == "legacy" else _by_pixels)(evidence, policy)
    doubt = _doubt(by_pixels.grade, evidence, policy) if by_pixels.grade in LABELLED else None
    return by_pixels if doubt is None else Verdict("doubtful", (*by_pixels.reasons, doubt))


def best_first(matches: Iterable[Match], policy: Policy) -> list[Match]:
    """Sort candidates, the most certain first.

    Candidates that are the same acquisition come first, by SSIM; then all others by scene score, distance and id. Lower
    SSIMs do not count, because they were computed for some candidates only, depending on what the query contained.

    Returns
    -------
    list of Match
    """

    def rank(match: Match) -> tuple[float, float, int, str]:
        certain = match.ssim if match.ssim is not None and _same_acquisition(match, policy) else -2.0
        score = -2.0 if match.scene_score is None else match.scene_score
        return -certain, -score, match.distance, match.image_id

    return sorted(matches, key=rank)


def ssim_wanted(matches: Sequence[Match], policy: Policy) -> list[bool]:
    """Return for each candidate whether its full-size SSIM could change the answer.

    It could if the candidate shows the same field and its scene score is at most the margin below the best one; neither
    label nor grade depends on the others. `Policy.ssim` can request more SSIMs, or none.

    Returns
    -------
    list of bool
        One for each candidate.
    """
    best = max((match.scene_score for match in matches if match.scene_score is not None), default=-1.0)
    least = policy.good_scene if policy.ssim == "all" else max(policy.good_scene, best - policy.scene_margin)
    return [
        policy.ssim != "never"
        and match.scene_score is not None
        and match.scene_score >= least
        and match.distance <= policy.ssim_distance
        and match.comparable
        for match in matches
    ]


def _by_pixels(evidence: Evidence, policy: Policy) -> Verdict:
    return _VERDICTS[finding(evidence, policy)](evidence, policy)


def _nothing(evidence: Evidence, policy: Policy) -> Verdict:
    reasons = [reason(ReasonCode.NO_REFERENCE_NEAR, max_distance=policy.max_distance)]
    if evidence.compared_to > policy.max_distance:
        reasons.append(reason(ReasonCode.NOTHING_FARTHER, far_distance=evidence.compared_to))
    return Verdict("none", tuple(reasons))


def _other_field(evidence: Evidence, policy: Policy) -> Verdict:
    best = evidence.matches[0]
    found = reason(
        ReasonCode.OTHER_FIELD,
        distance=best.distance, scene_score=best.scene_score or 0.0, good_scene=policy.good_scene,
    )  # fmt: skip
    return Verdict("none", (found,))


def _unverified(evidence: Evidence, policy: Policy) -> Verdict:  # noqa: ARG001  all verdicts share one signature
    best = evidence.matches[0]
    detail = best.note or "no pixels to compare"
    return Verdict("unverified", (reason(ReasonCode.NOT_VERIFIED, distance=best.distance, detail=detail),))


def _same_field_verdict(evidence: Evidence, policy: Policy) -> Verdict:
    best = evidence.matches[0]
    score = best.scene_score or 0.0
    if evidence.lone:
        reasons = [reason(ReasonCode.LONE_FIELD, scene_score=score)]
    else:
        reasons = [reason(ReasonCode.SAME_FIELD, scene_score=score, good_scene=policy.good_scene), *_frame(best)]
        if best.note:  # it has a scene score, so the note is about full-size pixels
            reasons.append(reason(ReasonCode.FULL_SIZE_MISSING, detail=best.note))
    if evidence.noise_residual:
        reasons.append(reason(ReasonCode.NOISE_AGREES, deviations=evidence.noise_residual))
    return Verdict("good", tuple(reasons))


def _same_acquisition_verdict(evidence: Evidence, policy: Policy) -> Verdict:
    best = evidence.matches[0]
    found = reason(ReasonCode.SAME_ACQUISITION, ssim=best.ssim or 0.0, excellent_ssim=policy.excellent_ssim)
    return Verdict("excellent", (found, *_frame(best)))


def _contested(evidence: Evidence, policy: Policy) -> Verdict:
    best, other = evidence.matches[0], _contender(evidence.matches, policy) or evidence.matches[0]
    found = reason(
        ReasonCode.TWO_CATEGORIES,
        category=best.category, measured=_measured(best),
        other_category=other.category, other_measured=_measured(other), other_source=other.source,
    )  # fmt: skip
    return Verdict("ambiguous", (found,))


_VERDICTS: Final[Mapping[Finding, Callable[[Evidence, Policy], Verdict]]] = {
    Finding.NOTHING: _nothing,
    Finding.OTHER_FIELD: _other_field,
    Finding.UNVERIFIED: _unverified,
    Finding.SAME_FIELD: _same_field_verdict,
    Finding.SAME_ACQUISITION: _same_acquisition_verdict,
    Finding.CONTESTED: _contested,
}


def _by_legacy_rule(evidence: Evidence, policy: Policy) -> Verdict:
    """Decide by the legacy rule: only an SSIM above the threshold gives a label."""
    if not evidence.matches:
        return _nothing(evidence, policy)
    best = evidence.matches[0]
    if best.ssim is None:
        return Verdict("unverified", (reason(ReasonCode.LEGACY_PRELIMINARY, distance=best.distance),))
    above = _same_acquisition(best, policy)
    code = ReasonCode.LEGACY_ABOVE if above else ReasonCode.LEGACY_BELOW
    found = reason(code, ssim=best.ssim, excellent_ssim=policy.excellent_ssim)
    return Verdict("excellent" if above else "unverified", (found,))


def _doubt(grade: Grade, evidence: Evidence, policy: Policy) -> Reason | None:
    """Return the first reason against a label, or None."""
    best, chance = evidence.matches[0], evidence.p_wrong
    if best.contradictions and policy.rule == "scene":
        return reason(ReasonCode.INSTRUMENTS_CONTRADICT, contradictions="; ".join(best.contradictions))
    if grade == "good" and evidence.shared:
        if not evidence.regions_agree:
            return reason(ReasonCode.SOME_REGIONS_ONLY)
        if evidence.lookalike:
            return reason(ReasonCode.LOOKALIKE, scene_score=evidence.lookalike)
        return reason(ReasonCode.OUTLINES_ONLY)
    if policy.max_p_wrong == 1:
        return None
    if chance is None:
        return reason(ReasonCode.P_WRONG_UNKNOWN)
    if chance.estimate > policy.max_p_wrong:
        return reason(ReasonCode.P_WRONG_ABOVE_LIMIT, p_wrong=chance.estimate, max_p_wrong=policy.max_p_wrong)
    return None


def _same_acquisition(match: Match, policy: Policy) -> bool:
    return match.ssim is not None and match.ssim > policy.excellent_ssim


def _same_field(match: Match, policy: Policy) -> bool:
    return match.scene_score is not None and match.scene_score >= policy.good_scene


def _contender(matches: Sequence[Match], policy: Policy) -> Match | None:
    """Return the first candidate of another category that fits as well as the best, or None."""
    best = matches[0]
    fits_as_well = _is_acquisition_as_well if _same_acquisition(best, policy) else _is_field_as_well
    return next((one for one in matches if one.category != best.category and fits_as_well(one, best, policy)), None)


def _is_acquisition_as_well(match: Match, best: Match, policy: Policy) -> bool:
    """Check whether a candidate may also be the same acquisition, even if its pixels could not be compared.

    Only the margin decides, not the threshold: the difference between 0.951 and 0.949 is not significant.
    """
    if match.ssim is None or best.ssim is None:
        return _is_field_as_well(match, best, policy)
    return best.ssim - match.ssim <= policy.ssim_margin


def _is_field_as_well(match: Match, best: Match, policy: Policy) -> bool:
    if match.scene_score is None:  # its hash is as near, and nothing speaks against it
        return match.distance <= best.distance
    if best.scene_score is None:
        return _same_field(match, policy)
    return best.scene_score - match.scene_score <= policy.scene_margin


def _frame(best: Match) -> tuple[Reason, ...]:
    if best.transform is None:
        return ()
    return (reason(ReasonCode.TRANSFORMED, transform=str(best.transform)),)


def _measured(match: Match) -> str:
    if match.ssim is not None:
        return f"SSIM {match.ssim:.3f}"
    return f"scene score {match.scene_score:.3f}" if match.scene_score is not None else f"{match.distance} bits"
