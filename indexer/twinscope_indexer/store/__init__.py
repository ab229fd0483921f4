"""A store: its catalogue, its published states, its readers and its one writer."""

from twinscope_indexer.store.reader import Store
from twinscope_indexer.store.view import StoreWarning, View
from twinscope_indexer.store.writer import StoreWriter, open_writer

__all__ = ["Store", "StoreWarning", "StoreWriter", "View", "open_writer"]
