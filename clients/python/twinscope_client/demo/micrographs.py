"""Micrographs for demonstrations and tests: single ones, and a labelled collection with a lab's TIFFs."""

from twinscope_client.demo.acquisition import CATEGORIES, synthesise, window
from twinscope_client.demo.collection import DemoCollection, write_collection

__all__ = ["CATEGORIES", "DemoCollection", "synthesise", "window", "write_collection"]
