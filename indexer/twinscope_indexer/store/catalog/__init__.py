"""The catalog (SQLite): images, settings, failures, generations."""
