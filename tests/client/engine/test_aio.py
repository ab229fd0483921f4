"""The asyncio client gives the same answers as other engines, and never blocks the event loop."""

from __future__ import annotations

import asyncio
import inspect
import io
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_congruence
import tifffile
from raw_client import HANGS, authority
from shelf import Shelf
from test_congruence import embedded, files  # noqa: F401  fixtures
from twinscope_client import aio, connect
from twinscope_client.engine.options import AsyncConnectOptions, ConnectOptions
from twinscope_client.errors import AccessError, ClosedError, ServerError
from twinscope_client.remote.engine import RemoteEngine
from twinscope_client.remote.upload import Upload
from twinscope_client.remote.version_check import VersionSkewWarning
from twinscope_client.testing import serving
from twinscope_indexer.errors import ImageError, TaxonomyError, UnknownImageError
from twinscope_indexer.hashing.perceptual import hash_pixels
from twinscope_indexer.imaging.reader import read_image
from twinscope_service.errors import OptionError, SettingsError
from twinscope_service.matching.searcher import Searcher
from twinscope_service.server.server import TwinscopeServer
from twinscope_service.server.settings import ServerSettings
from twinscope_service.server.tokens import token_line


@pytest.fixture(scope="module")
def served(shelf: Shelf) -> Iterator[str]:
    with serving(shelf.store) as target:
        yield target


def with_engine(target: str, do: Callable[[aio.AsyncEngine], Coroutine[Any, Any, Any]], **settings: Any) -> Any:
    """Return the result of a coroutine that uses an engine."""

    async def run() -> Any:
        async with aio.connect(target, **settings) as ts:
            return await do(ts)

    return asyncio.run(run())


# -- the same as every other engine --------------------------------------------------------------------------------


class Blocking:
    """An asyncio engine with blocking methods, so that the tests of congruence can use it."""

    def __init__(self, runner: asyncio.Runner, engine: aio.AsyncEngine) -> None:
        self._runner, self._engine = runner, engine

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._engine, name)
        return lambda *given, **options: self._runner.run(method(*given, **options))

    @property
    def identity(self) -> str:
        return self._runner.run(self._engine.identity())


@pytest.fixture(scope="module")
def remote(served: str) -> Iterator[Blocking]:
    with asyncio.Runner() as runner:
        engine = aio.connect(served)
        yield Blocking(runner, engine)
        runner.run(engine.close())


CONGRUENCE = {
    name: test
    for name, test in vars(test_congruence).items()
    if name.startswith("test_") and "remote" in inspect.signature(test).parameters
}
globals().update(CONGRUENCE)  # Import all tests that compare an embedded engine with the fixture `remote`.


def test_the_congruence_tests_are_collected() -> None:
    assert len(CONGRUENCE) > 10


def test_the_signatures_equal_those_of_the_blocking_engine() -> None:
    names = {name for name in vars(RemoteEngine) if not name.startswith("_")}
    assert names == {name for name in vars(aio.AsyncEngine) if not name.startswith("_")}
    assert inspect.signature(aio.AsyncEngine.search_many).parameters == (
        inspect.signature(RemoteEngine.search_many).parameters
    )
    for name in names - {"identity", "search_many"}:
        method = getattr(aio.AsyncEngine, name)
        assert inspect.iscoroutinefunction(method), name
        assert inspect.signature(method) == inspect.signature(getattr(RemoteEngine, name))
    assert AsyncConnectOptions.__optional_keys__ == ConnectOptions.__optional_keys__


