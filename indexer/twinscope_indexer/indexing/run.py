"""Bulk indexing: read the images of folders and archives in parallel and write them into the catalog of a store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from twinscope_indexer.errors import RemovalError, SourceError
from twinscope_indexer.indexing.folder_rule import place_of
from twinscope_indexer.indexing.foresight import foresee, require_few_losses
from twinscope_indexer.indexing.label_rules import label_rule, remember, settled
from twinscope_indexer.indexing.pages import Pages, page_items, settled_pages
from twinscope_indexer.indexing.reframing import set_reach
from twinscope_indexer.indexing.report import IndexReport, Progress
from twinscope_indexer.indexing.update import SourceUpdate, UpdateSettings, images_of
from twinscope_indexer.sources.corpus import Scope, Walk, scope_of, walk
from twinscope_indexer.store.catalog.catalog import Catalog
from twinscope_indexer.store.frames import stored_reach
from twinscope_indexer.store.reader import CATALOG_NAME, StoreWriter, open_writer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twinscope_indexer.hashing.reach import Reach
    from twinscope_indexer.taxonomy import Taxonomy

__all__ = ["IndexReport", "Progress", "count_images", "index", "preview"]


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
    pages: Pages | None = None,
    allow_removals: bool = False,
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
    pages : {"all", "first"}, optional
        Which pages of a stack are images of the store: each page that is a picture, or only the first one. Default: the
        value of the last run, or ``all`` in the first run. Use ``first`` if the pages are planes of one volume.
    allow_removals : bool
        Whether the run may take many images out of the store, or give them another category. If the value is False, the
        run is refused if it would remove or relabel more than ten images and more than a tenth of the store.
    progress : Progress, optional
        Function that is called for every finished image.

    Returns
    -------
    IndexReport

    Raises
    ------
    RemovalError
        If the run is refused, see `allow_removals`. The run then publishes nothing, and the store keeps its last
        generation.
    SourceError
        If a source does not exist or is inside the folder of the store, or if all images of a source would be removed
        because it has no image.
    StoreError
        If the store cannot be written. The error is a `StoreLockedError` if another process is writing to the store.
    TaxonomyError
        If the table of labels cannot be used.
    """
    store = Path(store)
    scopes = _scopes(sources, store)
    if labels is not None:
        settled(None, labels, taxonomy, keep_unknown)  # if the table is bad, no store is created
    workers = (os.cpu_count() or 1) if workers is None else workers
    report = IndexReport()
    with open_writer(store, create=True) as writer:
        if writer.catalog.published() is not None:
            foreseen, images = _foreseen(scopes, store, labels, taxonomy, keep_unknown, pages, prune=prune)
            if not allow_removals:
                require_few_losses(
                    store, images, withdrawn=foreseen.counts["withdrawn"], removed=foreseen.counts["removed"],
                    relabelled=foreseen.relabelled,
                )  # fmt: skip
        labels, taxonomy = settled(writer.catalog, labels, taxonomy, keep_unknown)
        pages = settled_pages(writer.catalog, pages)
        report.known_categories = [category.shown for category in taxonomy.categories]
        places = [place_of(scope, writer.catalog.root_for(scope.root)[1]) for scope in _outermost_first(scopes)]
        items = (item for scope in scopes for item in images_of(scope, Walk(), store))
        rule = label_rule(labels, taxonomy, items, places, report.remark)
        remember(writer.catalog, labels, taxonomy)
        writer.catalog.set_meta("pages", pages)
        reach = reach or (stored_reach(writer.catalog) if writer.catalog.meta("reach") else "views")
        settings = UpdateSettings(rule, taxonomy.version, reach, workers, prune, pages)
        try:
            set_reach(writer, reach, max(1, workers))
            for scope in scopes:
                SourceUpdate(writer, scope, settings, report, progress).run()
        finally:
            # Publish even after Ctrl-C. Then the images that were already written can be found by searches.
            report.generation = _publish(writer, allow_removals=allow_removals)
        counts = writer.catalog.counts()
    report.searchable, report.categories = counts["searchable"], counts["category"]
    report.prefixes, report.contradicting_prefixes = counts["prefixes"], counts["contradicting_prefixes"]
    return report


