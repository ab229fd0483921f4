"""Bulk indexing: from folders and archives to catalogue rows, in parallel, one bad file at a time."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from twinscope_indexer.compute.ordered import in_order
from twinscope_indexer.compute.processes import ProcessLostError, WorkerProcesses
from twinscope_indexer.errors import ImageError, SourceError, TaxonomyError
from twinscope_indexer.files import utc_now
from twinscope_indexer.hashing.perceptual import RECIPE, PHash, hash_pixels
from twinscope_indexer.hashing.thumbnail import encode_thumbnail
from twinscope_indexer.imaging.reader import read_image
from twinscope_indexer.indexing.label_rules import LabelRule, label_rule, remembered, repeated_names
from twinscope_indexer.indexing.reframing import encoded_frames, set_reach
from twinscope_indexer.metadata.reader import NO_METADATA, InstrumentMetadata, read_metadata, read_sidecar
from twinscope_indexer.sources.corpus import Item, Scope, Walk, scope_of, walk
from twinscope_indexer.store.catalog.catalog import Record
from twinscope_indexer.store.frames import stored_reach
from twinscope_indexer.store.reader import StoreWriter, open_writer
from twinscope_indexer.taxonomy import Category, Taxonomy, builtin_taxonomy, published_prefix

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from twinscope_indexer.hashing.reach import Reach

_COMMIT_SECONDS = 2.0
"""At most this much work is lost to a crash."""


@dataclass(slots=True)
class IndexReport:
    """What a run of the indexer did."""

    counts: Counter[str] = field(default_factory=Counter)
    """Images by outcome: ``added``, ``changed``, ``unchanged``, ``unhashable``, ``relabelled``, ``failed``,
    ``vanished``, ``removed``, ``withdrawn`` (removed, as their label no longer holds)."""
    failures: list[tuple[str, str]] = field(default_factory=list)
    """URI and message of the first failures; all of them are in the catalogue."""
    vanished: list[str] = field(default_factory=list)
    """Paths of the first images that are in the catalogue but no longer in the sources."""
    ignored: Counter[str] = field(default_factory=Counter)
    """Files that are no images, by suffix."""
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    """Folders and archives that could not be opened."""
    runs: list[str] = field(default_factory=list)
    """Folders that were left out as outputs of labelling runs (`corpus.is_run`)."""
    unknown_categories: Counter[str] = field(default_factory=Counter)
    """Messages about categories that the taxonomy does not know, with how many images they hold back."""
    contradicting_prefixes: int = 0
    """Images of the store whose published prefix is not the code of their category."""
    prefixes: int = 0
    """Images of the store that have a published prefix."""
    searchable: int = 0
    """Images in the published index."""
    generation: int = 0
    """The published generation."""


class Progress(Protocol):
    """Is told about every image that is done."""

    def __call__(self, outcome: str, /) -> None:
        """Take the outcome of one image; see `IndexReport.counts`."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a worker found out about one item."""

    record: Record | None = None
    """None where the content is what the catalogue knows."""
    thumbnail: bytes = b""
    frames: bytes = b""
    instrument: InstrumentMetadata = NO_METADATA
    fault: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class _Piece:
    """An item that must be read: a new one, or one whose file may have changed."""

    item: Item
    known: Record | None
    category: Category
    reach: Reach


_LISTED = 20


