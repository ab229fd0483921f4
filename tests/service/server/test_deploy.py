"""The files in deploy/ work as the README there describes. Docker and systemd are not used."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from raw_client import HANGS, eventually
from serving import TWINSCOPE, serving
from twinscope.v1 import errors_pb2
from twinscope_client import connect
from twinscope_client.cli.main import main
from twinscope_client.errors import AccessError, ServerError
from twinscope_service.server.settings import ENVIRONMENT_PREFIX, explained, load_settings
from twinscope_service.server.tokens import token_line

_ROOT = Path(__file__).resolve().parents[3]
_DEPLOY = _ROOT / "deploy"
_SCRIPT = _DEPLOY / "make-certificates.sh"
_TOKEN = "a token of a test"


def tool(name: str) -> str:
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def make_certificates(folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
    tool("openssl")
    return subprocess.run([_SCRIPT, folder, *names], check=False, capture_output=True, text=True, timeout=4 * HANGS)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("deploy") / "certificates"
    done = make_certificates(folder, "match.lab", "192.0.2.7", "2001:db8::7")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def server(shelf, certificates) -> Iterator[str]:
    """Run a server that requires a client certificate and a token; yield its address with a name of its certificate."""
    tokens = certificates / "tokens"
    tokens.write_text(token_line("test", "read", _TOKEN) + "\n")
    flags = ("--tls-certificate", certificates / "server.pem", "--tls-key", certificates / "server.key",
             "--tls-client-ca", certificates / "ca.pem", "--tokens", tokens)  # fmt: skip
    with serving(shelf.store, *flags) as target:
        yield target.replace("127.0.0.1", "localhost")


@pytest.fixture(scope="module")
def plain(shelf) -> Iterator[str]:
    with serving(shelf.store) as target:
        yield target


def test_certificates_work_for_server_and_client(server, certificates, shelf):
    mine = {"certificate": certificates / "client.pem", "key": certificates / "client.key"}
    image = shelf.reference("Tips", 0)
    with connect(server, token=_TOKEN, ca=certificates / "ca.pem", **mine) as engine, connect(shelf.store) as embedded:
        assert engine.search(image) == embedded.search(image)
    with pytest.raises(AccessError):
        connect(server, token="another", ca=certificates / "ca.pem", **mine)
    with pytest.raises(ServerError):
        connect(server, token=_TOKEN, **mine, timeout=3)  # the system does not trust the test authority
    with pytest.raises(ServerError):
        connect(server, token=_TOKEN, ca=certificates / "ca.pem", timeout=3)


def test_server_certificate_has_the_requested_names(certificates):
    text = subprocess.run(
        [tool("openssl"), "x509", "-in", certificates / "server.pem", "-noout", "-ext", "subjectAltName"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    names = {name.strip() for name in text.splitlines()[1].split(",")}
    assert names == {
        "DNS:localhost", "DNS:match.lab", "IP Address:127.0.0.1", "IP Address:0:0:0:0:0:0:0:1",
        "IP Address:192.0.2.7", "IP Address:2001:DB8:0:0:0:0:0:7",
    }  # fmt: skip


def test_certificates_serve_one_purpose_and_keys_are_private(certificates):
    openssl = tool("openssl")
    for name, purpose, fine in (
        ("server", "sslserver", True), ("server", "sslclient", False),
        ("client", "sslclient", True), ("client", "sslserver", False),
    ):  # fmt: skip
        command = [openssl, "verify", "-CAfile", certificates / "ca.pem", "-purpose", purpose]
        done = subprocess.run([*command, certificates / f"{name}.pem"], check=False, capture_output=True)
        assert (done.returncode == 0) is fine, (name, purpose)
    for name in ("ca", "server", "client"):
        assert (certificates / f"{name}.key").stat().st_mode & 0o077 == 0


def test_second_run_renews_under_the_same_authority(tmp_path):
    folder = tmp_path / "with a space"
    assert make_certificates(folder).returncode == 0
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert make_certificates(folder, "new.lab").returncode == 0
    after = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert {name for name in before if before[name] == after[name]} == {"ca.pem", "ca.key"}


@pytest.mark.parametrize("name", ["a b", "a,DNS:evil.lab", "x\n[y]", ""])
def test_invalid_names_are_refused(tmp_path, name):
    done = make_certificates(tmp_path, name)
    assert done.returncode == 2
    assert not list(tmp_path.glob("server*"))


def test_script_passes_shellcheck():
    subprocess.run([tool("shellcheck"), _SCRIPT], check=True)
    assert os.access(_SCRIPT, os.X_OK)


def test_dockerfile_passes_hadolint():
    subprocess.run([tool("hadolint"), _DEPLOY / "Dockerfile"], check=True)


def instructions() -> list[tuple[str, str]]:
    """Return the keyword and the rest of every instruction of the Dockerfile."""
    lines = [line for line in (_DEPLOY / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined if line.strip())]


def test_image_runs_unprivileged_and_has_a_health_check():
    last_stage = instructions()[max(i for i, (word, _) in enumerate(instructions()) if word == "FROM") :]
    users = [rest for word, rest in last_stage if word == "USER"]
    assert len(users) == 1
    assert users[0].split(":")[0] not in {"root", "0"}
    order = [word for word, _ in last_stage]
    assert order[order.index("USER") :].count("RUN") == 1  # doctor --warm, run by the final user
    health = next(rest for word, rest in last_stage if word == "HEALTHCHECK")
    assert '"twinscope", "health", "grpcs://localhost:50051"' in health


def test_image_gets_every_file_that_the_wheel_needs():
    copied = {source for word, rest in instructions() if word == "COPY" and "--from" not in rest
              for source in rest.split()[:-1]}  # fmt: skip
    assert all((_ROOT / source).exists() for source in copied)
    assert {"pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "proto", "indexer", "service",
            "clients/python"} == copied  # fmt: skip
    kept = {line[1:] for line in (_DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"}
    assert kept == copied


def test_server_reads_the_environment_of_the_image():
    text = next(rest for word, rest in instructions() if word == "ENV")
    pairs = dict(pair.split("=", 1) for pair in text.split())
    ours = {name: value for name, value in pairs.items() if name.startswith(ENVIRONMENT_PREFIX)}
    settings = load_settings({}, environment=ours)
    assert len(ours) == 4
    assert settings.host == "0.0.0.0"
    assert str(settings.tls_key) == "/etc/twinscope/server.key"
    assert str(settings.tokens) == "/etc/twinscope/tokens"


def unit() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys keep their case
    parser.read_string((_DEPLOY / "twinscope.service").read_text())
    assert set(parser.sections()) == {"Unit", "Service", "Install"}
    return parser["Service"]


@pytest.mark.parametrize(("key", "value"), [
    ("DynamicUser", "yes"), ("NoNewPrivileges", "yes"), ("CapabilityBoundingSet", ""), ("ProtectSystem", "strict"),
    ("ProtectHome", "yes"), ("PrivateTmp", "yes"), ("PrivateDevices", "yes"), ("ProtectKernelTunables", "yes"),
    ("ProtectKernelModules", "yes"), ("ProtectControlGroups", "yes"), ("RestrictNamespaces", "yes"),
    ("RestrictSUIDSGID", "yes"), ("LockPersonality", "yes"), ("SystemCallArchitectures", "native"),
    ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
])  # fmt: skip
def test_unit_is_hardened(key, value):
    assert unit()[key] == value


def test_unit_gives_requests_time_to_finish():
    settings = load_settings({}, environment={})
    assert float(unit()["TimeoutStopSec"]) > settings.grace_seconds + settings.lame_duck_seconds


def test_systemd_accepts_the_unit(tmp_path):
    analyze = tool("systemd-analyze")
    copy = tmp_path / "twinscope.service"
    text = (_DEPLOY / "twinscope.service").read_text()
    copy.write_text(text.replace("/opt/twinscope/bin/twinscope", sys.executable))
    done = subprocess.run([analyze, "verify", copy], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    scored = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=20", copy], check=False, capture_output=True, text=True
    )
    assert scored.returncode == 0, scored.stdout[-300:]  # exposure of at most 2.0 of 10
    exposure = re.search(r"exposure level for \S+: ([\d.]+)", scored.stdout)
    assert exposure is not None
    assert float(exposure[1]) <= 2.0


def test_health_of_a_running_server(plain, server, certificates, capsys):
    assert main(["health", plain]) == 0
    assert main(["health", plain, "--service", "twinscope.v1.CatalogService"]) == 0
    files = ("ca.pem", "client.pem", "client.key")
    options = [word for flag, name in zip(("--ca", "--cert", "--key"), files, strict=True)
               for word in (flag, str(certificates / name))]  # fmt: skip
    assert main(["health", server, *options]) == 0  # without a token
    assert capsys.readouterr().out == "SERVING\n" * 3


def test_health_of_an_unavailable_server(plain, shelf, unused_port):
    assert main(["health", plain, "--service", "twinscope.v1.Nothing"]) == 1
    assert main(["health", f"grpc://127.0.0.1:{unused_port}", "--timeout", "2"]) == 1
    assert main(["health", str(shelf.store)]) == 1


def test_health_while_the_server_drains(shelf, unused_port):
    command = [*TWINSCOPE, "serve", shelf.store, "--port", str(unused_port), "--lame-duck-seconds", "600", "--quiet"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert any("Serving" in line for line in process.stderr)
            assert main(["health", f"grpc://127.0.0.1:{unused_port}"]) == 0
            process.terminate()
            assert "Stopping" in process.stderr.readline()
            assert eventually(lambda: main(["health", f"grpc://127.0.0.1:{unused_port}"]) == 1)
        finally:
            process.kill()


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def table(heading: str) -> list[list[str]]:
    """Return the rows of the first table below a heading of docs/server.md."""
    below = (_ROOT / "docs" / "server.md").read_text().split(f"\n## {heading}\n")[1]
    lines = below[below.index("\n| ") + 1 :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_document_lists_every_setting():
    def shown(name: str, default: object) -> str:
        if isinstance(default, bool) or default is None:
            return "" if default is None else str(default).lower()
        return "cores" if name == "workers" else f"{default:g}" if isinstance(default, float) else str(default)

    expected = [[f"`--{name.replace('_', '-')}`", shown(name, default), text]
                for name, (text, default) in explained().items()]  # fmt: skip
    assert table("Settings") == expected


def test_document_lists_every_error_reason_with_its_code():
    contract = (_ROOT / "proto" / "twinscope" / "v1" / "errors.proto").read_text()
    comments = re.findall(r"  // ([A-Z_]+)\b.*\n(?:  //.*\n)*  ERROR_REASON_(\w+) = [1-9]", contract)
    assert {name for _, name in comments} == {
        name.removeprefix("ERROR_REASON_") for name in errors_pb2.ErrorReason.keys()[1:]
    }
    assert [(code, reason.strip("`")) for reason, code, *_ in table("Errors")] == comments


def test_document_lists_every_metric(shelf, unused_port):
    with serving(shelf.store, "--metrics-port", str(unused_port)) as target:
        with connect(target):
            pass
        with urllib.request.urlopen(f"http://127.0.0.1:{unused_port}/metrics") as response:
            text = response.read().decode()
    found = {name for name in re.findall(r"# TYPE (\w+) ", text) if not name.endswith("_created")}
    assert {row[0].strip("`") for row in table("Metrics")} == found
