"""Engines, which answer queries: their protocol, and the engine for a store opened in this process."""
