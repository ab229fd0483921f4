"""The matcher: nearest hashes, verified by pixels, judged. It needs no server, and is the same behind one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from twinscope_indexer.errors import ImageError
from twinscope_indexer.hamming import Neighbours
from twinscope_indexer.hashing import BYTES, RECIPE, PHash, hash_pixels, require_recipe
from twinscope_indexer.metadata import contradictions
from twinscope_indexer.structure import Unhashable
from twinscope_indexer.thumbnail import decode_thumbnail, encode_thumbnail

from twinscope_service.answer import FOUND, Answer, Match
from twinscope_service.calibration import calibration_of
from twinscope_service.pixels import UPLOADS_FOLDER, ReferencePixels
from twinscope_service.policy import POLICIES, Policy
from twinscope_service.reaching import FAR_CANDIDATES, Found, find, scored, stages, turned
from twinscope_service.reference_rule import reference_ssim
from twinscope_service.rivals import strongest_rival
from twinscope_service.scene import scene_scores
from twinscope_service.ssim import WINDOW, match_shape, standardised_ssim
from twinscope_service.verdict import doubted, judge, judge_as_reference, ssim_wanted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from twinscope_indexer.catalog import Record
    from twinscope_indexer.metadata import InstrumentMetadata
    from twinscope_indexer.store import Store
    from twinscope_indexer.view import View

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
    instrument : InstrumentMetadata or None
        What its instrument wrote; None where nothing is known.
    """

    hashed: PHash | Unhashable
    thumbnail: NDArray[np.uint8] | None = None
    pixels: NDArray[np.uint8] | None = None
    instrument: InstrumentMetadata | None = None

    @classmethod
    def of_pixels(cls, pixels: NDArray[np.uint8], instrument: InstrumentMetadata | None = None) -> Query:
        """Make the query of a grey image, uint8, shape (height, width), and of what its instrument wrote."""
        return cls(hash_pixels(pixels), decode_thumbnail(encode_thumbnail(pixels)), pixels, instrument)


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

    def allow(self, number: int, records: dict[int, Record]) -> bool:
        """Tell whether an image, whose record is among these, may be answered with."""
        return number != self.without and (
            self.categories is None or (number in records and records[number].category in self.categories)
        )

    def depth(self, policy: Policy) -> int:
        """Give how many neighbours to ask for: one more where one of them is the query itself."""
        return policy.k + int(self.without is not None)


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
        found, records = self._nearest(view, queries, policy, limits)
        nearest = iter(found)
        answers = []
        for query in queries:
            if isinstance(query.hashed, Unhashable):
                reason = f"{query.hashed.reason}: {query.hashed.detail}"
                unhashable = Answer("unhashable", (), reason, None, policy, view.generation, RECIPE)
                answers.append(replace(unhashable, instrument=query.instrument))
                continue
            matches, judged = self._judged(query, next(nearest), view, records, policy, limits)
            if judged[0] == "none" and query.thumbnail is not None and limits.verify and policy.rule == "scene":
                further = self._further(query, query.thumbnail, view, records, policy, limits)
                matches, judged = further or (matches, judged)
            matches = _with_instruments(query, matches, view)
            calibrated = policy.rule == "scene" and judged[0] != "ambiguous"  # one of two labels is wrong in any case
            chance = calibration_of(view.calibration).chance(matches) if calibrated else None
            rival = _rival(query, matches, judged[0], view, limits)
            grade, reason = doubted(judged, matches, chance, policy, rival)
            taxonomy = records[int(matches[0].image_id, 16)].taxonomy if matches else ""
            made = (grade, tuple(matches), reason, query.hashed.hex, policy, view.generation)
            answers.append(Answer(*made, query.hashed.recipe, taxonomy, query.instrument, chance))
        return answers

    def _judged(
        self,
        query: Query,
        near: Neighbours,
        view: View,
        records: dict[int, Record],
        policy: Policy,
        limits: Limits,
    ) -> tuple[list[Match], tuple[Grade, str]]:
        if not limits.verify:
            matches = _candidates(near, records, "verification was not asked for")
            return matches, judge(matches, policy)
        if policy.rule == "reference":
            matches = self._verified_as_reference(query, near, records, policy)
            return matches, judge_as_reference(matches, policy)
        matches = self._verified(query, near, view, records, policy)
        return matches, judge(matches, policy)

    def _further(
        self,
        query: Query,
        thumbnail: NDArray[np.uint8],
        view: View,
        records: dict[int, Record],
        policy: Policy,
        limits: Limits,
    ) -> tuple[list[Match], tuple[Grade, str]] | tuple[()]:
        """Look by frames, in stages, then farther away; empty where nothing is found."""
        tried = []
        for stage in stages(policy, view.frames):
            found = find(stage, thumbnail, view, policy, limits.allow)
            tried.append(found)
            settled = self._settled(query, scored(found, found.near, thumbnail, view), found.records, policy)
            if settled:
                records.update(found.records)
                return settled
        if policy.far_distance <= policy.max_distance:
            return ()
        return self._far(query, thumbnail, view, records, policy, limits, tried)

    def _far(
        self,
        query: Query,
        thumbnail: NDArray[np.uint8],
        view: View,
        records: dict[int, Record],
        policy: Policy,
        limits: Limits,
        tried: Sequence[Found],
    ) -> tuple[list[Match], tuple[Grade, str]] | tuple[()]:
        """Compare the few nearest beyond the usual distance, of the image as it is and of the stages tried."""
        deeper = replace(policy, k=FAR_CANDIDATES, max_distance=policy.far_distance)
        [near], known = self._nearest(view, [query], deeper, limits)
        settled = self._settled(query, _with_scene_scores(thumbnail, _candidates(near, known), view), known, policy)
        if settled:
            records.update(known)
            return settled
        for found in tried:
            settled = self._settled(query, scored(found, found.far, thumbnail, view), found.records, policy)
            if settled:
                records.update(found.records)
                return settled
        return ()

    def _settled(
        self, query: Query, matches: list[Match], records: dict[int, Record], policy: Policy
    ) -> tuple[list[Match], tuple[Grade, str]] | tuple[()]:
        """Judge candidates that were scored by thumbnails; empty where they settle nothing."""
        compared = self._compared(query, matches, records, policy)
        judged = judge(compared, policy)
        return (compared, judged) if judged[0] in FOUND else ()

    def _nearest(
        self, view: View, queries: Sequence[Query], policy: Policy, limits: Limits
    ) -> tuple[list[Neighbours], dict[int, Record]]:
        """Search for all queries that have a hash, and look up the records of what is found."""
        hashes = [query.hashed for query in queries if isinstance(query.hashed, PHash)]
        for recipe in {hashed.recipe for hashed in hashes}:
            require_recipe(recipe)
        codes = np.frombuffer(b"".join(hashed.code for hashed in hashes), np.uint8).reshape(-1, BYTES)
        found = view.search(codes, limits.depth(policy), policy.max_distance)
        records = view.records([number for near in found for number in near.ids.tolist()])
        if limits:
            found = [
                self._allowed(view, codes[i : i + 1], near, records, policy, limits) for i, near in enumerate(found)
            ]
        return found, records

    def _allowed(
        self,
        view: View,
        code: NDArray[np.uint8],
        near: Neighbours,
        records: dict[int, Record],
        policy: Policy,
        limits: Limits,
    ) -> Neighbours:
        """Leave out what may not be answered with, and look deeper where it has taken the places of others."""
        depth = limits.depth(policy)
        allowed = _allowed(near, records, limits)
        while len(allowed.ids) < policy.k and len(near.ids) == depth:
            depth *= 4
            [near] = view.search(code, depth, policy.max_distance)
            records.update(view.records(near.ids.tolist()))
            allowed = _allowed(near, records, limits)
        return Neighbours(allowed.ids[: policy.k], allowed.distances[: policy.k])

    def _verified(
        self, query: Query, near: Neighbours, view: View, records: dict[int, Record], policy: Policy
    ) -> list[Match]:
        if query.thumbnail is None:
            matches = _candidates(near, records, "the query is a hash without an image")
        else:
            matches = _with_scene_scores(query.thumbnail, _candidates(near, records), view)
        return self._compared(query, matches, records, policy)

    def _compared(self, query: Query, matches: list[Match], records: dict[int, Record], policy: Policy) -> list[Match]:
        """Compare full-size pixels where that can change the answer; put the best first."""
        if query.pixels is not None:
            matches = [
                self._with_ssim(turned(match, query.pixels), match, records) if wanted else match
                for match, wanted in zip(matches, ssim_wanted(matches, policy), strict=True)
            ]
        return sorted(matches, key=lambda match: match.order)

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


