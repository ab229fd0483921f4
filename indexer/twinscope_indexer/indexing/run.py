"""Bulk indexing: turn folders and archives into catalog records, in parallel; a bad file does not stop the others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from twinscope_indexer.errors import SourceError
from twinscope_indexer.indexing.label_rules import label_rule, remembered, repeated_names
from twinscope_indexer.indexing.reframing import set_reach
from twinscope_indexer.indexing.report import IndexReport, Progress
from twinscope_indexer.indexing.update import SourceUpdate, UpdateSettings, images_of
from twinscope_indexer.sources.corpus import Scope, Walk, scope_of, walk
from twinscope_indexer.store.frames import stored_reach
from twinscope_indexer.store.reader import open_writer
from twinscope_indexer.taxonomy import Taxonomy, builtin_taxonomy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twinscope_indexer.hashing.reach import Reach

__all__ = ["IndexReport", "Progress", "count_images", "index"]


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

    Unchanged files are skipped, changed ones are replaced, failed ones are tried again. If the run is interrupted at
    any moment (`KeyboardInterrupt` included), finished work is kept, and the same call resumes it.

    Parameters
    ----------
    sources : path, or sequence of path
        Folders (walked recursively; the store and the outputs of labelling runs are skipped), image files, and .tar,
        .tar.gz, .tgz or .zip archives.
    store : path
        The store's folder; created if it does not exist.
    labels : str, optional
        Where categories come from; see `label_rules.label_rule`. Default: as in the last run, at first ``folder``.
    taxonomy : Taxonomy, optional
        Default: that of the last run, at first the ten built-in categories.
    keep_unknown : bool, optional
        Make a category of every name that the taxonomy does not know. Default: as in the last run, at first False.
    reach : {"frame", "views", "windows"}, optional
        Which frames of every image are hashed in addition to the whole image, to find twins that were cropped, turned
        or given another info bar. Default: as in the last run, at first ``views``. See `frames`.
    workers : int, optional
        How many images are read at a time; default: the number of cores. Up to 16 processes read them, and exit after
        a minute without work. 0: this process reads one image at a time, so a file that crashes a decoder also ends
        this process.
    prune : bool
        Remove images from the store whose files have vanished, except below a folder that could not be opened or was
        skipped as the output of a labelling run.
    progress : Progress, optional

    Returns
    -------
    IndexReport

    Raises
    ------
    SourceError
        If a source does not exist or lies within the store.
    StoreError
        If the store cannot be written; `StoreLockedError` if another process is writing it.
    TaxonomyError
        If the table of labels cannot be used.
    """
    store = Path(store)
    scopes = [scope_of(one) for one in ([sources] if isinstance(sources, (str, os.PathLike)) else sources)]
    _require_apart(scopes, store)
    if labels is not None:
        label_rule(labels, taxonomy or builtin_taxonomy())  # refuse a bad table before a store is created
    workers = (os.cpu_count() or 1) if workers is None else workers
    report = IndexReport()
    with open_writer(store, create=True) as writer:
        labels, taxonomy = remembered(writer.catalog, labels, taxonomy, keep_unknown)
        repeated = repeated_names(labels, (item for scope in scopes for item in images_of(scope, Walk(), store)))
        reach = reach or (stored_reach(writer.catalog) if writer.catalog.meta("reach") else "views")
        rule = label_rule(labels, taxonomy, repeated)
        settings = UpdateSettings(rule, taxonomy.version, reach, workers, prune)
        try:
            set_reach(writer, reach, max(1, workers))
            for scope in scopes:
                SourceUpdate(writer, scope, settings, report, progress).run()
        finally:
            # Also after Ctrl-C, so that committed work becomes visible.
            report.generation = writer.publish()
        counts = writer.catalog.counts()
    report.searchable = counts["searchable"]
    report.prefixes, report.contradicting_prefixes = counts["prefixes"], counts["contradicting_prefixes"]
    return report


def count_images(sources: Sequence[str | os.PathLike[str]]) -> int:
    """Count the images that `index` would process.

    Raises
    ------
    SourceError
        If a source does not exist.
    """
    return sum(1 for source in sources for _ in walk(scope_of(source), Walk()))


def _require_apart(scopes: list[Scope], store: Path) -> None:
    """Raise `SourceError` for a source within the store."""
    real = Path(os.path.realpath(store))
    for scope in scopes:
        source = Path(os.path.realpath(scope.root / scope.prefix))
        if source.is_relative_to(real):
            msg = f"{source} lies within the store {store}; a store cannot be a source"
            raise SourceError(msg)
