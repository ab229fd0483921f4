"""A labelling run: decisions, the journal, outputs, tables, the report."""
