"""Measurements of the similarity of two images."""
