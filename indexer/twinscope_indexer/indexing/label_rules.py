"""Rules that determine the category of each image of a labelled collection."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from twinscope_indexer.indexing.folder_rule import FolderRule, Place
from twinscope_indexer.indexing.label_table import LabelTable, read_label_table
from twinscope_indexer.store.settings import taxonomy_of
from twinscope_indexer.taxonomy import Taxonomy, builtin_taxonomy, taxonomy_to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from twinscope_indexer.sources.corpus import Item
    from twinscope_indexer.store.catalog.catalog import Catalog
    from twinscope_indexer.taxonomy import Category


class LabelRule(Protocol):
    """A function that returns the category of an image."""

    def __call__(self, item: Item, named: str, place: Place, /) -> Category:
        """Return the category of an image.

        Parameters
        ----------
        item : Item
            The image, with its path relative to the root of the store.
        named : str
            Path of the image relative to the source folder of the user. The source folder can be a subfolder of the
            item's root.
        place : Place
            Place of the source.

        Raises
        ------
        TaxonomyError
            If the image has no category.
        """


def label_rule(
    labels: str,
    taxonomy: Taxonomy,
    items: Iterable[Item] = (),
    places: Collection[Place] = (),
    remark: Callable[[str], None] = lambda _: None,
) -> LabelRule:
    """Return the label rule for the option `labels`.

    Parameters
    ----------
    labels : str
        ``folder``: the label is the name of a folder or archive; see `folder_rule`. ``prefix``: the label is the code
        at the beginning of the file name. Any other text is the path of a table of labels; see `read_label_table`.
    taxonomy : Taxonomy
    items : iterable of Item
        All images; see `LabelTable.for_images`.
    places : collection of Place
        Places of all sources.
    remark : callable
        See `FolderRule`.

    Raises
    ------
    TaxonomyError
        If the table of labels cannot be used.
    """
    if labels == "folder":
        rule = FolderRule(taxonomy, places, remark)
        return lambda item, _, place: rule(item, place)
    if labels == "prefix":
        return lambda item, *_: taxonomy.of_prefix(item.name)
    table: LabelTable = read_label_table(Path(labels)).for_images(items)
    return lambda _, named, __: taxonomy.resolve(table.label_of(named))


def settled(
    catalog: Catalog | None, labels: str | None, taxonomy: Taxonomy | None, keep_unknown: bool | None
) -> tuple[str, Taxonomy]:
    """Return the label rule and the taxonomy that a run uses.

    If an option is None, the value of the last run is used. In the first run, the defaults are the names of the folders
    as labels, and the built-in taxonomy. Therefore, images keep their labels if a store is indexed again without these
    options. Unknown names stay categories when the taxonomy changes, until `keep_unknown` is False.

    Parameters
    ----------
    catalog : Catalog or None
        Catalog of the store; None if there is no store yet.
    labels, taxonomy, keep_unknown
        Options of the run; see `index`.

    Raises
    ------
    TaxonomyError
        If the table of labels cannot be used.
    """
    last = builtin_taxonomy() if catalog is None else taxonomy_of(catalog)
    if labels is None:
        labels = (catalog.meta("labels") if catalog is not None else None) or "folder"
    elif labels not in {"folder", "prefix"}:
        labels = str(Path(labels).absolute())
    taxonomy = taxonomy or last
    keep = (taxonomy.keep_unknown or last.keep_unknown) if keep_unknown is None else keep_unknown
    if labels not in {"folder", "prefix"}:
        read_label_table(Path(labels))
    return labels, Taxonomy(taxonomy.version, taxonomy.categories, keep_unknown=keep)


def remember(catalog: Catalog, labels: str, taxonomy: Taxonomy) -> None:
    """Save the label rule and the taxonomy of a run in the store, for the next run."""
    catalog.set_meta("labels", labels)
    catalog.set_meta("taxonomy", taxonomy_to_json(taxonomy))
