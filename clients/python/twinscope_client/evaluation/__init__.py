"""A labelling run compared with a table of truth."""
