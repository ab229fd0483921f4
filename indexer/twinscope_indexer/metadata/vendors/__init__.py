"""Readers of the metadata of all vendors. Every module in this folder defines a ``READER``; see `metadata.vendor`."""
