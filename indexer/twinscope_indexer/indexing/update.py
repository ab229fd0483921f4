"""Updates: a store is brought up to date with one of its sources."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from twinscope_indexer.compute.ordered import in_order
from twinscope_indexer.compute.workers import Workers
from twinscope_indexer.errors import SourceError, TaxonomyError
from twinscope_indexer.hashing.perceptual import RECIPE
from twinscope_indexer.indexing.ingest import DescribedImage, Origin, put_image, record_of
from twinscope_indexer.indexing.reading import ReadOutcome, ReadTask, read_by
from twinscope_indexer.sources.corpus import Walk, walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from twinscope_indexer.hashing.reach import Reach
    from twinscope_indexer.indexing.label_rules import LabelRule
    from twinscope_indexer.indexing.report import IndexReport, Progress
    from twinscope_indexer.sources.corpus import Item, Scope
    from twinscope_indexer.store.catalog.catalog import Record
    from twinscope_indexer.store.writer import StoreWriter
    from twinscope_indexer.taxonomy import Category

_COMMIT_SECONDS: Final = 2.0
"""At most this much work is lost to a crash."""


@dataclass(frozen=True, slots=True)
class UpdateSettings:
    """How images are labelled and hashed: as asked for, or as the store remembers it.

    Attributes
    ----------
    rule : LabelRule
    taxonomy : str
        The version of the taxonomy that the rule is of.
    reach : {"frame", "views", "windows"}
    workers : int
        Processes that read images; 0: this process does it.
    prune : bool
        Remove images whose files have vanished.
    """

    rule: LabelRule
    taxonomy: str
    reach: Reach
    workers: int
    prune: bool


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An image that must be read: a new one, or one whose file may have changed."""

    item: Item
    known: Record | None
    category: Category


def images_of(scope: Scope, met: Walk, store: Path) -> Iterator[Item]:
    """Walk a source, but not the store itself and not the outputs of labelling runs."""
    own = os.path.realpath(store)
    return walk(scope, met, leave_out=lambda folder: os.path.realpath(folder) == own or met.leave_out_run(folder))


