"""Bulk indexing: a collection of images into a store."""

from twinscope_indexer.indexing.relocation import relocate
from twinscope_indexer.indexing.run import IndexReport, count_images, index

__all__ = ["IndexReport", "count_images", "index", "relocate"]
