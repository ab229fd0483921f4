"""Pickles of engines hold the target, also for spawned processes, and never a token."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import twinscope
from shelf import Shelf
from twinscope_client.testing import serving
from twinscope_service.server.tokens import token_line

SECRET = "open-sesame"


def secret() -> str:
    return SECRET


async def later() -> str:
    return SECRET


@pytest.fixture(scope="module")
def served(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(token_line("ann", "read", SECRET))
    with serving(shelf.store, tokens=tokens) as target:
        yield target


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text(f"{SECRET}\n")
    return tmp_path / "token"


def test_a_pickled_embedded_engine_opens_again(shelf: Shelf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = shelf.reference("Tips", 0)
    monkeypatch.chdir(shelf.store.parent)
    with twinscope.connect(shelf.store.name) as engine:
        data = pickle.dumps(engine)
        expected = engine.search(path)
    monkeypatch.chdir(tmp_path)  # the other process may run in another folder
    with pickle.loads(data) as again:
        assert again.search(path) == expected
        assert again.target == str(shelf.store)
    assert len(data) < 1000


@pytest.mark.parametrize("way", ["file", "function"])
def test_a_pickled_remote_engine_connects_again(
    shelf: Shelf, served: str, token_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str
) -> None:
    path = shelf.reference("Tips", 0)
    monkeypatch.chdir(token_file.parent)
    token: Any = Path(token_file.name) if way == "file" else secret
    with twinscope.connect(served, token=token, timeout=30) as engine:
        data = pickle.dumps(engine)
        expected = engine.search(path)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert SECRET.encode() not in data
    with pickle.loads(data) as again:
        assert again.search(path) == expected
        assert again.target == served


def test_a_pickled_asyncio_engine_connects_again(shelf: Shelf, served: str) -> None:
    path = shelf.reference("Tips", 0)

    async def ask(engine: Any) -> tuple[str, bytes]:
        async with engine:
            return (await engine.search(path)).grade, pickle.dumps(engine)

    grade, data = asyncio.run(ask(twinscope.aio.connect(served, token=later)))
    assert SECRET.encode() not in data
    assert asyncio.run(ask(pickle.loads(data))) == (grade, data)


def test_a_token_given_as_text_is_not_pickled(served: str) -> None:
    with twinscope.connect(served, token=SECRET) as engine:
        with pytest.raises(twinscope.SettingsError, match="Path of a file") as caught:
            pickle.dumps(engine)
        assert engine.stats()["images"] == 6
    assert SECRET not in str(caught.value)
    with pytest.raises(twinscope.SettingsError, match="Path of a file"):
        pickle.dumps(twinscope.aio.connect(served, token=SECRET))


def test_a_closed_engine_is_not_pickled(shelf: Shelf) -> None:
    engine = twinscope.connect(shelf.store)
    engine.close()
    with pytest.raises(twinscope.ClosedError):
        pickle.dumps(engine)


def grade_of(engine: Any, path: Path) -> tuple[str, int]:
    try:
        return engine.search(path).grade, os.getpid()
    except twinscope.ImageError as error:
        return error.fault, os.getpid()


@pytest.mark.parametrize("way", ["embedded", "remote"])
def test_a_spawned_process_can_use_the_engine(
    shelf: Shelf, served: str, token_file: Path, tmp_path: Path, way: str
) -> None:
    options: Any = {} if way == "embedded" else {"token": token_file}
    paths = [shelf.reference("Tips", 0), tmp_path / "missing.tif", shelf.reference("Fibres", 1)]
    with (
        twinscope.connect(shelf.store if way == "embedded" else served, **options) as engine,
        multiprocessing.get_context("spawn").Pool(1) as pool,
    ):
        found = pool.starmap(grade_of, [(engine, path) for path in paths])
        assert [grade for grade, _ in found] == ["excellent", "missing", "excellent"]
        assert os.getpid() not in {process for _, process in found}
        with pytest.raises(twinscope.ImageError, match=r"missing\.tif") as caught:
            pool.map(engine.search, paths)
        assert caught.value.fault == "missing"
        [answer] = pool.map(engine.search, paths[:1])
        assert answer == engine.search(paths[0])
