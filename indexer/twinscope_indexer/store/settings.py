"""Settings of a store that readers need; at present, the taxonomy is the only such setting."""

from __future__ import annotations

from functools import lru_cache

from twinscope_indexer.store.catalog.catalog import Catalog
from twinscope_indexer.taxonomy import Taxonomy, builtin_taxonomy, taxonomy_from_json


def taxonomy_of(catalog: Catalog) -> Taxonomy:
    """Return the taxonomy with which a store was last labelled, or the built-in taxonomy if the store has none."""
    text = catalog.meta("taxonomy")
    return builtin_taxonomy() if text is None else _read(text)


_read = lru_cache(maxsize=8)(taxonomy_from_json)  # kept in memory, because every write needs the taxonomy
