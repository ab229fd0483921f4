"""Labelling runs: the decisions, the journal, the labelled copies, the tables and the report."""
