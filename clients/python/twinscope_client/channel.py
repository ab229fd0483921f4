"""Where a server is and how it is reached: its address, TLS, and when gRPC asks again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import grpc
from twinscope_indexer.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

_RETRIED_UPLOAD: Final = 64 << 20
"""Bytes of a larger upload are not kept, and it is not retried once so much was sent."""
_SERVICE_CONFIG: Final = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{"service": "twinscope.v1.SimilarityService"}, {"service": "twinscope.v1.CatalogService"}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.3s",  # 7.6 s together, longer than a restart takes
                    "maxBackoff": "5s",
                    "backoffMultiplier": 2.5,
                    # CANCELLED: a server that stops says so of calls that it has not taken up
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
"""Options of a channel to a server."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server is, and whether TLS is spoken with it.

    Attributes
    ----------
    address : str
        ``host:port``, as gRPC wants it.
    credentials : grpc.ChannelCredentials or None
        None: without TLS.
    """

    address: str
    credentials: grpc.ChannelCredentials | None

    @classmethod
    def of(cls, target: str, token: Any, ca: Path | None, certificate: Path | None, key: Path | None) -> Endpoint:
        """Understand a target.

        Parameters
        ----------
        target : str
            ``grpc://host:port`` without TLS, ``grpcs://host:port`` with it.
        token : object
            None if no token will be sent.
        ca, certificate, key : Path, optional
            PEM files: authorities to trust instead of the system's, and the client's own certificate (mTLS).

        Raises
        ------
        SettingsError
            If the target or a file cannot be used, or a token would cross the network in plain text.
        """
        msg = f"{target} is no server: write grpc://host:port, or grpcs://host:port with TLS"
        try:
            parts = urlsplit(target)
            port = parts.port
        except ValueError as error:
            raise SettingsError(msg) from error
        if parts.scheme not in {"grpc", "grpcs"} or not parts.hostname or not port or parts.path.strip("/"):
            raise SettingsError(msg)
        address = f"[{parts.hostname}]:{port}" if ":" in parts.hostname else f"{parts.hostname}:{port}"
        if parts.scheme == "grpcs":
            return cls(address, _tls(ca, certificate, key))
        if token is not None and not _is_loopback(parts.hostname):
            msg = f"a token would cross the network to {parts.hostname} in plain text: use grpcs://"
            raise SettingsError(msg)
        return cls(address, None)


def _tls(ca: Path | None, certificate: Path | None, key: Path | None) -> grpc.ChannelCredentials:
    try:
        files = [None if file is None else file.read_bytes() for file in (ca, key, certificate)]
    except OSError as error:
        msg = f"{error.filename} cannot be read: {error.strerror}"
        raise SettingsError(msg) from error
    return grpc.ssl_channel_credentials(*files)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
