"""Synthetic micrographs for demonstrations and tests: single images, and a labelled collection with TIFFs of a lab."""

from twinscope_client.demo.acquisition import CATEGORIES, synthesise, window
from twinscope_client.demo.collection import DemoCollection, write_collection

__all__ = ["CATEGORIES", "DemoCollection", "synthesise", "window", "write_collection"]
