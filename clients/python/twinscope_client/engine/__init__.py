"""Engines answer queries. This package defines the methods of all engines, and the engine for a store in a folder."""