def index(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    store: str | os.PathLike[str],
    *,
    labels: str | None = None,
    taxonomy: Taxonomy | None = None,
    keep_unknown: bool | None = None,
    reach: Reach | None = None,
    workers: int | None = None,
    prune: bool = False,
    progress: Progress = lambda _: None,
) -> IndexReport:
    """Bring a store up to date with its sources.

    Unchanged files are passed over, changed ones replaced, failed ones tried again. Interrupted at any moment
    (`KeyboardInterrupt` included), it keeps what is done; the same call goes on from there.

    Parameters
    ----------
    sources : path, or sequence of path
        Folders (walked recursively; the store and the outputs of labelling runs are left out), image files, and .tar,
        .tar.gz, .tgz or .zip archives.
    store : path
        The store's folder; made where there is none.
    labels : str, optional
        Where categories come from; see `labelling.label_rule`. By default as the last time, at first ``folder``.
    taxonomy : Taxonomy, optional
        By default that of the last time, at first the ten built-in categories.
    keep_unknown : bool, optional
        Make a category of every name that the taxonomy does not know; by default as the last time, at first not.
    reach : {"frame", "views", "windows"}, optional
        Which parts of every image are hashed besides the image itself, so that twins are found that were cropped,
        turned or given another info bar; by default as the last time, at first ``views``. See `frames`.
    workers : int, optional
        Threads; as many as there are cores by default. After a few seconds up to 16 of them get a process each; see
        `workerprocess`.
    prune : bool
        Remove images from the store whose files have vanished; not those below a folder that could not be opened, or
        that is left out as the output of a labelling run.
    progress : Progress, optional

    Returns
    -------
    IndexReport

    Raises
    ------
    SourceError
        If a source does not exist, or lies within the store.
    StoreError
        If the store cannot be written; `StoreLockedError` if another process is writing it.
    TaxonomyError
        If the table of labels cannot be used.
    """
    store = Path(store)
    scopes = [scope_of(one) for one in ([sources] if isinstance(sources, (str, os.PathLike)) else sources)]
    _require_apart(scopes, store)
    if labels is not None:
        label_rule(labels, taxonomy or builtin_taxonomy())  # refused before a store is made
    with open_writer(store, create=True) as writer:
        labels, taxonomy = remembered(writer.catalog, labels, taxonomy, keep_unknown)
        repeated = repeated_names(labels, (item for scope in scopes for item in _images(scope, Walk(), store)))
        rule = label_rule(labels, taxonomy, repeated)
        workers = workers or os.cpu_count() or 1
        reach = reach or (stored_reach(writer.catalog) if writer.catalog.meta("reach") else "views")
        run = _Run(writer, rule, taxonomy.version, reach, workers, progress)
        try:
            set_reach(writer, reach, workers)
            for scope in scopes:
                run.take_in(scope, prune=prune)
        finally:
            # Also after Ctrl-C: what has been committed becomes visible.
            run.report.generation = writer.publish()
        counts = writer.catalog.counts()
    run.report.searchable = counts["searchable"]
    run.report.prefixes, run.report.contradicting_prefixes = counts["prefixes"], counts["contradicting_prefixes"]
    return run.report


def count_images(sources: Sequence[str | os.PathLike[str]]) -> int:
    """Count the images that `index` would look at.

    Raises
    ------
    SourceError
        If a source does not exist.
    """
    return sum(1 for source in sources for _ in walk(scope_of(source), Walk()))


def _images(scope: Scope, met: Walk, store: Path) -> Iterator[Item]:
    """Walk a source, but for the store itself and the outputs of labelling runs."""
    own = os.path.realpath(store)
    return walk(scope, met, leave_out=lambda folder: os.path.realpath(folder) == own or met.leave_out_run(folder))


def _require_apart(scopes: list[Scope], store: Path) -> None:
    real = Path(os.path.realpath(store))
    for scope in scopes:
        place = Path(os.path.realpath(scope.root / scope.prefix))
        if place.is_relative_to(real):
            msg = f"{place} lies within the store {store}; a store is not a source"
            raise SourceError(msg)