def test_both_remote_engines_give_the_same_answers(shelf: Shelf, served: str) -> None:
    async def everything(ts: aio.AsyncEngine) -> list[Any]:
        found = await ts.search(path, k=6, max_distance=1024)
        return [
            found,
            await ts.search_hashes([hash_pixels(shelf.pixels["Tips", 0])] * 3),
            await ts.search_stored(found.matches[0].image_id, k=2),
            (await ts.thumbnail(found.matches[5].image_id)).tolist(),
            await ts.stats(),
            await ts.identity(),
        ]

    path = shelf.reference("Fibres", 0)
    with connect(served) as ts:
        found = ts.search(path, k=6, max_distance=1024)
        expected = [
            found,
            ts.search_hashes([hash_pixels(shelf.pixels["Tips", 0])] * 3),
            ts.search_stored(found.matches[0].image_id, k=2),
            ts.thumbnail(found.matches[5].image_id).tolist(),
            ts.stats(),
            ts.identity,
        ]
    assert with_engine(served, everything) == expected
    assert found.grade == "excellent"


# -- many at once ----------------------------------------------------------------------------------------------------


def test_searches_at_the_same_time(shelf: Shelf, served: str) -> None:
    paths = [shelf.reference(category, number) for category, number in shelf.pixels] * 4
    with connect(shelf.store) as ts:
        expected = [ts.search(path) for path in paths]

    async def together(ts: aio.AsyncEngine) -> list[Any]:
        return await asyncio.gather(*(ts.search(path) for path in paths))

    assert with_engine(served, together) == expected


def test_searches_beyond_the_limit_of_a_server_wait_here(shelf: Shelf, server: TwinscopeServer, slow: Slowness) -> None:
    async def together(ts: aio.AsyncEngine) -> list[Any]:
        [known] = await ts.search_hashes([hash_pixels(shelf.pixels["Tips", 0])])
        asyncio.get_running_loop().call_later(0.5, slow.set)
        stored = known.matches[0].image_id
        return await asyncio.gather(*(ts.search_stored(stored, policy="legacy") for _ in range(60)))

    assert {answer.grade for answer in with_engine(server.target, together)} == {"none"}
    assert counted(server, "total", method="Search", code="OK") == 60
    assert counted(server, "refused_total", reason="OVERLOADED") == 0


def test_an_engine_needs_no_context(shelf: Shelf, served: str) -> None:
    ts = aio.connect(served)  # also outside of any event loop

    async def use() -> list[Any]:
        first = await asyncio.gather(ts.search(shelf.reference("Tips", 0)), ts.identity(), ts.refresh())
        await ts.close()
        await ts.close()
        with pytest.raises(ClosedError, match="was closed"):
            await ts.stats()
        return first

    answer, identity, nothing = asyncio.run(use())
    assert (answer.category, nothing) == ("Tips", None)
    with connect(shelf.store) as embedded_engine:
        assert identity == embedded_engine.identity
    asyncio.run(aio.connect(served).close())


def test_an_engine_belongs_to_one_event_loop(served: str) -> None:
    ts = aio.connect(served)

    async def elsewhere() -> None:
        await ts.stats()
        with pytest.raises(RuntimeError, match="another event loop"):
            await asyncio.to_thread(asyncio.run, ts.stats())
        await ts.stats()
        await ts.close()

    asyncio.run(elsewhere())


# -- the event loop keeps running --------------------------------------------------------------------------------------


