"""Calibrating: what right and wrong matches look like in a collection, found out by asking it about itself.

Every sampled image is asked for twice over: re-encoded in several ways with its twin in the store (right matches), and
with itself and its whole category left out, so that whatever is nearest is wrong (leave-one-out impostors).
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from twinscope_indexer.errors import ImageError
from twinscope_indexer.hashing import BITS
from twinscope_indexer.parallel import in_order
from twinscope_indexer.thumbnail import decode_thumbnail

from twinscope_service.calibration import Calibration, evidence, fit
from twinscope_service.matcher import Matcher
from twinscope_service.pixels import UPLOADS_FOLDER, ReferencePixels
from twinscope_service.policy import POLICIES
from twinscope_service.query import Limits, Query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from twinscope_indexer.catalog import Record
    from twinscope_indexer.store import Store

    from twinscope_service.answer import Match

    Grey = NDArray[np.uint8]

_COPY: Final = 0.9
"""Scene score from which an image of another category is a copy under a second label, not a look-alike."""
_DEEP: Final = replace(POLICIES["default"], max_distance=BITS, good_scene=-1.0, reach="frame")
"""Compares the nearest in any case."""
_ANY: Final = replace(POLICIES["default"], good_scene=-1.0)
"""Takes whatever lies within the distance."""


@dataclass(slots=True)
class Evidence:
    """What the images of a collection, asked for one by one, have shown.

    Attributes
    ----------
    impostors, genuine : list of list of ndarray
        Of wrong and of right matches, for each image; see `calibration.evidence`.
    copies : list of (str, str)
        Sources of images that are in the collection under two categories. They count as neither.
    unreadable : int
        Images asked for by their thumbnails only, as their files were not readable.
    """

    impostors: list[list[NDArray[np.float64]]] = field(default_factory=list)
    genuine: list[list[NDArray[np.float64]]] = field(default_factory=list)
    copies: list[tuple[str, str]] = field(default_factory=list)
    unreadable: int = 0

    @property
    def images(self) -> int:
        """Images that were asked for."""
        return len(self.genuine)


@dataclass(frozen=True, slots=True)
class _Shown:
    """What one image has shown."""

    impostors: list[NDArray[np.float64]]
    genuine: list[NDArray[np.float64]]
    copies: list[tuple[str, str]]
    readable: bool


def sampled(store: Store, most: int, seed: int) -> list[Record]:
    """Draw searchable images of a store, at most `most`, in the order of their ids."""
    numbers, _ = store.catalog.codes(above=0, upto=store.view.generation)
    drawn = np.random.default_rng(seed).permutation(numbers)[:most]
    records = store.records(sorted(drawn.tolist()))
    return [records[number] for number in sorted(records)]


def gather(
    store: Store, images: Sequence[Record], workers: int, progress: Callable[[], None] = lambda: None
) -> Evidence:
    """Ask a store for its own images.

    Parameters
    ----------
    store : Store
    images : sequence of Record
        See `sampled`.
    workers : int
        Threads.
    progress : callable, optional
        Called after each image.

    Returns
    -------
    Evidence
    """
    pixels = ReferencePixels(uploads=store.folder / UPLOADS_FOLDER)
    matcher, found = Matcher(store, pixels), Evidence()
    categories = store.catalog.categories()
    for shown in in_order(lambda record: _shown(store, matcher, pixels, categories, record), images, workers):
        found.impostors.append(shown.impostors)
        found.genuine.append(shown.genuine)
        found.copies += shown.copies
        found.unreadable += not shown.readable
        progress()
    return found


def calibrated(name: str, found: Evidence, seed: int = 0) -> Calibration:
    """Fit a calibration to what a collection has shown.

    Raises
    ------
    CalibrationError
        If there is too little of it.
    """
    return fit(name, found.impostors, found.genuine, seed=seed)


def _shown(
    store: Store, matcher: Matcher, pixels: ReferencePixels, categories: frozenset[str], record: Record
) -> _Shown:
    try:
        whole, readable = pixels(record), True
    except ImageError:
        data = store.catalog.thumbnail(record.id)
        if data is None:
            return _Shown([], [], [], readable=False)
        whole, readable = decode_thumbnail(data), False
    genuine, impostors, copies = [], [], []
    others = Limits(categories=categories - {record.category}, without=record.id)
    for n, changed in enumerate(_editions(whole, record.id)):
        query = Query.of_pixels(changed) if readable else replace(Query.of_pixels(changed), pixels=None)
        found = matcher.match(query).matches
        if found and found[0].category == record.category:
            genuine += _evidence(found)
        if n in _IMPOSTORS and others.categories:
            for policy in (_DEEP, _ANY):
                nearest = matcher.match(query, policy, others).matches
                if nearest and (nearest[0].scene_score or 0.0) >= _COPY:
                    copies.append((record.uri, nearest[0].source))
                else:
                    impostors += _evidence(nearest)
    return _Shown(impostors, genuine, list(dict.fromkeys(copies)), readable)


def _evidence(matches: Sequence[Match]) -> list[NDArray[np.float64]]:
    found = evidence(matches)
    return [] if found is None else [found]


_IMPOSTORS: Final = (0, 4, 6)
"""Which editions of an image are asked for without it."""


def _editions(pixels: Grey, seed: int) -> Iterator[Grey]:
    """Give an image as it is, and as collections have it: re-encoded, resized, noisy, cut, turned."""
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
