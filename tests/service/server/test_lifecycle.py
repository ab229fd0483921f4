"""Life cycle of a server: loading, new generations, draining, reflection and metrics."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_reflection.v1alpha import reflection_pb2
from in_process import counted, in_flight, running
from PIL import Image
from raw_client import HANGS, SERVICES, RawClient, eventually, failure_of, held
from shelf import Shelf
from twinscope.v1 import catalog_pb2, similarity_pb2
from twinscope_client import connect
from twinscope_client.demo.micrographs import synthesise
from twinscope_client.testing import serving
from twinscope_indexer.hashing.perceptual import hash_pixels
from twinscope_indexer.imaging.reader import read_image
from twinscope_indexer.indexing.run import index
from twinscope_indexer.store.reader import Store
from twinscope_indexer.store.view import View
from twinscope_service.matching import searcher as searcher_module
from twinscope_service.matching.options import Options
from twinscope_service.matching.searcher import Result, Searcher
from twinscope_service.server import server as server_module
from twinscope_service.server.server import TwinscopeServer
from twinscope_service.server.settings import ServerSettings

COMMAND = [sys.executable, "-m", "twinscope_client.cli.main"]
INDEX = catalog_pb2.GetIndexRequest()
HASH = bytes(range(128))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextmanager
def process(store: Path, *flags: object) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run ``twinscope serve`` as a separate process; yield the process and its target."""
    command = [*COMMAND, "serve", str(store), "--port", "0", "--quiet", *map(str, flags)]
    output = store.parent / f"{store.name}-{len(list(store.parent.iterdir()))}.log"  # an unread pipe would fill up
    environment = os.environ | {"PYTHONFAULTHANDLER": "1"}
    with output.open("w") as log, subprocess.Popen(command, stderr=log, env=environment) as running:
        try:
            assert eventually(lambda: "grpc" in output.read_text() or running.poll() is not None)
            found = re.search(r"(grpcs?://\S+);", output.read_text())
            assert found, output.read_text()
            yield running, found[1]
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGABRT)  # the fault handler writes the stack of every thread
            running.wait(HANGS)
            pytest.fail(f"the server did not end:\n{output.read_text()}")
        finally:
            running.kill()


@pytest.fixture
def store(shelf: Shelf, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shelf.store, tmp_path / "store"))


def query(code: bytes = HASH, **options: Any) -> similarity_pb2.SearchRequest:
    return similarity_pb2.SearchRequest(query=similarity_pb2.Query(hash=code), options=options)


# -- loading -----------------------------------------------------------------------------------------------------------


def test_health_is_not_serving_until_the_index_is_loaded(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    loading, loaded = threading.Event(), threading.Event()

    def slowly(folder: Path) -> Store:
        loading.set()
        loaded.wait(HANGS)
        return Store(folder)

    monkeypatch.setattr(server_module, "Store", slowly)
    server = TwinscopeServer(shelf.store, ServerSettings(port=0, lame_duck_seconds=0))
    starting = threading.Thread(target=server.start, daemon=True)
    starting.start()
    assert loading.wait(HANGS)
    with RawClient(server.target) as client:
        assert [client.serving(name) for name in ("", *SERVICES)] == ["NOT_SERVING"] * 3
        for method, request in (
            (client.catalog.GetIndex, INDEX),
            (client.similarity.StreamSearch, iter(())),
            (client.similarity.Search, query()),
        ):
            failure = client.failure(method, request)
            assert (failure.code, failure.reason) == ("UNAVAILABLE", "INDEX_NOT_READY")
            assert failure.retry_seconds is not None
        refused = {"reason": "INDEX_NOT_READY"}
        assert server.metrics.registry.get_sample_value("twinscope_requests_refused_total", refused) == 3
        with pytest.raises(grpc.RpcError) as caught:
            client.serving("no.such.Service")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        loaded.set()
        starting.join(HANGS)
        assert [client.serving(name) for name in ("", *SERVICES)] == ["SERVING"] * 3
        client.call(client.similarity.Search, query())
    server.stop()


def test_server_without_a_store_exits(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "serve", str(tmp_path), "--port", "0"], capture_output=True, text=True, timeout=4 * HANGS
    )
    assert done.returncode == 1
    assert "twinscope index" in done.stderr
    assert "Traceback" not in done.stderr