class Gate:
    """A gate at which threads wait. The gate opens only if the event loop is running, and it counts the threads."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self.passed = 0

    def wait(self) -> None:
        self._open.clear()
        assert self._open.wait(HANGS), "the event loop was blocked"
        self.passed += 1

    async def keep_opening(self) -> None:
        while True:
            self._open.set()
            await asyncio.sleep(0.001)


def kept(target: str, gate: Gate, do: Callable[[aio.AsyncEngine], Coroutine[Any, Any, Any]]) -> Any:
    async def run(ts: aio.AsyncEngine) -> Any:
        keeper = asyncio.create_task(gate.keep_opening())
        try:
            return await do(ts)
        finally:
            keeper.cancel()

    return with_engine(target, run)


def test_files_are_read_and_uploaded_in_threads(
    shelf: Shelf, served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = Path(shutil.copy(shelf.reference("Tips", 0), tmp_path / "query.jpg"))
    gate = Gate()
    opened, messages = Path.open, Upload._messages

    def slow_open(path: Path, *given: Any, **options: Any) -> Any:
        if path == query:  # the server opens files, too
            gate.wait()
        return opened(path, *given, **options)

    def slow_messages(upload: Upload) -> Iterator[Any]:
        for message in messages(upload):
            gate.wait()
            yield message

    monkeypatch.setattr(Path, "open", slow_open)
    monkeypatch.setattr(Upload, "_messages", slow_messages)
    assert kept(served, gate, lambda ts: ts.search(query)).grade == "excellent"
    assert gate.passed >= 4  # opened twice (hash, upload), one header, one chunk


def test_pixels_are_hashed_in_threads(shelf: Shelf, served: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from twinscope_client.remote import protocol as dialogue

    gate = Gate()
    for name in ("grey_pixels", "fingerprint_message", "answer_of"):
        step = getattr(dialogue, name)
        monkeypatch.setattr(dialogue, name, lambda *given, step=step: (gate.wait(), step(*given))[1])
    pixels = read_image(shelf.reference("Tips", 0)).pixels
    assert kept(served, gate, lambda ts: ts.search(pixels)).grade == "excellent"
    assert gate.passed == 3


# -- cancellation ----------------------------------------------------------------------------------------------------


class Slowness(threading.Event):
    """An event that delays the searches of servers until it is set."""

    def __init__(self) -> None:
        super().__init__()
        self.searches = 0
        """Number of searches that have started."""
        self.ended = 0
        self._lock = threading.Lock()

    def around(self, answer: Callable[..., Any]) -> Callable[..., Any]:
        def delayed(*given: Any, **options: Any) -> Any:
            with self._lock:
                self.searches += 1
            self.wait(HANGS)
            try:
                return answer(*given, **options)
            finally:
                with self._lock:
                    self.ended += 1

        return delayed

    def finish(self) -> None:
        """Release all searches and wait for them, because their store is about to be closed."""
        self.set()
        asyncio.run(until(lambda: self.ended == self.searches))


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slowness]:
    """Delay the searches of servers until the event is set."""
    slowness = Slowness()
    monkeypatch.setattr(Searcher, "answer", slowness.around(Searcher.answer))
    yield slowness
    slowness.finish()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(HANGS):
        while not true():
            await asyncio.sleep(0.005)


@pytest.fixture
def server(shelf: Shelf) -> Iterator[TwinscopeServer]:
    """A server with small limits, whose metrics can be read."""
    settings = ServerSettings(port=0, lame_duck_seconds=0, workers=1, max_waiting=40, max_streams=40)
    made = TwinscopeServer(shelf.store, settings)
    made.start()
    yield made
    made.stop()


def counted(server: TwinscopeServer, name: str, **labels: str) -> float:
    return server.metrics.registry.get_sample_value(f"twinscope_requests_{name}", labels) or 0.0


async def check_health(ts: aio.AsyncEngine) -> None:
    """Check the health over the same connection; this needs no worker of the server."""
    assert ts._connection is not None
    await ts._connection.channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=HANGS)


def test_a_cancelled_task_cancels_its_call(shelf: Shelf, server: TwinscopeServer, slow: Slowness) -> None:
    async def cancelled(ts: aio.AsyncEngine) -> str:
        first = asyncio.create_task(ts.search(shelf.reference("Tips", 0)))
        await until(lambda: slow.searches == 1)
        waiting = asyncio.create_task(ts.search(shelf.reference("Tips", 0)))
        await until(lambda: counted(server, "in_flight", method="Search") == 2)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(waiting, HANGS)
        await check_health(ts)  # the server answers this call after it has handled the cancellation
        slow.set()
        return (await first).grade

    assert with_engine(server.target, cancelled) == "excellent"
    # The server starts a waiting call only if its caller is still connected.
    asyncio.run(until(lambda: counted(server, "total", method="Search", code="CANCELLED") == 1))
    assert counted(server, "total", method="Search", code="OK") == 1


def test_a_timeout_of_asyncio_works(shelf: Shelf, slow: Slowness) -> None:
    with serving(shelf.store) as target:
        with pytest.raises(TimeoutError):
            with_engine(target, lambda ts: asyncio.wait_for(ts.search(shelf.reference("Tips", 0)), 0.3))
        slow.finish()


def test_a_cancelled_upload_ends(shelf: Shelf, server: TwinscopeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped, resumed = threading.Event(), threading.Event()
    messages = Upload._messages

    def interrupted(upload: Upload) -> Iterator[Any]:
        for message in messages(upload):
            yield message
            stopped.set()
            resumed.wait(HANGS)

    async def cancelled(ts: aio.AsyncEngine) -> str:
        task = asyncio.create_task(ts.search(shelf.reference("Tips", 0)))
        await until(lambda: stopped.is_set() and counted(server, "in_flight", method="SearchByImage") == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: counted(server, "in_flight", method="SearchByImage") == 0)
        resumed.set()
        return (await ts.search(shelf.reference("Tips", 0))).grade

    monkeypatch.setattr(Upload, "_messages", interrupted)
    try:
        assert with_engine(server.target, cancelled) == "excellent"
    finally:
        resumed.set()
    assert counted(server, "total", method="SearchByImage", code="OK") == 1


def test_closing_ends_running_calls_and_cancels_no_task(shelf: Shelf, slow: Slowness) -> None:
    async def closed(ts: aio.AsyncEngine) -> list[Any]:
        tasks = [asyncio.create_task(ts.search(shelf.reference("Tips", number % 2))) for number in range(3)]
        await until(lambda: slow.searches == 3)
        tasks[0].cancel()
        await ts.close()
        return await asyncio.gather(*tasks, return_exceptions=True)

    with serving(shelf.store, workers=3) as target:
        cancelled, *failed = with_engine(target, closed)
        slow.finish()
    assert isinstance(cancelled, asyncio.CancelledError)
    assert [(type(error), error.code) for error in failed] == [(ServerError, "CANCELLED")] * 2


# -- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("do", "error"),
    [
        (lambda ts: ts.search(b"no image"), ImageError),
        (lambda ts: ts.search("missing.tif"), ImageError),
        (lambda ts: ts.search(np.zeros((40, 40), np.uint8), categories=["Unicorns"]), TaxonomyError),
        (lambda ts: ts.search_stored("0" * 16), UnknownImageError),
        (lambda ts: ts.search_stored("no id"), UnknownImageError),
        (lambda ts: ts.search(np.zeros((40, 40), np.uint8), no_threshold=1), OptionError),
        (lambda ts: ts.search(5), TypeError),
    ],
)
def test_errors_equal_those_of_other_engines(served: str, do: Callable[[Any], Any], error: type[Exception]) -> None:
    with connect(served) as ts, pytest.raises(error) as expected:
        do(ts)
    with pytest.raises(error) as found:
        with_engine(served, do)
    assert (type(found.value), str(found.value)) == (type(expected.value), str(expected.value))
    assert found.value.args == expected.value.args


def test_an_exceeded_deadline(shelf: Shelf, slow: Slowness) -> None:
    with serving(shelf.store) as target:
        with pytest.raises(ServerError, match="check that the server is running") as caught:
            with_engine(target, lambda ts: ts.search(shelf.reference("Tips", 0)), timeout=0.3)
        slow.finish()
    assert (caught.value.code, caught.value.retriable) == ("DEADLINE_EXCEEDED", True)


def test_an_unreachable_server() -> None:
    with pytest.raises(ServerError, match="check that the server is running") as caught:
        with_engine("grpc://127.0.0.1:1", lambda ts: ts.stats(), timeout=0.5)
    assert caught.value.retriable


def test_a_server_that_stops(shelf: Shelf) -> None:
    async def gone() -> None:
        with serving(shelf.store) as target:
            ts = aio.connect(target, timeout=5)
            await ts.stats()
        with pytest.raises(ServerError) as caught:
            await ts.search(shelf.reference("Tips", 0))
        await ts.close()
        assert caught.value.code in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}

    asyncio.run(gone())


def test_a_call_refused_for_overload_is_retried(shelf: Shelf, slow: Slowness) -> None:
    async def both(ts: aio.AsyncEngine) -> list[Any]:
        first = asyncio.create_task(ts.search(shelf.reference("Tips", 0)))
        await until(lambda: slow.searches == 1)
        asyncio.get_running_loop().call_later(0.3, slow.set)
        return [await ts.search(shelf.reference("Fibres", 0)), await first]

    with serving(shelf.store, workers=1, max_waiting=0) as target:
        assert [answer.category for answer in with_engine(target, both)] == ["Fibres", "Tips"]


def test_an_early_refusal_of_an_upload_keeps_its_reason(shelf: Shelf, tmp_path: Path) -> None:
    """The error contains the reason that the server gave, even if a part of the file was already sent."""
    with tifffile.TiffWriter(tmp_path / "large.tif") as out:
        out.write(read_image(shelf.reference("Tips", 0)).pixels)
        out.write(np.random.default_rng(1).integers(0, 256, (3000, 1000), np.uint8))

    async def repeatedly(ts: aio.AsyncEngine) -> list[Any]:
        searches = [ts.search(tmp_path / "large.tif") for _ in range(30)]
        return [(await asyncio.gather(search, return_exceptions=True))[0] for search in searches]

    with serving(shelf.store, max_upload_mib=1) as target:
        for error in with_engine(target, repeatedly):
            assert isinstance(error, ImageError), error
            assert error.fault == "too_large"


@pytest.mark.parametrize("way", ["asyncio", "blocking"])
def test_a_file_deleted_before_its_upload_is_an_image_error(
    shelf: Shelf, served: str, tmp_path: Path, way: str
) -> None:
    path = Path(shutil.copy(shelf.reference("Tips", 0), tmp_path / "gone.jpg"))
    calls = iter(["GetIndex", "Search", "SearchByImage"])

    def token() -> str:
        if next(calls) == "SearchByImage":
            path.unlink()
        return "any"

    def ask() -> Any:
        if way == "asyncio":
            return with_engine(served, lambda ts: ts.search(path), token=token)
        with connect(served, token=token) as ts:
            return ts.search(path)

    with pytest.raises(ImageError, match="second time") as caught:
        ask()
    assert (caught.value.source, caught.value.fault) == (str(path), "unreadable")


# -- tokens, certificates, targets -----------------------------------------------------------------------------------


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    (tmp_path / "tokens").write_text(token_line("ann", "read", "sesame"))
    return tmp_path / "tokens"


@pytest.mark.parametrize("way", ["text", "function", "coroutine function"])
def test_the_token_is_read_for_every_call(shelf: Shelf, tokens: Path, way: str) -> None:
    given: list[str] = []

    def now() -> str:
        given.append("wrong" if len(given) == 3 else "sesame")
        return given[-1]

    async def later() -> str:
        await asyncio.sleep(0.001)
        return now()

    async def thrice(ts: aio.AsyncEngine) -> None:
        answer = await ts.search(shelf.reference("Tips", 0))  # two calls after the call that connects
        assert answer.grade == "excellent"
        if way != "text":
            with pytest.raises(AccessError):
                await ts.stats()
        await ts.stats()

    with serving(shelf.store, tokens=tokens) as target:
        with_engine(target, thrice, token={"text": "sesame", "function": now, "coroutine function": later}[way])
    assert len(given) == (0 if way == "text" else 5)


@pytest.mark.parametrize("wrong", [None, "wrong"])
def test_a_wrong_token_raises_on_entering(shelf: Shelf, tokens: Path, wrong: str | None) -> None:
    with serving(shelf.store, tokens=tokens) as target, pytest.raises(AccessError, match="token") as caught:
        with_engine(target, lambda ts: pytest.fail("entered"), token=wrong)
    assert (caught.value.code, caught.value.reason) == ("UNAUTHENTICATED", "TOKEN_INVALID")


def test_an_error_of_a_token_function_reaches_the_caller(served: str) -> None:
    for error in (KeyError("vault"), StopIteration("no more")):

        async def token(error: Exception = error) -> str:
            raise error

        with pytest.raises((KeyError, RuntimeError)) as caught:
            with_engine(served, lambda ts: ts.stats(), token=token)
        assert error in (caught.value, caught.value.__cause__)


def test_a_token_never_crosses_the_network_in_plain_text() -> None:
    with pytest.raises(SettingsError, match="plain text"):
        aio.connect("grpc://192.0.2.1:50051", token="secret")


def test_tls_with_certificates_on_both_sides(shelf: Shelf, tokens: Path, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("certificates are made with the openssl command")
    ca = authority(tmp_path, "ca")
    certificate, key = ca.issue("server")
    own, own_key = ca.issue("client")
    settings = {"tls_certificate": certificate, "tls_key": key, "tls_client_ca": ca.pem, "tokens": tokens}
    search = lambda ts: ts.search(shelf.reference("Tips", 0))  # noqa: E731
    with serving(shelf.store, **settings) as target:
        assert target.startswith("grpcs://")
        answer = with_engine(target, search, token="sesame", ca=ca.pem, certificate=own, key=own_key)
        assert answer.grade == "excellent"
        with pytest.raises(ServerError, match="grpcs://"):
            with_engine(target, search, token="sesame", ca=ca.pem, timeout=0.5)
    with pytest.raises(SettingsError, match="cannot be read"):
        aio.connect(target, ca=tmp_path / "missing.pem")


def test_a_folder_is_refused_with_a_hint(shelf: Shelf) -> None:
    for folder in (shelf.store, str(shelf.store)):
        with pytest.raises(SettingsError, match=r"twinscope\.connect.*asyncio\.to_thread"):
            aio.connect(folder)


@pytest.mark.parametrize("target", ["grpc://", "grpc://host", "http://h:1", "grpc://h:1/path", "grpc://h:99999"])
def test_a_target_that_is_not_a_server(target: str) -> None:
    with pytest.raises(SettingsError, match="write grpc://h:1," if target == "http://h:1" else "grpc://host:port"):
        aio.connect(target)


@pytest.mark.parametrize("way", ["context", "call", "blocking"])
def test_a_different_release_is_warned_of_once(served: str, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    async def called() -> None:
        ts = aio.connect(served)
        await ts.search_hashes([])
        await ts.refresh()
        await ts.close()

    async def entered() -> None:
        async with aio.connect(served) as ts:
            await ts.refresh()

    def blocking() -> None:
        with connect(served) as ts:
            ts.refresh()

    ways = {"call": lambda: asyncio.run(called()), "context": lambda: asyncio.run(entered()), "blocking": blocking}
    monkeypatch.setattr("twinscope_client.remote.version_check.version", lambda name: "99.7.1")
    with pytest.warns(VersionSkewWarning, match=r"this client is Twinscope 99\.7\.1") as caught:
        ways[way]()
    assert [warning.filename for warning in caught] == [__file__]


def test_a_stream_is_read_in_a_thread(shelf: Shelf, served: str) -> None:
    gate = Gate()

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            gate.wait()
            return super().read(size)

    stream = Slow(shelf.reference("Tips", 0).read_bytes())
    assert kept(served, gate, lambda ts: ts.search(stream)).grade == "excellent"
    assert gate.passed >= 2


def test_the_asyncio_client_is_imported_on_first_use() -> None:
    code = (
        "import sys, twinscope_client; assert 'grpc' not in sys.modules; twinscope_client.aio.AsyncEngine; "
        "assert 'grpc.aio' in sys.modules"
    )
    environment = os.environ | {"PYTHONWARNINGS": "error"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=4 * HANGS)
    import twinscope_client

    with pytest.raises(AttributeError, match="nothing"):
        _ = twinscope_client.nothing
