"""Matching: from a query to an answer through candidates, comparison and verdict."""
