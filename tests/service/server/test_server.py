"""Errors of a server: the reasons of the contract, over a real socket."""

from __future__ import annotations

import io
import json
import logging
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tifffile
from grpc_health.v1 import health_pb2
from in_process import counted, in_flight, running
from PIL import Image
from raw_client import HANGS, SERVICES, Failure, RawClient, eventually, failure_of, held, upload
from shelf import Shelf
from twinscope.v1 import catalog_pb2, errors_pb2, similarity_pb2, types_pb2
from twinscope_client import connect
from twinscope_client.demo.micrographs import synthesise
from twinscope_client.errors import ServerError
from twinscope_client.testing import serving
from twinscope_indexer.errors import StoreError
from twinscope_indexer.hashing.perceptual import RECIPE, hash_pixels
from twinscope_indexer.imaging.reader import read_image
from twinscope_service.errors import SettingsError
from twinscope_service.matching.fingerprint import Fingerprint
from twinscope_service.matching.searcher import MAX_WAIT, Searcher
from twinscope_service.server.server import TwinscopeServer
from twinscope_service.server.settings import ServerSettings
from twinscope_service.wire.queries import fingerprint_message

Query = similarity_pb2.Query
SMALL = {"max_message_mib": 1, "max_upload_mib": 2, "max_megapixels": 1}


@pytest.fixture(scope="module")
def client(shelf: Shelf) -> Iterator[RawClient]:
    with serving(shelf.store, write=False, stream_idle_seconds=5, **SMALL) as target, RawClient(target) as client:
        yield client


@pytest.fixture(autouse=True)
def still_alive(request: pytest.FixtureRequest) -> Iterator[None]:
    """Check after each test that the shared server still answers."""
    yield
    if "client" in request.fixturenames:
        client: RawClient = request.getfixturevalue("client")
        assert client.serving() == "SERVING"
        client.call(client.catalog.GetIndex, catalog_pb2.GetIndexRequest())


def hash_of(shelf: Shelf, category: str = "Tips", number: int = 0) -> bytes:
    hashed = hash_pixels(read_image(shelf.reference(category, number)).pixels)
    assert hasattr(hashed, "code")
    return hashed.code


def search(**fields: Any) -> similarity_pb2.SearchRequest:
    return similarity_pb2.SearchRequest(**fields)


# -- fields that break the rules ---------------------------------------------------------------------------------------

