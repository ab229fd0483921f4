"""The pipeline for one query: the stages of the search collect evidence, then the verdict is decided.

As long as no twin is found, each stage extends the search. After a twin is found, the other stages look for evidence
against the match.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from twinscope_indexer.hashing.codes import BITS
from twinscope_indexer.hashing.perceptual import RECIPE, PHash
from twinscope_indexer.metadata.consistency import contradictions

from twinscope_service.matching.answer import Answer, Match, Result
from twinscope_service.matching.calibration import calibration_of
from twinscope_service.matching.candidates import candidates, contested, nearest
from twinscope_service.matching.comparison import compared, compared_by_legacy_rule, with_scene_scores
from twinscope_service.matching.evidence import Evidence
from twinscope_service.matching.frame_search import find, scored, scored_far, stages
from twinscope_service.matching.lookalikes import neighbourhood, regions_of
from twinscope_service.matching.search import Search
from twinscope_service.matching.verdict import Finding, best_first, decide, finding
from twinscope_service.thresholds import FAR_CANDIDATES, RECORDING_BITS, SURE_BITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from twinscope_indexer.index.protocol import Neighbours
    from twinscope_indexer.store.view import View

    from twinscope_service.matching.frame_search import Found
    from twinscope_service.matching.lookalikes import Neighbour
    from twinscope_service.matching.policy import Policy
    from twinscope_service.matching.query import Limits, Query
    from twinscope_service.matching.reference_pixels import ReferencePixels


def answer_all(
    queries: Sequence[Query], view: View, policy: Policy, limits: Limits, pixels: ReferencePixels
) -> list[Result]:
    """Answer several queries from one state of a store, with one scan of the index for all hashes.

    Parameters
    ----------
    queries : sequence of Query
    view : View
        State of the store.
    policy : Policy
        Thresholds.
    limits : Limits
        Restrictions of the search.
    pixels : ReferencePixels
        Source of the full-size pixels of references.

    Returns
    -------
    list of Result
        One result for each query. A result does not depend on the other queries.

    Raises
    ------
    RecipeError
        If the recipe of the hash of a query differs from the recipe of the store.
    """
    hashes = [query.hashed for query in queries if isinstance(query.hashed, PHash)]
    found, records = nearest(view, hashes, policy, limits)
    near = iter(found)
    results = []
    for query in queries:
        if isinstance(query.hashed, PHash):
            search = Search(query, query.hashed, view, policy, limits, pixels, records)
            results.append(_answered(search, gather(search, next(near))))
        else:
            results.append(_unhashable(Evidence(unhashable=query.hashed), query, policy, view))
    return results


def gather(search: Search, near: Neighbours) -> Evidence:
    """Run all stages of a search, and return the evidence that they collect.

    Parameters
    ----------
    search : Search
    near : Neighbours
        References nearest to the hash of the query.

    Returns
    -------
    Evidence
    """
    evidence = by_hash(search, near)
    if search.thumbnail is not None and search.limits.verify and search.policy.rule == "scene":
        if finding(evidence, search.policy).empty:
            evidence = by_frames(search, search.thumbnail, evidence)
        if finding(evidence, search.policy) is Finding.SAME_FIELD:
            evidence = against_others(search, search.thumbnail, evidence)
            evidence = by_noise_residual(search, evidence)
    return with_chance(search, by_instruments(search, evidence))


def by_hash(search: Search, near: Neighbours) -> Evidence:
    """Compare the query with the nearest references. The comparison uses the thumbnail and the pixels, if available."""
    policy, records = search.policy, search.records
    if not search.limits.verify:
        return Evidence(tuple(candidates(near, records, "verification was not requested")))
    if policy.rule == "legacy":
        return compared_by_legacy_rule(search, candidates(near, records))
    if search.thumbnail is None:
        found = compared(search, candidates(near, records, "the query is a hash without an image"))
        return replace(found, pixels_missing=bool(found.matches))
    near = contested(search.view, search.hashed.code, near, records, policy, search.limits)
    return compared(search, with_scene_scores(search, search.thumbnail, candidates(near, records)))


def by_frames(search: Search, thumbnail: NDArray[np.uint8], evidence: Evidence) -> Evidence:
    """Search by frames, stage by stage, and then at distances above `max_distance`.

    If no twin is found, return the evidence unchanged.
    """
    policy = search.policy
    tried = []
    for stage in stages(policy, search.view.frames):
        found = find(stage, thumbnail, search.view, policy, search.limits.allow)
        if stage.name != "shades":  # if the distance is above `max_distance`, equal shades are no evidence
            tried.append(found)
        search.learn(found.records)
        by_stage = compared(search, scored(found, found.near, thumbnail, search.view))
        if finding(by_stage, policy).settled:
            return by_stage
    if policy.far_distance <= policy.max_distance:
        return evidence
    farther = _beyond_distance(search, thumbnail, tried)
    if farther is not None:
        return farther
    return evidence if evidence.matches else replace(evidence, compared_to=policy.far_distance)


def _beyond_distance(search: Search, thumbnail: NDArray[np.uint8], tried: Sequence[Found]) -> Evidence | None:
    """Compare the few nearest references at distances above `max_distance`.

    These are the references nearest to the whole image, and the references that the previous stages found by frames.
    """
    policy = search.policy
    deeper = replace(policy, k=FAR_CANDIDATES, max_distance=policy.far_distance)
    [near], records = nearest(search.view, [search.hashed], deeper, search.limits)
    search.learn(records)
    whole = compared(search, with_scene_scores(search, thumbnail, candidates(near, records)))
    if finding(whole, policy).settled:
        return whole
    for found in tried:
        by_stage = compared(search, scored_far(found, thumbnail, search.view))
        if finding(by_stage, policy).settled:
            return by_stage
    return _alone(search, thumbnail, whole.matches)


def _alone(search: Search, thumbnail: NDArray[np.uint8], matches: tuple[Match, ...]) -> Evidence | None:
    """Accept a best candidate with a score below `good_scene` if no other reference is nearly as similar."""
    score = matches[0].scene_score if matches else None
    if score is None or score < search.policy.lone_scene:
        return None
    around = neighbourhood(matches[0], thumbnail, search.hashed.code, search.view, search.limits.without)
    return Evidence(matches, lone=True) if around.lone else None


def against_others(search: Search, thumbnail: NDArray[np.uint8], evidence: Evidence) -> Evidence:
    """Compare the query with other references and with their windows, to look for evidence against the twin."""
    if evidence.matches[0].moved:
        evidence = _also_windows(search, thumbnail, evidence)
    settled = _among_others(search, thumbnail, evidence)
    if settled.shared and not evidence.matches[0].moved:
        also = _also_windows(search, thumbnail, settled)
        settled = settled if also is settled else _among_others(search, thumbnail, also)
    return settled


def _also_windows(search: Search, thumbnail: NDArray[np.uint8], evidence: Evidence) -> Evidence:
    """Search the windows of references again, although a twin was found.

    The twin may show the field shifted or enlarged. Another window may then contain the complete field and fit better.
    """
    of_windows = [stage for stage in stages(search.policy, search.view.frames) if stage.is_partial]
    if not of_windows:
        return evidence
    best = {match.image_id: replace(match, ssim=None) for match in evidence.matches}
    for stage in of_windows:
        found = find(stage, thumbnail, search.view, search.policy, search.limits.allow)
        search.learn(found.records)
        for match in scored(found, found.near, thumbnail, search.view):
            best[match.image_id] = min(match, best.get(match.image_id, match), key=lambda one: one.order)
    again = compared(search, best_first(best.values(), search.policy)[: search.policy.k])
    return replace(again, pixels_missing=again.pixels_missing or evidence.pixels_missing)


def _among_others(search: Search, thumbnail: NDArray[np.uint8], evidence: Evidence) -> Evidence:
    """Replace the twin by references that resemble the query more, and measure the strongest look-alike."""
    known = {match.image_id for match in evidence.matches}
    while finding(evidence, search.policy) is Finding.SAME_FIELD and evidence.matches[0].distance > SURE_BITS:
        twin = evidence.matches[0]
        if twin.distance <= RECORDING_BITS:
            return replace(evidence, regions_agree=regions_of(twin, thumbnail, search.view).agree)
        around = neighbourhood(twin, thumbnail, search.hashed.code, search.view, search.limits.without)
        evidence = replace(
            evidence, regions_agree=around.regions.agree, texture_agrees=around.textured, near=tuple(around.near)
        )
        search.learn(around.records)
        better = around.better
        if better is None or better.match.image_id in known:
            return replace(evidence, lookalike=around.lookalike(known))
        if not _may_answer(search, better):
            return replace(evidence, lookalike=better.score)
        known.add(better.match.image_id)
        # SSIMs that can still change the answer are computed again.
        before = [replace(match, ssim=None) for match in evidence.matches]
        again = compared(search, [better.match, *before][: search.policy.k])
        evidence = replace(again, pixels_missing=again.pixels_missing or evidence.pixels_missing)
    return evidence


def _may_answer(search: Search, better: Neighbour) -> bool:
    """Return whether a neighbour of a twin may replace the twin as the best match.

    If `far_distance` is not above `max_distance`, the distance of the neighbour must be at most `max_distance`.
    Otherwise, any distance is allowed. The reason is that the neighbour was selected by its scene score, and its hash
    may differ only because of another info bar.
    """
    policy = search.policy
    limit = BITS if policy.far_distance > policy.max_distance else policy.max_distance
    allowed = search.limits.allow(better.record.id, {better.record.id: better.record})
    return allowed and better.match.distance <= limit


def by_noise_residual(search: Search, evidence: Evidence) -> Evidence:
    """Compare the noise of the full-size pixels if query and twin disagree in fine structure only."""
    policy = search.policy
    if finding(evidence, policy) is not Finding.SAME_FIELD:
        return evidence
    if evidence.texture_agrees or evidence.lookalike or not evidence.regions_agree:
        return evidence
    if policy.ssim == "never" or evidence.matches[0].distance > policy.ssim_distance:
        return evidence
    full = search.full_size
    if full is None:
        return replace(evidence, pixels_missing=True)
    return replace(evidence, noise_residual=full.proof(evidence.matches[0], evidence.near))


def by_instruments(search: Search, evidence: Evidence) -> Evidence:
    """Add the instrument metadata of each candidate, and their contradictions to the metadata of the query."""
    if search.thumbnail is None or not evidence.matches:
        return evidence
    known = search.view.instruments([match.number for match in evidence.matches])
    of_query = search.query.instrument

    def noted(match: Match) -> Match:
        found = known.get(match.number)
        if found is None:
            return match
        against = () if of_query is None else tuple(contradictions(of_query, found))
        return replace(match, instrument=found, contradictions=against)

    return replace(evidence, matches=tuple(noted(match) for match in evidence.matches))


def with_chance(search: Search, evidence: Evidence) -> Evidence:
    """Estimate the probability that the best candidate is wrong.

    There is no estimate if two categories fit equally well, because one of them is certainly wrong. There is also no
    estimate if query and match may share something other than the field, because the data of a calibration do not
    contain this case.
    """
    found = finding(evidence, search.policy)
    if search.policy.rule != "scene" or found is Finding.CONTESTED or (found.settled and evidence.shared):
        return evidence
    return replace(evidence, p_wrong=calibration_of(search.view.calibration).chance(evidence.matches))


def _answered(search: Search, evidence: Evidence) -> Result:
    verdict = decide(evidence, search.policy)
    taxonomy = search.records[evidence.matches[0].number].taxonomy if evidence.matches else ""
    answer = Answer(
        grade=verdict.grade,
        matches=evidence.matches,
        reason=verdict.sentence,
        query_hash=search.hashed.hex,
        policy=search.policy,
        generation=search.view.generation,
        recipe=search.hashed.recipe,
        taxonomy=taxonomy,
        instrument=search.query.instrument,
        p_wrong=evidence.p_wrong,
        reasons=verdict.reasons,
    )
    return Result(answer, evidence.pixels_missing)


def _unhashable(evidence: Evidence, query: Query, policy: Policy, view: View) -> Result:
    verdict = decide(evidence, policy)
    answer = Answer(
        grade=verdict.grade,
        matches=(),
        reason=verdict.sentence,
        query_hash=None,
        policy=policy,
        generation=view.generation,
        recipe=RECIPE,
        instrument=query.instrument,
        reasons=verdict.reasons,
    )
    return Result(answer, pixels_would_change=False)
