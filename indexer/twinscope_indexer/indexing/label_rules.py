"""Rules that determine the category of each image of a labelled collection."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from twinscope_indexer.store.settings import taxonomy_of
from twinscope_indexer.taxonomy import (
    Taxonomy,
    label_of,
    load_labels,
    taxonomy_to_json,
)

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from twinscope_indexer.sources.corpus import Item
    from twinscope_indexer.store.catalog.catalog import Catalog
    from twinscope_indexer.taxonomy import Category


class LabelRule(Protocol):
    """A function that returns the category of an image."""

    def __call__(self, item: Item, named: str, /) -> Category:
        """Return the category of an image.

        Parameters
        ----------
        item : Item
        named : str
            Path of the image relative to the source folder of the user. The source folder can be a subfolder of the
            item's root.

        Raises
        ------
        TaxonomyError
            If the image has no category.
        """


def label_rule(labels: str, taxonomy: Taxonomy, repeated: Container[str] = ()) -> LabelRule:
    """Return the label rule for the option `labels`.

    Parameters
    ----------
    labels : str
        ``folder``: the label is the name of the folder or archive. ``prefix``: the label is the code at the beginning
        of the file name. Any other text is the path of a CSV file with the columns ``file`` and ``category``.
    taxonomy : Taxonomy
    repeated : container of str
        Base names that more than one image has; see `repeated_names`.

    Raises
    ------
    TaxonomyError
        If the CSV file cannot be used.
    """
    if labels == "folder":
        return lambda item, _: taxonomy.of_folders(item.folders)
    if labels == "prefix":
        return lambda item, _: taxonomy.of_prefix(item.name)
    table = load_labels(Path(labels))
    return lambda _, named: taxonomy.resolve(label_of(table, named, repeated))


def repeated_names(labels: str, items: Iterable[Item]) -> frozenset[str]:
    """Return the base names in a CSV file of labels that belong to more than one image.

    No image gets its label from such a base name.

    Parameters
    ----------
    labels : str
        See `label_rule`. If `labels` is not the path of a CSV file, the result is empty.
    items : iterable of Item
        All images. `items` is read only if the CSV file contains base names.

    Raises
    ------
    TaxonomyError
        If the CSV file cannot be used.
    """
    if labels in {"folder", "prefix"}:
        return frozenset()
    names = {name for name in load_labels(Path(labels)) if "/" not in name}
    counts = Counter(item.name for item in items if item.name in names) if names else Counter()
    return frozenset(name for name, times in counts.items() if times > 1)


def remembered(
    catalog: Catalog, labels: str | None, taxonomy: Taxonomy | None, keep_unknown: bool | None
) -> tuple[str, Taxonomy]:
    """Return the label rule and the taxonomy of a store, and save both in the store.

    If an option is None, the value of the last run is used. In the first run, the defaults are the names of the folders
    as labels, and the built-in taxonomy. Therefore, images keep their labels if a store is indexed again without these
    options.
    """
    if labels is None:
        labels = catalog.meta("labels") or "folder"
    elif labels not in {"folder", "prefix"}:
        labels = str(Path(labels).absolute())
    taxonomy = taxonomy or taxonomy_of(catalog)
    if keep_unknown is not None:
        taxonomy = Taxonomy(taxonomy.version, taxonomy.categories, keep_unknown=keep_unknown)
    label_rule(labels, taxonomy)  # if the table cannot be used, this raises an error before the path is saved
    catalog.set_meta("labels", labels)
    catalog.set_meta("taxonomy", taxonomy_to_json(taxonomy))
    return labels, taxonomy