# -- draining ----------------------------------------------------------------------------------------------------------


class LameDuck(threading.Event):
    """The event that a stopping server waits for. Until the test sets the event, health checks fail but calls are
    answered."""

    SECONDS = 1000.0

    def __init__(self) -> None:
        super().__init__()
        self.over = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        return self.over.wait(HANGS) if timeout == self.SECONDS else super().wait(timeout)


def test_calls_in_progress_finish_when_the_server_stops(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    answer, begun, release = Searcher.answer_all, threading.Event(), threading.Event()

    def waiting(*arguments: Any, **options: Any) -> Any:
        begun.set()
        release.wait(HANGS)
        return answer(*arguments, **options)

    monkeypatch.setattr(Searcher, "answer_all", waiting)
    server = TwinscopeServer(shelf.store, ServerSettings(port=0, lame_duck_seconds=LameDuck.SECONDS, workers=4))
    server._stopped = duck = LameDuck()
    server.start()
    with RawClient(server.target) as client, held() as idle:
        future = client.similarity.Search.future(query(), timeout=HANGS)
        stream = client.similarity.StreamSearch(idle, timeout=HANGS)
        assert begun.wait(HANGS)
        assert eventually(lambda: in_flight(server, "StreamSearch") == 1)
        stopping = threading.Thread(target=server.stop, daemon=True)
        stopping.start()
        assert eventually(lambda: client.serving() == "NOT_SERVING")
        assert [client.serving(name) for name in SERVICES] == ["NOT_SERVING"] * 2
        client.call(client.catalog.GetIndex, INDEX)  # still answered until the event is set
        duck.over.set()
        assert eventually(lambda: counted(server, "requests_total", method="StreamSearch", code="UNAVAILABLE") == 1)
        assert not future.done()
        release.set()
        assert len(future.result().result.answer.query_hash) == 128
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        failure = failure_of(caught.value)
        assert (failure.code, failure.reason) == ("UNAVAILABLE", "DRAINING")
        stopping.join(HANGS)
        assert not stopping.is_alive()
        assert client.failure(client.similarity.Search, query()).code == "UNAVAILABLE"


def test_calls_refused_during_draining_are_counted(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, release = threading.Event(), threading.Event()
    answer = Searcher.answer_all

    def waiting(*arguments: Any, **options: Any) -> Any:
        begun.set()
        release.wait(HANGS)
        return answer(*arguments, **options)

    monkeypatch.setattr(Searcher, "answer_all", waiting)
    server = TwinscopeServer(shelf.store, ServerSettings(port=0, lame_duck_seconds=0))
    server.start()
    with RawClient(server.target) as client:
        future = client.similarity.Search.future(query(), timeout=HANGS)
        assert begun.wait(HANGS)
        stopping = threading.Thread(target=server.stop, daemon=True)
        stopping.start()

        def refused() -> bool:
            try:
                client.call(client.catalog.GetIndex, INDEX)
            except grpc.RpcError as error:
                assert failure_of(error).reason == "DRAINING"  # noqa: PT017
                return True
            return False

        assert eventually(refused)
        refused = {"reason": "DRAINING"}
        assert server.metrics.registry.get_sample_value("twinscope_requests_refused_total", refused) == 1
        release.set()
        future.result()
        stopping.join(HANGS)


_ENDLESS = """
import sys, time
from twinscope_client.cli.main import main
from twinscope_service.matching.searcher import Searcher
Searcher.answer_all = lambda *_: (print("begun", file=sys.stderr, flush=True), time.sleep(600))
sys.exit(main(sys.argv[1:]))
"""


def test_endless_call_does_not_keep_the_process_alive(shelf: Shelf) -> None:
    flags = ["--port", "0", "--quiet", "--lame-duck-seconds", "0", "--grace-seconds", "0.5"]
    command = [sys.executable, "-c", _ENDLESS, "serve", str(shelf.store), *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        found = re.search(r"grpc://[^;]+", next(line for line in running.stderr if "grpc:" in line))
        assert found
        with RawClient(found[0]) as client:
            call = client.similarity.Search.future(query(), timeout=4 * HANGS)
            assert running.stderr.readline() == "begun\n"
            running.send_signal(signal.SIGTERM)
            with pytest.raises(grpc.RpcError):
                call.result()
            assert running.wait(HANGS) == 1
        assert "Some calls did not finish" in running.stderr.read()


def test_sigterm_under_load_breaks_no_call(store: Path, shelf: Shelf) -> None:
    """Check that clients with retries see a restart on the same port as a pause, and that started calls finish."""
    port = free_port()
    code = hash_pixels(read_image(shelf.reference("Tips", 0)).pixels).code
    stop, refused, broken, answered = threading.Event(), [], [], []

    def load() -> None:
        with RawClient(f"grpc://127.0.0.1:{port}") as client:
            while not stop.is_set():
                try:
                    answered.append(client.call(client.similarity.Search, query(code)).result.answer.generation)
                except grpc.RpcError as error:
                    failure = failure_of(error)
                    begun = failure.code != "UNAVAILABLE" or "reset" in failure.message.lower()
                    (broken if begun else refused).append(failure)
                    time.sleep(failure.retry_seconds or 0.05)

    threads = [threading.Thread(target=load, daemon=True) for _ in range(8)]
    with process(store, "--port", port, "--lame-duck-seconds", 0.2) as (running, _):
        for thread in threads:
            thread.start()
        assert eventually(lambda: len(answered) > 100)
        running.send_signal(signal.SIGTERM)
        assert running.wait(HANGS) == 0
        before = len(answered)
        with process(store, "--port", port):
            assert eventually(lambda: len(answered) > before + 100)
            stop.set()
            for thread in threads:
                thread.join()
    assert not broken
    assert {failure.reason for failure in refused} <= {"DRAINING", "INDEX_NOT_READY", ""}


def test_client_retries_during_a_restart(store: Path, shelf: Shelf) -> None:
    settings = ServerSettings(port=free_port(), lame_duck_seconds=0)
    paths = [shelf.reference(category, number) for category, number in shelf.pixels]
    answers: list[Any] = []
    server = TwinscopeServer(store, settings)
    server.start()
    with connect(server.target) as engine:
        expected = [engine.search(path) for path in paths]
        restarted = threading.Event()

        def work() -> None:
            while not restarted.is_set():
                answers.append([engine.search(path) for path in paths])
            answers.append([engine.search(path) for path in paths])

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        assert eventually(lambda: len(answers) > 0)
        server.stop()
        server = TwinscopeServer(store, settings)
        server.start()
        restarted.set()
        worker.join(HANGS)
        assert not worker.is_alive()
    server.stop()
    assert len(answers) > 1
    assert all(one == expected for one in answers)


def test_second_server_on_a_port_is_refused(store: Path) -> None:
    with process(store) as (_, target):
        port = target.rpartition(":")[2]
        command = [*COMMAND, "serve", str(store), "--port", port]
        done = subprocess.run(command, capture_output=True, text=True, timeout=4 * HANGS)
        assert done.returncode == 1
        assert f"cannot listen on 127.0.0.1:{port}: is another server running there?" in done.stderr
        with connect(target) as engine:
            engine.stats()


# -- new generations ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_images_indexed_by_another_process_are_found(store: Path, shelf: Shelf, tmp_path: Path) -> None:
    folder = tmp_path / "more" / "Powder"
    folder.mkdir(parents=True)
    for number in range(100):
        Image.fromarray(synthesise("Powder", number, width=240, height=180).astype(np.uint8)).save(
            folder / f"{number}.png"
        )
    known = shelf.reference("Tips", 0)
    with process(store, "--refresh-seconds", 0.1) as (_, target), connect(target) as engine:
        expected = engine.search(known)
        generations, failures, stop = [], [], threading.Event()

        def search() -> None:
            while not stop.is_set():
                answer = engine.search(known)
                generations.append(answer.generation)
                if (answer.grade, answer.category, answer.matches[0].ssim) != (
                    expected.grade, expected.category, expected.matches[0].ssim,
                ):  # fmt: skip
                    failures.append(answer)

        searching = [threading.Thread(target=search, daemon=True) for _ in range(2)]
        for thread in searching:
            thread.start()
        subprocess.run([*COMMAND, "index", str(tmp_path / "more"), "--store", str(store), "--workers", "1"],
                       check=True, capture_output=True, timeout=4 * HANGS)  # fmt: skip
        newest = sorted(folder.iterdir())
        assert eventually(lambda: engine.stats()["searchable"] == 106)
        found = [engine.search(path) for path in newest]
        stop.set()
        for thread in searching:
            thread.join()
        assert {(answer.grade, answer.category) for answer in found} == {("excellent", "Powder")}
        assert not failures
        assert min(generations) == expected.generation
        assert all(thread.is_alive() is False for thread in searching)


def test_search_waits_for_its_minimum_generation(store: Path, tmp_path: Path) -> None:
    (tmp_path / "more" / "Tips").mkdir(parents=True)
    pixels = synthesise("Tips", 9, width=200, height=160).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "more" / "Tips" / "new.png")
    code = hash_pixels(pixels).code
    with running(store, refresh_seconds=60) as server, RawClient(server.target) as client:
        now = client.call(client.similarity.Search, query(code)).result.answer
        assert not now.matches
        future = client.similarity.Search.future(query(code, min_generation=now.generation + 1), timeout=HANGS)
        assert eventually(lambda: in_flight(server) == 1)
        assert not future.done()
        index([tmp_path / "more"], store, workers=1)
        answer = future.result().result.answer
        assert answer.generation == now.generation + 1
        assert [match.distance_bits for match in answer.matches] == [0]


def test_batch_is_answered_from_one_generation(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The result is the same even if a new generation is published while the batch is processed."""
    opened = Store(store)
    searcher, stored = Searcher(opened), searcher_module._stored
    numbers = [record.id for record in opened.view.snapshot.page(-1, 3)]

    def meanwhile(number: int, view: View) -> Any:
        (tmp_path / "more" / "Tips").mkdir(parents=True, exist_ok=True)
        Image.fromarray(synthesise("Tips", number % 1000, width=120, height=100).astype(np.uint8)).save(
            tmp_path / "more" / "Tips" / f"{number}.png"
        )
        index([tmp_path / "more"], store, workers=1)
        opened.refresh()
        return stored(number, view)

    monkeypatch.setattr(searcher_module, "_stored", meanwhile)
    results = searcher.answer_all(numbers, Options())
    assert [result.answer.generation for result in results if isinstance(result, Result)] == [1, 1, 1]
    assert opened.view.generation == 4
    opened.close()


def test_server_continues_if_the_store_cannot_be_refreshed(
    store: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(store, refresh_seconds=0.05) as target, RawClient(target) as client:
        tried = []

        def broken(opened: Store) -> None:
            tried.append(opened)
            raise OSError(5, "the disk is gone")

        monkeypatch.setattr(Store, "refresh", broken)
        # Servers of other tests in this process may end later, and may refresh their own stores meanwhile.
        assert eventually(lambda: "cannot be refreshed" in caplog.text)
        tried.clear()
        assert eventually(lambda: len(tried) > 3)
        assert caplog.text.count("cannot be refreshed") == 1
        client.call(client.similarity.Search, query())


# -- reflection and metrics --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_describes_the_services(shelf: Shelf, version: str) -> None:
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICES[1]),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="no.such.Thing"),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=f"{SERVICES[0]}.Search"),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=f"{SERVICES[0]}.Nothing"),
    ]
    with serving(shelf.store) as target, RawClient(target) as client:
        method = client.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        listed, described, unknown, searching, nothing = method(iter(requests), timeout=HANGS)
    names = {service.name for service in listed.list_services_response.service}
    assert names >= {*SERVICES, "grpc.health.v1.Health"}
    assert b"CatalogService" in b"".join(described.file_descriptor_response.file_descriptor_proto)
    assert b"SearchRequest" in b"".join(searching.file_descriptor_response.file_descriptor_proto)
    for answer in (unknown, nothing):
        assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def reflecting(client: RawClient) -> Any:
    return client.channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )


def test_reflection_streams_have_a_few_slots_of_their_own(shelf: Shelf) -> None:
    with serving(shelf.store, max_streams=1) as target, RawClient(target) as client, ExitStack() as streams:
        method = reflecting(client)
        calls = [method(streams.enter_context(held()), timeout=HANGS) for _ in range(9)]
        assert eventually(lambda: any(call.done() for call in calls))
        [refused] = [call for call in calls if call.done()]
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        batch = similarity_pb2.BatchSearchRequest(queries=[similarity_pb2.Query(hash=HASH)])
        request = similarity_pb2.StreamSearchRequest(sequence=1, batch=batch)
        assert [answer.sequence for answer in client.call(client.similarity.StreamSearch, iter([request]))] == [1]
        assert sum(call.done() for call in calls) == 1
        for call in calls:
            call.cancel()


def test_idle_reflection_stream_is_ended(shelf: Shelf) -> None:
    with serving(shelf.store, stream_idle_seconds=0.3) as target, RawClient(target) as client, held() as stream:
        assert reflecting(client)(stream, timeout=HANGS).code() is grpc.StatusCode.ABORTED


def test_metrics_are_served_on_loopback(shelf: Shelf) -> None:
    port = free_port()
    with serving(shelf.store, metrics_port=port) as target, RawClient(target) as client, connect(target) as engine:
        for _ in range(3):
            client.call(client.similarity.Search, query())
        client.failure(client.similarity.Search, query(b"short"))
        engine.search(shelf.reference("Tips", 0))

        def read() -> dict[str, float]:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=HANGS) as response:
                lines = [line for line in response.read().decode().splitlines() if not line.startswith("#")]
            return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

        ok = 'twinscope_requests_total{code="OK",method="Search"}'
        assert eventually(lambda: read().get(ok) == 4)
        seen = read()
        assert seen['twinscope_requests_total{code="INVALID_ARGUMENT",method="Search"}'] == 1
        assert seen['twinscope_request_seconds_count{method="Search"}'] == 5
        assert seen['twinscope_requests_in_flight{method="Search"}'] == 0
        assert (seen["twinscope_index_images"], seen["twinscope_index_generation"]) == (6, 1)
        assert seen['twinscope_stage_seconds_count{stage="hashes"}'] == 3
        assert seen['twinscope_stage_seconds_count{stage="work"}'] >= 2
        cache = "twinscope_reference_cache_lookups_total"
        assert (seen[f'{cache}{{found="no"}}'], seen[f'{cache}{{found="yes"}}']) == (1, 0)
        engine.search(shelf.reference("Tips", 0))
        assert (read()[f'{cache}{{found="no"}}'], read()[f'{cache}{{found="yes"}}']) == (1, 1)
        assert read()["twinscope_reference_cache_bytes"] == shelf.pixels["Tips", 0].nbytes
        assert not [name for name in seen if "L9_" in name]
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=HANGS)