def _rival(query: Query, matches: list[Match], grade: Grade, view: View, limits: Limits) -> float:
    """Give the scene score of the strongest rival of a twin that is known by its thumbnail alone, else 0."""
    if grade != "good" or query.thumbnail is None:
        return 0.0
    return strongest_rival(matches[0], query.thumbnail, view, limits.allow)


def _with_instruments(query: Query, matches: list[Match], view: View) -> list[Match]:
    """Note what the instruments of candidates wrote, and where it contradicts that of the query."""
    if query.thumbnail is None or not matches:
        return matches
    known = view.instruments([int(match.image_id, 16) for match in matches])
    return [
        match if found is None else replace(match, instrument=found, contradictions=_contradictions(query, found))
        for match, found in ((match, known.get(int(match.image_id, 16))) for match in matches)
    ]


def _with_scene_scores(thumbnail: NDArray[np.uint8], matches: list[Match], view: View) -> list[Match]:
    stored = [view.thumbnail(int(match.image_id, 16)) for match in matches]
    pictures = [decode_thumbnail(data) for data in stored if data is not None]
    scores = iter(scene_scores(thumbnail, pictures))
    scored = []
    for match, data in zip(matches, stored, strict=True):
        if data is None:
            scored.append(replace(match, note="the store has no thumbnail of it"))
            continue
        found = next(scores)
        scored.append(replace(match, scene_score=found.score, shift=(found.shift_x, found.shift_y)))
    return scored


def _contradictions(query: Query, found: InstrumentMetadata) -> tuple[str, ...]:
    return () if query.instrument is None else tuple(contradictions(query.instrument, found))


def _allowed(near: Neighbours, records: dict[int, Record], limits: Limits) -> Neighbours:
    allowed = np.array([limits.allow(number, records) for number in near.ids.tolist()], dtype=bool)
    return Neighbours(near.ids[allowed], near.distances[allowed])


def _candidates(near: Neighbours, records: dict[int, Record], note: str = "") -> list[Match]:
    """Make candidates of neighbours; one without a record is left out, as where a store has no snapshots."""
    return [
        Match.of(records[number], distance, note)
        for number, distance in zip(near.ids.tolist(), near.distances.tolist(), strict=True)
        if number in records
    ]
