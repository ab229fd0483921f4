"""The catalogue (SQLite): images, settings, failures, generations."""
