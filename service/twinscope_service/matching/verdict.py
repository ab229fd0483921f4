"""The verdict: from what was measured on the candidates to a grade."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twinscope_service.matching.answer import LABELLED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from twinscope_service.matching.answer import ChanceOfError, Grade, Match
    from twinscope_service.matching.policy import Policy


def best_first(matches: Iterable[Match], policy: Policy) -> list[Match]:
    """Put candidates in the order in which they are believed.

    Those that are the same acquisition come first, by SSIM; then all others by scene score, distance and id. A lower
    SSIM orders nothing: it was computed of some candidates only, and how many depends on what a query came with.

    Returns
    -------
    list of Match
    """

    def place(match: Match) -> tuple[float, float, int, str]:
        certain = match.ssim if match.ssim is not None and _same_acquisition(match, policy) else -2.0
        score = -2.0 if match.scene_score is None else match.scene_score
        return -certain, -score, match.distance, match.image_id

    return sorted(matches, key=place)


def judge(matches: Sequence[Match], policy: Policy) -> tuple[Grade, str]:
    """Decide by scene score and SSIM.

    Parameters
    ----------
    matches : sequence of Match
        Best first.
    policy : Policy

    Returns
    -------
    grade, reason : str
        The reason is for people.
    """
    if not matches:
        return "none", f"no reference within {policy.max_distance} bits"
    best = matches[0]
    if _same_acquisition(best, policy):
        rival = next((m for m in matches if m.category != best.category and _rivals_acquisition(m, best, policy)), None)
        if rival is not None:
            return "ambiguous", _ambiguity(best, rival)
        return "excellent", f"same acquisition: SSIM {best.ssim:.3f} > {policy.excellent_ssim:g}{_changes(best)}"
    if _same_field(best, policy):
        rival = next((m for m in matches if m.category != best.category and _rivals_field(m, best, policy)), None)
        if rival is not None:
            return "ambiguous", _ambiguity(best, rival)
        why = f" ({best.note})" if best.note else ""
        why = _changes(best) + why
        return "good", f"same field: scene score {best.scene_score:.3f} >= {policy.good_scene:g}{why}"
    if best.scene_score is None:
        return "unverified", f"{best.distance} bits away, but not verified: {best.note or 'no pixels to compare'}"
    return "none", (
        f"the most similar reference ({best.distance} bits away) shows another field: "
        f"scene score {best.scene_score:.3f} < {policy.good_scene:g}"
    )


def judge_as_reference(matches: Sequence[Match], policy: Policy) -> tuple[Grade, str]:
    """Decide as the replaced scripts say: verified by SSIM, and above the threshold excellent; nothing else is sure.

    Returns
    -------
    grade, reason : str
    """
    if not matches:
        return "none", f"no reference within {policy.max_distance} bits"
    best = matches[0]
    if best.ssim is None:
        return "unverified", f"preliminary match at {best.distance} bits, not verified by SSIM"
    if best.ssim > policy.excellent_ssim:
        return "excellent", f"SSIM {best.ssim:.3f} > {policy.excellent_ssim:g}"
    return "unverified", f"SSIM {best.ssim:.3f} <= {policy.excellent_ssim:g}; the old scripts labelled it all the same"


def doubted(
    judged: tuple[Grade, str],
    matches: Sequence[Match],
    chance: ChanceOfError | None,
    policy: Policy,
    shared: str = "",
) -> tuple[Grade, str]:
    """Take a label back where something else than pixels speaks against it.

    Parameters
    ----------
    judged : (str, str)
        Grade and reason, by pixels.
    matches : sequence of Match
        Best first.
    chance : ChanceOfError or None
        Of the best match; None where it cannot be told.
    policy : Policy
    shared : str
        Why query and best match may have something else in common than the field, for people; empty where nothing
        says so.

    Returns
    -------
    grade, reason : str
        ``doubtful`` where the metadata of the two instruments contradict each other (not under the rule of the old
        scripts, which read none), or where the match is too likely to be wrong, or it cannot be told how likely
        though a limit is set; else as judged.
    """
    grade, reason = judged
    if grade not in LABELLED:
        return judged
    if matches[0].contradictions and policy.rule == "scene":
        return "doubtful", f"{reason}; but the instruments wrote otherwise: {'; '.join(matches[0].contradictions)}"
    if grade == "good" and shared:
        return "doubtful", f"{reason}; {shared}"
    if policy.max_p_wrong == 1:
        return judged
    if chance is None:
        return "doubtful", f"{reason}; but it cannot be told how likely that is to be wrong"
    if chance.estimate > policy.max_p_wrong:
        return "doubtful", f"{reason}; but wrong with probability {chance.estimate:.2g} > {policy.max_p_wrong:g}"
    return judged


def ssim_wanted(matches: Sequence[Match], policy: Policy) -> list[bool]:
    """Tell which candidates' full-size SSIM could change the answer.

    Those that show the same field, unless they lie more than the margin below the best: neither label nor grade
    depends on the others. `Policy.ssim` asks for more, or for none.

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


def _same_acquisition(match: Match, policy: Policy) -> bool:
    return match.ssim is not None and match.ssim > policy.excellent_ssim


def _same_field(match: Match, policy: Policy) -> bool:
    return match.scene_score is not None and match.scene_score >= policy.good_scene


def _rivals_acquisition(match: Match, best: Match, policy: Policy) -> bool:
    """Tell whether a candidate may be the same acquisition as well, also where its pixels could not be compared.

    Only the margin decides, not the threshold: 0.951 and 0.949 are no different.
    """
    if match.ssim is None or best.ssim is None:
        return _rivals_field(match, best, policy)
    return best.ssim - match.ssim <= policy.ssim_margin


def _rivals_field(match: Match, best: Match, policy: Policy) -> bool:
    if match.scene_score is None:  # as near by hash, and nothing speaks against it
        return match.distance <= best.distance
    if best.scene_score is None:
        return _same_field(match, policy)
    return best.scene_score - match.scene_score <= policy.scene_margin


def _changes(match: Match) -> str:
    return f" ({match.transform})" if match.transform is not None else ""


def _ambiguity(best: Match, rival: Match) -> str:
    return (
        f"two categories are equally near: {best.category} ({_measured(best)}) and {rival.category} "
        f"({_measured(rival)}, {rival.source})"
    )


def _measured(match: Match) -> str:
    if match.ssim is not None:
        return f"SSIM {match.ssim:.3f}"
    return f"scene score {match.scene_score:.3f}" if match.scene_score is not None else f"{match.distance} bits"
