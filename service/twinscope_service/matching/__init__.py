"""Matching: finds candidates for a query, compares them with the query, and decides on the answer."""
