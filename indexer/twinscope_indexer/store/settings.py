"""Settings of a store that readers need; at present, the taxonomy is the only such setting."""

from __future__ import annotations

from functools import lru_cache

from twinscope_indexer.store.catalog.catalog import Catalog
from twinscope_indexer.taxonomy import Taxonomy, builtin_taxonomy, taxonomy_from_json


def taxonomy_of(catalog: Catalog) -> Taxonomy:
    """Return the taxonomy of the last run on a store; by default, the built-in taxonomy."""
    text = catalog.meta("taxonomy")
    return builtin_taxonomy() if text is None else _read(text)


_read = lru_cache(maxsize=8)(taxonomy_from_json)  # kept in memory, because every write needs the taxonomy
