"""The searcher: the object that answers queries from a store. Embedded stores and servers both use it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from twinscope_indexer.errors import StoreError, TaxonomyError, UnknownImageError
from twinscope_indexer.hashing.hashability import Unhashable
from twinscope_indexer.hashing.perceptual import RECIPE, PHash
from twinscope_indexer.hashing.thumbnail import decode_thumbnail
from twinscope_indexer.image_id import image_id

from twinscope_service.errors import GenerationError
from twinscope_service.matching.answer import Result
from twinscope_service.matching.calibration import calibration_of
from twinscope_service.matching.options import Options
from twinscope_service.matching.pipeline import answer_all
from twinscope_service.matching.query import Limits, Query
from twinscope_service.matching.reference_pixels import UPLOADS_FOLDER, ReferencePixels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twinscope_indexer.store.reader import Store
    from twinscope_indexer.store.view import View

    from twinscope_service.matching.policy import Policy

MAX_WAIT = 30.0
"""Maximum time that a query waits for a generation, in seconds."""
_POLL_SECONDS = 0.02


class Searcher:
    """Object that answers queries from a store. Several threads can use one searcher.

    Parameters
    ----------
    store : Store
    pixels : ReferencePixels, optional
        Source of the full-size pixels of references.
    """

    def __init__(self, store: Store, pixels: ReferencePixels | None = None) -> None:
        self._store = store
        self._pixels = pixels or ReferencePixels(uploads=store.folder / UPLOADS_FOLDER)
        self._held: tuple[tuple[str, int], frozenset[str]] = (("", -1), frozenset())

    def answer(self, query: Query | int, options: Options, timeout: float = MAX_WAIT) -> Result:
        """Answer one query.

        Parameters
        ----------
        query : Query or int
            An image, or the number of a stored image. A stored image is excluded from its own matches.
        options : Options
        timeout : float
            Maximum time to wait for `Options.min_generation`, in seconds.

        Returns
        -------
        Result

        Raises
        ------
        UnknownImageError
            If there is no stored image with that number.
        TaxonomyError
            If a requested category is unknown.
        GenerationError
            If the generation was not published within the timeout.
        RecipeError
            If the recipe of the query's hash differs from the recipe of the store.
        StoreError
            If the record of a stored image is damaged.
        """
        self.await_generation(options.min_generation, timeout)
        view = self._store.view
        limits = self._limits(options, view)
        if isinstance(query, int):
            return self._stored_result(query, options.policy, limits, view)
        [result] = answer_all([query], view, options.policy, limits, self._pixels)
        return result

    def answer_all(
        self, queries: Sequence[Query | int], options: Options, timeout: float = MAX_WAIT
    ) -> list[Result | UnknownImageError]:
        """Answer several queries from one generation, with one scan of the index for all images; see `answer`.

        Returns
        -------
        list of Result or UnknownImageError
            One result or error for each query.
        """
        self.await_generation(options.min_generation, timeout)
        view = self._store.view
        limits = self._limits(options, view)
        images = [query for query in queries if isinstance(query, Query)]
        of_images = iter(answer_all(images, view, options.policy, limits, self._pixels))
        results: list[Result | UnknownImageError] = []
        for query in queries:
            if isinstance(query, Query):
                results.append(next(of_images))
                continue
            try:
                results.append(self._stored_result(query, options.policy, limits, view))
            except UnknownImageError as error:
                results.append(error)
        return results

    def describe(self) -> dict[str, Any]:
        """Return a description of the store: size, generation, recipe, categories, calibration and index."""
        view = self._store.view
        calibration = calibration_of(view.calibration)
        return {
            "store": str(self._store.folder),
            "store_id": view.store_id,
            "generation": view.generation,
            "recipe": RECIPE,
            "index": {
                "kind": view.base.describe().kind,
                "base": len(view.base),
                "delta": len(view.delta),
                "reach": view.frames.reach,
            },
            "calibration": {
                "name": calibration.name,
                "images": calibration.impostors,
                "least_p_wrong": calibration.floors[0],
            },
        } | view.snapshot.description()

    def _limits(self, options: Options, view: View) -> Limits:
        if not options.categories:
            return Limits(options.verify)
        return Limits(options.verify, frozenset(self._category(name, view) for name in options.categories))

    def await_generation(
        self, generation: int, timeout: float = MAX_WAIT, wanted: Callable[[], bool] = lambda: True
    ) -> None:
        """Wait until a generation is published.

        Parameters
        ----------
        generation : int
            Number of the generation.
        timeout : float, optional
            Maximum time to wait, in seconds; at most `MAX_WAIT`.
        wanted : callable, optional
            Function that returns False when nobody waits for the generation any more.

        Raises
        ------
        GenerationError
            If the generation was not published within the timeout, or before `wanted` returned False.
        """
        if self._store.view.generation >= generation:
            return
        until = time.monotonic() + min(timeout, MAX_WAIT)
        while self._store.refresh().generation < generation:
            if time.monotonic() >= until or not wanted():
                raise GenerationError(generation, self._store.view.generation)
            time.sleep(_POLL_SECONDS)

    def _category(self, name: str, view: View) -> str:
        """Return the category with this name, code or alias in the taxonomy, or with this name in the store."""
        found = view.taxonomy.find(name)
        held = self._categories(view)
        if found is not None and (found.name in held or name not in held):
            return found.name
        if name in held:
            return name
        msg = f"{name!r} is not a category of this store; its categories: {', '.join(sorted(held)) or 'none'}"
        raise TaxonomyError(msg)

    def _categories(self, view: View) -> frozenset[str]:
        state, held = (view.store_id, view.generation), self._held
        if held[0] != state:
            self._held = held = state, view.snapshot.categories()
        return held[1]

    def _stored_result(self, number: int, policy: Policy, limits: Limits, view: View) -> Result:
        """Search for the twin of a stored image. The image is excluded from its own matches."""
        query, limits = _stored(number, view), Limits(limits.verify, limits.categories, number)
        [result] = answer_all([query], view, policy, limits, self._pixels)
        return result


def _stored(number: int, view: View) -> Query:
    record = view.records([number]).get(number)
    if record is None:
        raise UnknownImageError(image_id(number))
    data = view.thumbnail(number)
    thumbnail = None if data is None else decode_thumbnail(data)
    instrument = view.instruments([number]).get(number)
    if record.hash is not None:
        return Query(PHash(record.hash, record.recipe), thumbnail, instrument=instrument)
    try:
        lack = Unhashable.from_text(record.unhashable or "")
    except ValueError as error:
        msg = f"the catalog record of {record.uri} is damaged: {error}. Index the collection into a new store"
        raise StoreError(msg) from error
    return Query(lack, thumbnail, instrument=instrument)