def preview(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    store: str | os.PathLike[str],
    *,
    labels: str | None = None,
    taxonomy: Taxonomy | None = None,
    keep_unknown: bool | None = None,
    prune: bool = False,
    pages: Pages | None = None,
) -> IndexReport:
    """Return the report that `index` would give with the same arguments. No image is read and nothing is written.

    The pages of new and changed TIFF files are counted. A TIFF file in an archive counts as one image, because archives
    are not unpacked.

    Which image files cannot be read is therefore not known: such files count as ``added`` or ``changed``. A file with
    another size or time counts as ``changed``, although its content may be the same.

    Parameters
    ----------
    sources, store, labels, taxonomy, keep_unknown, prune, pages
        See `index`.

    Returns
    -------
    IndexReport
        Its generation is the published generation of the store, or 0 if there is no store yet.

    Raises
    ------
    SourceError, StoreError, TaxonomyError
        See `index`.
    """
    store = Path(store)
    scopes = _scopes(sources, store)
    return _foreseen(scopes, store, labels, taxonomy, keep_unknown, pages, prune=prune)[0]


def _foreseen(
    scopes: list[Scope],
    store: Path,
    labels: str | None,
    taxonomy: Taxonomy | None,
    keep_unknown: bool | None,
    pages: Pages | None,
    *,
    prune: bool,
) -> tuple[IndexReport, int]:
    """Return what a run would do to the published state of a store, and the number of images in it."""
    if not (store / CATALOG_NAME).exists():
        labels, taxonomy = settled(None, labels, taxonomy, keep_unknown)
        return foresee(None, scopes, store, labels, taxonomy, pages or "all", prune=prune), 0
    catalog = Catalog(store / CATALOG_NAME, read_only=True)
    try:
        catalog.hold()
        labels, taxonomy = settled(catalog, labels, taxonomy, keep_unknown)
        report = foresee(catalog, scopes, store, labels, taxonomy, settled_pages(catalog, pages), prune=prune)
        published, counts = catalog.published(), catalog.counts()
    finally:
        catalog.close()
    report.generation = 0 if published is None else published.number
    report.searchable = counts["searchable"]
    return report, counts["images"]


def _publish(writer: StoreWriter, *, allow_removals: bool) -> int:
    """Publish what a run wrote.

    Some losses are not known before the run, for example if the files of many images are damaged. If the run would lose
    many images, all writes are undone.
    """
    published = writer.catalog.published()
    if published is not None and not allow_removals:
        lost, relabelled = writer.catalog.losses()
        try:
            require_few_losses(writer.folder, published.images, withdrawn=lost, relabelled=relabelled)
        except RemovalError:
            writer.catalog.discard(published.number)
            raise
    return writer.publish()


def _scopes(sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], store: Path) -> list[Scope]:
    scopes = [scope_of(one) for one in ([sources] if isinstance(sources, (str, os.PathLike)) else sources)]
    _require_apart(scopes, store)
    return scopes


def _outermost_first(scopes: list[Scope]) -> list[Scope]:
    # A folder above another source becomes the root of both. Then the images of both have the same folders.
    return sorted(scopes, key=lambda scope: len(scope.root.parts))


def count_images(sources: Sequence[str | os.PathLike[str]], pages: Pages = "all") -> int:
    """Count the images that `index` would process. Each page of a stack counts, if `pages` is ``all``.

    Raises
    ------
    SourceError
        If a source does not exist.
    """
    items = (item for source in sources for item in walk(scope_of(source), Walk()))
    # Images in archives are not unpacked to count their pages.
    return sum(1 for item in items for _ in ([item] if item.member is not None else page_items([item], pages)))


def _require_apart(scopes: list[Scope], store: Path) -> None:
    """Raise `SourceError` if a source is inside the folder of the store."""
    real = Path(os.path.realpath(store))
    for scope in scopes:
        source = Path(os.path.realpath(scope.root / scope.prefix))
        if source.is_relative_to(real):
            msg = f"{source} lies within the store {store}; a store cannot be a source"
            raise SourceError(msg)
