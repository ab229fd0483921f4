"""The floors and rooms of the house: an import only ever goes down, and no modules import each other in a circle."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1]
_FLOORS = {
    "twinscope": (_ROOT / "proto" / "twinscope", set()),
    "twinscope_indexer": (_ROOT / "indexer" / "twinscope_indexer", set()),
    "twinscope_service": (_ROOT / "service" / "twinscope_service", {"twinscope_indexer", "twinscope"}),
    "twinscope_client": (
        _ROOT / "clients" / "python" / "twinscope_client",
        {"twinscope_service", "twinscope_indexer", "twinscope"},
    ),
}
_ROOMS = {
    "twinscope_indexer": (
        ("errors", "files", "compute"),
        ("taxonomy", "sources", "imaging"),
        ("hashing", "metadata"),
        ("index",),
        ("store",),
        ("indexing",),
    ),
    "twinscope_service": (("similarity",), ("matching",), ("calibrate", "wire"), ("server",)),
    "twinscope_client": (
        ("engine", "outputs"),
        ("remote",),
        ("aio", "connect", "doctor"),
        ("conversion", "testing"),
        ("labelling",),
        ("demo", "evaluation"),
        ("cli",),
    ),
}
"""Rooms of each floor, from the ground up: a room imports from lower ranks only, never from its own or a higher one."""
_HAND_WRITTEN = ("twinscope_indexer", "twinscope_service", "twinscope_client")
_BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}


def _modules(floor: str) -> dict[str, Path]:
    folder = _FLOORS[floor][0]
    found = {}
    for path in folder.rglob("*.py"):
        parts = [floor, *path.relative_to(folder).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _imports(module: str, path: Path, known: set[str]) -> set[str]:
    """Modules that a module imports anywhere in its text, also within functions and for type checking."""
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


def test_this_test_sees_the_whole_house() -> None:
    for floor in _HAND_WRITTEN:
        assert len(_modules(floor)) > 10, floor
    known = set(_modules("twinscope_client")) | set(_modules("twinscope_service"))
    labels = _imports(
        "twinscope_client.labelling.decide", _modules("twinscope_client")["twinscope_client.labelling.decide"], known
    )
    assert {
        "twinscope_client.labelling.journal",
        "twinscope_indexer.sources.corpus",
        "twinscope_service.matching.policy",
    } <= labels


@pytest.mark.parametrize("floor", _HAND_WRITTEN)
def test_imports_only_go_down(floor: str) -> None:
    allowed = _FLOORS[floor][1] | {floor}
    forbidden = set(_FLOORS) - allowed
    for module, path in _modules(floor).items():
        upward = {name for name in _imports(module, path, set()) if name.partition(".")[0] in forbidden}
        assert not upward, f"{module} imports {sorted(upward)}"


@pytest.mark.parametrize("floor", _HAND_WRITTEN)
def test_no_modules_import_each_other_in_a_circle(floor: str) -> None:
    modules = _modules(floor)
    graph = {module: _imports(module, path, set(modules)) & set(modules) for module, path in modules.items()}
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle
    assert set(order) >= set(modules)


def _room(module: str) -> str:
    """Return the room of a module: the first name below its floor, or "" for the floor's own ``__init__``."""
    return [*module.split("."), ""][1]


@pytest.mark.parametrize("floor", _HAND_WRITTEN)
def test_imports_go_down_between_rooms(floor: str) -> None:
    rank = {room: number for number, rooms in enumerate(_ROOMS[floor]) for room in rooms}
    modules = _modules(floor)
    assert {_room(module) for module in modules} - {""} == set(rank), "every room has a rank"
    for module, path in modules.items():
        room = _room(module)
        if not room:
            continue
        for name in _imports(module, path, set(modules)):
            other = _room(name)
            if name.startswith(f"{floor}.") and other != room:
                assert rank[other] < rank[room], f"{module} imports {name}"


@pytest.mark.parametrize("floor", _HAND_WRITTEN)
def test_modules_are_short(floor: str) -> None:
    for module, path in _modules(floor).items():
        length = len(path.read_text(encoding="utf-8").splitlines())
        assert length < 350, f"{module} has {length} lines"


@pytest.mark.parametrize("floor", _HAND_WRITTEN)
def test_modules_are_named_for_what_they_hold_and_say_so(floor: str) -> None:
    for module, path in _modules(floor).items():
        assert module.rpartition(".")[2] not in _BANNED_NAMES
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{module} has no docstring"


def test_no_floor_prints_but_the_command() -> None:
    """Data and messages leave through `cli.console`, so that stdout carries data only."""
    for floor in _HAND_WRITTEN:
        for module, path in _modules(floor).items():
            if module.startswith("twinscope_client.cli"):
                continue
            calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
            assert not any(isinstance(call, ast.Name) and call.id == "print" for call in calls), module
