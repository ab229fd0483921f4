"""The client of Twinscope: the functions `connect` and `aio.connect`, the command ``twinscope``, labelling, reports."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from twinscope_client.connect import connect

if TYPE_CHECKING:
    from twinscope_client import aio

__all__ = ["aio", "connect"]


def __getattr__(name: str) -> Any:
    """Import `twinscope_client.aio` only when a program uses it, because the import of gRPC is slow."""
    if name == "aio":
        return import_module("twinscope_client.aio")
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
