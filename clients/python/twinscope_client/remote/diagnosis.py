"""Diagnosis of a failed connection: TLS on one side only, and certificates that are not trusted.

gRPC repeats a call for several seconds, although no repetition can cure these failures.
"""

from __future__ import annotations

import re
import socket
import ssl
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import grpc

from twinscope_client.errors import ServerError
from twinscope_client.remote.proxy import proxy_of

if TYPE_CHECKING:
    from twinscope_client.engine.options import AsyncConnectOptions, ConnectOptions

    AnyOptions = ConnectOptions | AsyncConnectOptions

_UNTRUSTED: Final = re.compile(r"CERTIFICATE_VERIFY_FAILED: (.+?)(?:: OK)?$")
_OTHER_NAME: Final = "Hostname Verification Check failed"
_UNREACHABLE: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_SECONDS: Final = 3.0
"""Maximum duration of a connection that only finds out the cause of a failure."""


def hopeless(error: BaseException | None, target: str, options: AnyOptions) -> ServerError | None:
    """Return the exception for a failed call that fails again if it is repeated; None if it may succeed.

    Parameters
    ----------
    error : exception
        The error that gRPC raised.
    target : str
        Address of the server.
    options : ConnectOptions or AsyncConnectOptions
        Options of the connection.
    """
    call: Any = error
    if not isinstance(error, grpc.RpcError) or call.code() not in _UNREACHABLE:
        return None
    parts = urlsplit(target)
    host, port = parts.hostname or "", parts.port or 0
    text = call.details() or ""
    with_tls = parts.scheme == "grpcs"
    if with_tls and _OTHER_NAME in text:
        names = _names(host, port, options)
        return _failure(target, text, f": it is for {', '.join(names)}" if names else "")
    if with_tls and _UNTRUSTED.search(text):
        return _failure(target, text)
    if proxy_of(host) is not None or _speaks_tls(host, port) is not (not with_tls):
        return None
    if with_tls:
        why = f"this port does not use TLS: write grpc://{parts.netloc}"
    else:
        why = f"this port uses TLS: write grpcs://{parts.netloc}"
    return ServerError(f"{target}: {why}", code="UNAVAILABLE")


def untrusted(text: str, target: str) -> ServerError | None:
    """Return the exception for the text of an error which means that the certificate is not trusted, or None."""
    return _failure(target, text) if _OTHER_NAME in text or _UNTRUSTED.search(text) else None


def _failure(target: str, text: str, names: str = "") -> ServerError:
    found = _UNTRUSTED.search(text)
    if found is None:
        why = f"the name in the certificate differs from this address{names}"
        how = "connect with a name that the certificate contains, or give the server a certificate for this address"
    else:
        why = found[1]
        how = "name the certificate authority with --ca or connect(..., ca=...)"
        if "expired" in why or "not yet valid" in why:
            how = "renew the certificate of the server, and check the clocks of both machines"
    return ServerError(f"{target}: the certificate of the server is not trusted: {why} ({how})", code="UNAVAILABLE")


def _speaks_tls(host: str, port: int) -> bool | None:
    """Return whether a port uses TLS, or None if this is unknown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent over this connection
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((host, port), timeout=_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            return True
    except ssl.SSLEOFError:
        return None
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except OSError:
        return None


def _names(host: str, port: int, options: AnyOptions) -> list[str]:
    """Return the names in the certificate of a server. The list is empty if they cannot be read."""
    ca, certificate, key = options.get("ca"), options.get("certificate"), options.get("key")
    try:
        context = ssl.create_default_context(cafile=ca)
        context.check_hostname = False
        context.set_alpn_protocols(["h2"])
        if certificate is not None:
            context.load_cert_chain(certificate, key)
        with (
            socket.create_connection((host, port), timeout=_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            found: Any = secure.getpeercert() or {}
    except (OSError, ValueError):
        return []
    return [value for _, value in found.get("subjectAltName", ())]
