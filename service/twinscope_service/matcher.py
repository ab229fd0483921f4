"""The matcher: nearest hashes, verified by pixels, judged. It needs no server, and is the same behind one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from twinscope_indexer.errors import ImageError
from twinscope_indexer.hashing import RECIPE, PHash, Unhashable, hash_pixels
from twinscope_indexer.thumbnail import decode_thumbnail, encode_thumbnail

from twinscope_service.answer import Answer, Match
from twinscope_service.pixels import ReferencePixels
from twinscope_service.policy import POLICIES, Policy
from twinscope_service.reference_rule import reference_ssim
from twinscope_service.scene import scene_scores
from twinscope_service.ssim import WINDOW, match_shape, standardised_ssim
from twinscope_service.verdict import judge, judge_as_reference

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from twinscope_indexer.catalog import Record
    from twinscope_indexer.hamming import Neighbours
    from twinscope_indexer.store import Store


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for: a hash, and as much of the image as is at hand.

    Attributes
    ----------
    hashed : PHash or Unhashable
    thumbnail : ndarray of uint8, shape (height, width), or None
        Reduced pixels, as the store keeps them of references; without them nothing can be ``good``.
    pixels : ndarray of uint8, shape (height, width), or None
        Full-size pixels; without them nothing can be ``excellent``.
    """

    hashed: PHash | Unhashable
    thumbnail: NDArray[np.uint8] | None = None
    pixels: NDArray[np.uint8] | None = None

    @classmethod
    def of_pixels(cls, pixels: NDArray[np.uint8]) -> Query:
        """Make the query of a grey image, uint8, shape (height, width)."""
        return cls(hash_pixels(pixels), decode_thumbnail(encode_thumbnail(pixels)), pixels)


class Matcher:
    """Answers queries from a store; safe to use from several threads.

    Parameters
    ----------
    store : Store
    pixels : ReferencePixels, optional
        Where full-size pixels of references come from.
    """

    def __init__(self, store: Store, pixels: ReferencePixels | None = None) -> None:
        self._store = store
        self._pixels = pixels or ReferencePixels()

    def match(self, query: Query, policy: Policy = POLICIES["default"]) -> Answer:
        """Find the twin of one image, or say why there is none.

        Parameters
        ----------
        query : Query
        policy : Policy
            The thresholds.

        Returns
        -------
        Answer

        Raises
        ------
        RecipeError
            If the query was hashed by another recipe than the store.
        """
        view = self._store.view
        if isinstance(query.hashed, Unhashable):
            reason = f"{query.hashed.reason}: {query.hashed.detail}"
            return Answer("unhashable", (), reason, None, policy, view.generation, RECIPE)
        codes = query.hashed.packed[None]
        [near] = view.search(codes, policy.k, policy.max_distance, query.hashed.recipe)
        records = self._store.records([int(number) for number in near.ids])
        if policy.rule == "reference":
            matches = self._verified_as_reference(query, near, records, policy)
            grade, reason = judge_as_reference(matches, policy)
        else:
            matches = self._verified(query, near, records, policy)
            grade, reason = judge(matches, policy)
        taxonomy = records[int(matches[0].image_id, 16)].taxonomy if matches else ""
        return Answer(
            grade, tuple(matches), reason, query.hashed.hex, policy, view.generation, query.hashed.recipe, taxonomy
        )

    def _verified(
        self, query: Query, near: Neighbours, records: dict[int, Record], policy: Policy
    ) -> list[Match]:
        matches = self._with_scene_scores(query, _candidates(near, records))
        if query.pixels is None:
            return sorted(matches, key=lambda match: match.order)
        # Beyond the margin below the best, SSIM could change neither the label nor its grade.
        best = max((match.scene_score for match in matches if match.scene_score is not None), default=-1.0)
        least = max(policy.good_scene, best - policy.scene_margin)
        compared = [
            self._with_ssim(query.pixels, match, records)
            if match.scene_score is not None and match.scene_score >= least and match.distance <= policy.ssim_distance
            else match
            for match in matches
        ]
        return sorted(compared, key=lambda match: match.order)

    def _with_scene_scores(self, query: Query, matches: list[Match]) -> list[Match]:
        if query.thumbnail is None:
            return [replace(match, note="the query is a hash without an image") for match in matches]
        stored = [self._store.catalog.thumbnail(int(match.image_id, 16)) for match in matches]
        pictures = [decode_thumbnail(data) for data in stored if data is not None]
        scores = iter(scene_scores(query.thumbnail, pictures))
        scored = []
        for match, data in zip(matches, stored, strict=True):
            if data is None:
                scored.append(replace(match, note="the store has no thumbnail of it"))
                continue
            found = next(scores)
            scored.append(replace(match, scene_score=found.score, shift=(found.shift_x, found.shift_y)))
        return scored

    def _with_ssim(self, pixels: NDArray[np.uint8], match: Match, records: dict[int, Record]) -> Match:
        try:
            reference = self._pixels(records[int(match.image_id, 16)])
        except ImageError as error:
            return replace(match, note=f"no full-size SSIM: {error.detail}")
        a, b = match_shape(pixels, reference)
        if min(a.shape) < WINDOW:
            return replace(match, note=f"no full-size SSIM: smaller than {WINDOW} pixels")
        return replace(match, ssim=standardised_ssim(a, b))

    def _verified_as_reference(
        self, query: Query, near: Neighbours, records: dict[int, Record], policy: Policy
    ) -> list[Match]:
        matches = []
        for match in _candidates(near, records):
            if query.pixels is None or match.distance > policy.ssim_distance:
                matches.append(match)
                continue
            try:
                reference = self._pixels(records[int(match.image_id, 16)])
            except ImageError as error:
                matches.append(replace(match, note=f"no full-size SSIM: {error.detail}"))
                continue
            matches.append(replace(match, ssim=reference_ssim(query.pixels, reference)))
        return sorted(matches, key=lambda match: match.order)


def _candidates(near: Neighbours, records: dict[int, Record]) -> list[Match]:
    """Make candidates of neighbours; one that a writer has deleted since the view was made is left out."""
    return [
        Match.of(records[int(number)], int(distance))
        for number, distance in zip(near.ids, near.distances, strict=True)
        if int(number) in records
    ]
