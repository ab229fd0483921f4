"""Catalog of a store, an SQLite database of images, settings, failures and generations."""
