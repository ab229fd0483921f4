"""Rivals: other references that look as much like a query as its twin does, though they show something else.

What many pictures of a collection share (an aperture, a panel beside the field, dust, the pattern of a camera) can look
like a field to every measure that compares two pictures. It shows as soon as others are looked at: then what query and
twin have in common is what they have in common with the others, and nothing is left of it without that.

With scene scores taken for correlations this is the question of partial correlation, and with several rivals that of
one common factor (Spearman 1904, Am. J. Psychol. 15, 201-292): pictures that share one thing only correlate by the
products of what each has of it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import combinations, islice
from statistics import median
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image
from twinscope_indexer.errors import ImageError
from twinscope_indexer.hashing.frames import WHOLE, frame_codes
from twinscope_indexer.hashing.perceptual import BITS, BYTES

from twinscope_service.matching.answer import UNMOVED, Match
from twinscope_service.matching.geometry import frames_of, whole_bits
from twinscope_service.matching.reference_thumbnails import picture
from twinscope_service.similarity.regions import Parts, compare_parts
from twinscope_service.similarity.scene_score import SceneScore, scene_scores
from twinscope_service.similarity.texture import agree_in_texture

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from numpy.typing import NDArray
    from twinscope_indexer.store.catalog.catalog import Record
    from twinscope_indexer.store.view import View

SURE: Final = 40
"""Bits. Pictures of different fields that share half a panel were as near as 72 bits; nearer twins are sure."""
NEAR: Final = 200
"""Bits up to which a twin has no rivals, and two references are copies of one field. Pictures of different fields with
one camera pattern that is stronger than the fields are as near, and cannot be told from recordings of one field."""
FAR: Final = 300
"""Bits beyond which query and twin are laid over each other and must agree in fine structure, too: see `texture`."""
_LOOKED_AT: Final = 8
"""The nearest others of the query, and of the twin; where a collection shares something, they do."""
_DEEPEST: Final = 1024
"""References looked through for them where most are copies of the twin."""
_SAME_FIELD: Final = 0.95
"""Scene score of two references that show one field, with another info bar or encoding; what else is shared makes
less."""
_MOVED_FIELD: Final = 0.8
"""Scene score of two references that overlap, shifted by more than `UNMOVED`; what is shared besides does not move."""
_LEAST: Final = 0.35
"""Scene score of a rival. Of 15,399 pairs of real micrographs of different scenes none scored above 0.32."""
_WEAK: Final = (0.6, 0.25)
"""Scene score of a twin below which no other may have this one: such twins had others of 0.16 at most."""
_LEFT: Final = 0.55
"""Correlation of query and twin that is left without what is shared: of different fields in twelve collections with
shared artefacts at most 0.53 beside one rival or given the common factor of all, of real twins mostly above 0.7."""
_LEFT_BESIDE_ONE: Final = 0.75
"""The same where there is one rival: it may have little of what is shared, so less of the correlation is explained."""
_EXPLAINED: Final = 0.1
"""Correlation of the query and a rival that is left without the twin, below which the twin explains the rival."""
_STRONGEST: Final = 5
"""Rivals whose likeness among each other is looked at."""
_LONE: Final = 3.0
"""By this factor a lone candidate is more like the query than any other reference is."""
_COMPANY: Final = 8
"""Others that must be there to tell that a candidate is alone."""


@dataclass(frozen=True, slots=True, eq=False)
class Neighbour:
    """Another reference near a query or near its twin.

    Attributes
    ----------
    match : Match
        It as a candidate, compared in the frames in which the twin was.
    record : Record
    picture : ndarray of uint8, shape (height, width)
        What was compared of it.
    likeness : float
        Its scene score with the twin; 0 where it is too little like the query to matter.
    everywhere : bool
        Whether it agrees with the twin in all parts of the field.
    """

    match: Match
    record: Record
    picture: NDArray[np.uint8]
    likeness: float
    everywhere: bool

    @property
    def score(self) -> float:
        """Its scene score with the query."""
        return self.match.scene_score or 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Neighbourhood:
    """A twin among the other references that are near it, or near the query.

    Attributes
    ----------
    twin : Match
    others : list of Neighbour
        No copies of the twin, but those of another category; most alike the query first.
    copies : list of Match
        References of the twin's category that are left out of these, being so much like the twin; no recordings of one
        field by their hashes.
    records : dict
        Of all of these, by number.
    parts : Parts
        Of query and twin.
    coarse : float
        Scene score of query and twin at half the size.
    textured : bool
        Whether they agree in fine structure as well, where they are so far apart that it is asked for.
    """

    twin: Match
    others: list[Neighbour]
    copies: list[Match]
    records: dict[int, Record]
    parts: Parts
    coarse: float
    textured: bool

    @property
    def better(self) -> Neighbour | None:
        """The neighbour that is more like the query than the twin is, if there is one."""
        first = self.others[0] if self.others else None
        return first if first is not None and first.score > (self.twin.scene_score or 0.0) else None

    def rival(self, candidates: Collection[str]) -> float:
        """Give the scene score of the strongest rival if what it shares can be all that query and twin share, else 0.

        Parameters
        ----------
        candidates : collection of str
            Ids of what the twin was preferred to, as by its full-size pixels: what of this is more like the query, and
            shows the field of the twin in all parts, is no rival, since it was judged already.

        Returns
        -------
        float
        """
        score = self.twin.scene_score or 0.0
        weak, beside_weak = _WEAK
        least = beside_weak if score < weak else _LEAST
        strong = (other for other in self.others if other.score >= least)
        rivals = [
            one for one in strong
            if one.score <= score or one.match.image_id not in candidates or not one.everywhere
        ][:_STRONGEST]  # fmt: skip
        if not rivals:
            return 0.0
        if score < weak:
            return rivals[0].score
        if len(rivals) == 1 and self._explains(rivals[0]):
            return 0.0
        beside = min(_without(score, other.score, other.likeness) for other in rivals)
        common = _factor_left(score, rivals) if len(rivals) > 1 else None
        if common is None:
            return rivals[0].score if beside < _LEFT_BESIDE_ONE else 0.0
        return rivals[0].score if min(beside, common) < _LEFT else 0.0

    def _explains(self, other: Neighbour) -> bool:
        """Tell whether a neighbour is a noisier recording of the twin: all that it shares with the query, the twin has.

        A picture of another field with a shared artefact shares that with the query beyond what of it the twin has.
        """
        left = _without(other.score, self.twin.scene_score or 0.0, other.likeness)
        return left < _EXPLAINED and other.everywhere and other.match.category == self.twin.category

    @property
    def near(self) -> list[Match]:
        """All references besides the twin that were looked at; what passes for copies of the twin, too."""
        return [*self.copies, *(other.match for other in self.others)]

    @property
    def lone(self) -> bool:
        """Whether nothing else comes near, and more of the twin is seen as noise is averaged away."""
        score = self.twin.scene_score or 0.0
        return len(self.others) >= _COMPANY and score >= _LONE * self.others[0].score and self.coarse >= score


def neighbourhood(
    twin: Match, thumbnail: NDArray[np.uint8], code: bytes, view: View, without: int | None
) -> Neighbourhood:
    """Look at what is near a query and near its twin, whatever its category.

    Parameters
    ----------
    twin : Match
    thumbnail : ndarray of uint8, shape (height, width)
        Of the query.
    code : bytes
        Hash of the query.
    view : View
        It holds the twin.
    without : int or None
        An image that is not looked at: the query itself, where it is a stored one.

    Returns
    -------
    Neighbourhood
    """
    symmetry, query_frame, frame = frames_of(twin)
    own = int(twin.image_id, 16)
    record = view.records([own])[own]
    pictures, records = _near(record, symmetry.applied(thumbnail), view, without)
    seen, shown = symmetry.applied(query_frame.cut(thumbnail)), frame.cut(picture(view, own))
    others, copies = [], []
    for number, whole_picture in pictures.items():
        other = frame.cut(whole_picture)
        if other.size == 0:  # of a picture of a few pixels
            continue
        [found] = scene_scores(seen, [other])
        whole = twin.transform is None
        distance = _bits(code, records[number].hash) if whole else whole_bits(seen, other)
        match = replace(
            Match.of(records[number], distance), scene_score=found.score, shift=(found.shift_x, found.shift_y),
            transform=twin.transform,
        )  # fmt: skip
        likeness, everywhere = 0.0, False
        if found.score >= min(_LEAST, *_WEAK):
            [between] = scene_scores(shown, [other])
            if records[number].category == record.category and _is_copy(between):
                copies.append(match)
                continue
            likeness, everywhere = between.score, compare_parts(shown, other).everywhere
        others.append(Neighbour(match, records[number], other, likeness, everywhere))
    others.sort(key=lambda other: other.match.order)
    [coarse] = scene_scores(_halved(seen), [_halved(shown)])
    textured = twin.distance <= FAR or agree_in_texture(seen, shown, twin.scene_score or 0.0)
    return Neighbourhood(twin, others, copies, records, compare_parts(seen, shown), coarse.score, textured)


def parts_of(twin: Match, thumbnail: NDArray[np.uint8], view: View) -> Parts:
    """Compare a query, by its thumbnail, part by part with its twin."""
    symmetry, query_frame, frame = frames_of(twin)
    return compare_parts(symmetry.applied(query_frame.cut(thumbnail)), frame.cut(picture(view, int(twin.image_id, 16))))


def _near(
    record: Record, seen: NDArray[np.uint8], view: View, without: int | None
) -> tuple[dict[int, NDArray[np.uint8]], dict[int, Record]]:
    """Give the pictures of the nearest references of a query and of its twin, and the records of all looked at."""
    known: dict[int, Record] = {record.id: record}
    codes = np.concatenate(
        (frame_codes(seen, (WHOLE,)), np.frombuffer(record.hash or b"", np.uint8).reshape(-1, BYTES))
    )
    kept: dict[int, NDArray[np.uint8]] = {}
    for code in codes:
        kept |= _others(code, record, view, known, without)
    return kept, known


def _others(
    code: NDArray[np.uint8], record: Record, view: View, known: dict[int, Record], without: int | None
) -> dict[int, NDArray[np.uint8]]:
    """Give the nearest pictures of a hash that are no copies of a record by hash; deeper where copies are in front.

    Otherwise a few copies of one picture would hide all that could speak against it.
    """
    depth = 2 * _LOOKED_AT
    while True:
        [near] = view.search(code[None], depth, BITS)
        numbers = near.ids.tolist()
        known |= view.records([number for number in numbers if number not in known])
        usable = (
            number for number in numbers
            if number not in {record.id, without} and number in known and not _is_recording(known[number], record)
        )  # fmt: skip
        found = dict(islice(_pictures(view, usable), _LOOKED_AT))
        if len(found) == _LOOKED_AT or len(numbers) < depth or depth >= _DEEPEST:
            return found
        depth *= 4


def _is_recording(one: Record, other: Record) -> bool:
    """Tell by hash whether two references are recordings of one field under one label."""
    return one.category == other.category and _bits(one.hash, other.hash) <= NEAR


def _pictures(view: View, numbers: Iterable[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Give those of some references that have a thumbnail which is not damaged, with it."""
    for number in numbers:
        with suppress(ImageError):
            yield number, picture(view, number)


