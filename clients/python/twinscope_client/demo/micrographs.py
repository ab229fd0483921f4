"""Synthetic micrographs for demonstrations and tests.

They are single images, or a labelled collection with unlabelled TIFFs of a lab.
"""

from twinscope_client.demo.acquisition import CATEGORIES, synthesise, window
from twinscope_client.demo.collection import DemoCollection, write_collection

__all__ = ["CATEGORIES", "DemoCollection", "synthesise", "window", "write_collection"]
