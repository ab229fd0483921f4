"""Foresight: what a run of `index` would do to a store, found without reading an image or writing anything."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from twinscope_indexer.errors import RemovalError, TaxonomyError
from twinscope_indexer.indexing.folder_rule import base_of, place_of
from twinscope_indexer.indexing.known_pages import counterpart, is_complete, same_file
from twinscope_indexer.indexing.label_rules import label_rule
from twinscope_indexer.indexing.pages import page_items
from twinscope_indexer.indexing.report import IndexReport
from twinscope_indexer.indexing.update import hidden_paths, images_of, require_images
from twinscope_indexer.sources.corpus import Walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from twinscope_indexer.indexing.folder_rule import Place
    from twinscope_indexer.indexing.label_rules import LabelRule
    from twinscope_indexer.indexing.pages import Pages
    from twinscope_indexer.sources.corpus import Item, Scope
    from twinscope_indexer.store.catalog.catalog import Catalog, Record
    from twinscope_indexer.taxonomy import Category, Taxonomy

_SHARE: Final = 10
_LEAST: Final = 10
"""A run is refused if it removes or relabels more than `_LEAST` images and more than one in `_SHARE` images of a
store."""
_NAMED: Final = 3
"""Maximum number of changes of a category that the refusal names."""


def require_few_losses(
    store: Path, images: int, *, withdrawn: int = 0, removed: int = 0, relabelled: Mapping[tuple[str, str], int]
) -> None:
    """Check that a run neither takes many images out of a store nor changes many labels.

    Parameters
    ----------
    store : Path
        Folder of the store.
    images : int
        Number of images in the store.
    withdrawn, removed : int
        See `RemovalError`.
    relabelled : mapping
        Number of images for each old and new name of their category.

    Raises
    ------
    RemovalError
        If the run would remove or relabel more than ten images and more than a tenth of the store.
    """
    changed = sum(relabelled.values())
    lost = withdrawn + removed + changed
    if lost > _LEAST and lost * _SHARE > images:
        most = sorted(relabelled, key=lambda names: -relabelled[names])[:_NAMED]
        raise RemovalError(str(store), images, withdrawn=withdrawn, removed=removed, relabelled=changed, changes=most)


@dataclass(frozen=True, slots=True)
class _Source:
    """One source, and where the store keeps its images. All paths are relative to `base`, with forward slashes."""

    scope: Scope
    base: Path
    place: Place
    path: str
    """Path of the source."""
    roots: list[tuple[int, str]]
    """Ids and paths of the roots of the store that contain the source, or that lie in the source."""

    def records(self, catalog: Catalog, path: str, member: str | None) -> dict[int, Record]:
        """Return the images of a file that the store has, with the numbers of their pages as keys."""
        for number, root in self.roots:
            below = _below(path, root)
            if below is not None:
                return catalog.find_pages(number, below, member)
        return {}

    def known(self, catalog: Catalog) -> Iterator[tuple[int, str]]:
        """Yield the ids and the paths of the images that the store has from this source."""
        for number, root in self.roots:
            below = _below(self.path, root)
            if below is not None or _below(root, self.path) is not None:
                yield from ((one, _joined(root, path)) for one, path in catalog.paths(number, below or ""))


def _relative(path: Path, base: Path) -> str:
    below = path.relative_to(base).as_posix()
    return "" if below == "." else below


def _joined(folder: str, path: str) -> str:
    return f"{folder}/{path}" if folder and path else folder or path


def _below(path: str, folder: str) -> str | None:
    """Return a path relative to a folder, or None if it is not in the folder. The path of the base is empty."""
    if not folder or path == folder:
        return path[len(folder) :]
    return path[len(folder) + 1 :] if path.startswith(f"{folder}/") else None


def foresee(
    catalog: Catalog | None,
    scopes: Sequence[Scope],
    store: Path,
    labels: str,
    taxonomy: Taxonomy,
    pages: Pages,
    *,
    prune: bool,
) -> IndexReport:
    """Return the report that a run would give, without reading images.

    The report does not contain faults of image files.

    Parameters
    ----------
    catalog : Catalog or None
        Published state of the store; None if there is no store yet.
    scopes : sequence of Scope
        Sources of the run.
    store : Path
        Folder of the store.
    labels : str
    taxonomy : Taxonomy
        See `label_rules.settled`.
    pages : {"all", "first"}
        Which pages of a stack are images of the store.
    prune : bool
        See `index`.

    Raises
    ------
    SourceError
        If images would be removed because a source has no image at all.
    TaxonomyError
        If the table of labels cannot be used.
    """
    roots = {} if catalog is None else catalog.roots()
    folders = [*roots.values(), *(scope.root for scope in scopes)]
    sources = []
    for scope in scopes:
        base = base_of(scope, folders)
        near = [(number, _relative(path, base)) for number, path in roots.items() if path.is_relative_to(base)]
        path = _joined(_relative(scope.root, base), scope.prefix)
        sources.append(_Source(scope, base, place_of(scope, base), path, near))
    report = IndexReport(known_categories=[category.shown for category in taxonomy.categories])
    items = (item for scope in scopes for item in images_of(scope, Walk(), store))
    rule = label_rule(labels, taxonomy, items, [source.place for source in sources], report.remark)
    run = _Foresight(catalog, store, rule, (taxonomy.version, pages), report)
    for source in sources:
        run.walk(source, prune=prune)
    report.categories = {name: number for name, number in sorted(run.categories.items()) if number}
    return report


class _Foresight:
    """A walk through all sources that compares their images with the store."""

    def __init__(
        self, catalog: Catalog | None, store: Path, rule: LabelRule, settings: tuple[str, Pages], report: IndexReport
    ) -> None:
        self.categories: Counter[str] = Counter()
        if catalog is not None:
            self.categories.update(catalog.counts()["category"])
        self._catalog = catalog
        self._store = store
        self._rule = rule
        self._taxonomy, self._pages = settings
        self._report = report
        self._seen: set[int | str] = set()

    def walk(self, source: _Source, *, prune: bool) -> None:
        skipped, walked = Walk(), 0
        above = _relative(source.scope.root, source.base)
        for found in images_of(source.scope, skipped, self._store):
            walked += 1
            item = replace(found, root=source.base, path=_joined(above, found.path))
            known = {} if self._catalog is None else source.records(self._catalog, item.path, item.member)
            self._seen.update(record.id for record in known.values())
            if item.uri in self._seen or replace(item, page=0).uri in self._seen:
                continue  # in two sources
            self._seen.add(item.uri)
            if item.page:
                known = {page: record for page, record in known.items() if page == item.page}
            self._compare(item, known, found.inner_path, source.place)
        self._report.ignored.update(skipped.ignored)
        self._report.unreadable.extend(skipped.unreadable)
        self._report.runs.extend(skipped.runs)
        self._look_for_vanished(source, skipped, walked, prune=prune)

    def _compare(self, item: Item, known: Mapping[int, Record], named: str, place: Place) -> None:
        """Compare the images of one file with the images of this file that the store has, by page."""
        counts = self._report.counts
        try:
            category = self._rule(item, named, place)
        except TaxonomyError as error:
            self._report.count_unknown_category(error.cause)
            counts["failed"] += 1
            counts["withdrawn"] += len(known)
            self.categories.subtract(record.category for record in known.values())
            return
        numbers = self._numbers(item, known)
        continued = {page: counterpart(page, numbers, known) for page in numbers}
        for page in continued.values():
            self._compare_image(item, None if page is None else known[page], category)
        gone = [record for page, record in known.items() if page not in continued.values()]
        counts["removed"] += len(gone)
        self.categories.subtract(record.category for record in gone)

    def _numbers(self, item: Item, known: Mapping[int, Record]) -> tuple[int, ...]:
        """Return the numbers of the pages of a file that a run finds. Archives are not unpacked."""
        if item.page or self._pages == "first":
            return (item.page,)
        if is_complete(known, item, self._pages) or (item.member is not None and known):
            return tuple(known)
        return (0,) if item.member is not None else tuple(one.page for one in page_items([item], self._pages))

    def _compare_image(self, item: Item, known: Record | None, category: Category) -> None:
        counts = self._report.counts
        self.categories[category.name] += 1
        if known is None:
            counts["added"] += 1
            return
        self.categories[known.category] -= 1
        if not same_file(known, item):
            counts["changed"] += 1
        elif self._is_labelled(known, category):
            counts["unchanged"] += 1
        else:
            counts["relabelled"] += 1
        self._report.note_relabelled(known.id, known.category, category.name)

    def _is_labelled(self, known: Record, category: Category) -> bool:
        return (known.category, known.code, known.taxonomy) == (category.name, category.code, self._taxonomy)

    def _look_for_vanished(self, source: _Source, skipped: Walk, walked: int, *, prune: bool) -> None:
        if self._catalog is None:
            return
        is_hidden = hidden_paths(skipped, source.base)
        gone = []
        for number, path in source.known(self._catalog):
            if number not in self._seen and not is_hidden(path):
                self._seen.add(number)
                gone.append(number)
                self._report.list_vanished(str(source.base / path))
        self._report.counts["vanished"] += len(gone)
        if not (prune and gone):
            return
        require_images(walked, source.scope.root / source.scope.prefix, len(gone))
        self._report.pruned = True
        self._report.counts["removed"] += len(gone)
        for start in range(0, len(gone), 500):
            for record in self._catalog.records(gone[start : start + 500]).values():
                self.categories[record.category] -= 1
