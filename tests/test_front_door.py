"""``import twinscope`` is fast, gives all public names and exceptions, and does not need the wire contract."""

from __future__ import annotations

import inspect
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tifffile
import twinscope
import twinscope_client.errors
from shelf import Shelf
from twinscope_indexer.errors import TwinscopeError
from twinscope_service.server import status  # noqa: F401  defines an exception

_ROOT = Path(__file__).resolve().parents[1]
_HEAVY = (
    "{'grpc', 'google.protobuf', 'numpy', 'numba', 'PIL', 'twinscope_client', 'twinscope_service', 'twinscope_indexer'}"
)
_ONLY_IN_SERVERS = {"RequestError"}


def run(code: str, *arguments: str | Path) -> str:
    environment = os.environ | {"PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_import_loads_nothing_heavy() -> None:
    run(f"import sys, twinscope; dir(twinscope); assert not {_HEAVY} & set(sys.modules), set(sys.modules)")


def test_the_contract_does_not_import_the_client() -> None:
    code = "import sys, twinscope.v1.types_pb2; assert not [m for m in sys.modules if m.startswith('twinscope_')]"
    run(code)
    run(f"import twinscope; {code}")


def test_every_name_can_be_imported() -> None:
    assert sorted(twinscope.__all__) == twinscope.__all__
    assert set(twinscope.__all__) <= set(dir(twinscope))
    for name in twinscope.__all__:
        assert getattr(twinscope, name) is not None, name
    run("from twinscope import *; connect, aio, index, label, Answer, Match, Policy, Grade, ImageError, __version__")


def test_type_checkers_see_the_same_names() -> None:
    """The names for type checkers are listed below ``if TYPE_CHECKING``."""
    shown = (_ROOT / "clients" / "python" / "twinscope" / "__init__.py").read_text().split("if TYPE_CHECKING:")[1]
    block = shown.split("__all__ = [")[0]
    assert set(twinscope.__all__) <= set(re.findall(r"\w+", block))


def test_an_unknown_name_raises() -> None:
    with pytest.raises(AttributeError, match="'twinscope' has no attribute 'conect'"):
        _ = twinscope.conect


def test_python_m_twinscope_is_the_command() -> None:
    command = [sys.executable, "-m", "twinscope", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == twinscope.__version__


def test_an_embedded_store_needs_neither_protobuf_nor_grpc(shelf: Shelf) -> None:
    code = """if True:
        import sys, twinscope
        with twinscope.connect(sys.argv[1]) as engine:
            answer = engine.search(sys.argv[2], categories=["Tips"], min_generation=1)
            assert answer.grade == "excellent"
            [(path, again)] = engine.search_many([sys.argv[2]])
            engine.search_hashes([twinscope.hash_pixels(twinscope.read_image(path).pixels)])
            engine.search_stored(answer.best.image_id)
            assert "data:image/jpeg" in answer._repr_html_()
            twinscope.columns([again])
            engine.stats()
        found = [m for m in sys.modules if m.startswith(("grpc", "google.protobuf", "twinscope.v1"))]
        assert not found, found
    """
    run(code, shelf.store, shelf.reference("Tips", 0))


def test_the_example_of_the_readme_works(shelf: Shelf, tmp_path: Path) -> None:
    text = (_ROOT / "README.md").read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "tiffs").mkdir()
    for name in ("a.tif", "b.tif"):
        tifffile.imwrite(tmp_path / "tiffs" / name, shelf.pixels["Tips", 0])
    (tmp_path / "tiffs" / "c.tif").write_bytes(b"")
    tifffile.imwrite(tmp_path / "sample_123.tif", shelf.pixels["Fibres", 0])
    (tmp_path / "lab.store").symlink_to(shelf.store)
    code = f"import os, sys\nos.chdir(sys.argv[1])\n{code}\nprint(*sorted(table['grade']))"
    lines = run(code, tmp_path).splitlines()
    assert lines[0].startswith("excellent Fibres same acquisition")
    assert lines[-1] == "excellent excellent failed"


# -- the exceptions --------------------------------------------------------------------------------------------------


def kinds() -> list[type[TwinscopeError]]:
    found, new = [], [TwinscopeError]
    while new:
        found += new
        new = [below for kind in new for below in kind.__subclasses__()]
    return [kind for kind in found if kind.__module__.startswith("twinscope") and kind.__name__ not in _ONLY_IN_SERVERS]


def test_every_exception_is_exported() -> None:
    for kind in kinds():
        assert getattr(twinscope, kind.__name__) is kind
        assert getattr(twinscope_client.errors, kind.__name__) is kind


def test_exceptions_are_defined_on_the_floor_that_raises_them() -> None:
    layers = {"indexer": "indexer/twinscope_indexer", "service": "service/twinscope_service"}
    for kind in kinds():
        for layer, folder in layers.items():
            if kind.__module__.startswith(f"twinscope_{layer}") and kind is not TwinscopeError:
                text = "".join(path.read_text() for path in (_ROOT / folder).rglob("*.py"))
                assert re.search(rf"raise {kind.__name__}\b|{kind.__name__}[.(]", text), f"{layer} never raises {kind}"


def test_the_documented_exception_tree_is_right() -> None:
    above: dict[int, str] = {}
    shown = {}
    for line in inspect.getdoc(twinscope_client.errors).splitlines():
        found = re.fullmatch(r"    ((?:\|   )*(?:[|`]-- )?)(?:    )?([|`]-- )?(\w+Error)\b.*", line)
        if found:
            depth = line.index(found[3]) // 4 - 1
            above[depth] = found[3]
            shown[found[3]] = above.get(depth - 1)
    assert shown == {kind.__name__: None if kind is TwinscopeError else kind.__mro__[1].__name__ for kind in kinds()}


EXAMPLES = [
    twinscope.ImageError("a.tif", "truncated", "it ends early"),
    twinscope.RecipeError("old", "new"),
    twinscope.TaxonomyError("no such category"),
    twinscope.StoreLockedError("locked"),
    twinscope.UnknownImageError("0" * 16),
    twinscope.GenerationError(3, 2),
    twinscope.OptionError.unknown("option", "max_distence", ["max_distance", "k"]),
    twinscope.MessageError([("query.hash", "must be set")]),
    twinscope.ClosedError("lab.store"),
    twinscope.MissingExtraError("a server", "server"),
    twinscope.ServerError("gone", code="UNAVAILABLE", reason="DRAINING", retriable=True, retry_seconds=0.5),
    twinscope.AccessError("no", code="UNAUTHENTICATED"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_exceptions_can_be_pickled(error: TwinscopeError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.args, vars(again)) == (type(error), str(error), error.args, vars(error))


def test_a_misspelt_option_gets_a_suggestion() -> None:
    error = twinscope.OptionError.unknown("option", "max_distence", ["max_distance", "k"])
    assert str(error) == "there is no option 'max_distence'. Did you mean 'max_distance'? Known: k, max_distance"
    assert str(twinscope.OptionError.unknown("policy", "?", ["a"])) == "there is no policy '?'. Known: a"
    assert isinstance(error, ValueError)


# -- types -----------------------------------------------------------------------------------------------------------

_TYPED = """\
import twinscope
from twinscope.v1 import types_pb2

def ask(path: str) -> None:
    with twinscope.connect("lab.store") as engine:
        answer: twinscope.Answer = engine.search(path, max_distance=200, policy="default")
        for image, found in engine.search_many([path], k=3):
            image.upper()
            print(found.fault if isinstance(found, twinscope.ImageError) else found.grade)
        engine.search(path, max_distence=200)  # error
        engine.search(path, k="five")  # error
        engine.search_hashes([], verify=False)  # error
        twinscope.conect("lab.store")  # error
        twinscope.connect("lab.store", tokn="t")  # error
        types_pb2.Policy(k="five")  # error
        print(answer.grad)  # error

async def ask_too(path: str) -> None:
    async with twinscope.aio.connect("grpc://localhost:1", token="t") as engine:
        await engine.search(path, max_distence=200)  # error
        async for _, found in engine.search_many([path], verify=False):
            print(found.nothing)  # error
"""


@pytest.mark.slow
def test_mypy_finds_misspelt_names(tmp_path: Path) -> None:
    (tmp_path / "typed.py").write_text(_TYPED)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", str(tmp_path / "typed.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    found = {int(line) for line in re.findall(r"typed\.py:(\d+): error", done.stdout)}
    wanted = {number for number, line in enumerate(_TYPED.splitlines(), 1) if line.endswith("# error")}
    assert found == wanted, done.stdout + done.stderr
