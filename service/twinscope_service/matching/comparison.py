"""Comparison of candidates with a query: by thumbnails, then by full-size pixels if these can change the answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from twinscope_indexer.errors import ImageError

from twinscope_service.matching.evidence import Evidence
from twinscope_service.matching.reference_thumbnails import reference_thumbnail
from twinscope_service.matching.verdict import best_first, ssim_wanted
from twinscope_service.similarity.scene_score import scene_scores

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

    from twinscope_service.matching.answer import Match
    from twinscope_service.matching.full_size import PixelComparison
    from twinscope_service.matching.policy import Policy
    from twinscope_service.matching.search import Search


def with_scene_scores(search: Search, thumbnail: NDArray[np.uint8], matches: Iterable[Match]) -> list[Match]:
    """Compute the scene score of query and candidate for each candidate; add a note if there is no usable thumbnail."""

    def scored(match: Match) -> Match:
        try:
            [found] = scene_scores(thumbnail, [reference_thumbnail(search.view, match.number)])
        except ImageError as error:
            return replace(match, note=error.detail)
        return replace(match, scene_score=found.score, shift=(found.shift_x, found.shift_y))

    return [scored(match) for match in matches]


def compared(search: Search, matches: list[Match]) -> Evidence:
    """Compare full-size pixels if these can change the answer, and sort the candidates; the best candidate is first."""
    missing, full = False, search.full_size
    if full is not None:
        matches = _with_ssims(full, matches, search.policy)
    elif search.limits.verify:
        missing = any(ssim_wanted(matches, search.policy))
    return Evidence(tuple(best_first(matches, search.policy)), pixels_missing=missing)


def compared_by_legacy_rule(search: Search, matches: list[Match]) -> Evidence:
    """Compare, by the legacy rule, the full-size pixels of candidates within the maximum distance of this rule."""
    full, limit = search.full_size, search.policy.ssim_distance
    verified = [match if full is None or match.distance > limit else full.with_legacy_ssim(match) for match in matches]
    missing = full is None and any(match.distance <= limit for match in verified)
    return Evidence(tuple(sorted(verified, key=lambda match: match.order)), pixels_missing=missing)


def _with_ssims(full: PixelComparison, matches: list[Match], policy: Policy) -> list[Match]:
    """Compute the SSIM of all candidates whose SSIM can change the answer, the most similar candidate first.

    If a candidate shows the same acquisition as the query, the other candidates of its category are skipped. The
    category of the query is then certain, and reading more files would take most of the computing time. `Policy.ssim`
    can request the SSIM of all candidates.
    """
    found = list(matches)
    wanted = [i for i, wanted in enumerate(ssim_wanted(matches, policy)) if wanted]
    certain: set[str] = set()
    for i in sorted(wanted, key=lambda i: matches[i].order):
        if matches[i].category in certain and policy.ssim != "all":
            continue
        found[i] = full.with_ssim(matches[i])
        if (found[i].ssim or 0.0) > policy.excellent_ssim:
            certain.add(matches[i].category)
    return found
