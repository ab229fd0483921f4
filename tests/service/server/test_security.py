"""Access control: addresses, certificates, tokens, and their settings."""

from __future__ import annotations

import json
import shutil
import socket
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import pytest
from raw_client import Authority, Failure, RawClient, authority, eventually, held
from shelf import Shelf
from twinscope.v1 import catalog_pb2, similarity_pb2
from twinscope_client import connect
from twinscope_client.cli.main import main
from twinscope_client.errors import AccessError, ServerError
from twinscope_client.testing import serving
from twinscope_service.errors import SettingsError
from twinscope_service.server.settings import ServerSettings, load_settings
from twinscope_service.server.tls import Certificates
from twinscope_service.server.tokens import Holder, Tokens, token_line

INDEX = catalog_pb2.GetIndexRequest()
READ_ONLY_METHODS = {"Search", "BatchSearch", "StreamSearch", "SearchByImage", "GetImage", "ListImages", "GetThumbnail",
                     "GetIndex"}  # fmt: skip


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if shutil.which("openssl") is None:
        pytest.skip("certificates are made with the openssl command")
    return authority(tmp_path_factory.mktemp("ca"), "lab")


def tls(certificate: tuple[Path, Path], **more: Any) -> dict[str, Any]:
    return {"tls_certificate": certificate[0], "tls_key": certificate[1], **more}


def trusting(ca: Authority, own: tuple[Path, Path] | None = None) -> grpc.ChannelCredentials:
    certificate, key = (None, None) if own is None else (path.read_bytes() for path in own)
    return grpc.ssl_channel_credentials(ca.pem.read_bytes(), key, certificate)


def refused(target: str, credentials: grpc.ChannelCredentials | None) -> Failure:
    with RawClient(target, credentials=credentials) as client:
        return client.failure(client.catalog.GetIndex, INDEX, 5)


# -- tokens ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    lines = ["# holders", token_line("ann", "read", "read-token"), "", token_line("bob", "write", "write-token")]
    path.write_text("\n".join(lines))
    return path


def test_token_is_required(shelf: Shelf, tokens: Path) -> None:
    digest = sha256(b"read-token").hexdigest()
    wrong = ["Bearer wrong", "Bearer ", "read-token", "Basic read-token", "Bearer read-token ", f"Bearer {digest}"]
    with serving(shelf.store, tokens=tokens) as target:
        for headers in ((), (("x-token", "read-token"),), *((("authorization", text),) for text in wrong)):
            with RawClient(target) as client:
                for method in (client.catalog.GetIndex, client.similarity.StreamSearch):
                    request = INDEX if method is client.catalog.GetIndex else iter(())
                    failure = client.failure(method, request, metadata=headers)
                    assert (failure.code, failure.reason) == ("UNAUTHENTICATED", "TOKEN_INVALID"), headers
                assert client.serving() == "SERVING"
        for token in ("read-token", "write-token"):
            with RawClient(target, token) as client:
                client.call(client.catalog.GetIndex, INDEX)
            with connect(target, token=token) as engine:
                assert engine.search(shelf.reference("Tips", 0)).grade == "excellent"
        for wrong in (None, "wrong"):
            with pytest.raises(AccessError, match="--token-file") as caught:
                connect(target, token=wrong)
            assert (caught.value.code, caught.value.retriable) == ("UNAUTHENTICATED", False)


def test_read_token_cannot_write(shelf: Shelf, tokens: Path) -> None:
    with serving(shelf.store, tokens=tokens) as target, RawClient(target, "read-token") as client:
        for method, request in (
            (client.catalog.BatchUpsertImages, catalog_pb2.BatchUpsertImagesRequest()),
            (client.catalog.StreamUpsertImages, iter(())),
            (client.catalog.UploadImages, iter(())),
            (client.catalog.BatchDeleteImages, catalog_pb2.BatchDeleteImagesRequest(image_ids=["0" * 16])),
        ):
            failure = client.failure(method, request)
            assert (failure.code, failure.reason) == ("PERMISSION_DENIED", "ROLE_MISSING")
            assert failure.metadata == {"role": "write"}
        with RawClient(target, "write-token") as writer:
            assert writer.failure(writer.catalog.BatchUpsertImages, catalog_pb2.BatchUpsertImagesRequest()).reason == (
                "INVALID_FIELD"
            )


