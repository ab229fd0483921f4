"""Bulk indexing: read the images of folders and archives in parallel and write them into the catalog of a store."""

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
    """Update a store so that it contains the present images of its sources.

    Unchanged files are skipped, changed files replace their old records, and failed files are tried again. A file that
    cannot be read does not stop the run. If the run is interrupted at any moment, also by `KeyboardInterrupt`, the
    finished work is kept, and another call with the same arguments continues the work.

    Parameters
    ----------
    sources : path, or sequence of path
        Folders, image files, and archives with the suffix .tar, .tar.gz, .tgz or .zip. Folders are searched
        recursively; the store itself and the outputs of labelling runs are skipped.
    store : path
        Folder of the store. The folder is created if it does not exist.
    labels : str, optional
        Source of the categories; see `label_rules.label_rule`. Default: the value of the last run; in the first run,
        ``folder``.
    taxonomy : Taxonomy, optional
        Default: the taxonomy of the last run; in the first run, the ten built-in categories.
    keep_unknown : bool, optional
        Whether a name that the taxonomy does not know becomes a category. Default: the value of the last run; in the
        first run, False.
    reach : {"frame", "views", "windows"}, optional
        Frames of every image that are hashed in addition to the whole image. Hashes of frames make it possible to find
        twins that were cropped or rotated or have another info bar. Default: the value of the last run; in the first
        run, ``views``. See `frames`.
    workers : int, optional
        Number of images that are read at the same time; default: the number of cores. Up to 16 worker processes read
        the images. A worker process exits after a minute without work. If `workers` is 0, this process reads one image
        at a time; then a file that crashes a decoder also ends this process.
    prune : bool
        Whether to remove images whose files have vanished. Images below a folder are kept if the folder could not be
        opened or was skipped as the output of a labelling run.
    progress : Progress, optional
        Function that is called for every finished image.

    Returns
    -------
    IndexReport

    Raises
    ------
    SourceError
        If a source does not exist or lies within the store.
    StoreError
        If the store cannot be written. The error is a `StoreLockedError` if another process is writing to the store.
    TaxonomyError
        If the table of labels cannot be used.
    """
    store = Path(store)
    scopes = [scope_of(one) for one in ([sources] if isinstance(sources, (str, os.PathLike)) else sources)]
    _require_apart(scopes, store)
    if labels is not None:
        label_rule(labels, taxonomy or builtin_taxonomy())  # raises an error for a bad table before a store is created
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
            # Publish also after Ctrl-C, so that the images that were already written can be searched.
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
    """Raise `SourceError` if a source lies within the folder of the store."""
    real = Path(os.path.realpath(store))
    for scope in scopes:
        source = Path(os.path.realpath(scope.root / scope.prefix))
        if source.is_relative_to(real):
            msg = f"{source} lies within the store {store}; a store cannot be a source"
            raise SourceError(msg)
