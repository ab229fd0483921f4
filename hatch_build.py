"""Generate the code of the wire contract when the package is built, or installed from a working copy."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import grpc_tools
from grpc_tools import protoc
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PATTERNS = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


class ContractHook(BuildHookInterface):
    """Run protoc for ``proto/twinscope/v1``. The generated code lies beside the contract and is part of the wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  hatchling's signature
        """Generate the code, and add it to the wheel: by default, files in .gitignore are left out of the wheel."""
        proto = Path(self.root) / "proto"
        generate(proto, proto)
        build_data["artifacts"] += [f"/proto/twinscope/v1/{pattern}" for pattern in PATTERNS]

    def clean(self, versions: list[str]) -> None:  # noqa: ARG002  hatchling's signature
        """Remove the generated code."""
        for pattern in PATTERNS:
            for file in (Path(self.root) / "proto").rglob(pattern):
                file.unlink()


def generate(proto: Path, out: Path) -> None:
    """Generate the modules of the messages and of the stubs, with their types.

    Parameters
    ----------
    proto : Path
        The folder that contains ``twinscope/v1`` and ``google/rpc``.
    out : Path
        The folder for the code of ``twinscope/v1`` and for the types of ``google/rpc``.

    Raises
    ------
    RuntimeError
        If protoc or its plugin for types is missing, or if protoc refuses the contract.
    """
    plugins = [f"--plugin={name}={_plugin(name)}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    command = ["protoc", f"-I{proto}", f"-I{Path(grpc_tools.__file__).parent / '_proto'}", *plugins]
    # For the messages of Google, generate only the types. The package googleapis-common-protos contains the code, but
    # mypy does not read the types in this package.
    for kinds, package in (("python", "grpc_python", "mypy", "mypy_grpc"), "twinscope/v1"), (("mypy",), "google/rpc"):
        sources = sorted(str(file.relative_to(proto)) for file in proto.glob(f"{package}/*.proto"))
        if protoc.main([*command, *(f"--{kind}_out={out}" for kind in kinds), *sources]) != 0:
            msg = f"protoc cannot generate code from {proto / package}; its own message is above"
            raise RuntimeError(msg)


def _plugin(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        msg = f"there is no {name}; it comes with mypy-protobuf"
        raise RuntimeError(msg)
    return found