def test_every_method_is_listed_as_reading_or_writing() -> None:
    """A method that is missing in the list would be open to read tokens."""
    from twinscope_service.server.interceptor import _WRITES

    methods = {
        method.name
        for file in (similarity_pb2, catalog_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert methods == READ_ONLY_METHODS | _WRITES
    assert not READ_ONLY_METHODS & _WRITES


def test_tokens_are_added_and_revoked_without_a_restart(shelf: Shelf, tokens: Path) -> None:
    with (
        serving(shelf.store, tokens=tokens) as target,
        RawClient(target, "read-token") as old,
        RawClient(target, "new-token") as new,
    ):
        old.call(old.catalog.GetIndex, INDEX)
        assert new.failure(new.catalog.GetIndex, INDEX).reason == "TOKEN_INVALID"
        replacement = tokens.with_name("new")
        replacement.write_text(token_line("eve", "read", "new-token"))
        replacement.replace(tokens)
        new.call(new.catalog.GetIndex, INDEX)
        assert old.failure(old.catalog.GetIndex, INDEX).reason == "TOKEN_INVALID"
        tokens.write_text("half a li")
        new.call(new.catalog.GetIndex, INDEX)


def test_call_without_a_token_fails_before_its_request(shelf: Shelf, tokens: Path) -> None:
    with serving(shelf.store, tokens=tokens) as target, RawClient(target) as client, held() as stream:
        search = client.channel.stream_unary("/twinscope.v1.SimilarityService/Search", request_serializer=bytes)
        assert client.failure(search, stream).reason == "TOKEN_INVALID"


def test_unreadable_token_file_is_logged_once_per_change(
    shelf: Shelf, tokens: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = tokens.read_bytes()
    with serving(shelf.store, tokens=tokens) as target, RawClient(target, "read-token") as client:

        def warnings() -> list[str]:
            caplog.clear()
            for _ in range(3):
                client.call(client.catalog.GetIndex, INDEX)
            return [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]

        assert warnings() == []
        for damage in ("half a li", "# nobody\nann admin"):
            tokens.write_text(damage)
            [text] = warnings()
            assert str(tokens) in text
            assert "stay valid" in text
        tokens.unlink()
        [text] = warnings()
        assert "cannot be read" in text
        tokens.write_bytes(whole)
        assert warnings() == []
        tokens.unlink()
        assert len(warnings()) == 1


def test_client_gets_the_token_for_every_call(shelf: Shelf, tokens: Path) -> None:
    given = iter(["read-token", "wrong", "write-token"])
    with serving(shelf.store, tokens=tokens) as target, connect(target, token=lambda: next(given)) as engine:
        with pytest.raises(AccessError):
            engine.stats()
        engine.stats()


@pytest.mark.parametrize("line", ["ann read", "ann admin " + "0" * 64, "ann read " + "0" * 63, "ann " + "0" * 64])
def test_malformed_token_file_is_reported_by_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "tokens").write_text(f"# comment\n{line}\n")
    with pytest.raises(SettingsError, match="line 2"):
        Tokens(tmp_path / "tokens")
    with pytest.raises(SettingsError, match="cannot be read"):
        Tokens(tmp_path / "missing")


def test_tokens_are_not_stored(tmp_path: Path) -> None:
    line = token_line("ann", "write", "sesame")
    assert "sesame" not in line
    (tmp_path / "tokens").write_text(f"{line} # of Ann\n")
    assert Tokens(tmp_path / "tokens").holder("sesame") == Holder("ann", "write")
    assert Tokens(tmp_path / "tokens").holder("sesam") is None


def test_token_never_crosses_the_network_in_plain_text(tokens: Path) -> None:
    with pytest.raises(SettingsError, match="plain text"):
        connect("grpc://192.0.2.1:50051", token="secret")
    with pytest.raises(SettingsError, match="plain text"):
        ServerSettings(host="192.0.2.1", insecure=True, tokens=tokens)


# -- TLS ---------------------------------------------------------------------------------------------------------------


def test_tls_with_a_private_authority(shelf: Shelf, ca: Authority, tmp_path: Path) -> None:
    with serving(shelf.store, **tls(ca.issue("server"))) as target:
        assert target.startswith("grpcs://127.0.0.1:")
        with connect(target, ca=ca.pem) as engine:
            assert engine.search(shelf.reference("Tips", 0)).grade == "excellent"
        for wrong in (grpc.ssl_channel_credentials(), trusting(authority(tmp_path, "foreign")), None):
            assert refused(target, wrong).code == "UNAVAILABLE"
        for plain, foreign in ((target.replace("grpcs", "grpc"), None), (target, tmp_path / "foreign.pem")):
            with pytest.raises(ServerError, match="grpcs://"):
                connect(plain, ca=foreign, timeout=1)
        with connect(target, ca=ca.pem) as engine:
            engine.stats()


def test_expired_certificate_is_not_accepted(shelf: Shelf, ca: Authority) -> None:
    with serving(shelf.store, **tls(ca.issue("expired", days=-1))) as target:
        failure = refused(target, trusting(ca))
    assert failure.code == "UNAVAILABLE"
    assert "expired" in failure.message


def test_client_certificates_can_be_required(shelf: Shelf, ca: Authority, tmp_path: Path) -> None:
    foreign = authority(tmp_path, "foreign").issue("guest")
    expired = ca.issue("late", days=-1)
    settings = tls(ca.issue("server"), tls_client_ca=ca.pem)
    with serving(shelf.store, **settings) as target:
        for own in (None, foreign, expired):
            assert refused(target, trusting(ca, own)).code == "UNAVAILABLE"
        certificate, key = ca.issue("client")
        with connect(target, ca=ca.pem, certificate=certificate, key=key) as engine:
            assert engine.stats()["images"] == 6


def test_certificates_are_rotated_without_a_restart(
    shelf: Shelf, ca: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    second = authority(tmp_path, "second")
    certificate, key = (shutil.copy(path, tmp_path / name) for path, name in zip(ca.issue("server"), "ck", strict=True))

    def reachable(trusted: Authority) -> bool:
        with RawClient(target, credentials=trusting(trusted)) as client:
            try:
                client.call(client.catalog.GetIndex, INDEX, 3)
            except grpc.RpcError:
                return False
            return True

    with serving(shelf.store, **tls((Path(certificate), Path(key)))) as target:
        assert (reachable(ca), reachable(second)) == (True, False)
        new = second.issue("server")
        shutil.copy(new[0], certificate)  # for a moment, certificate and key do not match, so the old pair stays in use
        assert (reachable(ca), reachable(second)) == (True, False)
        shutil.copy(new[1], key)
        assert (reachable(ca), reachable(second)) == (False, True)
        caplog.clear()
        Path(key).unlink()
        assert [reachable(second) for _ in range(2)] == [True, True]
        [text] = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
        assert f"{key} cannot be read" in text


def test_invalid_certificate_files_are_reported_at_start(ca: Authority, tmp_path: Path) -> None:
    certificate, key = ca.issue("server")
    (tmp_path / "text").write_text("no PEM")
    for files in ((tmp_path / "none", key, None), (certificate, ca.issue("x")[1], None),
                  (tmp_path / "text", key, None), (certificate, key, tmp_path / "text")):  # fmt: skip
        with pytest.raises(SettingsError, match=r"none|server|text"):
            Certificates(*files)


# -- addresses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "lab.example", ""])
def test_tls_is_required_beyond_this_machine(shelf: Shelf, host: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SettingsError, match="--insecure"):
        ServerSettings(host=host)
    assert ServerSettings(host=host, insecure=True).host == host
    assert ServerSettings(host=host, tls_certificate=Path("c"), tls_key=Path("k")).host == host
    with pytest.raises(SettingsError, match="loopback"):
        ServerSettings(host=host, insecure=True, channelz=True)
    assert main(["serve", str(shelf.store), "--host", host]) == 1
    assert "--tls-certificate" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_this_machine_needs_no_tls(host: str) -> None:
    assert ServerSettings(host=host, channelz=True).loopback


def test_taken_port_is_reported(shelf: Shelf) -> None:
    with serving(shelf.store) as target:
        port = int(target.rpartition(":")[2])
        with pytest.raises(SettingsError, match=f"127.0.0.1:{port}.*another server"), serving(shelf.store, port=port):
            pass
        with RawClient(target) as client:
            client.call(client.catalog.GetIndex, INDEX)


def test_taken_metrics_port_is_reported(shelf: Shelf) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"port {port}"), serving(shelf.store, metrics_port=port):
            pass


def test_channelz_is_served_on_request(shelf: Shelf) -> None:
    from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc

    for wanted in (True, False):
        with serving(shelf.store, channelz=wanted) as target, RawClient(target) as client:
            stub = channelz_pb2_grpc.ChannelzStub(client.channel)
            if wanted:
                assert stub.GetServers(channelz_pb2.GetServersRequest(), timeout=60).server
            else:
                assert client.failure(stub.GetServers, channelz_pb2.GetServersRequest()).code == "UNIMPLEMENTED"


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "serve.toml"
    path.write_text('port = 1\nworkers = 2\nwrite = false\nrefresh_seconds = 3\ntls_key = "k"\ntls_certificate = "c"')
    return path


def test_flags_override_environment_overrides_file(config: Path) -> None:
    environment = {"TWINSCOPE_WORKERS": "20", "TWINSCOPE_PORT": "10", "TWINSCOPE_TOKEN": "a client's", "PORT": "9"}
    found = load_settings({"port": "100", "host": None}, file=config, environment=environment)
    assert (found.port, found.workers, found.write, found.refresh_seconds) == (100, 20, False, 3.0)
    assert found.host == ServerSettings().host
    assert found.tls_key == Path("k")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 1", "unknown setting prot"),
        ("port = 'x'", "whole number"),
        ("port = 1.5", "whole number"),
        ("port = true", "whole number"),
        ("port = -1", "at least 0"),
        ("port = 65536", "65535"),
        ("refresh_seconds = nan", "refresh_seconds"),
        ("grace_seconds = inf", "grace_seconds"),
        ("write = 'perhaps'", "true or false"),
        ("workers = 0", "at least 1"),
        ("port = ", "cannot be read"),
        ("tls_key = 'k'", "must be given together"),
        ("tls_client_ca = 'k'", "needs tls_certificate"),
        ("tokens = 5", "tokens must be a path"),
        ("tokens = ''", "tokens must be a path"),
        ("tls_key = []", "tls_key must be a path"),
        ("host = 5", "host must be text"),
        ("host = []", "host must be text"),
        ("refresh_seconds = true", "refresh_seconds must be a number"),
        ("refresh_seconds = {}", "refresh_seconds must be a number"),
        ("write = []", "write must be true or false"),
        ("max_uploads_mib = 10", "max_upload_mib"),
    ],
)
def test_invalid_settings_file_is_reported(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "f.toml").write_text(text)
    with pytest.raises(SettingsError, match=message):
        load_settings({}, file=tmp_path / "f.toml", environment={})


