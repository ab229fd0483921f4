"""The rules that give an image of the labelled collection its category."""

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
            Its path below the source that the user gave. That source may lie below the item's root.

        Raises
        ------
        TaxonomyError
            If it has none.
        """


def label_rule(labels: str, taxonomy: Taxonomy, repeated: Container[str] = ()) -> LabelRule:
    """Return the rule that a user chose.

    Parameters
    ----------
    labels : str
        ``folder`` (the name of the folder or archive), ``prefix`` (the code before the file name), or the path of a
        CSV file with the columns ``file`` and ``category``.
    taxonomy : Taxonomy
    repeated : container of str
        Base names shared by several images; see `repeated_names`.

    Raises
    ------
    TaxonomyError
        If the CSV cannot be used.
    """
    if labels == "folder":
        return lambda item, _: taxonomy.of_folders(item.folders)
    if labels == "prefix":
        return lambda item, _: taxonomy.of_prefix(item.name)
    table = load_labels(Path(labels))
    return lambda _, named: taxonomy.resolve(label_of(table, named, repeated))


def repeated_names(labels: str, items: Iterable[Item]) -> frozenset[str]:
    """Return the base names in a CSV of labels that several images share and that must therefore label none of them.

    Parameters
    ----------
    labels : str
        As for `label_rule`; without a CSV the result is empty.
    items : iterable of Item
        All images; consumed only if the CSV has base names.

    Raises
    ------
    TaxonomyError
        If the CSV cannot be used.
    """
    if labels in {"folder", "prefix"}:
        return frozenset()
    names = {name for name in load_labels(Path(labels)) if "/" not in name}
    counts = Counter(item.name for item in items if item.name in names) if names else Counter()
    return frozenset(name for name, times in counts.items() if times > 1)


def remembered(
    catalog: Catalog, labels: str | None, taxonomy: Taxonomy | None, keep_unknown: bool | None
) -> tuple[str, Taxonomy]:
    """Return how a store is labelled, and remember it in the store.

    An option that is not given keeps its last value, at first folders and the built-in taxonomy: indexing a store
    again without its options must not relabel it.
    """
    if labels is None:
        labels = catalog.meta("labels") or "folder"
    elif labels not in {"folder", "prefix"}:
        labels = str(Path(labels).absolute())
    taxonomy = taxonomy or taxonomy_of(catalog)
    if keep_unknown is not None:
        taxonomy = Taxonomy(taxonomy.version, taxonomy.categories, keep_unknown=keep_unknown)
    label_rule(labels, taxonomy)  # refuse an unusable table before it is remembered
    catalog.set_meta("labels", labels)
    catalog.set_meta("taxonomy", taxonomy_to_json(taxonomy))
    return labels, taxonomy
