"""An inquiry: one image looked for in one state of a store, from its nearest hashes to the answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from twinscope_indexer.errors import ImageError
from twinscope_indexer.hashing.perceptual import BITS
from twinscope_indexer.metadata.consistency import contradictions

from twinscope_service.matching.answer import FOUND, Answer, Match, Result
from twinscope_service.matching.calibration import calibration_of
from twinscope_service.matching.candidates import candidates, contested, nearest
from twinscope_service.matching.frame_search import FAR_CANDIDATES, Found, find, scored, scored_far, stages
from twinscope_service.matching.full_size import PixelComparison
from twinscope_service.matching.lookalikes import NEAR, SURE, Neighbour, Neighbourhood, neighbourhood, parts_of
from twinscope_service.matching.reference_thumbnails import picture
from twinscope_service.matching.verdict import best_first, doubted, judge, judge_as_reference, ssim_wanted
from twinscope_service.similarity.scene_score import scene_scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from twinscope_indexer.hashing.perceptual import PHash
    from twinscope_indexer.index.protocol import Neighbours
    from twinscope_indexer.metadata.reader import InstrumentMetadata
    from twinscope_indexer.store.catalog.catalog import Record
    from twinscope_indexer.store.view import View

    from twinscope_service.matching.answer import Grade
    from twinscope_service.matching.policy import Policy
    from twinscope_service.matching.query import Limits, Query
    from twinscope_service.matching.reference_pixels import ReferencePixels

_SHARED = (
    ": do these images share something besides the field, such as an aperture, a panel, dust or a camera's pattern?"
)


@dataclass(frozen=True, slots=True)
class _Judged:
    """Candidates, best first, and what they amount to."""

    matches: list[Match]
    grade: Grade
    reason: str
    rival: float = 0.0
    """Scene score of the strongest rival; see `rivals`."""
    everywhere: bool = True
    """Whether the best agrees with the query in all parts of the field; see `parts`."""
    textured: bool = True
    """Whether it agrees with the query in fine structure as well; see `texture`."""
    others: Sequence[Match] = ()
    """Other references near the best, or near the query; see `rivals`."""
    wanted: bool = False
    """Whether full-size pixels were missing that could change something."""

    @property
    def shared(self) -> str:
        """What speaks for something that is shared besides the field, for people; empty where nothing does."""
        if not self.everywhere:
            return f"but they agree in some parts of the picture only{_SHARED}"
        if self.rival:
            return f"but another picture looks much like it as well (scene score {self.rival:.3f}){_SHARED}"
        return (
            "" if self.textured else "but in outlines only, and not in fine structure: is it a grid, or a single shape?"
        )

    @property
    def found(self) -> bool:
        return self.grade in FOUND


@dataclass(frozen=True, slots=True)
class Inquiry:
    """One image, and where it is looked for.

    Attributes
    ----------
    query : Query
    hashed : PHash
        Its hash.
    view : View
        The state of the store that is answered from.
    policy : Policy
    limits : Limits
    pixels : ReferencePixels
        Where full-size pixels of references come from.
    records : dict
        Of references, by number: those known so far.
    """

    query: Query
    hashed: PHash
    view: View
    policy: Policy
    limits: Limits
    pixels: ReferencePixels
    records: dict[int, Record]

    def result(self, near: Neighbours) -> Result:
        """Answer, beginning with the nearest references of the hash.

        Returns
        -------
        Result
        """
        thumbnail, policy = self.query.thumbnail, self.policy
        judged = self._judged(near)
        if thumbnail is not None and self.limits.verify and policy.rule == "scene":
            if judged.grade == "none":
                judged = self._further(thumbnail) or self._nowhere(judged)
            if judged.grade == "good":
                judged = self._reconsidered(thumbnail, judged)
        matches = self._with_instruments(judged.matches)
        # One of two labels is wrong in any case; and what speaks against a match here, no calibration knows of.
        calibrated = policy.rule == "scene" and judged.grade != "ambiguous" and not (judged.found and judged.shared)
        chance = calibration_of(self.view.calibration).chance(matches) if calibrated else None
        grade, reason = doubted((judged.grade, judged.reason), matches, chance, policy, judged.shared)
        taxonomy = self.records[int(matches[0].image_id, 16)].taxonomy if matches else ""
        made = (grade, tuple(matches), reason, self.hashed.hex, policy, self.view.generation)
        return Result(Answer(*made, self.hashed.recipe, taxonomy, self.query.instrument, chance), judged.wanted)

    def _judged(self, near: Neighbours) -> _Judged:
        if not self.limits.verify:
            matches = candidates(near, self.records, "verification was not asked for")
            return _Judged(matches, *judge(matches, self.policy))
        if self.policy.rule == "reference":
            matches = self._verified_as_reference(near)
            wanted = self.query.pixels is None and any(one.distance <= self.policy.ssim_distance for one in matches)
            return _Judged(matches, *judge_as_reference(matches, self.policy), wanted=wanted)
        if self.query.thumbnail is None:
            judged = self._compared(candidates(near, self.records, "the query is a hash without an image"))
            return replace(judged, wanted=bool(judged.matches))
        near = contested(self.view, self.hashed.code, near, self.records, self.policy, self.limits)
        return self._compared(self._with_scene_scores(self.query.thumbnail, candidates(near, self.records)))

    def _further(self, thumbnail: NDArray[np.uint8]) -> _Judged | None:
        """Look by frames, in stages, then farther away; None where nothing is found."""
        tried = []
        for stage in stages(self.policy, self.view.frames):
            found = find(stage, thumbnail, self.view, self.policy, self.limits.allow)
            if stage.name != "shades":  # so many bits away they say nothing
                tried.append(found)
            self.records.update(found.records)
            judged = self._compared(scored(found, found.near, thumbnail, self.view))
            if judged.found:
                return judged
        if self.policy.far_distance <= self.policy.max_distance:
            return None
        return self._far(thumbnail, tried)

    def _nowhere(self, judged: _Judged) -> _Judged:
        """Say how far was looked in vain, where no reference is near."""
        far = self.policy.far_distance
        if judged.matches or far <= self.policy.max_distance:
            return judged
        return replace(
            judged, reason=f"{judged.reason}, and none up to {far} bits away was found to show the same field"
        )

    def _far(self, thumbnail: NDArray[np.uint8], tried: Sequence[Found]) -> _Judged | None:
        """Compare the few nearest beyond the usual distance, of the image as it is and of the stages tried."""
        deeper = replace(self.policy, k=FAR_CANDIDATES, max_distance=self.policy.far_distance)
        [near], records = nearest(self.view, [self.hashed], deeper, self.limits)
        self.records.update(records)
        whole = self._compared(self._with_scene_scores(thumbnail, candidates(near, records)))
        if whole.found:
            return whole
        for found in tried:
            judged = self._compared(scored_far(found, thumbnail, self.view))
            if judged.found:
                return judged
        return self._alone(thumbnail, whole.matches)

    def _alone(self, thumbnail: NDArray[np.uint8], matches: list[Match]) -> _Judged | None:
        """Take a candidate that is less like the query than twins usually are, where nothing else is like it at all."""
        score = matches[0].scene_score if matches else None
        if score is None or score < self.policy.lone_scene:
            return None
        if not self._neighbourhood(matches[0], thumbnail).lone:
            return None
        reason = f"same field, under noise or the like: scene score {score:.3f}, and no other reference comes near"
        return _Judged(matches, "good", reason)

    def _neighbourhood(self, twin: Match, thumbnail: NDArray[np.uint8]) -> Neighbourhood:
        """Look around a twin, at all references, those of other categories than were asked for too."""
        return neighbourhood(twin, thumbnail, self.hashed.code, self.view, self.limits.without)

    def _reconsidered(self, thumbnail: NDArray[np.uint8], judged: _Judged) -> _Judged:
        """See whether a twin that was not compared pixel by pixel holds against others, and against parts of others."""
        if judged.matches[0].moved:
            judged = self._also_in_parts(thumbnail, judged)
        settled = self._among_others(thumbnail, judged)
        if settled.shared and not judged.matches[0].moved:
            also = self._also_in_parts(thumbnail, settled)
            settled = settled if also is settled else self._among_others(thumbnail, also)
        return self._proven(settled)

    def _proven(self, judged: _Judged) -> _Judged:
        """Ask the grain of the full-size pixels where nothing but fine structure is in doubt."""
        if judged.grade != "good" or judged.textured or judged.rival or not judged.everywhere:
            return judged
        if self.policy.ssim == "never" or judged.matches[0].distance > self.policy.ssim_distance:
            return judged
        full = self._full_size
        if full is None:
            return replace(judged, wanted=True)
        score = full.proof(judged.matches[0], judged.others)
        if not score:
            return judged
        reason = f"{judged.reason}; down to the grain, which agrees by {score:.0f} standard deviations"
        return replace(judged, textured=True, reason=reason)

    @property
    def _full_size(self) -> PixelComparison | None:
        """The full-size pixels, where the query came with its own."""
        return None if self.query.pixels is None else PixelComparison(self.query.pixels, self.pixels, self.records)

    def _also_in_parts(self, thumbnail: NDArray[np.uint8], judged: _Judged) -> _Judged:
        """Look for parts as well: one that fits better may hold all of what was found moved, or enlarged."""
        of_parts = [stage for stage in stages(self.policy, self.view.frames) if stage.of_parts]
        if not of_parts:
            return judged
        best = {match.image_id: replace(match, ssim=None) for match in judged.matches}
        for stage in of_parts:
            found = find(stage, thumbnail, self.view, self.policy, self.limits.allow)
            self.records.update(found.records)
            for match in scored(found, found.near, thumbnail, self.view):
                best[match.image_id] = min(match, best.get(match.image_id, match), key=lambda one: one.order)
        compared = self._compared(best_first(best.values(), self.policy)[: self.policy.k])
        return replace(compared, wanted=compared.wanted or judged.wanted)

    def _among_others(self, thumbnail: NDArray[np.uint8], judged: _Judged) -> _Judged:
        """Prefer references that are more like the query than its twin is, and note the strongest rival."""
        known = {match.image_id for match in judged.matches}
        while judged.grade == "good" and judged.matches[0].distance > SURE:
            twin, *_ = judged.matches
            if twin.distance <= NEAR:
                return replace(judged, everywhere=parts_of(twin, thumbnail, self.view).everywhere)
            around = self._neighbourhood(twin, thumbnail)
            judged = replace(judged, everywhere=around.parts.everywhere, textured=around.textured, others=around.near)
            self.records.update(around.records)
            better = around.better
            if better is None or better.match.image_id in known:
                return replace(judged, rival=around.rival(known))
            if not self._may_answer(better):
                return replace(judged, rival=better.score)
            known.add(better.match.image_id)
            before = [replace(match, ssim=None) for match in judged.matches]  # compared again where still worth it
            compared = self._compared([better.match, *before][: self.policy.k])
            judged = replace(compared, wanted=compared.wanted or judged.wanted)
        return judged

    def _may_answer(self, better: Neighbour) -> bool:
        """Tell whether a neighbour of a twin may take its place; nothing beyond a limit that was set for all.

        Otherwise at any distance: it was found by scene score, and its hash may be that of another bar.
        """
        limit = BITS if self.policy.far_distance > self.policy.max_distance else self.policy.max_distance
        allowed = self.limits.allow(better.record.id, {better.record.id: better.record})
        return allowed and better.match.distance <= limit

    def _compared(self, matches: list[Match]) -> _Judged:
        """Compare full-size pixels where that can change the answer; put the best first, and judge."""
        wanted, full = False, self._full_size
        if full is not None:
            matches = self._with_ssims(full, matches)
        elif self.limits.verify:
            wanted = any(ssim_wanted(matches, self.policy))
        ordered = best_first(matches, self.policy)
        return _Judged(ordered, *judge(ordered, self.policy), wanted=wanted)

    def _with_ssims(self, full: PixelComparison, matches: list[Match]) -> list[Match]:
        """Compare those that it is worth it for, the most alike first.

        Once one is the same acquisition, others of its category are left: the label is certain, and reading references
        is what takes the time. `Policy.ssim` can ask for all.
        """
        compared = list(matches)
        wanted = [i for i, wanted in enumerate(ssim_wanted(matches, self.policy)) if wanted]
        certain: set[str] = set()
        for i in sorted(wanted, key=lambda i: matches[i].order):
            if matches[i].category in certain and self.policy.ssim != "all":
                continue
            compared[i] = full.with_ssim(matches[i])
            if (compared[i].ssim or 0.0) > self.policy.excellent_ssim:
                certain.add(matches[i].category)
        return compared

    def _verified_as_reference(self, near: Neighbours) -> list[Match]:
        full, limit = self._full_size, self.policy.ssim_distance
        verified = [
            match if full is None or match.distance > limit else full.with_reference_ssim(match)
            for match in candidates(near, self.records)
        ]
        return sorted(verified, key=lambda match: match.order)

    def _with_scene_scores(self, thumbnail: NDArray[np.uint8], matches: list[Match]) -> list[Match]:
        return [self._with_scene_score(thumbnail, match) for match in matches]

    def _with_scene_score(self, thumbnail: NDArray[np.uint8], match: Match) -> Match:
        try:
            [found] = scene_scores(thumbnail, [picture(self.view, int(match.image_id, 16))])
        except ImageError as error:
            return replace(match, note=error.detail)
        return replace(match, scene_score=found.score, shift=(found.shift_x, found.shift_y))

    def _with_instruments(self, matches: list[Match]) -> list[Match]:
        """Note what the instruments of candidates wrote, and where it contradicts that of the query."""
        if self.query.thumbnail is None or not matches:
            return matches
        known = self.view.instruments([int(match.image_id, 16) for match in matches])
        return [
            match if found is None else replace(match, instrument=found, contradictions=self._contradictions(found))
            for match, found in ((match, known.get(int(match.image_id, 16))) for match in matches)
        ]

    def _contradictions(self, found: InstrumentMetadata) -> tuple[str, ...]:
        return () if self.query.instrument is None else tuple(contradictions(self.query.instrument, found))
