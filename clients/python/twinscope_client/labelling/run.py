"""Labelling: decide about every query image, then put labelled copies in place; resumable at any moment."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from twinscope_indexer.compute.ordered import in_order
from twinscope_indexer.compute.workers import Workers
from twinscope_indexer.errors import ImageError
from twinscope_indexer.files import remove_partial_files
from twinscope_indexer.metadata.reader import read_metadata
from twinscope_indexer.sources.corpus import Item, Scope, Walk, scope_of, walk

from twinscope_client.conversion import encode_jpeg
from twinscope_client.errors import OutputError
from twinscope_client.labelling.decide import Case, decide
from twinscope_client.labelling.journal import Decision, Journal
from twinscope_client.labelling.reservation import Reservations
from twinscope_client.labelling.settings import LabelSettings
from twinscope_client.labelling.sidecar import write_sidecar
from twinscope_client.labelling.tables import provenance
from twinscope_client.outputs import put_bytes, put_source

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence

    from twinscope_client.engine.protocol import Engine

__all__ = ["LabelReport", "LabelSettings", "Progress", "count_queries", "label", "scopes_apart"]

_ROWS_PER_SAVE = 100


@dataclass(slots=True)
class LabelReport:
    """What a labelling run did."""

    counts: Counter[str] = field(default_factory=Counter)
    """Images by grade (``failed`` included), and ``written``, ``kept`` (in place already), ``unwritten``, ``reused``
    (the decision of an earlier run stood)."""
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    """Folders that could not be opened."""
    runs: list[str] = field(default_factory=list)
    """Folders that were left out as outputs of other labelling runs (`corpus.is_run`)."""
    ignored: Counter[str] = field(default_factory=Counter)
    """Files that are no images, by suffix."""
    problems: list[str] = field(default_factory=list)
    """Copies that could not be written."""


class Progress(Protocol):
    """Called for every image that is done."""

    def __call__(self, decision: Decision, /) -> None:
        """Take the decision about one image."""


def label(
    sources: Sequence[str | os.PathLike[str]],
    engine: Engine,
    journal: Journal,
    out: Path,
    settings: LabelSettings,
    progress: Progress = lambda _: None,
) -> LabelReport:
    """Label images: find the twin of each, and put a copy under the twin's category (`outputs.category_folder`).

    Sources are only read. A decision that the journal holds for the same file, store and policy stands; an output
    that is in place stays as it is: run twice, nothing changes. A file is the same if its path, size and time of last
    change are; one that was changed with both kept is looked at again once its time is new (``touch``).

    Parameters
    ----------
    sources : sequence of path
        Images, or folders of them (walked recursively; the output folder itself and the outputs of other runs are left
        out).
    engine : Engine
        Where the labels come from.
    journal : Journal
        Of the run.
    out : Path
        The output folder.
    settings : LabelSettings
    progress : Progress, optional

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
    met = Walk()
    run = _Run(engine, journal, out, settings)
    with journal.batch():
        # Deciding and placing take most of the time: images are read and searched, copies are written and synced. They
        # do not depend on other images, so they run in parallel. Settling gives the names: which of two images gets
        # the name without a number must not depend on which was decided first, so it goes by the order of the sources.
        # It also uses the journal, whose connection belongs to this thread.
        queries = run.queries(_items(scopes, out, met))
        with closing(in_order(run.decide, queries, run.workers.threads, run.workers.end_calls)) as decided:
            settled = map(run.settle, decided)
            with closing(in_order(run.put, settled, run.workers.threads)) as placed:
                for decision, outcome in placed:
                    run.note(decision, outcome)
                    progress(decision)
        journal.finish()
    run.report.unreadable = met.unreadable
    run.report.ignored = met.ignored
    run.report.runs = met.runs
    return run.report


def count_queries(sources: Sequence[str | os.PathLike[str]], out: Path) -> int:
    """Count the images that `label` would look at.

    Raises
    ------
    SourceError
        If a source does not exist.
    """
    return sum(1 for _ in _items([scope_of(source) for source in sources], out, Walk()))


def scopes_apart(sources: Sequence[str | os.PathLike[str]], out: Path) -> list[Scope]:
    """Find the sources, and check that none lies within the output folder; nothing is made or written.

    Raises
    ------
    SourceError
        If a source does not exist.
    OutputError
        If a source lies within the output folder.
    """
    output = out.resolve()
    scopes = [scope_of(source) for source in sources]
    for scope in scopes:
        place = (scope.root / scope.prefix).resolve()
        if place == output or output in place.parents:
            msg = f"{place} lies within the output folder {out}; give an output folder apart from the images"
            raise OutputError(msg)
    return scopes


