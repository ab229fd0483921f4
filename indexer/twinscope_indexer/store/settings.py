"""Settings a catalogue remembers: the taxonomy and the rule of labels."""

from __future__ import annotations

from functools import lru_cache

from twinscope_indexer.store.catalog.catalog import Catalog
from twinscope_indexer.taxonomy import Taxonomy, builtin_taxonomy, taxonomy_from_json


def taxonomy_of(catalog: Catalog) -> Taxonomy:
    """Return the taxonomy of a store: the one that it was labelled by the last time, at first the built-in one."""
    text = catalog.meta("taxonomy")
    return builtin_taxonomy() if text is None else _read(text)


_read = lru_cache(maxsize=8)(taxonomy_from_json)  # asked for by every write, and changed by hardly any
