"""Measurements on a pair of images."""
