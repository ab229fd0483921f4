"""Proxies: which proxy gRPC uses for a server. gRPC reads the proxy from environment variables."""

from __future__ import annotations

import os
import re
from ipaddress import ip_address, ip_network
from typing import Final, NamedTuple

_VARIABLES: Final = ("grpc_proxy", "https_proxy", "http_proxy")
"""Environment variables that gRPC reads, in this order. gRPC uses only the first variable that is set."""
_EXCEPTIONS: Final = ("no_grpc_proxy", "no_proxy")


class Proxy(NamedTuple):
    """A proxy, without user name and password, and the environment variable that names the proxy."""

    address: str
    variable: str


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine."""
    try:
        address = ip_address(host)
    except ValueError:
        return host.lower().rstrip(".") == "localhost" or host.lower().rstrip(".").endswith(".localhost")
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified


def proxy_of(host: str) -> Proxy | None:
    """Return the proxy through which gRPC connects to a host, or None if gRPC connects directly."""
    if is_loopback(host):
        return None
    variable = next((name for name in _VARIABLES if name in os.environ), None)
    if variable is None or re.match("http://", os.environ[variable]) is None:
        return None  # gRPC knows no other kind of proxy
    exceptions = next((os.environ[name] for name in _EXCEPTIONS if name in os.environ), "")
    if any(_covers(entry.strip(), host) for entry in exceptions.split(",")):
        return None
    return Proxy(re.sub("//.*@", "//", os.environ[variable]), variable)


def by_proxy(host: str) -> str:
    """Return the part of an error message that names the proxy of a host; empty if there is no proxy."""
    proxy = proxy_of(host)
    if proxy is None:
        return ""
    return (
        f"; the connection goes through the proxy {proxy.address} of the environment variable {proxy.variable}: to "
        f"connect directly, add {host} to no_proxy"
    )


def _covers(entry: str, host: str) -> bool:
    if not entry:
        return False
    try:
        return ip_address(host) in ip_network(entry, strict=False)
    except ValueError:
        return host.lower().endswith(entry.lower())