def _items(scopes: list[Scope], out: Path, met: Walk) -> Iterator[Item]:
    """Walk the sources; an image that lies in several of them is met once."""
    output = out.resolve()
    given: set[Path] = set()
    for scope in scopes:
        for item in walk(
            scope,
            met,
            archives=False,
            leave_out=lambda folder: folder.resolve().is_relative_to(output) or met.leave_out_run(folder),
        ):
            if item.file not in given:
                yield item
            if len(scopes) > 1:
                given.add(item.file)


class _Query(NamedTuple):
    """An image, and what an earlier run has decided about it."""

    item: Item
    known: Decision | None


class _Decided(NamedTuple):
    """A decision, and the one of an earlier run."""

    decision: Decision
    known: Decision | None


class _PutOutcome(NamedTuple):
    """A decision, and what became of its outputs; an empty outcome: none are wanted."""

    decision: Decision
    outcome: Literal["", "written", "kept", "failed"]


class _Run:
    """The steps of one run: `decide` and `place` are called in threads, the others in one."""

    def __init__(self, engine: Engine, journal: Journal, out: Path, settings: LabelSettings) -> None:
        self.report = LabelReport()
        self.workers = Workers(settings.workers)
        self._engine = engine
        self._journal = journal
        self._out = out
        self._settings = settings
        self._reservations = Reservations(journal, out, settings)
        self._decided_by = json.dumps([engine.identity, asdict(settings.policy)], sort_keys=True)
        self._unsaved = 0

    def queries(self, items: Iterable[Item]) -> Iterator[_Query]:
        """Yield every item with what the journal knows of it."""
        return (_Query(item, self._journal.find(str(item.file))) for item in items)

    def decide(self, query: _Query) -> _Decided:
        """Decide about one image, unless the decision of an earlier run stands."""
        item, known = query
        if known is not None and self._stands(known, item):
            return _Decided(known, known)
        case = Case(item, self._settings.policy, self._decided_by)
        return _Decided(decide(self._engine, case, self.workers), known)

    def _stands(self, known: Decision, item: Item) -> bool:
        """Check whether an earlier decision still holds; what could not be read or compared is tried again.

        A file that was changed with its size and time kept is taken for the same: to know, all would have to be read.
        """
        same_file = (known.size, known.mtime_ns) == (item.size, item.mtime_ns)
        compared = known.ssim is not None or known.grade in {"none", "unhashable"}
        return same_file and known.decided_by == self._decided_by and compared

    def settle(self, decided: _Decided) -> Decision:
        """Reserve the names of the outputs of one decision, and remember it."""
        settled = self._reservations.reserved(*decided)
        self._put(settled)
        self.report.counts["reused"] += decided.decision is decided.known
        return settled

    def put(self, decision: Decision) -> _PutOutcome:
        """Put the outputs of one decision in place."""
        if self._settings.dry_run or not decision.output:
            return _PutOutcome(decision, "")
        if decision.written:
            return _PutOutcome(decision, "kept")
        source = Path(decision.path)
        try:
            made = put_source(source, decision.sha256, self._out / decision.output, self._settings.link)
            if decision.jpeg_output:
                made |= put_bytes(encode_jpeg(source), self._out / decision.jpeg_output)
            if decision.sidecar:
                made |= write_sidecar(self._out / decision.output, provenance(decision), read_metadata(source))
        except FileExistsError:
            names = " or ".join(filter(None, (decision.output, decision.jpeg_output)))
            problem = f"{names} is another file; nothing was overwritten, run again for a numbered name"
            return _PutOutcome(replace(decision, output="", jpeg_output="", problem=problem), "failed")
        except (OutputError, ImageError) as error:
            return _PutOutcome(replace(decision, problem=str(error)), "failed")
        return _PutOutcome(replace(decision, written=True), "written" if made else "kept")

    def note(self, decision: Decision, outcome: str) -> None:
        """Remember what became of the outputs of one decision."""
        self.report.counts[decision.grade] += 1
        if outcome:
            self.report.counts["unwritten" if outcome == "failed" else outcome] += 1
            self._put(decision)
        if outcome == "failed":
            self.report.problems.append(f"{decision.path}: {decision.problem}")

    def _put(self, decision: Decision) -> None:
        self._journal.put(decision)
        self._unsaved += 1
        if self._unsaved >= _ROWS_PER_SAVE:
            self._journal.save()
            self._unsaved = 0
