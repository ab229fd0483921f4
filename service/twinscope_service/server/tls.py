"""TLS of the server: certificates from files, taken up anew when the files change."""

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
        PEM; the chain and the private key.
    client_ca : Path, optional
        PEM; with it clients must show a certificate of one of these authorities.

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
        self._told = ""

    def credentials(self) -> grpc.ServerCredentials:
        """Make credentials for one port; asked at every handshake, they follow the files."""
        # The fetcher may give None for "unchanged", which the published types do not say.
        return grpc.dynamic_ssl_server_credentials(
            self._first, cast("Any", self._changed), require_client_authentication=self._client_ca is not None
        )

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        with self._lock:
            try:
                stamp = self._stamped()
                configuration = None if stamp == self._stamp else self._read()
            except SettingsError as error:  # perhaps they are being replaced
                if str(error) != self._told:
                    LOGGER.warning("%s; the certificate read last stays in use until the files are whole", error)
                self._told = str(error)
                return None
            self._stamp, self._told = stamp, ""
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
            context.load_cert_chain(certificate, key, password="")  # an encrypted key is refused, not asked for
        except (OSError, ssl.SSLError) as error:
            msg = f"{certificate} and {key} are no certificate and its key: {error}"
            raise SettingsError(msg) from error
        try:
            if self._client_ca is not None:
                context.load_verify_locations(self._client_ca)
        except (OSError, ssl.SSLError) as error:
            msg = f"{self._client_ca} holds no certificates of authorities: {error}"
            raise SettingsError(msg) from error
