"""The rules by which an image of the labelled collection gets its category."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from twinscope_indexer.taxonomy import label_of, load_labels

if TYPE_CHECKING:
    from twinscope_indexer.corpus import Item
    from twinscope_indexer.taxonomy import Category, Taxonomy


class LabelRule(Protocol):
    """Gives the category of an image."""

    def __call__(self, item: Item, named: str, /) -> Category:
        """Give the category of an image.

        Parameters
        ----------
        item : Item
        named : str
            Its path below the source that the user named, which may lie below the item's root.

        Raises
        ------
        TaxonomyError
            If it has none.
        """


def label_rule(labels: str, taxonomy: Taxonomy) -> LabelRule:
    """Make the rule that a user asked for.

    Parameters
    ----------
    labels : str
        ``folder`` (the name of the folder or archive), ``prefix`` (the code before the file name), or the path of a
        CSV with the columns ``file`` and ``category``.
    taxonomy : Taxonomy

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
    return lambda _, named: taxonomy.resolve(label_of(table, named))
