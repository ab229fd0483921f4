"""The matcher: nearest hashes, verified by pixels, judged. It needs no server, and is the same behind one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twinscope_indexer.hashing.perceptual import RECIPE, PHash

from twinscope_service.matching.answer import Answer, Result
from twinscope_service.matching.candidates import nearest
from twinscope_service.matching.pipeline import Inquiry
from twinscope_service.matching.policy import POLICIES, Policy
from twinscope_service.matching.query import UNLIMITED, Limits, Query
from twinscope_service.matching.reference_pixels import UPLOADS_FOLDER, ReferencePixels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twinscope_indexer.hashing.hashability import Unhashable
    from twinscope_indexer.store.reader import Store
    from twinscope_indexer.store.view import View


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
        return [result.answer for result in self.results(queries, policy, limits, view)]

    def results(
        self,
        queries: Sequence[Query],
        policy: Policy = POLICIES["default"],
        limits: Limits = UNLIMITED,
        view: View | None = None,
    ) -> list[Result]:
        """Do as `match_all`, and tell of each query whether pixels that it came without could change the answer."""
        view = view or self._store.view
        hashes = [query.hashed for query in queries if isinstance(query.hashed, PHash)]
        found, records = nearest(view, hashes, policy, limits)
        near = iter(found)
        results = []
        for query in queries:
            if isinstance(query.hashed, PHash):
                inquiry = Inquiry(query, query.hashed, view, policy, limits, self._pixels, records)
                results.append(inquiry.result(next(near)))
            else:
                results.append(Result(_unhashable(query, query.hashed, policy, view), pixels_would_change=False))
        return results


def _unhashable(query: Query, found: Unhashable, policy: Policy, view: View) -> Answer:
    reason = f"{found.reason}: {found.detail}"
    return Answer("unhashable", (), reason, None, policy, view.generation, RECIPE, instrument=query.instrument)
