"""The matcher: nearest hashes, verified by pixels, judged. It needs no server, and is the same behind one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from twinscope_indexer.errors import ImageError
from twinscope_indexer.hamming import Neighbours
from twinscope_indexer.hashing import RECIPE, PHash, Unhashable, hash_pixels, require_recipe
from twinscope_indexer.thumbnail import decode_thumbnail, encode_thumbnail

from twinscope_service.answer import Answer, Match
from twinscope_service.gathering import GatheredScans
from twinscope_service.pixels import UPLOADS_FOLDER, ReferencePixels
from twinscope_service.policy import POLICIES, Policy
from twinscope_service.reference_rule import reference_ssim
from twinscope_service.scene import scene_scores
from twinscope_service.ssim import WINDOW, match_shape, standardised_ssim
from twinscope_service.verdict import judge, judge_as_reference, ssim_wanted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from twinscope_indexer.catalog import Record
    from twinscope_indexer.store import Store, View

    from twinscope_service.answer import Grade

_TOO_SMALL = f"no full-size SSIM: smaller than {WINDOW} pixels"


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


@dataclass(frozen=True, slots=True)
class Limits:
    """What a search leaves out.

    Attributes
    ----------
    verify : bool
        False: hash distances only; the grade is ``unverified`` at best.
    categories : frozenset of str or None
        Only references of these categories (names) are looked at; None means all.
    without : int or None
        A reference that must not be answered with: the query itself.
    """

    verify: bool = True
    categories: frozenset[str] | None = None
    without: int | None = None

    def __bool__(self) -> bool:
        """Tell whether any reference is left out."""
        return self.categories is not None or self.without is not None


UNLIMITED = Limits()


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
        self._pixels = pixels or ReferencePixels(uploads=store.folder / UPLOADS_FOLDER)
        self._scans = GatheredScans()

    def match(self, query: Query, policy: Policy = POLICIES["default"], limits: Limits = UNLIMITED) -> Answer:
        """Find the twin of one image, or say why there is none.

        Parameters
        ----------
        query : Query
        policy : Policy
            The thresholds.
        limits : Limits
            What to leave out.

        Returns
        -------
        Answer

        Raises
        ------
        RecipeError
            If the query was hashed by another recipe than the store.
        """
        [answer] = self.match_all([query], policy, limits)
        return answer

    def match_all(
        self,
        queries: Sequence[Query],
        policy: Policy = POLICIES["default"],
        limits: Limits = UNLIMITED,
        view: View | None = None,
    ) -> list[Answer]:
        """Find the twins of several images in one scan, all from one generation; see `match`.

        Parameters
        ----------
        queries : sequence of Query
        policy, limits
            As of `match`.
        view : View, optional
            The state of the store to answer from; by default the newest that is loaded.

        Returns
        -------
        list of Answer
            One for each query, the same as `match` would give alone.
        """
        view = view or self._store.view
        found = iter(self._neighbours(view, [q for q in queries if isinstance(q.hashed, PHash)], policy, limits))
        answers = []
        for query in queries:
            if isinstance(query.hashed, Unhashable):
                reason = f"{query.hashed.reason}: {query.hashed.detail}"
                answers.append(Answer("unhashable", (), reason, None, policy, view.generation, RECIPE))
                continue
            near, records = next(found)
            matches, judged = self._judged(query, near, records, policy, limits)
            grade, reason = judged
            taxonomy = records[int(matches[0].image_id, 16)].taxonomy if matches else ""
            made = (grade, tuple(matches), reason, query.hashed.hex, policy, view.generation)
            answers.append(Answer(*made, query.hashed.recipe, taxonomy))
        return answers

    def _judged(
        self, query: Query, near: Neighbours, records: dict[int, Record], policy: Policy, limits: Limits
    ) -> tuple[list[Match], tuple[Grade, str]]:
        if not limits.verify:
            matches = [replace(match, note="verification was not asked for") for match in _candidates(near, records)]
            return matches, judge(matches, policy)
        if policy.rule == "reference":
            matches = self._verified_as_reference(query, near, records, policy)
            return matches, judge_as_reference(matches, policy)
        matches = self._verified(query, near, records, policy)
        return matches, judge(matches, policy)

    def _neighbours(
        self, view: View, queries: Sequence[Query], policy: Policy, limits: Limits
    ) -> list[tuple[Neighbours, dict[int, Record]]]:
        """Search, and look the records up; deeper where what is left out has taken the places of others."""
        if not queries:
            return []
        for query in queries:
            if isinstance(query.hashed, PHash):
                require_recipe(query.hashed.recipe)
        codes = np.stack([query.hashed.packed for query in queries if isinstance(query.hashed, PHash)])
        deeper = int(limits.without is not None)
        found = []
        for i, near in enumerate(self._scans.search(view, codes, policy.k + deeper, policy.max_distance)):
            records, depth = self._store.records([int(number) for number in near.ids]), policy.k + deeper
            kept = _kept(near, records, limits)
            while limits and len(kept.ids) < policy.k and len(near.ids) == depth:
                depth *= 4
                [near] = self._scans.search(view, codes[i : i + 1], depth, policy.max_distance)
                records = self._store.records([int(number) for number in near.ids])
                kept = _kept(near, records, limits)
            found.append((Neighbours(kept.ids[: policy.k], kept.distances[: policy.k]), records))
        return found

    def _verified(self, query: Query, near: Neighbours, records: dict[int, Record], policy: Policy) -> list[Match]:
        matches = self._with_scene_scores(query, _candidates(near, records))
        if query.pixels is None:
            return sorted(matches, key=lambda match: match.order)
        compared = [
            self._with_ssim(query.pixels, match, records) if wanted else match
            for match, wanted in zip(matches, ssim_wanted(matches, policy), strict=True)
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
            return replace(match, note=_TOO_SMALL)
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
            if min(reference.shape) < WINDOW:
                matches.append(replace(match, note=_TOO_SMALL))
                continue
            matches.append(replace(match, ssim=reference_ssim(query.pixels, reference)))
        return sorted(matches, key=lambda match: match.order)


def _kept(near: Neighbours, records: dict[int, Record], limits: Limits) -> Neighbours:
    if not limits:
        return near
    kept = np.array(
        [
            number != limits.without
            and (limits.categories is None or (number in records and records[number].category in limits.categories))
            for number in near.ids.tolist()
        ],
        dtype=bool,
    )
    return Neighbours(near.ids[kept], near.distances[kept])


def _candidates(near: Neighbours, records: dict[int, Record]) -> list[Match]:
    """Make candidates of neighbours; one that a writer has deleted since the view was made is left out."""
    return [
        Match.of(records[int(number)], int(distance))
        for number, distance in zip(near.ids, near.distances, strict=True)
        if int(number) in records
    ]