def test_invalid_environment_variable_is_reported_by_name() -> None:
    with pytest.raises(SettingsError, match="TWINSCOPE_PORT"):
        load_settings({}, environment={"TWINSCOPE_PORT": "high"})


def test_empty_environment_variable_sets_nothing() -> None:
    empty = {"TWINSCOPE_TOKENS": "", "TWINSCOPE_PORT": "", "TWINSCOPE_HOST": "", "TWINSCOPE_WRITE": ""}
    assert load_settings({}, environment=empty) == ServerSettings()


def test_settings_are_printed_without_secrets(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINSCOPE_CACHE_MIB", "7")
    arguments = ["serve", "lab.store", "--config", str(config), "--print-config", "--no-write", "--tokens", "secret"]
    assert main(arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["port"], printed["cache_mib"], printed["write"]) == (1, 7, False)
    assert (printed["tls_key"], printed["tokens"], printed["tls_certificate"]) == ("(set)", "(set)", "c")
    assert set(printed) == set(ServerSettings.__dataclass_fields__)


def test_switch_does_not_take_the_store_as_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--insecure", "lab.store", "--print-config"]) == 0
    assert json.loads(capsys.readouterr().out)["insecure"] is True


def test_new_token_is_valid_in_a_token_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--new-token", "ann"]) == 0
    token, line = capsys.readouterr().out.splitlines()
    (tmp_path / "tokens").write_text(line)
    assert Tokens(tmp_path / "tokens").holder(token) == Holder("ann", "read")
    assert main(["serve", "--new-token", "bob", "--role", "write"]) == 0
    token, line = capsys.readouterr().out.splitlines()
    (tmp_path / "tokens").write_text(line)
    assert Tokens(tmp_path / "tokens").holder(token) == Holder("bob", "write")
    for name in ("two words", "#x", ""):
        assert main(["serve", "--new-token", name]) == 1
    with pytest.raises(SystemExit):
        main(["serve"])


# -- paths in requests -------------------------------------------------------------------------------------------------


def test_texts_of_a_request_are_never_opened_as_paths(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check that the server does not open a name from a write, even if it is the path of a real image."""
    bait = shelf.reference("Tips", 0)
    seen: list[str] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event == "open" and isinstance(arguments[0], str):
            seen.append(arguments[0])

    import sys

    watching = False
    sys.addaudithook(hook)
    store = tmp_path / "store"
    shutil.copytree(shelf.store, store)
    from twinscope_service.matching.fingerprint import Fingerprint
    from twinscope_service.wire.queries import fingerprint_message

    fingerprint = fingerprint_message(Fingerprint.of_pixels(shelf.pixels["Fibres", 0]))
    with serving(store) as target, RawClient(target) as client:
        watching = True
        new = catalog_pb2.NewImage(
            description=catalog_pb2.ImageDescription(source=str(bait), category="Tips", published_name=str(bait)[:255]),
            fingerprint=fingerprint,
            file=catalog_pb2.FileFacts(sha256=sha256(bait.read_bytes()).digest()),
        )
        seen.clear()
        stored = client.call(client.catalog.BatchUpsertImages, catalog_pb2.BatchUpsertImagesRequest(images=[new]))
        image_id = stored.results[0].image.image_id
        answer = client.call(
            client.similarity.Search,
            similarity_pb2.SearchRequest(query=similarity_pb2.Query(image_id=image_id)),
        )
        assert answer.result.answer.matches
        assert eventually(lambda: client.serving() == "SERVING")
        watching = False
    assert seen
    assert not [path for path in seen if path == str(bait)]