class _Run:
    def __init__(
        self, writer: StoreWriter, rule: LabelRule, taxonomy: str, reach: Reach, workers: int, progress: Progress
    ) -> None:
        self.report = IndexReport()
        self._writer = writer
        self._catalog = writer.catalog
        self._rule = rule
        self._taxonomy = taxonomy
        self._reach = reach
        self._workers = workers
        self._progress = progress
        self._saved = time.monotonic()
        self._walked = 0

    def take_in(self, scope: Scope, *, prune: bool) -> None:
        """Index one source, and compare what was met with what is stored."""
        self._walked = 0
        root_id, root, below = self._catalog.root_for(scope.root)
        prefix = "/".join(part for part in (below, scope.prefix) if part)
        met = Walk()
        self._catalog.begin_walk()
        self._catalog.begin()
        try:
            items = _images(scope, met, self._writer.folder)
            with WorkerProcesses(self._workers) as processes:
                look = partial(_look_apart, processes)
                for piece, seen in in_order(look, self._new(items, root_id, root, below), self._workers):
                    self._settle(piece, seen, root_id)
                    self._save_now_and_then()
            self._note_unreadable(met, root, root_id)
            self._compare(root_id, root, prefix, met, prune=prune)
        finally:
            self._catalog.commit()

    def _new(self, items: Iterable[Item], root_id: int, root: Path, below: str) -> Iterator[_Piece]:
        """Give the items that must be looked at, named from the root on; settle those that need not."""
        for named in items:
            item = replace(named, root=root, path=f"{below}/{named.path}" if below else named.path)
            self._walked += 1
            self._save_now_and_then()
            known = self._catalog.find(root_id, item.path, item.member)
            if known is not None:
                self._catalog.note_seen(known.id)
            try:
                category = self._rule(item, named.inner_path)
            except TaxonomyError as error:
                unknown = self.report.unknown_categories
                unknown[str(error) if str(error) in unknown or len(unknown) < _LISTED else "others"] += 1
                if known is not None:  # a label that no longer holds must not be given to its twins
                    self._catalog.delete([known.id], self._writer.generation)
                    self.report.counts["withdrawn"] += 1
                self._fail(item, root_id, "no_category", str(error))
                continue
            if known is not None and _same_file(known, item):
                self._keep(known, category)
            else:
                yield _Piece(item, known, category, self._reach)

    def _save_now_and_then(self) -> None:
        if time.monotonic() - self._saved > _COMMIT_SECONDS:
            self._catalog.commit()
            self._catalog.begin()
            self._saved = time.monotonic()

    def _keep(self, known: Record, category: Category) -> None:
        if (known.category, known.code, known.taxonomy) == (category.name, category.code, self._taxonomy):
            self._count("unchanged")
            return
        self._catalog.relabel(known.id, category.name, category.code, self._taxonomy, self._writer.generation)
        self._count("relabelled")

    def _settle(self, piece: _Piece, seen: _Seen, root_id: int) -> None:
        item, known, category = piece.item, piece.known, piece.category
        if seen.fault:
            if known is not None:  # the file that it describes is no more
                self._catalog.delete([known.id], self._writer.generation)
            self._fail(item, root_id, seen.fault, seen.message)
        elif seen.record is None and known is not None:
            self._catalog.touch(known.id, item.size, item.mtime_ns)
            self._keep(known, category)
        elif seen.record is not None:
            number = known.id if known is not None else self._catalog.new_id(item.root, item.path, item.member)
            record = replace(
                seen.record,
                id=number,
                category=category.name,
                code=category.code,
                taxonomy=self._taxonomy,
                generation=self._writer.generation,
            )
            self._catalog.put(record, root_id, seen.thumbnail, seen.frames, seen.instrument)
            self._catalog.note_seen(number)
            outcome = "added" if known is None else "changed"
            self._count("unhashable" if record.hash is None else outcome)

    def _fail(self, item: Item, root_id: int, fault: str, message: str) -> None:
        self._catalog.put_failure(root_id, item.path, item.member, fault, message)
        if len(self.report.failures) < _LISTED and fault != "no_category":
            self.report.failures.append((item.uri, message))
        self._count("failed")

    def _count(self, outcome: str) -> None:
        self.report.counts[outcome] += 1
        self._progress(outcome)

    def _note_unreadable(self, met: Walk, root: Path, root_id: int) -> None:
        self.report.ignored.update(met.ignored)
        self.report.unreadable.extend(met.unreadable)
        self.report.runs.extend(met.runs)
        for place, reason in met.unreadable:
            below = os.path.relpath(place, root)
            self._catalog.put_failure(root_id, below, None, "unreadable", reason)

    def _compare(self, root_id: int, root: Path, prefix: str, met: Walk, *, prune: bool) -> None:
        """Report (or remove) what is stored but was not met; what lies below a place not looked at is unknown."""
        self._catalog.forget_unseen_failures(root_id, prefix)
        hidden = [os.path.relpath(place, root) for place in [*met.runs, *(place for place, _ in met.unreadable)]]
        gone: list[int] = []
        for number, path in self._catalog.unseen(root_id, prefix):
            if any(path == place or path.startswith(f"{place}/") or place == "." for place in hidden):
                continue
            gone.append(number)
            if len(self.report.vanished) < _LISTED:
                self.report.vanished.append(str(root / path))
        self.report.counts["vanished"] += len(gone)
        if not (prune and gone):
            return
        if self._walked == 0:
            msg = (
                f"{root / prefix} holds no image at all any more, but {len(gone)} are in the store; "
                "nothing was removed. Is the disk mounted? Remove the store if it is no longer wanted."
            )
            raise SourceError(msg)
        self._catalog.delete(gone, self._writer.generation)
        self.report.counts["removed"] += len(gone)


