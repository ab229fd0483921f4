"""Where images come from: folders, files and archives."""

from twinscope_indexer.sources.corpus import Item, Scope, Walk, scope_of, walk
from twinscope_indexer.sources.location import read_source

__all__ = ["Item", "Scope", "Walk", "read_source", "scope_of", "walk"]
