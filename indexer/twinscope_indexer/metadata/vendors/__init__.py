"""Readers of the metadata of each vendor; every module defines a ``READER`` (see `vendor`)."""
