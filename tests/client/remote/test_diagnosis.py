"""A failed connection names its cause: TLS on one side only, another name in the certificate, or a proxy."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from raw_client import Authority, authority
from shelf import Shelf
from twinscope_client import connect
from twinscope_client.errors import ServerError
from twinscope_client.remote.engine import RemoteEngine
from twinscope_client.remote.proxy import is_loopback, proxy_of
from twinscope_client.testing import serving
from twinscope_service.server.tls import certificate_names

PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ca"), "ca")


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[bytes]]]:
    """A proxy that refuses every connection, and a list of the requests to the proxy."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def refuse() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    asked.append(connection.recv(4096))
                    connection.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")

        threading.Thread(target=refuse, daemon=True).start()
        for name in (*PROXIES, "no_proxy", "no_grpc_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield f"127.0.0.1:{server.getsockname()[1]}", asked
        server.shutdown(socket.SHUT_RDWR)


def test_no_proxy_is_used_for_this_machine(
    shelf: Shelf, proxy: tuple[str, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PROXIES:
        monkeypatch.setenv(name, f"http://{proxy[0]}")
    with serving(shelf.store) as target:
        for host in ("127.0.0.1", "localhost"):
            with connect(target.replace("127.0.0.1", host)) as engine:
                assert engine.stats()["images"] == 6
    assert proxy[1] == []


def test_a_failure_names_the_proxy(proxy: tuple[str, list[bytes]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", f"http://ann:secret@{proxy[0]}")
    with pytest.raises(ServerError) as caught:
        connect("grpc://match.invalid:50051", timeout=2)
    assert f"the proxy http://{proxy[0]} of the environment variable https_proxy" in str(caught.value)
    assert "add match.invalid to no_proxy" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert proxy[1][0].startswith(b"CONNECT match.invalid:50051 ")


def test_the_proxy_is_that_of_grpc(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, "no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert proxy_of("match.lab") is None
    monkeypatch.setenv("http_proxy", "http://one:1")
    assert proxy_of("match.lab") == ("http://one:1", "http_proxy")
    monkeypatch.setenv("grpc_proxy", "http://two:2")
    assert proxy_of("match.lab") == ("http://two:2", "grpc_proxy")
    monkeypatch.setenv("no_proxy", "other.org, .lab,10.0.0.0/8")
    assert [proxy_of(host) is None for host in ("match.lab", "match.org", "10.1.2.3", "11.1.2.3")] == [
        True, False, True, False,
    ]  # fmt: skip
    monkeypatch.setenv("grpc_proxy", "")
    assert proxy_of("match.org") is None


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "a.localhost", "127.9.9.9", "::1", "::ffff:127.0.0.1", "0.0.0.0"]
)
def test_this_machine_is_recognised(host: str) -> None:
    assert is_loopback(host)
    assert not is_loopback("localhost.example")


def test_tls_on_one_side_only_is_told_on_one_line(
    shelf: Shelf, ca: Authority, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = ca.issue("one-side")
    with serving(shelf.store) as plain, pytest.raises(ServerError) as caught:
        connect(plain.replace("grpc:", "grpcs:"), ca=ca.pem)
    address = plain.removeprefix("grpc://")
    assert str(caught.value) == f"grpcs://{address}: this port does not use TLS: write grpc://{address}"
    with (
        serving(shelf.store, tls_certificate=certificate, tls_key=key) as secure,
        pytest.raises(ServerError) as caught,
    ):
        connect(secure.replace("grpcs:", "grpc:"), timeout=1)
    address = secure.removeprefix("grpcs://")
    assert str(caught.value) == f"grpc://{address}: this port uses TLS: write grpcs://{address}"
    assert capfd.readouterr().err == ""  # gRPC itself has written no message


def test_another_name_is_named(shelf: Shelf, ca: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = ca.issue("named")
    with (
        serving(shelf.store, tls_certificate=certificate, tls_key=key, host="127.0.0.2") as target,
        pytest.raises(ServerError) as caught,
    ):
        connect(target, ca=ca.pem)
    assert "it is for localhost, 127.0.0.1" in str(caught.value)
    assert "--ca" not in str(caught.value)


def test_a_server_on_all_addresses_names_one_that_its_certificate_has(shelf: Shelf, ca: Authority) -> None:
    certificate, key = ca.issue("all-addresses")
    assert certificate_names(certificate, key) == ["localhost", "127.0.0.1"]
    with serving(shelf.store, tls_certificate=certificate, tls_key=key, host="0.0.0.0") as target:
        assert target.startswith("grpcs://localhost:")
        RemoteEngine(target, ca=ca.pem).close()
    with serving(shelf.store, insecure=True, host="0.0.0.0") as target:
        assert target.startswith("grpc://127.0.0.1:")
    late, late_key = ca.issue("all-late", days=-1)
    assert certificate_names(late, late_key) == []
    assert certificate_names(Path("none.pem"), Path("none.key")) == []
