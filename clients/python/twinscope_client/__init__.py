"""The client of Twinscope: the functions `connect` and `aio.connect`, the command ``twinscope``, labelling, reports."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from twinscope_client.connect import connect

if TYPE_CHECKING:
    from twinscope_client import aio

# gRPC reads the variable when it is imported. With its support of forks, gRPC sometimes waits for ever during a fork.
# Forked processes therefore never use gRPC; see `remote.channel.require_grpc`.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

__all__ = ["aio", "connect"]


def __getattr__(name: str) -> Any:
    """Import `twinscope_client.aio` only when a program uses it, because the import of gRPC is slow."""
    if name == "aio":
        return import_module("twinscope_client.aio")
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
