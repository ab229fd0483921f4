"""The connection to a server: the address, TLS, tokens, and the rules by which gRPC retries failed calls."""

from __future__ import annotations

import json
import os
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import grpc
from twinscope_indexer.compute.forking import in_child
from twinscope_service.errors import OptionError, SettingsError

from twinscope_client.engine.target import server_meant
from twinscope_client.errors import FORKED_CONNECTION, ServerError
from twinscope_client.remote.proxy import is_loopback

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from twinscope_client.engine.options import AsyncConnectOptions, AsyncToken, ConnectOptions, File

DEFAULT_TIMEOUT: Final = 60.0
"""Default maximum duration of one call, in seconds."""

_RETRIED_UPLOAD: Final = 64 << 20
"""Maximum size of an upload that gRPC can retry, in bytes. gRPC keeps the sent messages in a buffer of this size; if a
client has sent more, a failed upload is not retried."""
_SERVICE_CONFIG: Final = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{"service": "twinscope.v1.SimilarityService"}, {"service": "twinscope.v1.CatalogService"}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    # The waiting times of all retries add up to 7.6 s. The restart of a server takes less time.
                    "initialBackoff": "0.3s",
                    "maxBackoff": "5s",
                    "backoffMultiplier": 2.5,
                    # A server that is stopping returns CANCELLED for calls that it has not started.
                    "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED"],
                },
            }
        ]
    }
)
OPTIONS: Final = (
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.max_receive_message_length", -1),
    ("grpc.per_rpc_retry_buffer_size", _RETRIED_UPLOAD),
    ("grpc.keepalive_time_ms", 60_000),
)
"""Options of the gRPC channel to a server."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of a server, and the credentials for TLS.

    Attributes
    ----------
    address : str
        Address of the server in the form ``host:port``, which gRPC expects.
    credentials : grpc.ChannelCredentials or None
        Credentials for TLS, or None without TLS.
    options : tuple of pairs
        Options of the gRPC channel. Environment variables for proxies do not apply to servers on this machine.
    """

    address: str
    credentials: grpc.ChannelCredentials | None
    options: tuple[tuple[str, Any], ...]

    @classmethod
    def of(cls, target: str, options: ConnectOptions | AsyncConnectOptions) -> Endpoint:
        """Convert a target to an endpoint, and check the options of the connection.

        Parameters
        ----------
        target : str
            Address of the server: ``grpc://host:port`` without TLS, ``grpcs://host:port`` with TLS.
        options : ConnectOptions or AsyncConnectOptions

        Raises
        ------
        SettingsError
            If the target, a PEM file or the token cannot be used, if PEM files are given for a target without TLS, or
            if a token would be sent over the network without encryption.
        """
        token = options.get("token")
        ca, certificate, key = (options.get("ca"), options.get("certificate"), options.get("key"))
        shown = re.sub(r"//[^/]*@", "//", target)  # error messages must not show a user name or a password
        meant = None if shown.startswith(("grpc://", "grpcs://")) else server_meant(shown)
        plain = meant or "grpc://host:port"
        msg = f"{shown} is not a server: write {plain}, or {plain.replace('grpc:', 'grpcs:')} with TLS"
        if plain.startswith("grpcs:"):
            msg = f"{shown} is not a server: write {plain}"
        try:
            parts = urlsplit(target)
            port = parts.port
        except ValueError as error:
            raise SettingsError(msg) from error
        more = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
        if parts.scheme not in {"grpc", "grpcs"} or not parts.hostname or not port or more:
            raise SettingsError(msg)
        if token is not None and not callable(token):
            bearer(current_token(token))
        address = f"[{parts.hostname}]:{port}" if ":" in parts.hostname else f"{parts.hostname}:{port}"
        proxies = (("grpc.enable_http_proxy", 0),) if is_loopback(parts.hostname) else ()
        if parts.scheme == "grpcs":
            return cls(address, _tls(ca, certificate, key), OPTIONS + proxies)
        if any(file is not None for file in (ca, certificate, key)):
            msg = f"ca, certificate and key require TLS, but {shown} is without TLS: write grpcs://{address}"
            raise SettingsError(msg)
        if token is not None and not is_loopback(parts.hostname):
            msg = f"the token would cross the network to {parts.hostname} in plain text: use grpcs://"
            raise SettingsError(msg)
        return cls(address, None, OPTIONS + proxies)


