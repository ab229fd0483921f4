"""Catalog of a store: an SQLite database with the images, settings, failures and generations."""
