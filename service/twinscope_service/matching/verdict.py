"""The verdict: the grade and the reasons that follow from the evidence. Only this module decides on grades."""

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
    """Result of a search according to hashes and pixels only. Look-alikes, metadata and probabilities are ignored."""

    NOTHING = auto()
    """There is no candidate."""
    OTHER_FIELD = auto()
    """The best candidate shows another field than the query."""
    UNVERIFIED = auto()
    """The pixels of the best candidate were not compared."""
    SAME_FIELD = auto()
    """The best candidate shows the same field as the query."""
    SAME_ACQUISITION = auto()
    """The best candidate shows the same acquisition as the query."""
    CONTESTED = auto()
    """The best candidate and a candidate of another category both show the same field as the query."""

    @property
    def settled(self) -> bool:
        """Whether the pixels show a twin, so that the search can end."""
        return self in {Finding.SAME_FIELD, Finding.SAME_ACQUISITION, Finding.CONTESTED}

    @property
    def empty(self) -> bool:
        """Whether no candidate shows the field of the query, according to the pixels."""
        return self in {Finding.NOTHING, Finding.OTHER_FIELD}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The grade of an answer and the reasons for this grade."""

    grade: Grade
    reasons: tuple[Reason, ...]

    @property
    def sentence(self) -> str:
        """The reasons as one readable sentence."""
        return sentence(self.reasons)


def finding(evidence: Evidence, policy: Policy) -> Finding:
    """Return the result of a search according to hashes and pixels, without other evidence against the match.

    The ``legacy`` rule uses only the full-size SSIM and does not compare the categories of the candidates.
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
    """Decide on the grade of a query and on the reasons for this grade.

    Parameters
    ----------
    evidence : Evidence
    policy : Policy
        Thresholds.

    Returns
    -------
    Verdict
        The grade is ``doubtful`` if the pixels show a twin but there is evidence against the match. Evidence against
        the match is: contradictions of the instrument metadata (ignored by the legacy rule); signs that query and match
        share something other than the field; a probability of a wrong match above `Policy.max_p_wrong`. Only the first
        evidence that applies is added to the reasons.
    """
    if evidence.unhashable is not None:
        lack, detail = evidence.unhashable.reason, evidence.unhashable.detail
        return Verdict("unhashable", (reason(ReasonCode.UNHASHABLE, lack=lack, detail=detail),))
    by_pixels = (_by_legacy_rule if policy.rule == "legacy" else _by_pixels)(evidence, policy)
    doubt = _doubt(by_pixels.grade, evidence, policy) if by_pixels.grade in LABELLED else None
    return by_pixels if doubt is None else Verdict("doubtful", (*by_pixels.reasons, doubt))


def best_first(matches: Iterable[Match], policy: Policy) -> list[Match]:
    """Sort candidates; the most certain candidate is first.

    Candidates that show the same acquisition come first, sorted by SSIM. All other candidates are sorted by scene
    score, distance and id. An SSIM that does not prove the same acquisition is ignored. Such an SSIM is computed for
    some candidates only, and only if the query has full-size pixels.

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
    """Return for each candidate whether its full-size SSIM must be computed because it could change the answer.

    An SSIM can change the answer if the candidate shows the same field as the query, and its scene score is at most
    `Policy.scene_margin` below the best scene score. The grade and the category do not depend on the SSIM of other
    candidates. `Policy.ssim` can request the SSIM of more candidates, or of none.

    Returns
    -------
    list of bool
        One value for each candidate.
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
        if best.note:  # if there is a scene score, the note is about full-size pixels
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
    measured, other_measured = _measured(best, other, policy)
    found = reason(
        ReasonCode.TWO_CATEGORIES,
        category=best.category, measured=measured,
        other_category=other.category, other_measured=other_measured, other_source=other.source,
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
    """Decide by the legacy rule: only an SSIM above `Policy.excellent_ssim` gives a label."""
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
    """Return the first reason why the match gets no label, or None if there is no such reason."""
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
    """Return the first candidate of another category that fits as well as the best candidate, or None."""
    best = matches[0]
    fits_as_well = _is_acquisition_as_well if _same_acquisition(best, policy) else _is_field_as_well
    return next((one for one in matches if one.category != best.category and fits_as_well(one, best, policy)), None)


def _is_acquisition_as_well(match: Match, best: Match, policy: Policy) -> bool:
    """Return whether a candidate may show the same acquisition as the best candidate.

    Only the difference of the SSIMs decides, not the threshold: the difference between 0.951 and 0.949 is not
    significant. If an SSIM is missing because pixels could not be compared, the scene scores decide.
    """
    if match.ssim is None or best.ssim is None:
        return _is_field_as_well(match, best, policy)
    return best.ssim - match.ssim <= policy.ssim_margin


def _is_field_as_well(match: Match, best: Match, policy: Policy) -> bool:
    if match.scene_score is None:  # without pixels, the distances decide
        return match.distance <= best.distance
    if best.scene_score is None:
        return _same_field(match, policy)
    return best.scene_score - match.scene_score <= policy.scene_margin


def _frame(best: Match) -> tuple[Reason, ...]:
    if best.transform is None:
        return ()
    return (reason(ReasonCode.TRANSFORMED, transform=str(best.transform)),)


def _measured(best: Match, other: Match, policy: Policy) -> tuple[str, str]:
    """Return the values by which two candidates fit equally well. `_contender` compares the same values."""
    if _same_acquisition(best, policy) and best.ssim is not None and other.ssim is not None:
        return f"SSIM {best.ssim:.3f}", f"SSIM {other.ssim:.3f}"
    if best.scene_score is not None and other.scene_score is not None:
        return f"scene score {best.scene_score:.3f}", f"scene score {other.scene_score:.3f}"
    if other.scene_score is None:
        return f"{best.distance} bits", f"{other.distance} bits"
    return f"SSIM {best.ssim or 0:.3f}", f"scene score {other.scene_score:.3f}"
