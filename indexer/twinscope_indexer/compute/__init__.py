"""Execution of work: compiled functions, threads with ordered results, worker processes."""
