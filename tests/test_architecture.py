"""The architecture: layers that consist of packages. Imports only go down, and never in a cycle.

A package of a layer can also be a single module. CONTRIBUTING.md describes the layers.
"""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1]
_LAYERS = {
    "twinscope.v1": _ROOT / "proto" / "twinscope" / "v1",
    "twinscope_indexer": _ROOT / "indexer" / "twinscope_indexer",
    "twinscope_service": _ROOT / "service" / "twinscope_service",
    "twinscope_client": _ROOT / "clients" / "python" / "twinscope_client",
    "twinscope": _ROOT / "clients" / "python" / "twinscope",
}
"""Folders of the layers, lowest layer first: wire contract, indexer, service, client, and the public names."""
_WITHOUT_THE_CONTRACT = {"twinscope_indexer", "twinscope"}
_PACKAGES = {
    "twinscope_indexer": (
        ("errors", "files", "compute"),
        ("image_id", "taxonomy", "sources", "imaging"),
        ("hashing", "metadata"),
        ("index",),
        ("store",),
        ("indexing",),
    ),
    "twinscope_service": (("errors", "thresholds"), ("similarity",), ("matching",), ("wire",), ("server",)),
    "twinscope_client": (
        ("errors",),
        ("engine", "outputs"),
        ("remote",),
        ("aio", "connect", "doctor"),
        ("conversion", "testing"),
        ("labelling",),
        ("demo", "evaluation"),
        ("cli",),
    ),
}
"""Packages of each layer, lowest rank first. A package imports only from lower ranks, never from its own rank."""
_HAND_WRITTEN = tuple(_LAYERS)[1:]
_WITH_PACKAGES = tuple(_PACKAGES)
_BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}


def _modules(layer: str) -> dict[str, Path]:
    folder = _LAYERS[layer]
    found = {}
    for path in folder.rglob("*.py"):
        parts = [layer, *path.relative_to(folder).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _imports(module: str, path: Path, known: set[str]) -> set[str]:
    """Return the modules that a module imports anywhere, also in functions and for type checking."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in known else base)
    return found


def test_all_layers_are_seen() -> None:
    for layer in _WITH_PACKAGES:
        assert len(_modules(layer)) > 10, layer
    assert set(_modules("twinscope")) == {"twinscope", "twinscope.__main__"}
    known = set(_modules("twinscope_client")) | set(_modules("twinscope_service"))
    labels = _imports(
        "twinscope_client.labelling.decide", _modules("twinscope_client")["twinscope_client.labelling.decide"], known
    )
    assert {
        "twinscope_client.labelling.journal",
        "twinscope_indexer.sources.corpus",
    } <= labels


def _layer(name: str) -> str:
    """Return the layer of a module; "" for a module that does not belong to Twinscope."""
    return max((layer for layer in _LAYERS if f"{name}.".startswith(f"{layer}.")), key=len, default="")


def test_the_contract_is_a_layer_of_its_own() -> None:
    assert _layer("twinscope.v1.types_pb2") == "twinscope.v1"
    assert _layer("twinscope.connect") == _layer("twinscope") == "twinscope"
    assert _layer("twinscope_client.aio") == "twinscope_client"
    assert _layer("grpc") == ""


@pytest.mark.parametrize("layer", _HAND_WRITTEN)
def test_imports_only_go_down(layer: str) -> None:
    allowed = set(list(_LAYERS)[: list(_LAYERS).index(layer) + 1])
    if layer in _WITHOUT_THE_CONTRACT:
        allowed.remove("twinscope.v1")
    for module, path in _modules(layer).items():
        forbidden = {name for name in _imports(module, path, set()) if _layer(name) not in {"", *allowed}}
        assert not forbidden, f"{module} imports {sorted(forbidden)}"


@pytest.mark.parametrize("layer", _HAND_WRITTEN)
def test_there_are_no_import_cycles(layer: str) -> None:
    modules = _modules(layer)
    graph = {module: _imports(module, path, set(modules)) & set(modules) for module, path in modules.items()}
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle
    assert set(order) >= set(modules)


def _package_of(module: str) -> str:
    """Return the package of a module: the first name below its layer, or "" for the ``__init__`` of the layer."""
    return [*module.split("."), ""][1]


@pytest.mark.parametrize("layer", _WITH_PACKAGES)
def test_imports_go_down_between_packages(layer: str) -> None:
    rank = {package: number for number, packages in enumerate(_PACKAGES[layer]) for package in packages}
    modules = _modules(layer)
    assert {_package_of(module) for module in modules} - {""} == set(rank), "every package has a rank"
    for module, path in modules.items():
        package = _package_of(module)
        if not package:
            continue
        for name in _imports(module, path, set(modules)):
            other = _package_of(name)
            if name.startswith(f"{layer}.") and other != package:
                assert rank[other] < rank[package], f"{module} imports {name}"


@pytest.mark.parametrize("layer", _HAND_WRITTEN)
def test_modules_are_short(layer: str) -> None:
    for module, path in _modules(layer).items():
        length = len(path.read_text(encoding="utf-8").splitlines())
        assert length < 350, f"{module} has {length} lines"


@pytest.mark.parametrize("layer", _HAND_WRITTEN)
def test_modules_have_specific_names_and_docstrings(layer: str) -> None:
    for module, path in _modules(layer).items():
        assert module.rpartition(".")[2] not in _BANNED_NAMES
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{module} has no docstring"


def test_only_the_command_prints() -> None:
    """Data and messages are written by `cli.console`, so that stdout carries data only."""
    for layer in _HAND_WRITTEN:
        for module, path in _modules(layer).items():
            if module.startswith("twinscope_client.cli"):
                continue
            calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
            assert not any(isinstance(call, ast.Name) and call.id == "print" for call in calls), module


def test_test_modules_have_unique_names() -> None:
    """Test folders are not packages, so a name that occurs twice hides one of the two modules."""
    names = [path.name for path in (_ROOT / "tests").rglob("*.py")]
    assert not {name for name in names if names.count(name) > 1} - {"conftest.py"}


def test_tests_import_existing_modules() -> None:
    known = {module for layer in _HAND_WRITTEN for module in _modules(layer)}
    for path in (_ROOT / "tests").rglob("*.py"):
        imported = re.findall(r"^ *(?:from|import) (twinscope_\w+(?:\.\w+)*)", path.read_text(), re.M)
        assert set(imported) <= known, path
