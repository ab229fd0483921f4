"""Synthetic micrographs, and a demonstration collection of synthetic micrographs."""
