"""Labelling: decide about every query image, then write labelled copies. A stopped run can be continued."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from twinscope_indexer.compute.ordered import in_order
from twinscope_indexer.compute.workers import Workers
from twinscope_indexer.errors import ImageError, SourceError
from twinscope_indexer.files import remove_partial_files
from twinscope_indexer.imaging.pages import stack_pages
from twinscope_indexer.indexing.pages import Pages, page_items
from twinscope_indexer.sources.corpus import Item, Scope, Walk, scope_of, walk

from twinscope_client.errors import OutputError
from twinscope_client.labelling.copies import Copies, Put
from twinscope_client.labelling.decide import Task, decide
from twinscope_client.labelling.journal import Decision, Journal
from twinscope_client.labelling.reservation import Decided, Reservations
from twinscope_client.labelling.settings import LabelSettings

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from twinscope_client.engine.protocol import Engine

__all__ = ["LabelReport", "LabelSettings", "Progress", "count_queries", "label", "scopes_apart"]

_ROWS_PER_SAVE = 100


@dataclass(slots=True)
class LabelReport:
    """The result of a labelling run."""

    counts: Counter[str] = field(default_factory=Counter)
    """Number of images for each grade (including ``failed``), and number of images for each result. The results are:
    ``written``, ``kept`` (the copies existed already), ``unwritten`` (a copy could not be written) and ``reused`` (the
    decision of an earlier run was used again)."""
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    """Folders that could not be opened, each with the reason."""
    runs: list[str] = field(default_factory=list)
    """Folders that were skipped because they contain the results of other labelling runs; see `corpus.is_run`."""
    ignored: Counter[str] = field(default_factory=Counter)
    """Number of files that are not images, for each suffix of the file names."""
    problems: list[str] = field(default_factory=list)
    """Images whose copies could not be written, each with the reason."""


class Progress(Protocol):
    """A function that is called for every finished image. Each page of a stack is an image."""

    def __call__(self, decision: Decision, /) -> None:
        """Receive the decision about one image."""


def label(
    sources: Sequence[str | os.PathLike[str]],
    engine: Engine,
    journal: Journal,
    out: Path,
    settings: LabelSettings,
    progress: Progress = lambda _: None,
    step: Callable[[], None] = lambda: None,
) -> LabelReport:
    """Label images: find the twin of each image, and write a copy into the folder of the twin's category.

    Sources are never changed. `CategoryFolders` chooses the names of the folders. If the journal contains a
    decision about the same file with the same store and policy, this decision is used again. Existing output files are
    kept. Therefore, a repeated run changes nothing. A file counts as unchanged if its path, size and modification time
    are unchanged. If the content of a file has changed, but not its size and modification time, run ``touch`` on the
    file. The next run then compares the file again.

    Parameters
    ----------
    sources : sequence of path
        Images or folders. The images in all subfolders are also labelled. The output folder and the results of other
        runs are skipped.
    engine : Engine
        The engine that answers the queries.
    journal : Journal
        The journal of the run.
    out : Path
        The output folder.
    settings : LabelSettings
    progress : Progress, optional
        Function that is called with the finished decision about each image. The decisions about all pages of a stack
        are finished together.
    step : callable, optional
        Function that is called as soon as an image has been compared.

    Returns
    -------
    LabelReport

    Raises
    ------
    SourceError
        If a source does not exist.
    OutputError
        If a source lies within the output folder.
    """
    scopes = scopes_apart(sources, out)
    if not settings.dry_run and out.is_dir():
        for folder in (out, *(path for path in out.iterdir() if path.is_dir())):
            remove_partial_files(folder)
    walked = Walk()
    run = _Run(engine, journal, out, settings, progress, step)
    with journal.batch():
        # `decide` reads an image and searches for its twin, and `put` writes the copies to the disk. These functions
        # take most of the time and do not depend on other images, so they run in parallel. `settle` chooses the names
        # of the copies. If two copies have the same preferred name, one of the names gets a number. The choice must not
        # depend on the order in which the decisions are finished. Therefore, `settle` is called in the order of the
        # sources. `settle` also uses the journal, and the database connection of the journal belongs to this thread.
        # One call of `settle` handles all pages of a stack, because the pages share one copy.
        queries = run.queries(_files(scopes, out, walked))
        with closing(in_order(run.decide, queries, run.workers.threads, run.workers.end_calls)) as decided:
            files = groupby(map(run.note_page, decided), lambda one: one.decision.path)
            settled = (run.settle(list(pages)) for _, pages in files)
            with closing(in_order(run.put, settled, run.workers.threads)) as finished:
                for outcomes in finished:
                    for decision, outcome in outcomes:
                        run.note(decision, outcome)
        journal.finish()
    run.report.unreadable = walked.unreadable
    run.report.ignored = walked.ignored
    run.report.runs = walked.runs
    return run.report


def count_queries(sources: Sequence[str | os.PathLike[str]], out: Path, pages: Pages = "all") -> int:
    """Count the images that `label` would process. Each page of a stack counts, if `pages` is ``all``.

    Raises
    ------
    SourceError
        If a source does not exist.
    """
    return sum(1 for _ in page_items(_files([scope_of(source) for source in sources], out, Walk()), pages))


def scopes_apart(sources: Sequence[str | os.PathLike[str]], out: Path) -> list[Scope]:
    """Find the sources, and check that no source lies within the output folder. This function writes nothing.

    Raises
    ------
    SourceError
        If a source does not exist, or is a page of a stack.
    OutputError
        If a source lies within the output folder.
    """
    output = out.resolve()
    scopes = [scope_of(source) for source in sources]
    for scope in scopes:
        if scope.page:
            msg = (
                f"{scope.root / scope.prefix} is copied as a whole, so page {scope.page} cannot be labelled alone; "
                "name the file without the page"
            )
            raise SourceError(msg)
    for scope in scopes:
        source = (scope.root / scope.prefix).resolve()
        if source == output or output in source.parents:
            msg = f"{source} lies within the output folder {out}; choose an output folder that contains no images"
            raise OutputError(msg)
    return scopes


def _files(scopes: list[Scope], out: Path, walked: Walk) -> Iterator[Item]:
    """Yield the image files of all sources. A file that belongs to several sources is yielded only once."""
    output = out.resolve()
    seen: set[Path] = set()
    for scope in scopes:
        for item in walk(
            scope,
            walked,
            archives=False,
            leave_out=lambda folder: folder.resolve().is_relative_to(output) or walked.leave_out_run(folder),
        ):
            if item.file not in seen:
                yield item
            if len(scopes) > 1:
                seen.add(item.file)


class _Query(NamedTuple):
    """An image, and the decision of an earlier run about this image, if there is one."""

    item: Item
    known: Decision | None


class _Run:
    """The steps of one run. `decide` and `put` run in worker threads; all other methods run in the calling thread."""

    def __init__(
        self,
        engine: Engine,
        journal: Journal,
        out: Path,
        settings: LabelSettings,
        progress: Progress,
        step: Callable[[], None],
    ) -> None:
        self.report = LabelReport()
        self.workers = Workers(settings.workers)
        self._engine = engine
        self._journal = journal
        self._out = out
        self._settings = settings
        self._reservations = Reservations(journal, out, settings)
        self._copies = Copies(out, settings)
        self._decided_by = json.dumps([engine.identity, asdict(settings.policy)], sort_keys=True)
        self._progress = progress
        self._step = step
        self._unsaved = 0

    def queries(self, files: Iterable[Item]) -> Iterator[_Query]:
        """Yield every image with the decision in the journal about this image, if there is one.

        Each page of a stack is an image, unless only the first page is asked for.
        """
        for file in files:
            numbers = () if self._settings.pages == "first" else self._page_numbers(file)
            for page in numbers or (0,):
                yield self._query(replace(file, page=page))

    def _query(self, item: Item) -> _Query:
        return _Query(item, self._journal.find(str(item.file), item.page))

    def _page_numbers(self, file: Item) -> tuple[int, ...]:
        """Return the numbers of the pages of a stack. An unchanged file that an earlier run read is not opened."""
        path = str(file.file)
        numbers = self._journal.page_numbers(path, file.size, file.mtime_ns)
        if numbers is not None:
            return numbers
        try:
            numbers = stack_pages(file.file)
        except ImageError:  # to read the image reports the fault
            return ()
        self._journal.put_page_numbers(path, file.size, file.mtime_ns, numbers)
        return numbers

    def decide(self, query: _Query) -> Decided:
        """Decide about one image, unless the decision of an earlier run is still valid."""
        item, known = query
        if known is not None and self._holds(known, item):
            return Decided(known, known)
        task = Task(item, self._settings.policy, self._decided_by)
        return Decided(decide(self._engine, task, self.workers), known)

    def note_page(self, decided: Decided) -> Decided:
        """Record a new decision about a page of a stack, so that it is not lost if the run is stopped in the stack."""
        if decided.decision.page and decided.known is None:
            self._put(decided.decision)
        self._step()
        return decided

    def _holds(self, known: Decision, item: Item) -> bool:
        """Check whether an earlier decision is still valid.

        If an image could not be read or compared, the decision is not valid, and the run tries the image again. A file
        counts as unchanged if its size and modification time are unchanged. Its content is not compared, because it
        takes too long to read every file.
        """
        same_file = (known.size, known.mtime_ns) == (item.size, item.mtime_ns)
        compared = known.ssim is not None or known.grade in {"none", "unhashable"}
        return same_file and known.decided_by == self._decided_by and compared

    def settle(self, pages: list[Decided]) -> list[Decision]:
        """Reserve the names of the output files of one file, and record the decisions about all its pages."""
        first = pages[0].decision
        current = {one.decision.page for one in pages}
        gone = [known for known in self._journal.of_file(first.path) if known.page not in current]
        settled = self._reservations.reserved(pages, gone)
        for decision in settled:
            self._put(decision)
        for decision in gone:
            self._journal.forget(decision)
        self.report.counts["reused"] += sum(one.decision is one.known for one in pages)
        return settled

    def put(self, pages: list[Decision]) -> list[Put]:
        """Write the output files of one file."""
        return self._copies.put(pages)

    def note(self, decision: Decision, outcome: str) -> None:
        """Record whether the output files of one decision were written."""
        self.report.counts[decision.grade] += 1
        if outcome:
            self._put(decision)
        if outcome and outcome != "shared":
            self.report.counts["unwritten" if outcome == "failed" else outcome] += 1
        if outcome == "failed":
            self.report.problems.append(f"{decision.query}: {decision.problem}")
        self._progress(decision)

    def _put(self, decision: Decision) -> None:
        self._journal.put(decision)
        self._unsaved += 1
        if self._unsaved >= _ROWS_PER_SAVE:
            self._journal.save()
            self._unsaved = 0