def open_channel(target: str, options: ConnectOptions) -> grpc.Channel:
    """Open a gRPC channel to a server.

    Raises
    ------
    SettingsError
        If the target, a PEM file or the token cannot be used, or if a token would be sent over the network without
        encryption.
    ServerError
        If gRPC cannot be used in this process; see `require_grpc`.
    """
    endpoint = Endpoint.of(target, options)
    require_grpc(target)
    if endpoint.credentials is None:
        return grpc.insecure_channel(endpoint.address, endpoint.options)
    return grpc.secure_channel(endpoint.address, endpoint.credentials, endpoint.options)


_used = False
"""Whether this process has connected to a server."""
_refused = False
"""Whether this process was forked after its parent process had connected to a server."""


def _refuse_if_used() -> None:
    global _refused
    _refused = _used


in_child(_refuse_if_used)


def require_grpc(target: str) -> None:
    """Check that this process can use gRPC, before a connection is opened.

    gRPC needs its own threads, and a forked process does not have the threads of its parent process. Without this
    check, a call in a forked process would wait for ever, or gRPC would crash.

    Raises
    ------
    ServerError
        If the process was forked after its parent process had connected to a server.
    """
    global _used
    if _refused:
        msg = f"{target}: this process cannot connect to a server: {FORKED_CONNECTION}"
        raise ServerError(msg, code="FAILED_PRECONDITION")
    _used = True


def seconds(options: ConnectOptions | AsyncConnectOptions) -> float:
    """Return the maximum duration of one call, in seconds.

    Raises
    ------
    OptionError
        If the timeout is not a positive number.
    """
    timeout = options.get("timeout")
    if timeout is None:
        return DEFAULT_TIMEOUT
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
        msg = f"timeout must be a number of seconds above 0, got {timeout!r}"
        raise OptionError(msg)
    return timeout


def current_token(token: AsyncToken) -> str | Awaitable[str]:
    """Return the current token: the text, the content of the file, or the result of the function.

    Raises
    ------
    SettingsError
        If the file cannot be read.
    """
    if callable(token):
        return token()
    if not isinstance(token, os.PathLike):
        return token
    try:
        return Path(token).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"token file {os.fspath(token)} cannot be read: {error}"
        raise SettingsError(msg) from error


def pickled_options(options: ConnectOptions | AsyncConnectOptions) -> dict[str, object]:
    """Return the options of a connection that are stored in a pickle.

    All paths in these options are absolute. The options never contain a token.

    Raises
    ------
    SettingsError
        If the token was given as text. Programs store pickles in files and queues, where a token would not be safe.
    """
    if isinstance(options.get("token"), str):
        msg = (
            "an engine whose token was given as text cannot be pickled, because the pickle would hold the token. Give "
            "connect(..., token=...) the Path of a file that holds the token, or a function of a module that returns "
            "the token"
        )
        raise SettingsError(msg)
    kept = dict(options)
    for name in ("token", "ca", "certificate", "key"):
        file = kept.get(name)
        if isinstance(file, (str, os.PathLike)):
            kept[name] = Path(file).absolute()
    return kept


def bearer(token: object) -> tuple[str, str]:
    """Return the name and the value of the request header that contains the token.

    Raises
    ------
    SettingsError
        If the token is not text, or if a header cannot contain this text. The error message does not show the token.
    """
    if not isinstance(token, str):
        msg = f"the token must be text, the Path of a file, or a function that returns text; got {type(token).__name__}"
        raise SettingsError(msg)
    if re.fullmatch("[!-~]([ -~]*[!-~])?", token) is None:
        fault = "starts or ends with a space, or holds a line end or a character outside ASCII" if token else "is empty"
        msg = f"the token {fault}: remove spaces and line ends, and check that this text is the token"
        raise SettingsError(msg)
    return "authorization", f"Bearer {token}"


def _tls(ca: File | None, certificate: File | None, key: File | None) -> grpc.ChannelCredentials:
    if (certificate is None) is not (key is None):
        msg = "certificate and key (--cert and --key) must be given together: give both or neither"
        raise SettingsError(msg)
    texts = [None if file is None else _pem(file) for file in (ca, key, certificate)]
    # OpenSSL checks the files first, because with a wrong file gRPC would abort the process or retry again and again.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if ca is not None:
            context.load_verify_locations(ca)
    except (OSError, ssl.SSLError) as error:
        msg = f"{ca} holds no certificates of authorities: {error}"
        raise SettingsError(msg) from error
    try:
        if certificate is not None:
            context.load_cert_chain(certificate, key, password="")  # for an encrypted key, an error and no prompt
    except (OSError, ssl.SSLError) as error:
        msg = f"{certificate} and {key} are not a certificate and its key: {error}"
        raise SettingsError(msg) from error
    return grpc.ssl_channel_credentials(*texts)


def _pem(file: File) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        msg = f"{file} cannot be read: {error.strerror}"
        raise SettingsError(msg) from error
