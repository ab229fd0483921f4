"""Double labels: two references of different categories that show the same field. One of the labels is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final

import numpy as np
from twinscope_indexer.compute.ordered import in_order
from twinscope_indexer.errors import ImageError
from twinscope_indexer.hashing.codes import BYTES

from twinscope_service.matching.policy import POLICIES
from twinscope_service.matching.reference_thumbnails import reference_thumbnail
from twinscope_service.similarity.regions import compare_regions
from twinscope_service.similarity.scene_score import scene_scores
from twinscope_service.similarity.texture import agree_in_texture
from twinscope_service.thresholds import SECOND_LABEL_SCENE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from twinscope_indexer.store.catalog.catalog import Record
    from twinscope_indexer.store.reader import Store
    from twinscope_indexer.store.view import View

_BATCH: Final = 256
"""Number of hashes that are searched for with one scan of the index."""
_NEAREST: Final = 20
"""Maximum number of references of other categories that are compared with an image."""


@dataclass(frozen=True, slots=True)
class DoubleLabel:
    """Two references of different categories that show the same field.

    Attributes
    ----------
    one, other : str
        Files of the references: a path, or ``archive!member``.
    category, other_category : str
        Names of their categories.
    distance : int
        Hamming distance of their hashes, in bits, 0 to 1024.
    scene_score : float
        Scene score of the two references, -1 to 1.
    """

    one: str
    category: str
    other: str
    other_category: str
    distance: int
    scene_score: float


def show_the_same(seen: NDArray[np.uint8], shown: NDArray[np.uint8], score: float, least: float) -> bool:
    """Check whether two aligned thumbnails show the same field, and not only similar fields.

    Parameters
    ----------
    seen, shown : ndarray of uint8, shape (height, width)
    score : float
        Scene score of the two thumbnails.
    least : float
        Lowest scene score for which the answer can be true.
    """
    return score >= least and compare_regions(seen, shown).agree and agree_in_texture(seen, shown, score)


def double_labels(
    store: Store, numbers: Sequence[int], workers: int, progress: Callable[[], None] = lambda: None
) -> list[DoubleLabel]:
    """Compare images of a store with all references of other categories, and return the double labels.

    The search uses the hashes of whole images. The search finds copies that were scaled, encoded again or made noisy,
    but not copies that were rotated or cropped.

    Parameters
    ----------
    store : Store
    numbers : sequence of int
        Ids of the images, for example the new and changed images of an indexing run.
    workers : int
        Number of threads.
    progress : callable, optional
        Function that is called after each image.

    Returns
    -------
    list of DoubleLabel
        Each pair once, sorted by the files.
    """
    view = store.view
    categories = view.snapshot.categories()
    found: dict[frozenset[int], DoubleLabel] = {}
    if len(categories) > 1:
        tasks = _tasks(view, numbers, categories)
        for pairs in in_order(lambda task: _verified(view, *task), tasks, workers):
            found |= pairs
            progress()
    return sorted(found.values(), key=lambda pair: (pair.one, pair.other))


def _tasks(
    view: View, numbers: Sequence[int], categories: frozenset[str]
) -> Iterator[tuple[Record, list[tuple[int, int]]]]:
    """Yield each image with the ids and distances of the nearest references of other categories."""
    wanted = dict(view.snapshot.labels(numbers))
    ordered = sorted(wanted, key=lambda number: (wanted[number], number))
    for category, group in groupby(ordered, key=lambda number: wanted[number]):
        others = view.restricted_to_categories(categories - {category})
        members = list(group)
        for start in range(0, len(members), _BATCH):
            records = list(view.records(members[start : start + _BATCH]).values())
            codes = np.frombuffer(b"".join(record.hash or b"" for record in records), np.uint8).reshape(-1, BYTES)
            for record, near in zip(
                records, others.search(codes, _NEAREST, POLICIES["default"].max_distance), strict=True
            ):
                yield record, list(zip(near.ids.tolist(), near.distances.tolist(), strict=True))


def _verified(view: View, record: Record, near: list[tuple[int, int]]) -> dict[frozenset[int], DoubleLabel]:
    """Return the nearest references that show the same field as an image."""
    found: dict[frozenset[int], DoubleLabel] = {}
    try:
        seen = reference_thumbnail(view, record.id) if near else None
    except ImageError:  # damaged thumbnail: nothing can be compared
        return found
    others = view.records([number for number, _ in near])
    for number, distance in near:
        try:
            shown = reference_thumbnail(view, number)
        except ImageError:
            continue
        if seen is None or number not in others:
            continue
        [score] = scene_scores(seen, [shown])
        if show_the_same(seen, shown, score.score, SECOND_LABEL_SCENE):
            pair = sorted((record, others[number]), key=lambda one: one.uri)
            found[frozenset((record.id, number))] = DoubleLabel(
                pair[0].uri, pair[0].category, pair[1].uri, pair[1].category, distance, score.score
            )
    return found