HASH = bytes(range(128))
WRONG: dict[str, tuple[Callable[[RawClient], Any], Any, tuple[str, ...]]] = {
    "no query": (lambda c: c.similarity.Search, search(), ("query",)),
    "hash too short": (lambda c: c.similarity.Search, search(query=Query(hash=HASH[:127])), ("query.hash",)),
    "hash too long": (lambda c: c.similarity.Search, search(query=Query(hash=HASH + b"x")), ("query.hash",)),
    "no id": (lambda c: c.similarity.Search, search(query=Query(image_id="x")), ("query.image_id",)),
    "a path for an id": (
        lambda c: c.similarity.Search,
        search(query=Query(image_id="../../../etc/passwd")),
        ("query.image_id",),
    ),
    "long tag": (
        lambda c: c.similarity.Search,
        search(query=Query(hash=HASH, client_tag="x" * 129)),
        ("query.client_tag",),
    ),
    "no thumbnail": (
        lambda c: c.similarity.Search,
        search(query=Query(fingerprint=types_pb2.Fingerprint(hash=HASH, recipe=RECIPE, thumbnail=b"no JPEG"))),
        ("query.fingerprint.thumbnail",),
    ),
    "unknown verification": (
        lambda c: c.similarity.Search,
        search(query=Query(hash=HASH), options=similarity_pb2.SearchOptions(verification=77)),
        ("options.verification",),
    ),
    "unknown rule": (
        lambda c: c.similarity.Search,
        search(
            query=Query(hash=HASH),
            options=similarity_pb2.SearchOptions(
                policy=types_pb2.Policy(
                    name="mine", rule=9, k=1, max_distance_bits=1, ssim_distance_bits=1, excellent_ssim=0.5,
                    good_scene=0.5, ssim_margin=0, scene_margin=0,
                )
            ),
        ),
        ("options.policy.rule",),
    ),
    "unknown policy": (
        lambda c: c.similarity.Search,
        search(query=Query(hash=HASH), options=similarity_pb2.SearchOptions(policy=types_pb2.Policy(name="strict"))),
        ("options.policy.name",),
    ),
    "two faults": (
        lambda c: c.similarity.Search,
        search(
            query=Query(hash=HASH),
            options=similarity_pb2.SearchOptions(policy=types_pb2.Policy(k=1001), min_generation=-1),
        ),
        ("options.policy.k", "options.min_generation"),
    ),
    "65 categories": (
        lambda c: c.similarity.Search,
        search(query=Query(hash=HASH), options=similarity_pb2.SearchOptions(categories=["Tips"] * 65)),
        ("options.categories",),
    ),
    "an empty batch": (lambda c: c.similarity.BatchSearch, similarity_pb2.BatchSearchRequest(), ("queries",)),
    "1025 queries": (
        lambda c: c.similarity.BatchSearch,
        similarity_pb2.BatchSearchRequest(queries=[Query(hash=HASH)] * 1025),
        ("queries",),
    ),
    "too many candidates": (
        lambda c: c.similarity.BatchSearch,
        similarity_pb2.BatchSearchRequest(
            queries=[Query(hash=HASH)] * 1024,
            options=similarity_pb2.SearchOptions(policy=types_pb2.Policy(k=65)),
        ),
        ("queries",),
    ),
    "no id to get": (lambda c: c.catalog.GetImage, catalog_pb2.GetImageRequest(), ("image_id",)),
    "a negative page": (lambda c: c.catalog.ListImages, catalog_pb2.ListImagesRequest(page_size=-1), ("page_size",)),
    "a made-up token": (
        lambda c: c.catalog.ListImages,
        catalog_pb2.ListImagesRequest(page_token="x"),
        ("page_token",),
    ),
    "thumbnail of a path": (
        lambda c: c.catalog.GetThumbnail,
        catalog_pb2.GetThumbnailRequest(image_id="/etc/passwd"),
        ("image_id",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_invalid_field_is_named_by_its_path(client: RawClient, name: str) -> None:
    method, request, fields = WRONG[name]
    failure = client.failure(method(client), request)
    assert (failure.code, failure.reason, failure.fields) == ("INVALID_ARGUMENT", "INVALID_FIELD", fields)
    assert failure.retry_seconds is failure.pushback_ms is None
    assert f"ERROR_REASON_{failure.reason}" in errors_pb2.ErrorReason.keys()  # noqa: SIM118  no mapping


def test_invalid_query_does_not_fail_its_batch(client: RawClient, shelf: Shelf) -> None:
    queries = [
        Query(hash=hash_of(shelf), client_tag="good"),
        Query(hash=HASH[:5], client_tag="short"),
        Query(image_id="0" * 16, client_tag="absent"),
        Query(fingerprint=types_pb2.Fingerprint(hash=HASH, recipe="old"), client_tag="recipe"),
        Query(hash=hash_of(shelf, "Fibres"), client_tag="good too"),
    ]
    answer = client.call(client.similarity.BatchSearch, similarity_pb2.BatchSearchRequest(queries=queries))
    assert [result.client_tag for result in answer.results] == [query.client_tag for query in queries]
    assert [result.answer.matches[0].category for result in answer.results if not result.HasField("error")] == [
        "Tips", "Fibres",
    ]  # fmt: skip
    failures = [Failure.of_status(result.error) for result in answer.results if result.HasField("error")]
    assert [(one.code, one.reason, one.fields) for one in failures] == [
        ("INVALID_ARGUMENT", "INVALID_FIELD", ("queries[1].hash",)),
        ("NOT_FOUND", "IMAGE_NOT_FOUND", ()),
        ("FAILED_PRECONDITION", "RECIPE_MISMATCH", ()),
    ]
    assert failures[1].resource == ("image", "0" * 16)


def test_batch_gives_the_answers_of_single_queries(client: RawClient, shelf: Shelf) -> None:
    images = client.call(client.catalog.ListImages, catalog_pb2.ListImagesRequest()).images
    queries = [Query(image_id=image.image_id) for image in images] + [Query(hash=image.hash) for image in images]
    options = similarity_pb2.SearchOptions(policy=types_pb2.Policy(max_distance_bits=1024, k=3))
    together = client.call(
        client.similarity.BatchSearch, similarity_pb2.BatchSearchRequest(queries=queries[::-1], options=options)
    )
    alone = [client.call(client.similarity.Search, search(query=query, options=options)) for query in queries]
    assert list(together.results)[::-1] == [answer.result for answer in alone]
    for image, result in zip(images, together.results[::-1], strict=False):
        assert image.image_id not in [match.image_id for match in result.answer.matches]


def test_other_errors_of_a_search(client: RawClient) -> None:
    absent = client.failure(client.similarity.Search, search(query=Query(image_id="7" + "f" * 15)))
    assert (absent.code, absent.reason, absent.resource) == ("NOT_FOUND", "IMAGE_NOT_FOUND", ("image", "7" + "f" * 15))
    for method, request, field in (
        (client.similarity.Search, search(query=Query(hash=HASH), options={"categories": ["Unicorns"]}), ""),
        (client.similarity.BatchSearch,
         similarity_pb2.BatchSearchRequest(queries=[Query(hash=HASH)], options={"categories": ["Unicorns"]}), ""),
        (client.similarity.SearchByImage, upload(png(), options={"categories": ["Unicorns"]}), "header."),
    ):  # fmt: skip
        unknown = client.failure(method, request)
        assert (unknown.code, unknown.reason) == ("INVALID_ARGUMENT", "UNKNOWN_CATEGORY")
        assert unknown.fields == (f"{field}options.categories",)
        assert "Fibres, Particles, Tips" in unknown.message
    mismatch = client.failure(client.similarity.Search, search(query=Query(hash=HASH), options={"recipe": "old"}))
    assert (mismatch.code, mismatch.reason) == ("FAILED_PRECONDITION", "RECIPE_MISMATCH")


def test_missing_generation_is_reported_within_the_deadline(client: RawClient) -> None:
    request = search(query=Query(hash=HASH), options={"min_generation": 99})
    for seconds in (1, 2, 4, 8, 16):  # on a busy machine, the answer may arrive after the deadline of the client
        start = time.monotonic()
        never = client.failure(client.similarity.Search, request, seconds)
        assert never.code == "DEADLINE_EXCEEDED"
        if never.reason:
            break
    assert (never.reason, never.metadata) == ("GENERATION_NOT_REACHED", {"wanted": "99", "generation": "1"})
    assert time.monotonic() - start > seconds / 2


def test_waiting_for_a_generation_occupies_no_worker(shelf: Shelf) -> None:
    waiting = search(query=Query(hash=HASH), options={"min_generation": 99})
    with running(shelf.store, workers=2) as server, RawClient(server.target) as client:
        slow = [client.similarity.Search.future(waiting, timeout=HANGS) for _ in range(16)]
        assert eventually(lambda: in_flight(server) == 16)
        client.call(client.similarity.Search, search(query=Query(hash=HASH)))
        assert not [one for one in slow if one.done()]
        for one in slow:
            one.cancel()
        cancelled = time.monotonic()
        assert eventually(lambda: in_flight(server) == 0)
        assert time.monotonic() - cancelled < MAX_WAIT / 2, "a call ends its wait if its client has disconnected"


def test_error_with_many_violations_fits_the_status(client: RawClient) -> None:
    """Check the size, because clients accept at most 8 KiB of trailing metadata and otherwise report a transport
    error."""
    categories = ["\\x" * 100] * 64  # invalid escapes
    failure = client.failure(
        client.similarity.Search, search(query=Query(hash=HASH), options={"categories": categories})
    )
    assert (failure.code, failure.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert failure.fields[:2] == ("options.categories[0]", "options.categories[1]")


# -- uploads -----------------------------------------------------------------------------------------------------------


NOISE = np.random.default_rng(5).integers(0, 256, (120, 120), np.uint8)


def png(pixels: np.ndarray | None = None) -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64) if pixels is None else pixels).save(data, "PNG")
    return data.getvalue()


def bomb(side: int = 30_000) -> bytes:
    """Return a PNG of side x side pixels in a few hundred kilobytes."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compressobj(9)
    content = b"".join(rows.compress(bytes(side + 1)) for _ in range(200)) + rows.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def test_upload_is_answered_like_the_file(client: RawClient, shelf: Shelf) -> None:
    path = shelf.reference("Tips", 0)
    data = path.read_bytes()
    with connect(shelf.store) as engine:
        expected = engine.search(path)
    for chunk in (1000, 256 << 10, 1 << 20):
        messages = upload(data, sha256=sha256(data).digest(), chunk=chunk, client_tag="mine")
        result = client.call(client.similarity.SearchByImage, messages).result
        assert (result.client_tag, result.pixels_would_change_grade) == ("mine", False)
        assert [match.ssim for match in result.answer.matches] == [match.ssim for match in expected.matches]
        assert result.answer.category == "Tips"


def test_too_large_file_is_refused_before_it_is_read(client: RawClient) -> None:
    sent = 0

    def endless() -> Iterator[similarity_pb2.SearchByImageRequest]:
        nonlocal sent
        yield next(upload(b"", size=1 << 30))
        for _ in range(1 << 12):
            sent += 1
            yield similarity_pb2.SearchByImageRequest(chunk=bytes(256 << 10))

    failure = client.failure(client.similarity.SearchByImage, endless())
    assert (failure.code, failure.reason) == ("INVALID_ARGUMENT", "IMAGE_TOO_LARGE")
    assert failure.metadata == {"size_bytes": str(1 << 30), "max_image_bytes": str(2 << 20)}
    assert sent < 256  # of 4096


UPLOADS: dict[str, tuple[Callable[[], Iterator[Any]], str, str]] = {
    "nothing": (lambda: iter(()), "INVALID_ARGUMENT", "STREAM_ORDER"),
    "no header": (
        lambda: iter([similarity_pb2.SearchByImageRequest(chunk=b"x")]), "INVALID_ARGUMENT", "STREAM_ORDER",
    ),
    "an empty message": (lambda: iter([similarity_pb2.SearchByImageRequest()]), "INVALID_ARGUMENT", "STREAM_ORDER"),
    "two headers": (
        lambda: iter([next(upload(b"", size=5)), next(upload(b"", size=5))]), "INVALID_ARGUMENT", "STREAM_ORDER",
    ),
    "no size": (lambda: upload(b"", size=0), "INVALID_ARGUMENT", "INVALID_FIELD"),
    "a negative size": (lambda: upload(b"", size=-1), "INVALID_ARGUMENT", "INVALID_FIELD"),
    "a short digest": (lambda: upload(png(), sha256=b"123"), "INVALID_ARGUMENT", "INVALID_FIELD"),
    "an empty chunk": (
        lambda: iter([next(upload(b"", size=5)), similarity_pb2.SearchByImageRequest(chunk=b"")]),
        "INVALID_ARGUMENT", "INVALID_FIELD",
    ),
    "shorter than declared": (lambda: upload(png(), size=5000), "DATA_LOSS", "UPLOAD_DAMAGED"),
    "longer than declared": (lambda: upload(png(), size=50), "INVALID_ARGUMENT", "STREAM_ORDER"),
    "another SHA-256": (lambda: upload(png(), sha256=bytes(32)), "DATA_LOSS", "UPLOAD_DAMAGED"),
    "a decompression bomb": (lambda: upload(bomb()), "INVALID_ARGUMENT", "IMAGE_UNREADABLE"),
    "garbage": (lambda: upload(bytes(range(256)) * 400), "INVALID_ARGUMENT", "IMAGE_UNREADABLE"),
    "half an image": (lambda: upload(png(NOISE)[:9000]), "INVALID_ARGUMENT", "IMAGE_UNREADABLE"),
    "a script": (lambda: upload(b"<svg onload=alert(1)>" * 9), "INVALID_ARGUMENT", "IMAGE_UNREADABLE"),
    "a name": (lambda: upload(b"/etc/passwd"), "INVALID_ARGUMENT", "IMAGE_UNREADABLE"),
}  # fmt: skip


@pytest.mark.parametrize("name", UPLOADS)
def test_invalid_upload_is_refused(client: RawClient, name: str) -> None:
    messages, code, reason = UPLOADS[name]
    failure = client.failure(client.similarity.SearchByImage, messages())
    assert (failure.code, failure.reason) == (code, reason)
    if name == "a decompression bomb":
        assert failure.metadata["fault"] == "too_large"


def test_bytes_after_an_upload_are_refused(client: RawClient) -> None:
    data = png()
    failure = client.failure(client.similarity.SearchByImage, upload(data + b"x", size=len(data), chunk=len(data)))
    assert (failure.code, failure.reason) == ("INVALID_ARGUMENT", "STREAM_ORDER")


def test_stalled_upload_is_ended(shelf: Shelf) -> None:
    with serving(shelf.store, stream_idle_seconds=0.3) as target, RawClient(target) as client, held() as stream:
        stream.put(next(upload(b"", size=100)))
        failure = client.failure(client.similarity.SearchByImage, stream)
    assert (failure.code, failure.reason) == ("ABORTED", "STREAM_IDLE")


def test_message_above_the_limit_is_refused(client: RawClient) -> None:
    failure = client.failure(client.similarity.Search, search(query=Query(hash=bytes(3 << 20))))
    assert failure.code == "RESOURCE_EXHAUSTED"
    assert client.call(client.catalog.GetIndex, catalog_pb2.GetIndexRequest()).limits.max_message_bytes == 1 << 20


def raw_method(client: RawClient, path: str) -> Any:
    """Return a method that sends a stream of raw bytes and returns the bytes of the first answer."""
    return client.channel.stream_unary(path, request_serializer=bytes, response_deserializer=bytes)


@pytest.mark.parametrize("path", [
    "/twinscope.v1.SimilarityService/Search", "/twinscope.v1.SimilarityService/BatchSearch",
    "/twinscope.v1.SimilarityService/SearchByImage", "/twinscope.v1.SimilarityService/StreamSearch",
    "/twinscope.v1.CatalogService/GetImage", "/grpc.health.v1.Health/Check",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
])  # fmt: skip
def test_bytes_that_are_not_a_message_are_refused(
    client: RawClient, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    failure = client.failure(raw_method(client, path), iter([b"\xff\xff\xff"]))
    assert (failure.code, failure.reason, failure.fields) == ("INVALID_ARGUMENT", "INVALID_FIELD", ("",))
    assert "not a message" in failure.message
    assert "Traceback" not in caplog.text


def test_call_without_a_request_is_refused(client: RawClient) -> None:
    failure = client.failure(raw_method(client, "/twinscope.v1.SimilarityService/Search"), iter(()))
    assert (failure.code, failure.reason) == ("INVALID_ARGUMENT", "STREAM_ORDER")


def test_unknown_category_is_reported_before_the_upload(client: RawClient) -> None:
    with held() as stream:
        stream.put(next(upload(b"", size=1000, options={"categories": ["Unicorns"]})))
        failure = client.failure(client.similarity.SearchByImage, stream)
    assert (failure.reason, failure.fields) == ("UNKNOWN_CATEGORY", ("header.options.categories",))


def test_uploads_share_a_memory_limit(shelf: Shelf) -> None:
    size = 700 << 10

    def new_image(size: int) -> Iterator[catalog_pb2.UploadImagesRequest]:
        description = catalog_pb2.ImageDescription(source="a", category="Tips")
        header = catalog_pb2.UploadHeader(sequence=1, description=description, size_bytes=size)
        yield catalog_pb2.UploadImagesRequest(header=header)

    settings = ServerSettings(port=0, lame_duck_seconds=0, grace_seconds=0, max_upload_mib=1, max_uploads_mib=1)
    server = TwinscopeServer(shelf.store, settings)
    server.start()
    with ExitStack() as after:
        after.callback(server.stop)
        client = after.enter_context(RawClient(server.target))

        def reserved() -> float | None:
            return server.metrics.registry.get_sample_value("twinscope_upload_bytes")

        def incomplete(method: Any, messages: Iterator[Any]) -> Failure:
            return client.failure(method, messages)

        with held() as stream:
            first = client.similarity.SearchByImage.future(stream, timeout=HANGS)
            stream.put(next(upload(b"", size=size)))
            assert eventually(lambda: reserved() == size)
            refused = [
                incomplete(client.similarity.SearchByImage, upload(b"", size=size)),
                incomplete(client.catalog.UploadImages, new_image(size)),
            ]
            for failure in refused:
                assert (failure.code, failure.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
                assert failure.retry_seconds is not None
            assert client.call(client.similarity.SearchByImage, upload(png())).result.answer.grade
        assert first.code() is grpc.StatusCode.DATA_LOSS
        assert eventually(lambda: reserved() == 0)
        assert incomplete(client.similarity.SearchByImage, upload(b"", size=size)).reason == "UPLOAD_DAMAGED"
        assert eventually(lambda: reserved() == 0)
        assert incomplete(client.catalog.UploadImages, new_image(size)).reason == "UPLOAD_DAMAGED"


def test_writes_are_refused_by_a_read_only_server(client: RawClient) -> None:
    for method, request in (
        (client.catalog.BatchUpsertImages, catalog_pb2.BatchUpsertImagesRequest()),
        (client.catalog.StreamUpsertImages, iter(())),
        (client.catalog.UploadImages, iter(())),
        (client.catalog.BatchDeleteImages, catalog_pb2.BatchDeleteImagesRequest(image_ids=["0" * 16])),
    ):
        failure = client.failure(method, request)
        assert (failure.code, failure.reason) == ("FAILED_PRECONDITION", "READ_ONLY")
    assert not client.call(client.catalog.GetIndex, catalog_pb2.GetIndexRequest()).writable


# -- streams of searches -----------------------------------------------------------------------------------------------


def batch(sequence: int, *hashes: bytes, **options: Any) -> similarity_pb2.StreamSearchRequest:
    queries = [Query(hash=code) for code in hashes]
    return similarity_pb2.StreamSearchRequest(
        sequence=sequence, batch=similarity_pb2.BatchSearchRequest(queries=queries, options=options)
    )


def test_stream_survives_an_invalid_batch(client: RawClient, shelf: Shelf) -> None:
    right = hash_of(shelf)
    requests = [
        batch(3, right), batch(4), batch(9, right[:3], right), batch(10, right, categories=["Unicorns"]),
        batch(11, right, right),
    ]  # fmt: skip
    answers = {one.sequence: one for one in client.call(client.similarity.StreamSearch, iter(requests))}
    assert sorted(answers) == [3, 4, 9, 10, 11]
    assert answers[3].batch == client.call(client.similarity.BatchSearch, requests[0].batch)
    assert Failure.of_status(answers[4].error).fields == ("batch.queries",)
    assert Failure.of_status(answers[9].batch.results[0].error).fields == ("batch.queries[0].hash",)
    assert answers[9].batch.results[1].answer.matches[0].category == "Tips"
    assert Failure.of_status(answers[10].error).fields == ("batch.options.categories",)
    assert len(answers[11].batch.results) == 2


@pytest.mark.parametrize("sequence", [5, 4, 0, -1])
def test_stream_with_wrong_sequence_ends(client: RawClient, sequence: int) -> None:
    answers = client.call(client.similarity.StreamSearch, iter([batch(5, HASH), batch(sequence, HASH)]))
    assert next(answers).sequence == 5
    with pytest.raises(grpc.RpcError) as caught:
        next(answers)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_idle_stream_is_ended(shelf: Shelf) -> None:
    with serving(shelf.store, stream_idle_seconds=3) as target, RawClient(target) as client, held() as stream:
        stream.put(batch(1, HASH))
        answers = client.call(client.similarity.StreamSearch, stream)
        assert next(answers).sequence == 1
        failure = client.failure(lambda *_, **__: answers, None)
    assert (failure.code, failure.reason) == ("ABORTED", "STREAM_IDLE")


# -- overload ----------------------------------------------------------------------------------------------------------


def test_server_answers_despite_200_idle_streams(shelf: Shelf) -> None:
    before = threading.active_count()
    with serving(shelf.store, max_streams=20) as target, RawClient(target) as client:
        streams, calls = [], []
        for number in range(200):
            held_one = held()
            stream = held_one.__enter__()
            streams.append(held_one)
            method = client.similarity.SearchByImage.future if number % 2 else client.similarity.StreamSearch
            calls.append(method(stream, timeout=4 * HANGS))

        def refused() -> list[Any]:
            return [call for call in calls if call.done() or not call.is_active()]

        assert eventually(lambda: len(refused()) >= 180)
        assert client.serving() == "SERVING"
        client.call(client.similarity.Search, search(query=Query(hash=HASH)))
        assert len(refused()) == 180
        assert {call.code() for call in refused()} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        for call in calls:
            call.cancel()
        for stream in streams:
            stream.__exit__(None, None, None)
        assert eventually(lambda: _is_answered(client)), "the slots of ended calls are never freed"
    assert eventually(lambda: threading.active_count() <= before + 2), threading.enumerate()


def _is_answered(client: RawClient) -> bool:
    answers = client.call(client.similarity.StreamSearch, iter([batch(1, HASH)]))
    try:
        return next(answers).sequence == 1
    except grpc.RpcError:
        return False


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Block all searches until the returned event is set."""
    release = threading.Event()

    def waiting(answer: Any) -> Any:
        return lambda *arguments, **options: (release.wait(HANGS), answer(*arguments, **options))[1]

    for name in ("answer", "answer_all"):
        monkeypatch.setattr(Searcher, name, waiting(getattr(Searcher, name)))
    yield release
    release.set()


def test_overload_gives_a_retry_delay_and_health_passes(shelf: Shelf, slow: threading.Event) -> None:
    with running(shelf.store, workers=2, max_waiting=3) as server, RawClient(server.target) as client:
        request = search(query=Query(hash=HASH))
        futures = [client.similarity.Search.future(request, timeout=HANGS) for _ in range(5)]
        assert eventually(lambda: in_flight(server) == 5)
        failure = client.failure(client.similarity.Search, request)
        assert (failure.code, failure.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        assert failure.retry_seconds is not None
        assert failure.pushback_ms == str(int(1000 * failure.retry_seconds))
        assert [client.serving(service) for service in ("", *SERVICES)] == ["SERVING"] * 3
        slow.set()
        assert [len(future.result().result.answer.query_hash) for future in futures] == [128] * 5
        client.call(client.similarity.Search, request)


SILENT = ("/twinscope.v1.SimilarityService/Search", "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch")


@pytest.mark.parametrize("path", SILENT)
def test_missing_requests_take_no_slot_from_others(shelf: Shelf, path: str) -> None:
    """Make more such calls than the server has threads. The calls lose their slots, the oldest call first."""
    with (
        serving(shelf.store, workers=2, max_waiting=14, max_streams=4) as target,
        RawClient(target) as client,
        ExitStack() as after,
    ):
        hostile = [raw_method(after.enter_context(RawClient(target)), path) for _ in range(5)]
        calls = [method.future(after.enter_context(held())) for method in hostile for _ in range(30)]

        def served() -> bool:
            """Check whether all calls are answered; very recent calls need not lose their slots yet."""
            try:
                client.call(client.similarity.Search, search(query=Query(hash=HASH)))
                watched = client.health.Watch(health_pb2.HealthCheckRequest(), timeout=HANGS)
                assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
                watched.cancel()
                return client.serving() == "SERVING"
            except grpc.RpcError as error:
                assert failure_of(error).code in {"RESOURCE_EXHAUSTED", "CANCELLED"}  # noqa: PT017
                return False

        for _ in range(20):
            assert eventually(served)
        codes = {call.code() for call in calls if call.done()}
        assert codes <= {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED}
        assert not all(call.done() for call in calls)


def test_call_with_a_missing_request_is_cancelled(shelf: Shelf) -> None:
    with serving(shelf.store, stream_idle_seconds=0.3) as target, RawClient(target) as client:
        for path in SILENT:
            with held() as stream:
                assert client.failure(raw_method(client, path), stream).code == "CANCELLED"


def test_missing_request_does_not_delay_the_shutdown(shelf: Shelf) -> None:
    with ExitStack() as after:
        with running(shelf.store, grace_seconds=600) as server:
            client = after.enter_context(RawClient(server.target))
            call = raw_method(client, SILENT[0]).future(after.enter_context(held()), timeout=300)
            assert eventually(lambda: in_flight(server) == 1)
            assert not call.done()
        assert call.code() is not grpc.StatusCode.DEADLINE_EXCEEDED


def test_stream_is_cancelled_if_answers_are_not_read(shelf: Shelf) -> None:
    with (
        serving(shelf.store, max_streams=1, stream_idle_seconds=3) as target,
        RawClient(target) as client,
        RawClient(target) as other,
    ):
        queries = [Query(hash=HASH)] * 600
        options = similarity_pb2.SearchOptions(policy=types_pb2.Policy(k=6, max_distance_bits=1024))
        large = similarity_pb2.BatchSearchRequest(queries=queries, options=options)
        requests = (similarity_pb2.StreamSearchRequest(sequence=i, batch=large) for i in range(1, 200))
        answers = client.similarity.StreamSearch(requests, timeout=HANGS)
        assert len(next(answers).batch.results) == 600
        assert not _is_answered(other)
        assert eventually(lambda: _is_answered(other))
        with pytest.raises(grpc.RpcError) as caught:
            list(answers)
        assert caught.value.code() is grpc.StatusCode.CANCELLED


def test_health_watchers_have_their_own_slots(shelf: Shelf) -> None:
    """Check also that watchers release their slots when they disconnect."""
    with serving(shelf.store) as target, RawClient(target) as client:
        request = health_pb2.HealthCheckRequest()
        watchers = [client.health.Watch(request, timeout=HANGS) for _ in range(64)]
        assert {next(watcher).status for watcher in watchers} == {health_pb2.HealthCheckResponse.SERVING}
        assert client.failure(client.health.Watch, request).code == "RESOURCE_EXHAUSTED"
        assert client.serving() == "SERVING"
        client.call(client.similarity.StreamSearch, iter([batch(1, HASH)]))
        for watcher in watchers:
            watcher.cancel()

        def again() -> bool:
            watcher = client.health.Watch(health_pb2.HealthCheckRequest(service="none"), timeout=HANGS)
            try:
                return next(watcher).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            except grpc.RpcError:
                return False
            finally:
                watcher.cancel()

        assert eventually(again)


def test_client_retries_after_overload(shelf: Shelf, slow: threading.Event) -> None:
    with (
        running(shelf.store, workers=1, max_waiting=0) as server,
        RawClient(server.target) as raw,
        connect(server.target) as engine,
    ):
        first = raw.similarity.Search.future(search(query=Query(hash=HASH)), timeout=HANGS)
        assert eventually(lambda: in_flight(server) == 1)

        def release() -> None:
            eventually(lambda: counted(server, "requests_refused_total", reason="OVERLOADED") > 0)
            slow.set()

        releasing = threading.Thread(target=release, daemon=True)
        releasing.start()
        assert engine.search(shelf.reference("Tips", 0)).grade == "excellent"
        first.result()
        releasing.join()
        assert counted(server, "requests_refused_total", reason="OVERLOADED") > 0


def test_request_past_its_deadline_is_not_processed(
    shelf: Shelf, slow: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    processed = []
    waiting = Searcher.answer
    monkeypatch.setattr(Searcher, "answer", lambda *a, **o: (processed.append(a), waiting(*a, **o))[1])
    with running(shelf.store, workers=1) as server, RawClient(server.target) as client:
        [image] = client.call(client.catalog.ListImages, catalog_pb2.ListImagesRequest(page_size=1)).images
        request = search(query=Query(image_id=image.image_id))
        first = client.similarity.Search.future(request, timeout=HANGS)
        assert eventually(lambda: len(processed) == 1)
        late = [client.failure(client.similarity.Search, request, 0.2) for _ in range(3)]
        assert {failure.code for failure in late} == {"DEADLINE_EXCEEDED"}
        assert eventually(lambda: in_flight(server) == 1)  # the server has noticed
        slow.set()
        first.result()
        client.call(client.similarity.Search, request)
    assert len(processed) == 2


def test_rate_of_a_caller_is_limited(shelf: Shelf) -> None:
    with serving(shelf.store, requests_per_second=0.5) as target, RawClient(target) as client:
        request = catalog_pb2.GetIndexRequest()
        failure = None
        while failure is None:  # the limit is one request per 2 s; only a slower machine would never exceed this limit
            try:
                client.call(client.catalog.GetIndex, request)
            except grpc.RpcError as error:
                failure = failure_of(error)
        assert (failure.code, failure.reason) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED")
        assert failure.retry_seconds is not None
        assert 0 < failure.retry_seconds <= 2
        assert [client.serving() for _ in range(20)] == ["SERVING"] * 20
        assert eventually(lambda: _has_index(client))


def _has_index(client: RawClient) -> bool:
    try:
        client.call(client.catalog.GetIndex, catalog_pb2.GetIndexRequest())
    except grpc.RpcError:
        return False
    return True


@pytest.mark.slow
def test_a_thousand_clients(shelf: Shelf) -> None:
    with serving(shelf.store) as target:
        clients = [RawClient(target) for _ in range(1000)]
        try:
            futures = [one.similarity.Search.future(search(query=Query(hash=HASH)), timeout=HANGS) for one in clients]
            codes = [future.code() for future in futures]
            assert set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
            assert codes.count(grpc.StatusCode.OK) > 256
            assert clients[-1].serving() == "SERVING"
            clients[0].call(clients[0].similarity.Search, search(query=Query(hash=HASH)))
        finally:
            for one in clients:
                one.channel.close()


# -- internal errors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError("secret /srv/path"), KeyError("secret"), OSError(5, "secret")])
def test_internal_error_leaks_no_text(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise error

    with serving(shelf.store) as target, RawClient(target) as client:
        monkeypatch.setattr(Searcher, "answer", broken)
        monkeypatch.setattr(Searcher, "answer_all", broken)
        for method, request in (
            (client.similarity.Search, search(query=Query(hash=HASH))),
            (client.similarity.StreamSearch, iter([batch(1, HASH)])),
            (client.similarity.SearchByImage, upload(png())),
        ):
            caplog.clear()
            failure = client.failure(method, request, metadata=(("x-request-id", "my-request.1"),))
            assert (failure.code, failure.reason) == ("INTERNAL", "INTERNAL")
            assert failure.metadata == {"request_id": "my-request.1"}
            assert "secret" not in repr(failure)
            assert "my-request.1" in caplog.text
            assert "secret" in caplog.text
        hostile = client.failure(
            client.similarity.Search, search(query=Query(hash=HASH)), metadata=(("x-request-id", 'a b"c'),)
        )
        assert len(hostile.metadata["request_id"]) == 16


def test_log_has_caller_and_method_but_not_the_query(
    shelf: Shelf, caplog: pytest.LogCaptureFixture, client: RawClient
) -> None:
    with caplog.at_level(logging.INFO, logger="twinscope.server"):
        client.call(
            client.similarity.Search, search(query=Query(hash=HASH, client_tag="private")),
            metadata=(("x-request-id", "7"),),
        )  # fmt: skip
        assert eventually(lambda: bool(caplog.records))
    [line] = [json.loads(record.getMessage()) for record in caplog.records]
    assert (line["request"], line["method"], line["code"]) == ("7", "Search", "OK")
    assert "127.0.0.1" in line["who"]
    assert "private" not in caplog.text
    assert set(line) == {"request", "method", "code", "ms", "who"}


_LOGGED = """
import logging, sys
from twinscope_service.server.json_log import log_to

log_to(sys.stderr, logging.INFO)
from pathlib import Path
from twinscope_client import connect
from twinscope_client.testing import serving

with serving(Path(sys.argv[1])) as target, connect(target) as engine:
    engine.search(sys.argv[2])
try:
    raise ValueError("two\\nlines")
except ValueError:
    logging.getLogger("any").exception("a %s", "fault")
"""


def test_every_log_line_is_a_json_object(shelf: Shelf) -> None:
    command = [sys.executable, "-c", _LOGGED, str(shelf.store), str(shelf.reference("Tips", 0))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=4 * HANGS, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert {line["level"] for line in lines} == {"INFO", "ERROR"}
    assert all(datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0) for line in lines)
    assert {line["method"] for line in lines if "method" in line} == {"GetIndex", "Search", "SearchByImage"}
    assert lines[-1]["message"] == "a fault"
    assert "two\nlines" in lines[-1]["traceback"]
    assert not [line for line in lines if "faiss" in line.get("message", "").lower()]


# -- the client --------------------------------------------------------------------------------------------------------


def test_images_are_uploaded_only_if_needed(shelf: Shelf, tmp_path: Path) -> None:
    def uploads() -> float:
        return server.metrics.registry.get_sample_value(
            "twinscope_requests_total", {"method": "SearchByImage", "code": "OK"}
        ) or 0.0  # fmt: skip

    server = TwinscopeServer(shelf.store, ServerSettings(port=0, lame_duck_seconds=0))
    server.start()
    try:
        with connect(server.target) as engine:
            assert engine.search(synthesise("Powder", 3, width=200, height=200).astype(np.uint8)).grade == "none"
            assert engine.search(shelf.reference("Tips", 0), verify=False).grade == "unverified"
            assert uploads() == 0
            assert engine.search(shelf.reference("Tips", 0)).grade == "excellent"
            assert uploads() == 1
    finally:
        server.stop()


def test_large_file_is_uploaded_completely(shelf: Shelf, tmp_path: Path) -> None:
    """Upload a TIFF of several chunks with the pixels of a reference in its first page."""
    with tifffile.TiffWriter(tmp_path / "large.tif") as out:
        out.write(read_image(shelf.reference("Tips", 0)).pixels)
        out.write(np.random.default_rng(1).integers(0, 256, (1500, 1000), np.uint8))
    assert (tmp_path / "large.tif").stat().st_size > 1 << 20
    with serving(shelf.store) as target, connect(target) as engine, connect(shelf.store) as embedded:
        assert engine.search(tmp_path / "large.tif") == embedded.search(tmp_path / "large.tif")


@pytest.mark.parametrize(
    "target", ["grpc://", "grpc://host", "http://h:1", "grpc://h:1/path", "grpc://h:99999", "x://"]
)
def test_invalid_target_is_refused(target: str) -> None:
    with pytest.raises(SettingsError, match=r"grpc://h(ost:port|:1)"):
        connect(target)


def test_missing_server_is_reported() -> None:
    with pytest.raises(ServerError, match="check that the server is running") as caught:
        connect("grpc://127.0.0.1:1", timeout=1)
    assert caught.value.retriable


def test_serving_refuses_invalid_arguments(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="twinscope index"), serving(tmp_path / "none"):
        pass
    with pytest.raises(SettingsError, match="no_such"), serving(shelf.store, no_such=1):
        pass


def test_health_is_watched_until_the_server_stops(shelf: Shelf) -> None:
    """Check that a watcher does not delay the shutdown: it receives the status, then the connection ends."""
    seen = []
    with ExitStack() as after:
        with serving(shelf.store, grace_seconds=600) as target:
            client = after.enter_context(RawClient(target))
            watched = client.health.Watch(health_pb2.HealthCheckRequest(service=SERVICES[0]), timeout=HANGS)
            seen.append(next(watched).status)
            rest = threading.Thread(target=lambda: seen.extend(_rest(watched)), daemon=True)
            rest.start()
        rest.join(HANGS)
    assert seen == [health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING]


def _rest(watched: Any) -> Iterator[Any]:
    try:
        for answer in watched:
            yield answer.status
    except grpc.RpcError:
        return


def test_fingerprint_suffices_for_all_grades_but_excellent(client: RawClient, shelf: Shelf) -> None:
    fingerprint = Fingerprint.of_pixels(read_image(shelf.reference("Tips", 0)).pixels)
    request = search(query=Query(fingerprint=fingerprint_message(fingerprint)))
    result = client.call(client.similarity.Search, request).result
    assert result.answer.grade == types_pb2.GRADE_GOOD
    assert result.pixels_would_change_grade
    assert result.answer.category == "Tips"
