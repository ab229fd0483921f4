"""Evaluation of a labelling run by comparison with a truth table."""
