"""TLS of the server: certificates from files, reloaded when the files change."""

from __future__ import annotations

import logging
import ssl
import threading
from typing import TYPE_CHECKING, Any, cast

import grpc

from twinscope_service.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path


LOGGER = logging.getLogger("twinscope.server")


class Certificates:
    """Certificate, key and client authorities of a server.

    Parameters
    ----------
    certificate, key : Path
        PEM files of the chain and the private key.
    client_ca : Path, optional
        PEM file of authorities; if given, clients must present a certificate issued by one of them.

    Raises
    ------
    SettingsError
        If a file cannot be read.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None = None) -> None:
        self._files = (certificate, key) if client_ca is None else (certificate, key, client_ca)
        self._client_ca = client_ca
        self._lock = threading.Lock()
        self._stamp = self._stamped()
        self._first = self._read()
        self._warned = ""

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials for one port; every handshake checks whether the files have changed."""
        # The fetcher may return None for "unchanged", which the type stubs do not allow.
        return grpc.dynamic_ssl_server_credentials(
            self._first, cast("Any", self._changed), require_client_authentication=self._client_ca is not None
        )

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        with self._lock:
            try:
                stamp = self._stamped()
                configuration = None if stamp == self._stamp else self._read()
            except SettingsError as error:  # perhaps they are being replaced
                if str(error) != self._warned:
                    LOGGER.warning("%s; the previous certificate stays in use until the files can be loaded", error)
                self._warned = str(error)
                return None
            self._stamp, self._warned = stamp, ""
            return configuration

    def _stamped(self) -> list[tuple[int, int, int]]:
        stamps = []
        for file in self._files:
            try:
                stat = file.stat()
            except OSError as error:
                msg = f"{file} cannot be read: {error.strerror}"
                raise SettingsError(msg) from error
            stamps.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
        return stamps

    def _read(self) -> grpc.ServerCertificateConfiguration:
        texts = []
        for file in self._files:
            try:
                texts.append(file.read_bytes())
            except OSError as error:
                msg = f"{file} cannot be read: {error.strerror}"
                raise SettingsError(msg) from error
        self._require_pair()
        certificate, key, *rest = texts
        return grpc.ssl_server_certificate_configuration([(key, certificate)], rest[0] if rest else None)

    def _require_pair(self) -> None:
        certificate, key = self._files[:2]
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key, password="")  # refuses an encrypted key, without a prompt
        except (OSError, ssl.SSLError) as error:
            msg = f"{certificate} and {key} are not a certificate and its key: {error}"
            raise SettingsError(msg) from error
        try:
            if self._client_ca is not None:
                context.load_verify_locations(self._client_ca)
        except (OSError, ssl.SSLError) as error:
            msg = f"{self._client_ca} contains no certificate of an authority: {error}"
            raise SettingsError(msg) from error
