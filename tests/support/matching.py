"""Queries of an open store without an engine, for tests of decisions."""

from __future__ import annotations

from collections.abc import Sequence

from twinscope_indexer.store import Store, View
from twinscope_service.matching.answer import Answer, Result
from twinscope_service.matching.pipeline import answer_all
from twinscope_service.matching.policy import POLICIES, Policy
from twinscope_service.matching.query import UNLIMITED, Limits, Query
from twinscope_service.matching.reference_pixels import UPLOADS_FOLDER, ReferencePixels


class Matcher:
    """Matcher for one store, with a cache of the pixels of references."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pixels = ReferencePixels(uploads=store.folder / UPLOADS_FOLDER)

    def match(self, query: Query, policy: Policy = POLICIES["default"], limits: Limits = UNLIMITED) -> Answer:
        """Answer one query."""
        [answer] = self.match_all([query], policy, limits)
        return answer

    def match_all(
        self,
        queries: Sequence[Query],
        policy: Policy = POLICIES["default"],
        limits: Limits = UNLIMITED,
        view: View | None = None,
    ) -> list[Answer]:
        """Answer several queries in one scan."""
        return [result.answer for result in self.results(queries, policy, limits, view)]

    def results(
        self, queries: Sequence[Query], policy: Policy, limits: Limits, view: View | None = None
    ) -> list[Result]:
        """Answer several queries; return the complete results."""
        return answer_all(queries, view or self._store.view, policy, limits, self._pixels)
