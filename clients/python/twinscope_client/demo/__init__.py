"""Functions that make synthetic micrographs, and a demonstration collection of synthetic micrographs."""
