"""Updates: update a store so that it contains the images that are now in one of its sources."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from twinscope_indexer.compute.ordered import in_order
from twinscope_indexer.compute.workers import Workers
from twinscope_indexer.errors import SourceError, TaxonomyError
from twinscope_indexer.hashing.perceptual import RECIPE
from twinscope_indexer.indexing.folder_rule import place_of
from twinscope_indexer.indexing.ingest import DescribedImage, Origin, put_image, record_of
from twinscope_indexer.indexing.known_pages import counterpart, is_complete
from twinscope_indexer.indexing.reading import FileOutcome, ReadOutcome, ReadTask, read_by, rest_of
from twinscope_indexer.sources.corpus import Walk, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from twinscope_indexer.hashing.reach import Reach
    from twinscope_indexer.indexing.label_rules import LabelRule
    from twinscope_indexer.indexing.pages import Pages
    from twinscope_indexer.indexing.report import IndexReport, Progress
    from twinscope_indexer.sources.corpus import Item, Scope
    from twinscope_indexer.store.catalog.catalog import Record
    from twinscope_indexer.store.writer import StoreWriter
    from twinscope_indexer.taxonomy import Category

_COMMIT_SECONDS: Final = 2.0
"""Time between two commits, in seconds. After a crash, at most the work of this time is lost."""


@dataclass(frozen=True, slots=True)
class UpdateSettings:
    """Settings of an update. If the user gave no value for a setting, the value of the last run is used.

    Attributes
    ----------
    rule : LabelRule
        Rule that determines the category of an image.
    taxonomy : str
        Version of the taxonomy that the rule uses.
    reach : {"frame", "views", "windows"}
        Reach of the store.
    workers : int
        Number of processes that read images. If `workers` is 0, the main process reads the images.
    prune : bool
        Whether to remove images from the store if their files no longer exist.
    pages : {"all", "first"}
        Which pages of a stack are images of the store.
    """

    rule: LabelRule
    taxonomy: str
    reach: Reach
    workers: int
    prune: bool
    pages: Pages = "all"


@dataclass(frozen=True, slots=True)
class _Pending:
    """A file that must be read, because the file is new or may have changed.

    `known` contains the images of the file that are in the store, by page.
    """

    item: Item
    known: Mapping[int, Record]
    category: Category


def images_of(scope: Scope, skipped: Walk, store: Path) -> Iterator[Item]:
    """Yield the images of a source. Images in the store's folder and in outputs of labelling runs are left out."""
    own = os.path.realpath(store)
    return walk(scope, skipped, leave_out=lambda path: os.path.realpath(path) == own or skipped.leave_out_run(path))


