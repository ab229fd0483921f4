"""Answers which labelled image a micrograph is: search, verification, verdict."""
