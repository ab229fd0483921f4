"""Synthetic micrographs, and the demonstration built on them."""
