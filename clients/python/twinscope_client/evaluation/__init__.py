"""Evaluation of a labelling run by a table of truth."""
