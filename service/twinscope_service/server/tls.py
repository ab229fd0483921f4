"""TLS of the server: the server reads certificates from files and reloads the files when they change."""

from __future__ import annotations

import logging
import ssl
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import grpc

from twinscope_service.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path


LOGGER = logging.getLogger("twinscope.server")


class Certificates:
    """Certificate and private key of a server, and the authorities that issue client certificates.

    Parameters
    ----------
    certificate, key : Path
        Paths of the PEM files with the certificate chain and with the private key.
    client_ca : Path, optional
        Path of the PEM file with the authorities. If it is given, every client must present a certificate that one of
        these authorities issued.

    Raises
    ------
    SettingsError
        If a file cannot be read, or if the certificate and the key do not belong together.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None = None) -> None:
        self._files = (certificate, key) if client_ca is None else (certificate, key, client_ca)
        self._client_ca = client_ca
        self._lock = threading.Lock()
        self._stamp = self._stamped()
        self._first = self._read()
        self._warned = ""

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials for one port; the server checks at every handshake whether the files have changed."""
        # The function for a handshake may return None, which means "unchanged". The type stubs do not allow None.
        return grpc.dynamic_ssl_server_credentials(
            self._first, cast("Any", self._changed), require_client_authentication=self._client_ca is not None
        )

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        with self._lock:
            try:
                stamp = self._stamped()
                configuration = None if stamp == self._stamp else self._read()
            except SettingsError as error:  # another program may be replacing the files
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
            context.load_cert_chain(certificate, key, password="")  # fails for an encrypted key, without a prompt
        except (OSError, ssl.SSLError) as error:
            msg = f"{certificate} and {key} are not a certificate and its key: {error}"
            raise SettingsError(msg) from error
        try:
            if self._client_ca is not None:
                context.load_verify_locations(self._client_ca)
        except (OSError, ssl.SSLError) as error:
            msg = f"{self._client_ca} contains no certificate of an authority: {error}"
            raise SettingsError(msg) from error


def certificate_names(certificate: Path, key: Path) -> list[str]:
    """Return the names and addresses for which a certificate was issued, without patterns such as ``*.lab``.

    The list is empty if the certificate has expired. `ssl` decodes only a certificate that the other end of a
    connection has sent. This function therefore connects two ends in memory.

    Parameters
    ----------
    certificate, key : Path
        Paths of the PEM files.
    """
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the certificate itself is trusted
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        server.load_cert_chain(certificate, key, password="")
        client.load_verify_locations(certificate)
        ends = client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)
        for end in 2 * ends:
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
        found: Any = ends[0].getpeercert() or {}
    except (OSError, ValueError):
        return []
    return [name for _, name in found.get("subjectAltName", ()) if "*" not in name]
