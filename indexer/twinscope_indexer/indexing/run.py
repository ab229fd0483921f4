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
    """Update a store so that it contains the images that are now in its sources.

    Unchanged files are skipped. Changed files get new records. Files that failed in the last run are tried again. A
    file that cannot be read does not stop the run. The run can be interrupted at any moment, for example by
    `KeyboardInterrupt`. The finished work is then kept, and another call with the same arguments continues the work.

    Parameters
    ----------
    sources : path, or sequence of path
        Folders, image files, and archives (.tar, .tar.gz, .tar.xz, .tar.bz2 or .zip). All subfolders are included,
        except the store itself and the outputs of labelling runs.
    store : path
        Folder of the store. The folder is created if it does not exist.
    labels : str, optional
        How the category of an image is determined; see `label_rules.label_rule`. Default: the value of the last run, or
        ``folder`` in the first run.
    taxonomy : Taxonomy, optional
        Default: the taxonomy of the last run, or the ten built-in categories in the first run.
    keep_unknown : bool, optional
        Whether a name that is not in the taxonomy becomes a category. Default: the value of the last run, or False in
        the first run.
    reach : {"frame", "views", "windows"}, optional
        Frames of every image that are hashed in addition to the whole image. With these hashes, a twin can be found
        even if it was cropped or rotated, or if its info bar is different. Default: the value of the last run, or
        ``views`` in the first run. See `frames`.
    workers : int, optional
        Number of images that are read at the same time; default: the number of cores. The images are read in at most 16
        worker processes. A worker process exits after a minute without work. If `workers` is 0, the calling process
        reads one image at a time. In this case, a file that crashes a decoder also ends the calling process.
    prune : bool
        Whether to remove images from the store if their files no longer exist. If a folder could not be opened, or was
        skipped as the output of a labelling run, its images are kept.
    progress : Progress, optional
        Function that is called for every finished image.

    Returns
    -------
    IndexReport

    Raises
    ------
    SourceError
        If a source does not exist or is inside the folder of the store.
    StoreError
        If the store cannot be written. The error is a `StoreLockedError` if another process is writing to the store.
    TaxonomyError
        If the table of labels cannot be used.
    """
    store = Path(store)
    scopes = [scope_of(one) for one in ([sources] if isinstance(sources, (str, os.PathLike)) else sources)]
    _require_apart(scopes, store)
    if labels is not None:
        label_rule(labels, taxonomy or builtin_taxonomy())  # if the table is bad, no store is created
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
            # Publish even after Ctrl-C. Then the images that were already written can be found by searches.
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
    """Raise `SourceError` if a source is inside the folder of the store."""
    real = Path(os.path.realpath(store))
    for scope in scopes:
        source = Path(os.path.realpath(scope.root / scope.prefix))
        if source.is_relative_to(real):
            msg = f"{source} lies within the store {store}; a store cannot be a source"
            raise SourceError(msg)