def _same_file(known: Record, item: Item) -> bool:
    return (known.size, known.mtime_ns, known.recipe) == (item.size, item.mtime_ns, RECIPE)


def _look_apart(processes: WorkerProcesses, piece: _Piece) -> tuple[_Piece, _Seen]:
    """Look at one image, in another process if there is one; never raises. Runs in threads.

    Archives are read by one process, since each would have to look through all of an archive first.
    """
    if piece.item.member is not None:
        return piece, _look(piece)
    try:
        return piece, processes.apply(_look, piece, _look)
    except ProcessLostError as error:
        return piece, _Seen(fault="damaged", message=f"the process that read it was lost: {error}")


def _look(piece: _Piece) -> _Seen:
    """Read, hash and reduce one image; never raises."""
    try:
        return _read(piece)
    except ImageError as error:
        return _Seen(fault=error.fault, message=error.detail)
    except MemoryError:
        return _Seen(fault="too_large", message="not enough memory to decode it")
    except Exception as error:  # noqa: BLE001  whatever one file does to a decoder, the others are still indexed
        return _Seen(fault="damaged", message=f"unexpected {type(error).__name__}: {error}")


def _read(piece: _Piece) -> _Seen:
    item, known = piece.item, piece.known
    data = item.read()
    digest = sha256(data).digest()
    if known is not None and (known.sha256, known.recipe) == (digest, RECIPE):
        return _Seen()
    image = read_image(data, name=item.uri)
    hashed = hash_pixels(image.pixels)
    record = Record(
        id=0,
        root=item.root,
        path=item.path,
        member=item.member,
        size=item.size,
        mtime_ns=item.mtime_ns,
        sha256=digest,
        format=image.format,
        mode=image.mode,
        bits=image.bits,
        width=image.width,
        height=image.height,
        hash=hashed.code if isinstance(hashed, PHash) else None,
        unhashable=None if isinstance(hashed, PHash) else f"{hashed.reason}: {hashed.detail}",
        recipe=RECIPE,
        category="",
        code="",
        taxonomy="",
        published_prefix=published_prefix(item.name),
        indexed_at=utc_now(),
        generation=0,
    )
    thumbnail = encode_thumbnail(image.pixels)
    frames = b"" if record.hash is None else encoded_frames(thumbnail, piece.reach)
    sidecar = None if item.member is not None else read_sidecar(item.file)
    return _Seen(record, thumbnail, frames, read_metadata(data, name=item.uri, sidecar=sidecar))
