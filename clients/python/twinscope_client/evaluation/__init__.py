"""Evaluation of a labelling run: the labels are compared with a table of truth."""
