"""The settings of a store that readers need: its taxonomy."""

from __future__ import annotations

from functools import lru_cache

from twinscope_indexer.store.catalog.catalog import Catalog
from twinscope_indexer.taxonomy import Taxonomy, builtin_taxonomy, taxonomy_from_json


def taxonomy_of(catalog: Catalog) -> Taxonomy:
    """Return the taxonomy by which a store was last labelled; the built-in one if none is stored."""
    text = catalog.meta("taxonomy")
    return builtin_taxonomy() if text is None else _read(text)


_read = lru_cache(maxsize=8)(taxonomy_from_json)  # read for every write, but rarely changed