def _is_copy(between: SceneScore) -> bool:
    """Tell by scene score whether two references show one field, as they are or moved."""
    moved = max(abs(between.shift_x), abs(between.shift_y)) > UNMOVED
    return between.score >= (_MOVED_FIELD if moved else _SAME_FIELD)


def _without(score: float, query: float, twin: float) -> float:
    """Partial correlation of query and twin, from the correlations of the two and of each with a third picture."""
    left: float = (score - query * twin) / max(((1 - query * query) * (1 - twin * twin)) ** 0.5, 1e-6)
    return left


def _factor_left(score: float, rivals: list[Neighbour]) -> float | None:
    """Partial correlation of query and twin given the factor that all rivals share; None where they share none."""
    of_query, of_twin = [], []
    for one, other in combinations(rivals, 2):
        [among] = scene_scores(one.picture, [other.picture])
        if among.score <= 0:
            return None
        of_query.append(one.score * other.score / among.score)
        of_twin.append(one.likeness * other.likeness / among.score)
    query, twin = median(of_query), median(of_twin)
    if max(query, twin) >= 1 or min(query, twin) < 0:  # more than all of it, or of two signs: there is no such factor
        return None
    return _without(score, query**0.5, twin**0.5)


def _halved(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(picture).reduce(2))


def _bits(one: bytes | None, other: bytes | None) -> int:
    if one is None or other is None:
        return BITS
    return int(np.bitwise_count(np.frombuffer(one, np.uint8) ^ np.frombuffer(other, np.uint8)).sum())
