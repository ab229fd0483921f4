"""Calibration data: correct and wrong matches that are found if a store is searched for its own images.

Each sampled image is used for two kinds of searches. For correct matches, the image is changed, for example rotated or
made noisy. The original image, which is the twin, stays in the store. For wrong matches (leave-one-out impostors), the
image and its copies are excluded, so the nearest reference is wrong. Impostors are searched for twice: in all
categories, and in all categories except the category of the image. The reason is that the most similar fields often
come from one sample.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from twinscope_indexer.compute.ordered import in_order
from twinscope_indexer.errors import ImageError
from twinscope_indexer.hashing.codes import BITS
from twinscope_indexer.hashing.thumbnail import decode_thumbnail

from twinscope_service.matching.calibration import Calibration, features, fit
from twinscope_service.matching.double_labels import DoubleLabel, show_the_same
from twinscope_service.matching.geometry import frames_of
from twinscope_service.matching.pipeline import answer_all
from twinscope_service.matching.policy import POLICIES
from twinscope_service.matching.query import UNLIMITED, Limits, Query
from twinscope_service.matching.reference_pixels import UPLOADS_FOLDER, ReferencePixels
from twinscope_service.matching.reference_thumbnails import reference_thumbnail
from twinscope_service.matching.sample_journal import Sample, SampleJournal
from twinscope_service.thresholds import SECOND_LABEL_SCENE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from twinscope_indexer.store.catalog.catalog import Record
    from twinscope_indexer.store.reader import Store

    from twinscope_service.matching.answer import Match
    from twinscope_service.matching.policy import Policy

    Grey = NDArray[np.uint8]

_DEEP: Final = replace(POLICIES["default"], max_distance=BITS, good_scene=-1.0, reach="frame")
"""Policy that compares the nearest references at any distance."""
_ANY: Final = replace(POLICIES["default"], good_scene=-1.0)
"""Policy that accepts every reference within the default maximum distance."""


@dataclass(slots=True)
class Samples:
    """The calibration data of a collection.

    Attributes
    ----------
    impostors, genuine : list of list of ndarray
        Features of wrong matches (`impostors`) and of correct matches (`genuine`). Both contain one list for each
        image; see `calibration.features`.
    copies : list of DoubleLabel
        Pairs of files that show one field but have different categories. A match of such a pair counts neither as wrong
        nor as correct.
    unreadable : int
        Number of images whose files were not readable. The searches for these images used only their thumbnails.
    """

    impostors: list[list[NDArray[np.float64]]] = field(default_factory=list)
    genuine: list[list[NDArray[np.float64]]] = field(default_factory=list)
    copies: list[DoubleLabel] = field(default_factory=list)
    unreadable: int = 0

    @property
    def images(self) -> int:
        """Number of images that were used as queries."""
        return len(self.genuine)


def sampled(store: Store, most: int, seed: int) -> list[Record]:
    """Return at most `most` randomly selected images of a store that have a hash, sorted by id."""
    numbers, _ = store.catalog.codes(above=0, upto=store.view.generation)
    drawn = np.random.default_rng(seed).permutation(numbers)[:most]
    records = store.records(sorted(drawn.tolist()))
    return [records[number] for number in sorted(records)]


def anywhere(record: Record, categories: frozenset[str]) -> list[Limits]:
    """Return the limits of two searches for impostors: among all other images, and among other categories only."""
    return [Limits(without=record.id), *in_other_categories(record, categories)]


def in_other_categories(record: Record, categories: frozenset[str]) -> list[Limits]:
    """Return the limits of a search for impostors among other categories only.

    Use this function for a collection in which all images of a category show the same scene.
    """
    others = categories - {record.category}
    return [Limits(categories=others, without=record.id)] if others else []


def gather(
    store: Store,
    images: Sequence[Record],
    workers: int,
    progress: Callable[[], None] = lambda: None,
    among: Callable[[Record, frozenset[str]], list[Limits]] = anywhere,
    journal: SampleJournal | None = None,
) -> Samples:
    """Search a store for its own images, and return the results as calibration data.

    Parameters
    ----------
    store : Store
    images : sequence of Record
        Images that are used as queries; see `sampled`.
    workers : int
        Number of threads.
    progress : callable, optional
        Function that is called after each image.
    among : callable, optional
        Function that returns the limits of the searches for impostors of an image. The function is called with the
        record of the image and the categories of the store.
    journal : SampleJournal, optional
        File that keeps the data of each image. Images whose data are already in the file are not searched again.

    Returns
    -------
    Samples

    Raises
    ------
    CalibrationError
        If the journal cannot be written.
    """
    pixels = ReferencePixels(uploads=store.folder / UPLOADS_FOLDER)
    found = Samples()
    copies: dict[tuple[str, str], DoubleLabel] = {}
    categories = store.catalog.categories()

    def measured(record: Record) -> tuple[Record, Sample]:
        kept = None if journal is None else journal.find(record.id)
        return record, kept or _sample(store, pixels, among(record, categories), record)

    for record, sample in in_order(measured, images, workers):
        if journal is not None:
            journal.add(record.id, sample)
        found.impostors.append(sample.impostors)
        found.genuine.append(sample.genuine)
        copies |= {(copy.one, copy.other): copy for copy in sample.copies}
        found.unreadable += not sample.readable
        progress()
    found.copies = sorted(copies.values(), key=lambda pair: (pair.one, pair.other))
    return found


def calibrated(name: str, found: Samples, seed: int = 0) -> Calibration:
    """Fit a calibration to the data of a collection.

    Raises
    ------
    CalibrationError
        If there is too little data.
    """
    return fit(name, found.impostors, found.genuine, seed=seed)


def _sample(store: Store, pixels: ReferencePixels, others: Sequence[Limits], record: Record) -> Sample:
    try:
        whole, readable = pixels(record), True
    except ImageError:
        data = store.catalog.thumbnail(record.id)
        if data is None:
            return Sample([], [], [], readable=False)
        whole, readable = decode_thumbnail(data), False

    def found_by(query: Query, policy: Policy, limits: Limits) -> Sequence[Match]:
        [result] = answer_all([query], store.view, policy, limits, pixels)
        return result.answer.matches

    genuine, impostors, copies = [], [], []
    for n, changed in enumerate(_changed_images(whole, record.id)):
        query = Query.of_pixels(changed) if readable else replace(Query.of_pixels(changed), pixels=None)
        found = found_by(query, POLICIES["default"], UNLIMITED)
        if found and found[0].category == record.category:
            genuine += _features(found)
        if n not in _IMPOSTORS:
            continue
        for policy, limits in product((_DEEP, _ANY), others):
            nearest = found_by(query, policy, limits)
            same = [match for match in nearest if _shows_the_field(match, query, record, store)]
            copies += [_double_label(record, match) for match in same if match.category != record.category]
            impostors += _features([match for match in nearest if match not in same])
    return Sample(impostors, genuine, copies, readable)


def _double_label(record: Record, match: Match) -> DoubleLabel:
    (one, category), (other, other_category) = sorted(((record.uri, record.category), (match.source, match.category)))
    return DoubleLabel(one, category, other, other_category, match.distance, match.scene_score or 0.0)


def _shows_the_field(match: Match, query: Query, record: Record, store: Store) -> bool:
    """Return whether a candidate shows the field of an image.

    A candidate of the same category may be any recording of the field. A candidate of another category must be a copy.
    """
    least = POLICIES["default"].good_scene if match.category == record.category else SECOND_LABEL_SCENE
    if query.thumbnail is None or match.scene_score is None or match.scene_score < least:
        return False
    symmetry, frame, reference = frames_of(match)
    seen = symmetry.applied(frame.cut(query.thumbnail))
    shown = reference.cut(reference_thumbnail(store.view, match.number))
    return show_the_same(seen, shown, match.scene_score, least)


def _features(matches: Sequence[Match]) -> list[NDArray[np.float64]]:
    found = features(matches)
    return [] if found is None else [found]


_IMPOSTORS: Final = (0, 4, 6)
"""Positions in the result of `_changed_images`. The images at these positions are also used to search for impostors."""


def _changed_images(pixels: Grey, seed: int) -> Iterator[Grey]:
    """Yield the unchanged image, then versions with changes that occur in real collections.

    The changes are re-encoding, resizing, a change of contrast, noise, blur, cropping, rotation and inversion.
    """
    rng = np.random.default_rng(seed)
    height, width = pixels.shape
    yield pixels
    yield _jpeg(pixels, 50)
    yield _resized(pixels, 0.5)
    yield _stretched(pixels, rng.uniform(0.6, 1.7))
    yield _noisy(pixels, 20, rng)
    yield np.rint(gaussian_filter(pixels.astype(np.float32), 2)).astype(np.uint8)
    yield pixels[: max(1, round(height * 0.92))]
    yield np.ascontiguousarray(np.rot90(pixels, int(rng.integers(1, 4))))
    cut = round(height * 0.015), round(width * 0.015)
    yield pixels[cut[0] : height - cut[0], cut[1] : width - cut[1]]
    yield 255 - _jpeg(_noisy(_resized(pixels, 0.75), 8, rng), 60)


def _jpeg(pixels: Grey, quality: int) -> Grey:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=quality)
    return np.asarray(Image.open(data))


def _resized(pixels: Grey, scale: float) -> Grey:
    height, width = pixels.shape
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def _stretched(pixels: Grey, gamma: float) -> Grey:
    return np.rint(255 * (pixels / 255) ** gamma).astype(np.uint8)


def _noisy(pixels: Grey, sigma: float, rng: np.random.Generator) -> Grey:
    return np.clip(np.rint(pixels + rng.normal(0, sigma, pixels.shape)), 0, 255).astype(np.uint8)
