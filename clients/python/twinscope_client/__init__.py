"""Applies the labels: ``connect()``, the ``twinscope`` command, reports."""

from twinscope_client.connect import connect

__all__ = ["connect"]
