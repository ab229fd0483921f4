"""Look-alikes: references that resemble a query as much as the twin does, although they show another field.

Many images of a collection can contain the same artefact: an aperture, a panel beside the field, dust, or the pattern
of a camera. A measurement that compares only two images cannot distinguish a shared artefact from a shared field.
Comparisons with other references can distinguish them. Therefore, Twinscope removes the influence of other references
with the same artefact from the correlation of query and twin. If query and twin share only the artefact, no correlation
remains.

With one look-alike, Twinscope computes the partial correlation of query and twin, with scene scores as correlations.
With several look-alikes, Twinscope uses a model with one common factor (Spearman 1904, Am. J. Psychol. 15, 201-292). In
this model, each image contains a share of the common factor. If two images have nothing else in common, their
correlation is the product of their shares.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from statistics import median
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from twinscope_service.matching.answer import Match
from twinscope_service.matching.geometry import frames_of, whole_bits
from twinscope_service.matching.neighbours import distance_of, thumbnails_near
from twinscope_service.matching.reference_thumbnails import reference_thumbnail
from twinscope_service.similarity.regions import Regions, compare_regions
from twinscope_service.similarity.scene_score import SceneScore, scene_scores
from twinscope_service.similarity.texture import agree_in_texture
from twinscope_service.thresholds import (
    COPY_SCENE,
    EXPLAINED_CORRELATION,
    LEFT_CORRELATION,
    LEFT_CORRELATION_BESIDE_ONE,
    LONE_COMPANY,
    LONE_FACTOR,
    LOOKALIKE_OF_WEAK_SCENE,
    LOOKALIKE_SCENE,
    MOVED_COPY_SCENE,
    TEXTURE_FROM_BITS,
    UNMOVED_SHARE,
    WEAK_TWIN_SCENE,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray
    from twinscope_indexer.store.catalog.catalog import Record
    from twinscope_indexer.store.view import View

_STRONGEST: Final = 5
"""Maximum number of look-alikes that are compared with each other. The look-alikes most similar to the query are
used."""


@dataclass(frozen=True, slots=True, eq=False)
class Neighbour:
    """A reference, other than the twin, whose hash is near the hash of the query or of the twin.

    Attributes
    ----------
    match : Match
        The reference as a candidate. The reference was compared in the same frames as the twin.
    record : Record
    thumbnail : ndarray of uint8, shape (height, width)
        Thumbnail of the reference, cut to the frame that was compared.
    likeness : float
        Scene score of reference and twin. 0 if the reference resembles the query too little to be a look-alike.
    everywhere : bool
        Whether reference and twin agree in all regions of the field.
    """

    match: Match
    record: Record
    thumbnail: NDArray[np.uint8]
    likeness: float
    everywhere: bool

    @property
    def score(self) -> float:
        """Scene score of the reference and the query."""
        return self.match.scene_score or 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Neighbourhood:
    """A twin and the other references whose hashes are near the hash of the twin or of the query.

    Attributes
    ----------
    twin : Match
    others : list of Neighbour
        References that are not copies of the twin, and copies of the twin that have another category. The reference
        most similar to the query is first.
    copies : list of Match
        Copies of the twin with the same category as the twin. Their scene scores show that they are copies. References
        whose hashes show that they are recordings of the field of the twin are neither in `copies` nor in `others`.
    records : dict
        Maps the number of each of these references to its record.
    regions : Regions
        Agreement between query and twin in each region.
    coarse : float
        Scene score of query and twin after both were reduced to half the size.
    textured : bool
        Whether query and twin agree in fine structure. The value is also true if the distance between query and twin is
        so small that the agreement is not required.
    """

    twin: Match
    others: list[Neighbour]
    copies: list[Match]
    records: dict[int, Record]
    regions: Regions
    coarse: float
    textured: bool

    @property
    def better(self) -> Neighbour | None:
        """The neighbour most similar to the query; None if the twin is at least as similar to the query."""
        first = self.others[0] if self.others else None
        return first if first is not None and first.score > (self.twin.scene_score or 0.0) else None

    def lookalike(self, preferred_to: Collection[str]) -> float:
        """Return the scene score of the strongest look-alike if look-alikes can explain why query and twin are similar.

        Parameters
        ----------
        preferred_to : collection of str
            Ids of references that match the query less well than the twin does, for example according to the full-size
            pixels. If such a reference has a higher scene score than the twin and agrees with the twin in all regions,
            it is not a look-alike.

        Returns
        -------
        float
            Scene score of the look-alike and the query; 0 if there is no look-alike.
        """
        score = self.twin.scene_score or 0.0
        weak = score < WEAK_TWIN_SCENE
        least = LOOKALIKE_OF_WEAK_SCENE if weak else LOOKALIKE_SCENE
        strongest = [
            one for one in self.others
            if one.score >= least
            and (one.score <= score or one.match.image_id not in preferred_to or not one.everywhere)
        ][:_STRONGEST]  # fmt: skip
        if not strongest or (len(strongest) == 1 and not weak and self._explains(strongest[0])):
            return 0.0
        return strongest[0].score if weak or _little_is_left(score, strongest) else 0.0

    def _explains(self, other: Neighbour) -> bool:
        """Return whether a neighbour is only a noisier recording of the twin.

        Everything that a noisier recording of the twin has in common with the query is also in the twin. An image of
        another field can share an artefact with the query that is not in the twin.
        """
        left = _without(other.score, self.twin.scene_score or 0.0, other.likeness)
        return left < EXPLAINED_CORRELATION and other.everywhere and other.match.category == self.twin.category

    @property
    def near(self) -> list[Match]:
        """All references that were compared, except the twin; presumed copies of the twin are included."""
        return [*self.copies, *(other.match for other in self.others)]

    @property
    def lone(self) -> bool:
        """Whether the twin is much more similar than all other references, and its score does not fall with less noise.

        To reduce the noise by averaging, the images are compared again at half the size.
        """
        score = self.twin.scene_score or 0.0
        return len(self.others) >= LONE_COMPANY and score >= LONE_FACTOR * self.others[0].score and self.coarse >= score


def neighbourhood(
    twin: Match, thumbnail: NDArray[np.uint8], code: bytes, view: View, without: int | None
) -> Neighbourhood:
    """Compare the references near a query or near its twin with the query and with the twin, in all categories.

    Parameters
    ----------
    twin : Match
    thumbnail : ndarray of uint8, shape (height, width)
        Thumbnail of the query.
    code : bytes
        Hash of the query.
    view : View
        View of the store that contains the twin.
    without : int or None
        If the query is an image of the store: its number. This image is excluded from the results.

    Returns
    -------
    Neighbourhood
    """
    symmetry, query_frame, frame = frames_of(twin)
    own = twin.number
    record = view.records([own])[own]
    thumbnails, records = thumbnails_near(record, symmetry.applied(thumbnail), view, without)
    pair = _Pair(
        twin, code, record, symmetry.applied(query_frame.cut(thumbnail)), frame.cut(reference_thumbnail(view, own))
    )
    others, copies = [], []
    for number, whole in thumbnails.items():
        other = frame.cut(whole)
        if other.size == 0:  # the image has only a few pixels
            continue
        neighbour = pair.compared(records[number], other)
        if isinstance(neighbour, Match):
            copies.append(neighbour)
        else:
            others.append(neighbour)
    others.sort(key=lambda other: other.match.order)
    [coarse] = scene_scores(_halved(pair.seen), [_halved(pair.shown)])
    textured = twin.distance <= TEXTURE_FROM_BITS or agree_in_texture(pair.seen, pair.shown, twin.scene_score or 0.0)
    return Neighbourhood(twin, others, copies, records, compare_regions(pair.seen, pair.shown), coarse.score, textured)


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    """A query and its twin, cut to the frames that were compared."""

    twin: Match
    code: bytes
    """Hash of the query."""
    record: Record
    """Record of the twin."""
    seen: NDArray[np.uint8]
    """Thumbnail of the query, in the orientation of the twin and cut to the frame that was compared."""
    shown: NDArray[np.uint8]
    """Thumbnail of the twin, cut to the frame that was compared."""

    def compared(self, record: Record, other: NDArray[np.uint8]) -> Neighbour | Match:
        """Compare another reference with query and twin; return it as a `Match` if it is a copy of the twin."""
        [found] = scene_scores(self.seen, [other])
        whole = self.twin.transform is None
        distance = distance_of(self.code, record.hash) if whole else whole_bits(self.seen, other)
        match = replace(
            Match.of(record, distance), scene_score=found.score, shift=(found.shift_x, found.shift_y),
            transform=self.twin.transform,
        )  # fmt: skip
        if found.score < min(LOOKALIKE_SCENE, LOOKALIKE_OF_WEAK_SCENE):
            return Neighbour(match, record, other, 0.0, everywhere=False)
        [between] = scene_scores(self.shown, [other])
        if record.category == self.record.category and _is_copy(between):
            return match
        return Neighbour(match, record, other, between.score, compare_regions(self.shown, other).agree)


def regions_of(twin: Match, thumbnail: NDArray[np.uint8], view: View) -> Regions:
    """Compare the thumbnails of a query and its twin region by region."""
    symmetry, query_frame, frame = frames_of(twin)
    return compare_regions(
        symmetry.applied(query_frame.cut(thumbnail)), frame.cut(reference_thumbnail(view, twin.number))
    )


def _is_copy(between: SceneScore) -> bool:
    """Return whether two references are copies of one field, according to their scene score and their shift."""
    moved = max(abs(between.shift_x), abs(between.shift_y)) > UNMOVED_SHARE
    return between.score >= (MOVED_COPY_SCENE if moved else COPY_SCENE)


def _without(score: float, query: float, twin: float) -> float:
    """Return the partial correlation of query and twin without the influence of a third image.

    Parameters
    ----------
    score : float
        Correlation of query and twin.
    query, twin : float
        Correlations of the query and of the twin with the third image.
    """
    left: float = (score - query * twin) / max(((1 - query * query) * (1 - twin * twin)) ** 0.5, 1e-6)
    return left


def _little_is_left(score: float, others: list[Neighbour]) -> bool:
    """Return whether too little correlation of query and twin remains without the influence of the other images."""
    beside = min(_without(score, other.score, other.likeness) for other in others)
    common = _factor_left(score, others) if len(others) > 1 else None
    if common is None:
        return beside < LEFT_CORRELATION_BESIDE_ONE
    return min(beside, common) < LEFT_CORRELATION


def _factor_left(score: float, others: list[Neighbour]) -> float | None:
    """Return the partial correlation of query and twin without the common factor of the other images.

    None if the other images have no common factor.
    """
    of_query, of_twin = [], []
    for one, other in combinations(others, 2):
        [among] = scene_scores(one.thumbnail, [other.thumbnail])
        if among.score <= 0:
            return None
        of_query.append(one.score * other.score / among.score)
        of_twin.append(one.likeness * other.likeness / among.score)
    query, twin = median(of_query), median(of_twin)
    if max(query, twin) >= 1 or min(query, twin) < 0:  # shares outside 0 to 1 contradict a common factor
        return None
    return _without(score, query**0.5, twin**0.5)


def _halved(thumbnail: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(thumbnail).reduce(2))
