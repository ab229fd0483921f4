"""From a query to an answer: candidates, comparison, verdict."""