class SourceUpdate:
    """One source, brought into a store: its images are walked, read in parallel, and written in their order.

    Parameters
    ----------
    writer : StoreWriter
    scope : Scope
        The source.
    settings : UpdateSettings
    report : IndexReport
        Receives what is done.
    progress : Progress
    """

    def __init__(
        self, writer: StoreWriter, scope: Scope, settings: UpdateSettings, report: IndexReport, progress: Progress
    ) -> None:
        self._writer = writer
        self._catalog = writer.catalog
        self._scope = scope
        self._settings = settings
        self._report = report
        self._progress = progress
        self._root_id, self._root, self._below = writer.catalog.root_for(scope.root)
        self._workers = Workers(settings.workers)
        self._saved = time.monotonic()
        self._walked = 0

    def run(self) -> None:
        """Index the source, then compare what was met with what is stored.

        Raises
        ------
        SourceError
            If images are to be removed, and the source has none at all any more.
        """
        met = Walk()
        self._catalog.begin_walk()
        self._catalog.begin()
        try:
            candidates = self._candidates(images_of(self._scope, met, self._writer.folder))
            outcomes = in_order(self._look, candidates, self._workers.threads, self._workers.end_calls)
            for candidate, outcome in outcomes:
                self._settle(candidate, outcome)
                self._save_now_and_then()
            self._note_unreadable(met)
            self._compare(met)
        finally:
            self._catalog.commit()

    def _look(self, candidate: _Candidate) -> tuple[_Candidate, ReadOutcome]:
        """Read one image; runs in threads."""
        known = candidate.known
        known_sha256 = known.sha256 if known is not None and known.recipe == RECIPE else b""
        task = ReadTask(candidate.item, known_sha256, self._settings.reach)
        return candidate, read_by(self._workers, task)

    def _candidates(self, items: Iterable[Item]) -> Iterator[_Candidate]:
        """Yield the images that must be read, named from the root on; settle those that need not."""
        for named in items:
            item = replace(named, root=self._root, path=f"{self._below}/{named.path}" if self._below else named.path)
            self._walked += 1
            self._save_now_and_then()
            known = self._catalog.find(self._root_id, item.path, item.member)
            if known is not None:
                self._catalog.note_seen(known.id)
            try:
                category = self._settings.rule(item, named.inner_path)
            except TaxonomyError as error:
                self._hold_back(item, known, str(error))
                continue
            if known is not None and _same_file(known, item):
                self._keep(known, category)
            else:
                yield _Candidate(item, known, category)

    def _hold_back(self, item: Item, known: Record | None, message: str) -> None:
        """Leave out an image without a category; a label that no longer holds must not be given to its twins."""
        self._report.count_unknown_category(message)
        if known is not None:
            self._catalog.delete([known.id], self._writer.generation)
            self._report.counts["withdrawn"] += 1
        self._note_failure(item, "no_category", message)

    def _keep(self, known: Record, category: Category) -> None:
        taxonomy = self._settings.taxonomy
        if (known.category, known.code, known.taxonomy) == (category.name, category.code, taxonomy):
            self._count("unchanged")
            return
        self._catalog.relabel(known.id, category.name, category.code, taxonomy, self._writer.generation)
        self._count("relabelled")

    def _settle(self, candidate: _Candidate, outcome: ReadOutcome) -> None:
        """Write what was found out about an image."""
        item, known = candidate.item, candidate.known
        if outcome.fault:
            if known is not None:  # the file that it describes is no more
                self._catalog.delete([known.id], self._writer.generation)
            self._note_failure(item, outcome.fault, outcome.message)
            self._report.list_failure(item.uri, outcome.message)
        elif outcome.image is not None:
            self._put(candidate, outcome.image, outcome.frames)
        elif known is not None:
            self._catalog.touch(known.id, item.size, item.mtime_ns)
            self._keep(known, candidate.category)

    def _put(self, candidate: _Candidate, image: DescribedImage, frames: bytes) -> None:
        item, known = candidate.item, candidate.known
        number = known.id if known is not None else self._catalog.new_id(item.root, item.path, item.member)
        record = record_of(
            image,
            Origin(self._root_id, item.root, item.path, item.member, item.name),
            candidate.category,
            self._settings.taxonomy,
            number=number,
            generation=self._writer.generation,
        )
        put_image(self._catalog, record, self._root_id, image, frames)
        self._catalog.note_seen(number)
        outcome = "added" if known is None else "changed"
        self._count("unhashable" if record.hash is None else outcome)

    def _note_failure(self, item: Item, fault: str, message: str) -> None:
        self._catalog.put_failure(self._root_id, item.path, item.member, fault, message)
        self._count("failed")

    def _count(self, outcome: str) -> None:
        self._report.counts[outcome] += 1
        self._progress(outcome)

    def _save_now_and_then(self) -> None:
        if time.monotonic() - self._saved > _COMMIT_SECONDS:
            self._catalog.commit()
            self._catalog.begin()
            self._saved = time.monotonic()

    def _note_unreadable(self, met: Walk) -> None:
        self._report.ignored.update(met.ignored)
        self._report.unreadable.extend(met.unreadable)
        self._report.runs.extend(met.runs)
        for place, reason in met.unreadable:
            below = os.path.relpath(place, self._root)
            self._catalog.put_failure(self._root_id, below, None, "unreadable", reason)

    def _compare(self, met: Walk) -> None:
        """Report (or remove) what is stored but was not met; what lies below a place not looked at is unknown."""
        prefix = "/".join(part for part in (self._below, self._scope.prefix) if part)
        self._catalog.forget_unseen_failures(self._root_id, prefix)
        hidden = [os.path.relpath(place, self._root) for place in [*met.runs, *(place for place, _ in met.unreadable)]]
        gone: list[int] = []
        for number, path in self._catalog.unseen(self._root_id, prefix):
            if any(path == place or path.startswith(f"{place}/") or place == "." for place in hidden):
                continue
            gone.append(number)
            self._report.list_vanished(str(self._root / path))
        self._report.counts["vanished"] += len(gone)
        if not (self._settings.prune and gone):
            return
        if self._walked == 0:
            msg = (
                f"{self._root / prefix} holds no image at all any more, but {len(gone)} are in the store; "
                "nothing was removed. Is the disk mounted? Remove the store if it is no longer wanted."
            )
            raise SourceError(msg)
        self._catalog.delete(gone, self._writer.generation)
        self._report.counts["removed"] += len(gone)


def _same_file(known: Record, item: Item) -> bool:
    return (known.size, known.mtime_ns, known.recipe) == (item.size, item.mtime_ns, RECIPE)