class SourceUpdate:
    """The update of a store from one source. Images are read in parallel and written to the store in a fixed order.

    Parameters
    ----------
    writer : StoreWriter
    scope : Scope
        The source.
    settings : UpdateSettings
    report : IndexReport
        Report of the indexing run. The update adds its results to this report.
    progress : Progress
        Function that is called for every finished image.
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
        self._place = place_of(scope, self._root)
        self._workers = Workers(settings.workers)
        self._saved = time.monotonic()
        self._walked = 0

    def run(self) -> None:
        """Index the source, then look for images in the store that are no longer in the source.

        Raises
        ------
        SourceError
            If images of this source would be removed from the store, but the source now contains no image at all.
        """
        skipped = Walk()
        self._catalog.begin_walk()
        self._catalog.begin()
        try:
            unread = self._unread_images(images_of(self._scope, skipped, self._writer.folder))
            outcomes = in_order(self._read, unread, self._workers.threads, self._workers.end_calls)
            for pending, task, outcome in outcomes:
                self._write_file(pending, task, outcome)
            self._note_unreadable(skipped)
            self._compare(skipped)
        finally:
            self._catalog.commit()

    def _read(self, pending: _Pending) -> tuple[_Pending, ReadTask, FileOutcome]:
        """Read one file, or the first pages of a stack. This method runs in several threads at the same time."""
        known = {page: record.sha256 if record.recipe == RECIPE else b"" for page, record in pending.known.items()}
        task = ReadTask(pending.item, known, self._settings.reach, self._settings.pages)
        return pending, task, read_by(self._workers, task)

    def _unread_images(self, items: Iterable[Item]) -> Iterator[_Pending]:
        """Yield the images that must be read, with paths relative to the root.

        Unchanged files and files without a category need not be read. This function completes their processing.
        """
        for found in items:
            item = replace(found, root=self._root, path=f"{self._below}/{found.path}" if self._below else found.path)
            self._walked += 1
            self._save_periodically()
            known = self._catalog.find_pages(self._root_id, item.path, item.member)
            for record in known.values():
                self._catalog.note_seen(record.id)
            if item.page:
                known = {page: record for page, record in known.items() if page == item.page}
            try:
                category = self._settings.rule(item, found.inner_path, self._place)
            except TaxonomyError as error:
                self._exclude(item, known, error)
                continue
            if is_complete(known, item, self._settings.pages):
                for record in known.values():
                    self._keep(record, category)
            else:
                yield _Pending(item, known, category)

    def _exclude(self, item: Item, known: Mapping[int, Record], error: TaxonomyError) -> None:
        """Exclude an image that has no category, and remove its old records from the store.

        Otherwise, queries that show the same field would get the old label, which is no longer valid.
        """
        self._report.count_unknown_category(error.cause)
        self._delete(known.values())
        self._report.counts["withdrawn"] += len(known)
        self._note_failure(item, "no_category", str(error))

    def _keep(self, known: Record, category: Category) -> None:
        taxonomy = self._settings.taxonomy
        if (known.category, known.code, known.taxonomy) == (category.name, category.code, taxonomy):
            self._count("unchanged")
            return
        self._catalog.relabel(known.id, category.name, category.code, taxonomy, self._writer.generation)
        self._report.note_relabelled(known.id, known.category, category.name)
        self._count("relabelled")

    def _write_file(self, pending: _Pending, task: ReadTask, outcome: FileOutcome) -> None:
        """Write the results for one file into the catalog. If the file is a stack, read the rest of its pages."""
        numbers = outcome.numbers
        continued = {counterpart(page, numbers, pending.known) for page in numbers}
        gone = [record for page, record in pending.known.items() if page not in continued]
        self._delete(gone)  # the records describe an earlier content of the file
        self._report.counts["removed"] += len(gone) if numbers else 0
        self._write_images(pending, outcome)
        for part in in_order(self._read_rest, rest_of(task, numbers), self._workers.threads, self._workers.end_calls):
            self._write_images(pending, part)

    def _read_rest(self, task: ReadTask) -> FileOutcome:
        return read_by(self._workers, task)

    def _write_images(self, pending: _Pending, outcome: FileOutcome) -> None:
        for image in outcome.images:
            self._write_outcome(pending, image, outcome.numbers)
            self._save_periodically()

    def _write_outcome(self, pending: _Pending, outcome: ReadOutcome, numbers: tuple[int, ...]) -> None:
        """Write the result of reading one image into the catalog."""
        item = replace(pending.item, page=outcome.page)
        page = counterpart(outcome.page, numbers, pending.known) if numbers else None
        known = None if page is None else pending.known[page]
        counted = 0 if self._settings.pages == "first" or pending.item.page else len(numbers)
        if outcome.fault:
            self._delete([] if known is None else [known])  # the record describes an earlier content of the file
            self._note_failure(item, outcome.fault, outcome.message)
            self._report.list_failure(item.uri, outcome.message)
        elif outcome.image is not None:
            leads = outcome.page == numbers[0]
            self._put(replace(pending, item=item), known, outcome.image, outcome.frames, (leads, counted))
        elif known is not None:
            self._catalog.touch(known.id, item.size, item.mtime_ns)
            if (known.page, known.pages) != (item.page, counted):
                self._catalog.set_page(known.id, item.page, counted, self._writer.generation)
            self._keep(known, pending.category)

    def _put(
        self, pending: _Pending, known: Record | None, image: DescribedImage, frames: bytes, place: tuple[bool, int]
    ) -> None:
        """Write a new or changed image. `place`: whether the image is the first of its file, and the number of images.

        The first image of a file has the id of the file, whether the file is a stack or not.
        """
        item, (leads, counted) = pending.item, place
        below = 0 if leads else item.page
        number = known.id if known is not None else self._catalog.new_id(item.root, item.path, item.member, below)
        record = record_of(
            image,
            Origin(self._root_id, item.root, item.path, item.member, item.name, counted),
            pending.category,
            self._settings.taxonomy,
            number=number,
            generation=self._writer.generation,
        )
        put_image(self._catalog, record, self._root_id, image, frames)
        self._catalog.note_seen(number)
        outcome = "added" if known is None else "changed"
        if record.hash is None:
            outcome = "unhashable"
            self._report.list_unhashable(item.uri, record.unhashable or "")
        self._report.written.append(number)
        self._count(outcome)

    def _delete(self, records: Iterable[Record]) -> None:
        numbers = [record.id for record in records]
        if numbers:
            self._catalog.delete(numbers, self._writer.generation)

    def _note_failure(self, item: Item, fault: str, message: str) -> None:
        self._catalog.put_failure(self._root_id, item.path, item.member, fault, message, item.page)
        self._count("failed")

    def _count(self, outcome: str) -> None:
        self._report.counts[outcome] += 1
        self._progress(outcome)

    def _save_periodically(self) -> None:
        if time.monotonic() - self._saved > _COMMIT_SECONDS:
            self._catalog.commit()
            self._catalog.begin()
            self._saved = time.monotonic()

    def _note_unreadable(self, skipped: Walk) -> None:
        self._report.ignored.update(skipped.ignored)
        self._report.unreadable.extend(skipped.unreadable)
        self._report.runs.extend(skipped.runs)
        for path, reason in skipped.unreadable:
            below = self._relative(path)
            self._catalog.put_failure(self._root_id, below, None, "unreadable", reason)

    def _relative(self, path: str) -> str:
        """Return a path relative to the root, with forward slashes on every system, as the catalog stores it."""
        return os.path.relpath(path, self._root).replace(os.sep, "/")

    def _compare(self, skipped: Walk) -> None:
        """Report images in the store that the walk did not find. If the setting `prune` is True, remove these images.

        If a folder could not be opened or was skipped, its images are neither reported nor removed.
        """
        prefix = "/".join(path for path in (self._below, self._scope.prefix) if path)
        self._catalog.forget_unseen_failures(self._root_id, prefix)
        is_hidden = hidden_paths(skipped, self._root)
        gone: list[int] = []
        for number, path in self._catalog.unseen(self._root_id, prefix):
            if is_hidden(path):
                continue
            gone.append(number)
            self._report.list_vanished(str(self._root / path))
        self._report.counts["vanished"] += len(gone)
        if not (self._settings.prune and gone):
            return
        require_images(self._walked, self._root / prefix, len(gone))
        self._catalog.delete(gone, self._writer.generation)
        self._report.pruned = True
        self._report.counts["removed"] += len(gone)


def hidden_paths(skipped: Walk, root: Path) -> Callable[[str], bool]:
    """Return a function that checks whether a walk skipped a path. The path is relative to a root.

    A walk skips all paths below a folder that could not be opened, and below the output of a labelling run.
    """
    unknown = [*skipped.runs, *(path for path, _ in skipped.unreadable)]
    folders = [os.path.relpath(path, root).replace(os.sep, "/") for path in unknown]
    return lambda path: any(path == folder or path.startswith(f"{folder}/") or folder == "." for folder in folders)


def require_images(walked: int, folder: Path, known: int) -> None:
    """Raise `SourceError` if a source without any image is to be pruned: its disk may not be mounted.

    Parameters
    ----------
    walked : int
        Number of images in the source.
    folder : Path
        Folder of the source.
    known : int
        Number of images that the store has from this folder.
    """
    if walked == 0:
        msg = (
            f"{folder} no longer contains any image, but the store has {known} images from it. Nothing was removed. "
            "Check that the disk is mounted. If the store is no longer needed, delete its folder."
        )
        raise SourceError(msg)
