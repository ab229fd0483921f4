"""Rule that takes the category of an image from the folders above it.

The rule, for an image below SOURCE, which is the folder or archive that the user named:

1. If one of the folders between SOURCE and the image has the name of a known category, the image has this category. If
   these folders name two different categories, the image has no category.
2. Otherwise, if SOURCE itself has the name of a known category, and contains no folder of another category, the image
   has this category.
3. Otherwise, with `Taxonomy.keep_unknown`, the first folder below SOURCE is the category, never a deeper folder. An
   image directly in SOURCE has no category.

Archives count as folders. An archive that the user named is SOURCE itself. If all its images are in one folder at the
top, this folder is SOURCE. If an archive has no other folders, the name of the archive can be the category of its
images. If an earlier run indexed a folder above SOURCE into the same store, the rule starts at that folder, so that
images keep their labels.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twinscope_indexer.errors import TaxonomyError
from twinscope_indexer.sources.archive import archive_stem, is_archive
from twinscope_indexer.sources.corpus import Walk, walk
from twinscope_indexer.taxonomy import Category, can_be_kept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from twinscope_indexer.sources.corpus import Item, Scope
    from twinscope_indexer.taxonomy import Taxonomy


@dataclass(frozen=True, slots=True)
class Place:
    """The names and levels of a source that can determine the categories of its images.

    Attributes
    ----------
    names : tuple of str
        Names of the source that can be a known category; the nearest to the images comes first.
    children : frozenset of str
        Names of the folders and archives directly below the source.
    above : int
        Number of levels of each image that belong to the source itself; see `Item.levels`.
    kept : str
        Category of the images directly in the source, if unknown names become categories. Empty if these images have no
        category.
    """

    names: tuple[str, ...]
    children: frozenset[str] = frozenset()
    above: int = 0
    kept: str = ""


def place_of(scope: Scope, root: Path) -> Place:
    """Return the place of a source.

    Parameters
    ----------
    scope : Scope
        The source.
    root : Path
        Folder of the store's root that contains the source. If this folder is above the source, the rule starts at this
        folder.
    """
    if root == scope.root and is_archive(scope.prefix):
        return _place_of_archive(scope)
    return Place((root.name,), _children(root))


def _place_of_archive(scope: Scope) -> Place:
    inside = [item.levels[1:] for item in walk(scope, Walk())]
    names: tuple[str, ...] = (archive_stem(scope.prefix), scope.root.name)
    above = 1
    tops = {levels[0] if levels else "" for levels in inside}
    if len(tops) == 1 and "" not in tops:
        names = (tops.pop(), *names)
        above = 2
        inside = [levels[1:] for levels in inside]
    children = frozenset(levels[0] for levels in inside if levels)
    return Place(names, children, above, "" if children else names[0])


def _children(folder: Path) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            found = [entry.name for entry in entries if entry.is_dir() or is_archive(entry.name)]
    except OSError:  # the walk of the source reports the error
        return frozenset()
    return frozenset(archive_stem(name) if is_archive(name) else name for name in found if not name.startswith("."))


class FolderRule:
    """Rule that takes the category of an image from the folders above it.

    Parameters
    ----------
    taxonomy : Taxonomy
    places : iterable of Place
        Places of all sources of the run.
    remark : callable
        Function that is called with a sentence about each folder that is not a category, but may be meant as a
        category.
    """

    def __init__(self, taxonomy: Taxonomy, places: Iterable[Place], remark: Callable[[str], None]) -> None:
        self._taxonomy = taxonomy
        self._remark = remark
        times = Counter(name for place in set(places) for name in place.children)
        self._shared = {name for name, number in times.items() if number > 1}

    def __call__(self, item: Item, place: Place) -> Category:
        """Return the category of an image.

        Parameters
        ----------
        item : Item
            The image, with its path relative to the root of the store.
        place : Place
            Place of its source.

        Raises
        ------
        TaxonomyError
            If the image has no category.
        """
        levels = item.levels[place.above :]
        found = [(at, known) for at, name in enumerate(levels) if (known := self._taxonomy.find(name))]
        categories = list(dict.fromkeys(known for _, known in found))
        if len(categories) > 1:
            raise _two_categories(item, [levels[at] for at, _ in found], categories)
        category = categories[0] if categories else self._of_source(place)
        if category is not None:
            self._remark_on(levels, category)
            return category
        if not levels:
            return self._of_loose_image(item, place)
        if self._taxonomy.keep_unknown and can_be_kept(levels[0]):
            return self._of_first_level(levels)
        doubtful = next((name for name in reversed(levels) if self._taxonomy.similar(name)), levels[0])
        return self._taxonomy.resolve(doubtful if can_be_kept(levels[0]) else levels[0])

    def _of_source(self, place: Place) -> Category | None:
        for name in place.names:
            category = self._taxonomy.find(name)
            if category is not None:
                others = {self._taxonomy.find(child) for child in place.children} - {None, category}
                return None if others else category
        return None

    def _of_loose_image(self, item: Item, place: Place) -> Category:
        if place.kept and self._taxonomy.keep_unknown and can_be_kept(place.kept):
            return self._taxonomy.resolve(place.kept)
        msg = (
            f"{item.name!r} lies directly in the source {place.names[0]!r}, which is not a category; move it into the "
            "folder of its category"
        )
        raise TaxonomyError(msg, cause="directly in the source, in no folder of a category")

    def _of_first_level(self, levels: list[str]) -> Category:
        name = levels[0]
        if name in self._shared:
            msg = (
                f"the folder {name!r} is in several sources and is not a known category. Name the folder above the "
                "sources instead, or index the sources one after the other, or add the name to a --taxonomy"
            )
            raise TaxonomyError(msg, cause=f"{name!r} is in several sources, and is not a known category")
        category = self._taxonomy.resolve(name)
        self._remark_on(levels, category)
        return category

    def _remark_on(self, levels: list[str], category: Category) -> None:
        """If unknown names become categories, report the folder that may be meant as the category, but is not used."""
        if not self._taxonomy.keep_unknown:
            return
        for at, name in enumerate(levels):
            if not can_be_kept(name) or self._taxonomy.resolve(name) != category:
                below = " below it" if at else ""
                self._remark(
                    f"{'/'.join(levels[: max(at + 1, 2)])}: category {category.name}; the folder {name}{below} is not "
                    "a category"
                )
                return


def _two_categories(item: Item, names: list[str], categories: list[Category]) -> TaxonomyError:
    shown = " and ".join(category.shown for category in categories)
    msg = (
        f"the folders above {item.name!r} name two categories, {shown}; rename one of the folders, or give the "
        "category in a table with --labels"
    )
    return TaxonomyError(msg, cause=f"in folders of two categories ({'/'.join(names)})")


def base_of(scope: Scope, folders: Iterable[Path]) -> Path:
    """Return the outermost of `folders` that is or contains the source's folder; by default, the source's folder."""
    above = [folder for folder in folders if scope.root.is_relative_to(folder)]
    return min(above, key=lambda folder: len(folder.parts), default=scope.root)
