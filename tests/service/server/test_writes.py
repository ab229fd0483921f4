"""Writing through a server: acknowledged writes are durable and found, invalid writes are refused."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from raw_client import HANGS, Failure, RawClient, eventually, failure_of, held
from shelf import Shelf
from twinscope.v1 import catalog_pb2, similarity_pb2
from twinscope_client import connect
from twinscope_client.demo.micrographs import synthesise
from twinscope_client.testing import serving
from twinscope_indexer.errors import TwinscopeError
from twinscope_indexer.hashing.thumbnail import encode_thumbnail
from twinscope_indexer.imaging.reader import read_image
from twinscope_indexer.indexing.run import index
from twinscope_indexer.store.reader import Store, open_writer
from twinscope_indexer.taxonomy import Category, Taxonomy
from twinscope_service.matching.fingerprint import Fingerprint
from twinscope_service.server.upload_files import Uploads
from twinscope_service.wire.queries import fingerprint_message

CREATED, REPLACED, UNCHANGED = 1, 2, 3
Upload = catalog_pb2.UploadImagesRequest


@pytest.fixture
def store(shelf: Shelf, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shelf.store, tmp_path / "store"))


@pytest.fixture
def client(store: Path) -> Iterator[RawClient]:
    with serving(store, max_upload_mib=1, stream_idle_seconds=5) as target, RawClient(target) as client:
        yield client


def micrograph(number: int) -> np.ndarray:
    return synthesise("Powder", number, width=200, height=160).astype(np.uint8)


def tiff(number: int) -> bytes:
    import io

    import tifffile

    data = io.BytesIO()
    tifffile.imwrite(data, micrograph(number))
    return data.getvalue()


def new_image(number: int, category: str = "Powder", source: str | None = None, **file: Any) -> catalog_pb2.NewImage:
    return catalog_pb2.NewImage(
        description=catalog_pb2.ImageDescription(source=source or f"lims:{number}", category=category),
        fingerprint=fingerprint_message(Fingerprint.of_pixels(micrograph(number))),
        file=catalog_pb2.FileFacts(**file),
    )


def upsert(client: RawClient, *images: catalog_pb2.NewImage, partly: bool = False) -> Any:
    request = catalog_pb2.BatchUpsertImagesRequest(images=images, return_partial_success=partly)
    return client.call(client.catalog.BatchUpsertImages, request)


def found(client: RawClient, number: int, **options: Any) -> similarity_pb2.QueryResult:
    query = similarity_pb2.Query(fingerprint=fingerprint_message(Fingerprint.of_pixels(micrograph(number))))
    request = similarity_pb2.SearchRequest(query=query, options=options)
    return client.call(client.similarity.Search, request).result


def images(client: RawClient, page_size: int = 0) -> list[catalog_pb2.Image]:
    listed, token = [], ""
    while True:
        page = client.call(
            client.catalog.ListImages, catalog_pb2.ListImagesRequest(page_size=page_size, page_token=token)
        )
        assert len(page.images) <= (page_size or 100)
        listed.extend(page.images)
        token = page.next_page_token
        if not token:
            return listed


# -- by fingerprint ----------------------------------------------------------------------------------------------------


def test_acknowledged_image_is_found(client: RawClient) -> None:
    assert not found(client, 1).answer.matches
    answer = upsert(client, new_image(1), new_image(2))
    assert [result.image.change for result in answer.results] == [CREATED, CREATED]
    result = found(client, 1, min_generation=answer.generation)
    assert result.answer.generation == answer.generation
    assert (result.answer.category, result.answer.matches[0].source) == ("Powder", "lims:1")
    assert result.answer.matches[0].image_id == answer.results[0].image.image_id


def test_writing_is_idempotent(client: RawClient) -> None:
    first = upsert(client, new_image(1), new_image(2))
    again = upsert(client, new_image(1), new_image(2))
    assert [result.image.change for result in again.results] == [UNCHANGED, UNCHANGED]
    assert again.generation == first.generation
    changed = upsert(client, new_image(1, category="Tips"), new_image(3, source="lims:2"))
    assert [result.image.change for result in changed.results] == [REPLACED, REPLACED]
    ids = [[result.image.image_id for result in answer.results] for answer in (first, again, changed)]
    assert ids[0] == ids[1] == ids[2]
    assert changed.generation > first.generation
    assert found(client, 1).answer.category == "Tips"
    assert not found(client, 2).answer.matches
    assert found(client, 3).answer.matches[0].image_id == ids[0][1]
    assert len(images(client)) == 8


def test_batch_is_all_or_nothing(client: RawClient) -> None:
    before = images(client)
    for wrong, reason, field in (
        (new_image(2, category="Unicorns"), "UNKNOWN_CATEGORY", "images[1].description.category"),
        (new_image(2, category=""), "INVALID_FIELD", "images[1].description.category"),
        (new_image(2, bits=65), "INVALID_FIELD", "images[1].file.bits"),
        (new_image(2, source="a\0b"), "INVALID_FIELD", "images[1].description.source"),
        (new_image(1), "INVALID_FIELD", "images[1].description.source"),
        (catalog_pb2.NewImage(), "INVALID_FIELD", "images[1].description.source"),
    ):
        request = catalog_pb2.BatchUpsertImagesRequest(images=[new_image(1), wrong])
        failure = client.failure(client.catalog.BatchUpsertImages, request)
        assert (failure.code, failure.reason, failure.fields[0]) == ("INVALID_ARGUMENT", reason, field)
    assert images(client) == before


def test_a_thousand_invalid_sources_fit_one_status(client: RawClient) -> None:
    same = new_image(1, source="x" * 4000)
    request = catalog_pb2.BatchUpsertImagesRequest(images=[same] * 1024)
    failure = client.failure(client.catalog.BatchUpsertImages, request)
    assert (failure.code, failure.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert failure.fields[0] == "images[1].description.source"
    ids = catalog_pb2.BatchDeleteImagesRequest(image_ids=["../" * 100] * 1024)
    assert client.failure(client.catalog.BatchDeleteImages, ids).fields[0] == "image_ids[0]"


def test_partial_success_is_reported_for_each_image(client: RawClient) -> None:
    old = new_image(3)
    old.fingerprint.recipe = "old"
    answer = upsert(client, new_image(1), new_image(2, category="Unicorns"), old, new_image(4), partly=True)
    assert [result.WhichOneof("outcome") for result in answer.results] == ["image", "error", "error", "image"]
    failures = [Failure.of_status(result.error) for result in answer.results[1:3]]
    assert [failure.reason for failure in failures] == ["UNKNOWN_CATEGORY", "RECIPE_MISMATCH"]
    assert failures[0].fields == ("images[1].description.category",)
    assert sorted(image.source.path for image in images(client) if image.source.root == "uploads:") == [
        "lims:1", "lims:4",
    ]  # fmt: skip


def test_stream_acknowledges_each_batch(client: RawClient) -> None:
    def batch(sequence: int, *images: catalog_pb2.NewImage) -> catalog_pb2.StreamUpsertImagesRequest:
        return catalog_pb2.StreamUpsertImagesRequest(
            sequence=sequence, batch=catalog_pb2.BatchUpsertImagesRequest(images=images)
        )

    with held() as stream:
        answers = client.call(client.catalog.StreamUpsertImages, stream)
        stream.put(batch(2, new_image(1)))
        first = next(answers)
        assert (first.sequence, first.batch.results[0].image.change) == (2, CREATED)
        assert found(client, 1, min_generation=first.batch.generation).answer.category == "Powder"
        stream.put(batch(4, new_image(2, category="Unicorns")))
        refused = next(answers)
        assert (refused.sequence, Failure.of_status(refused.error).reason) == (4, "UNKNOWN_CATEGORY")
        assert Failure.of_status(refused.error).fields == ("batch.images[0].description.category",)
        old = new_image(3)
        old.fingerprint.recipe = "old"
        stream.put(batch(5, old))
        assert Failure.of_status(next(answers).error).reason == "RECIPE_MISMATCH"
        stream.put(batch(5, new_image(2)))
        with pytest.raises(grpc.RpcError) as caught:
            next(answers)
        assert failure_of(caught.value).reason == "STREAM_ORDER"
    assert not found(client, 2).answer.matches


# -- by file -----------------------------------------------------------------------------------------------------------


def uploaded(sequence: int, data: bytes, category: str = "Powder", source: str = "", **header: Any) -> list[Upload]:
    described = catalog_pb2.ImageDescription(source=source or f"file:{sequence}", category=category)
    announced = {"sequence": sequence, "size_bytes": len(data), "description": described} | header
    chunks = [Upload(chunk=data[start : start + 20_000]) for start in range(0, len(data), 20_000)]
    return [Upload(header=catalog_pb2.UploadHeader(**announced)), *chunks]


def test_uploaded_files_are_kept_for_full_size_comparison(client: RawClient, store: Path) -> None:
    data = tiff(1)
    messages = [*uploaded(1, data, sha256=sha256(data).digest()), *uploaded(5, tiff(2)), *uploaded(6, data)]
    answers = list(client.call(client.catalog.UploadImages, iter(messages)))
    assert [answer.sequence for answer in answers] == [1, 5, 6]
    assert [answer.result.image.change for answer in answers] == [CREATED] * 3
    with connect(f"grpc://{client.address}") as remote, connect(store) as embedded:
        for engine in (remote, embedded):
            answer = engine.search(micrograph(2))
            assert (answer.grade, answer.category, answer.matches[0].source) == ("excellent", "Powder", "file:5")
    again = list(client.call(client.catalog.UploadImages, iter(uploaded(1, data))))
    assert again[0].result.image.change == UNCHANGED
    image = client.call(
        client.catalog.GetImage, catalog_pb2.GetImageRequest(image_id=answers[0].result.image.image_id)
    ).image
    assert (image.file.size_bytes, image.file.format, image.file.width) == (len(data), "TIFF", 200)
    assert image.file.sha256 == sha256(data).digest()
    assert sorted(path.name for path in (store / "uploads").iterdir()) == sorted(
        sha256(one).hexdigest() for one in (data, tiff(2))
    )


def test_invalid_upload_leaves_the_stream_open(client: RawClient) -> None:
    data = tiff(1)
    messages = [
        *uploaded(1, data, sha256=bytes(32)), *uploaded(2, data, category="Unicorns"), *uploaded(3, b"garbage" * 50),
        *uploaded(4, data[:500]), *uploaded(5, data),
    ]  # fmt: skip
    answers = list(client.call(client.catalog.UploadImages, iter(messages)))
    reasons = [Failure.of_status(one.result.error).reason if one.result.HasField("error") else "" for one in answers]
    assert reasons == ["UPLOAD_DAMAGED", "UNKNOWN_CATEGORY", "IMAGE_UNREADABLE", "IMAGE_UNREADABLE", ""]
    assert [one.generation > 0 for one in answers] == [False] * 4 + [True]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([Upload(chunk=b"x")], "STREAM_ORDER"),
        ([*uploaded(2, b"abc"), *uploaded(2, b"abc")], "STREAM_ORDER"),
        ([*uploaded(1, b"abc", size_bytes=9), *uploaded(2, b"abc")], "STREAM_ORDER"),
        ([*uploaded(1, b"abc", size_bytes=2)], "STREAM_ORDER"),
        ([*uploaded(1, b"abc", size_bytes=9)], "UPLOAD_DAMAGED"),
        ([*uploaded(1, b"", size_bytes=1 << 30)], "IMAGE_TOO_LARGE"),
        ([*uploaded(0, b"abc")], "INVALID_FIELD"),
        ([*uploaded(1, b"abc", description=catalog_pb2.ImageDescription(category="Tips"))], "INVALID_FIELD"),
    ],
)
def test_fatal_errors_end_an_upload_stream(client: RawClient, messages: list[Upload], reason: str) -> None:
    before = images(client)
    failure = client.failure(client.catalog.UploadImages, iter(messages))
    assert failure.reason == reason
    assert images(client) == before


def test_pixels_come_only_from_the_images_own_file(client: RawClient, shelf: Shelf) -> None:
    """Check that an image stored by its hash does not get the pixels of another file whose content it declares."""
    path = shelf.reference("Tips", 0)
    declared = {"sha256": sha256(path.read_bytes()).digest(), "size_bytes": path.stat().st_size}
    image = read_image(path.read_bytes()).pixels
    new = catalog_pb2.NewImage(
        description=catalog_pb2.ImageDescription(source="mine", category="Powder"),
        fingerprint=fingerprint_message(Fingerprint.of_pixels(image)),
        file=catalog_pb2.FileFacts(**declared),
    )
    upsert(client, new)
    with connect(f"grpc://{client.address}") as remote:
        cold = remote.search(path, categories=["Powder"])
        assert (cold.grade, cold.matches[0].source, cold.matches[0].ssim) == ("good", "mine", None)
        assert remote.search(path, categories=["Tips"]).grade == "excellent"
        assert remote.search(path, categories=["Powder"]) == cold
    messages = uploaded(1, path.read_bytes(), source="mine")  # now the image has its own file
    [answer] = client.call(client.catalog.UploadImages, iter(messages))
    assert answer.result.image.change in (REPLACED, UNCHANGED)
    with connect(f"grpc://{client.address}") as remote:
        assert remote.search(path, categories=["Powder"]).grade == "excellent"


def kept(store: Path) -> set[str]:
    folder = store / "uploads"
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def test_refused_upload_leaves_no_file(client: RawClient, store: Path) -> None:
    with open_writer(store):
        failure = client.failure(client.catalog.UploadImages, iter(uploaded(1, tiff(1))))
        assert failure.reason == "STORE_LOCKED"
    assert kept(store) == set()


def test_failed_write_removes_only_its_new_file(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "uploads")

    def write_row() -> None:
        with uploads.keeping(b"\xaa", b"data"):
            assert (tmp_path / "uploads" / "aa").read_bytes() == b"data"
            raise OSError("disk full")

    for expected in ([], ["aa"]):
        with pytest.raises(OSError, match="disk full"):
            write_row()
        assert [path.name for path in (tmp_path / "uploads").iterdir()] == expected
        with uploads.keeping(b"\xaa", b"data"):
            pass


def test_unused_files_are_removed_by_the_next_write(client: RawClient, store: Path) -> None:
    names = {number: sha256(tiff(number)).hexdigest() for number in range(1, 5)}
    messages = [*uploaded(1, tiff(1)), *uploaded(2, tiff(1)), *uploaded(3, tiff(2)), *uploaded(4, tiff(3))]
    ids = [
        answer.result.image.image_id for answer in client.call(client.catalog.UploadImages, iter(messages))
    ]  # fmt: skip
    assert kept(store) == {names[1], names[2], names[3]}
    request = catalog_pb2.BatchDeleteImagesRequest(image_ids=[ids[0], ids[2]])
    client.call(client.catalog.BatchDeleteImages, request)
    list(client.call(client.catalog.UploadImages, iter(uploaded(1, tiff(4), source="file:4"))))  # different content
    upsert(client, new_image(7))
    assert kept(store) == {names[1], names[4]}  # one of the two images with the first file remains
    with connect(f"grpc://{client.address}") as remote:
        assert remote.search(micrograph(1)).grade == remote.search(micrograph(4)).grade == "excellent"


def test_files_left_by_a_killed_server_are_removed(store: Path) -> None:
    (store / "uploads").mkdir()
    left = ["a" * 64, f".{'b' * 24}.77.part", "notes.txt"]
    for name in left:
        (store / "uploads" / name).write_bytes(b"left")
    with serving(store) as target, RawClient(target) as client:
        list(client.call(client.catalog.UploadImages, iter(uploaded(1, tiff(1)))))
        assert kept(store) == {"notes.txt", sha256(tiff(1)).hexdigest()}
    with serving(store) as target, RawClient(target) as client:
        upsert(client, new_image(2))
    assert kept(store) == {"notes.txt", sha256(tiff(1)).hexdigest()}


# -- a store with its own taxonomy -------------------------------------------------------------------------------------

_OWN = Taxonomy("own/1", (Category("W", "Wires", aliases=("Cables",)), Category("Q", "Quux"), Category("T", "Tips")))


@pytest.mark.parametrize("name", ["Wires", "wires", "W", "Cables"])
def test_taxonomy_of_the_store_applies_to_writes_and_filters(shelf: Shelf, tmp_path: Path, name: str) -> None:
    index([shelf.references / "Tips"], tmp_path, taxonomy=_OWN, workers=1)
    with serving(tmp_path) as target, RawClient(target) as client:
        answer = upsert(client, new_image(1, category=name))
        [given] = [one for one in images(client) if one.image_id == answer.results[0].image.image_id]
        assert (given.category, given.code, given.taxonomy) == ("Wires", "W", "own/1")
        [written] = client.call(client.catalog.UploadImages, iter(uploaded(1, tiff(2), category=name)))
        assert written.result.image.change == CREATED
        with connect(target) as remote, connect(tmp_path) as embedded:
            for engine in (remote, embedded):
                assert engine.search(micrograph(1), categories=[name]).category == "Wires"
                assert engine.search(micrograph(1), categories=["Q"]).grade == "none"
                with pytest.raises(TwinscopeError, match="is not a category of this store"):
                    engine.search(micrograph(1), categories=["Powder"])


def test_unknown_categories_are_refused(shelf: Shelf, tmp_path: Path) -> None:
    index([shelf.references / "Tips"], tmp_path, taxonomy=_OWN, workers=1)
    with serving(tmp_path, refresh_seconds=0.05) as target, RawClient(target) as client:
        request = catalog_pb2.BatchUpsertImagesRequest(images=[new_image(1, category="Powder")])
        failure = client.failure(client.catalog.BatchUpsertImages, request)
        assert (failure.reason, failure.fields) == ("UNKNOWN_CATEGORY", ("images[0].description.category",))
        [answer] = client.call(client.catalog.UploadImages, iter(uploaded(1, tiff(1), category="L8")))
        assert Failure.of_status(answer.result.error).reason == "UNKNOWN_CATEGORY"
        assert len(images(client)) == 2
        index([shelf.references / "Tips"], tmp_path, keep_unknown=True, workers=1)
        with connect(target) as remote:
            assert eventually(
                lambda: upsert(client, new_image(1, "Powder"), partly=True).results[0].image.change == CREATED
            )
            assert remote.search(micrograph(1), categories=["Powder"]).category == "Powder"


# -- deleting and listing ----------------------------------------------------------------------------------------------


def test_deleted_images_are_not_found(client: RawClient, shelf: Shelf) -> None:
    with connect(shelf.store) as engine:
        reference = engine.search(shelf.reference("Tips", 0)).matches[0].image_id
    ids = [upsert(client, new_image(1)).results[0].image.image_id, "0" * 16, reference]
    answer = client.call(client.catalog.BatchDeleteImages, catalog_pb2.BatchDeleteImagesRequest(image_ids=ids * 2))
    assert (answer.deleted_count, set(answer.missing_image_ids)) == (2, {"0" * 16})
    assert not found(client, 1, min_generation=answer.generation).answer.matches
    assert len(images(client)) == 5
    assert shelf.reference("Tips", 0).exists()
    failure = client.failure(client.catalog.GetImage, catalog_pb2.GetImageRequest(image_id=reference))
    assert (failure.code, failure.reason, failure.resource) == ("NOT_FOUND", "IMAGE_NOT_FOUND", ("image", reference))


@pytest.mark.parametrize("page_size", [0, 1, 2, 3, 7, 8, 9, 5000])
def test_pages_list_every_image_once(client: RawClient, page_size: int) -> None:
    upsert(client, new_image(1), new_image(2))
    ids = [image.image_id for image in images(client, page_size)]
    assert len(ids) == 8
    assert ids == sorted(set(ids))


def test_pages_stay_complete_while_images_are_deleted(client: RawClient) -> None:
    ids = [image.image_id for image in images(client)]
    first = client.call(client.catalog.ListImages, catalog_pb2.ListImagesRequest(page_size=3))
    client.call(client.catalog.BatchDeleteImages, catalog_pb2.BatchDeleteImagesRequest(image_ids=ids[1:4]))
    rest = client.call(
        client.catalog.ListImages, catalog_pb2.ListImagesRequest(page_size=3, page_token=first.next_page_token)
    )
    assert [image.image_id for image in (*first.images, *rest.images)] == [*ids[:3], *ids[4:]]
    assert not rest.next_page_token


def test_thumbnails_are_returned_by_id(client: RawClient) -> None:
    image = new_image(1)
    without = new_image(2)
    without.fingerprint.thumbnail = b""
    answer = upsert(client, image, without)
    first, second = (result.image.image_id for result in answer.results)
    data = client.call(client.catalog.GetThumbnail, catalog_pb2.GetThumbnailRequest(image_id=first)).thumbnail
    assert data == encode_thumbnail(micrograph(1))
    failure = client.failure(client.catalog.GetThumbnail, catalog_pb2.GetThumbnailRequest(image_id=second))
    assert failure.reason == "IMAGE_NOT_FOUND"
    with connect(f"grpc://{client.address}") as engine:
        assert engine.thumbnail(first) is not None
        assert engine.thumbnail(second) is None


# -- one writer, and durability ----------------------------------------------------------------------------------------


def test_write_does_not_wait_for_another_process(client: RawClient, store: Path) -> None:
    before = images(client)
    with open_writer(store):
        failure = client.failure(
            client.catalog.BatchUpsertImages, catalog_pb2.BatchUpsertImagesRequest(images=[new_image(1)])
        )
        assert (failure.code, failure.reason) == ("UNAVAILABLE", "STORE_LOCKED")
        assert failure.retry_seconds is not None
        stream = client.failure(client.catalog.UploadImages, iter(uploaded(1, tiff(1))))
        assert (stream.code, stream.reason) == ("UNAVAILABLE", "STORE_LOCKED")
        assert found(client, 1).answer.matches == []
    assert images(client) == before
    assert upsert(client, new_image(1)).results[0].image.change == CREATED


def test_acknowledged_images_survive_a_kill(store: Path, shelf: Shelf) -> None:
    command = [sys.executable, "-m", "twinscope_client.cli.main", "serve", str(store), "--port", "0", "--quiet"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        target = re.search(r"grpc://[^;]+", next(line for line in running.stderr if "grpc:" in line))
        assert target is not None
        with RawClient(target[0]) as client:
            acknowledged = [upsert(client, new_image(number)).generation for number in range(3)]
            [answer] = client.call(client.catalog.UploadImages, iter(uploaded(1, tiff(9))))
            acknowledged.append(answer.generation)
            running.send_signal(signal.SIGKILL)
            running.wait(HANGS)
    reopened = Store(store)
    assert reopened.view.generation == acknowledged[-1]
    reopened.close()
    with connect(store) as engine:
        for number in range(3):
            assert engine.search(micrograph(number)).category == "Powder"
        kept = engine.search(micrograph(9))
        assert (kept.grade, kept.matches[0].ssim) == ("excellent", pytest.approx(1.0))
        assert engine.search(read_image(shelf.reference("Tips", 0)).pixels).grade == "excellent"


def test_answers_of_one_generation_are_equal_during_writes(client: RawClient) -> None:
    """Check that a batch uses one generation with constant answers while images are deleted and relabelled."""
    upsert(client, *(new_image(number) for number in range(24)))
    prints = [fingerprint_message(Fingerprint.of_pixels(micrograph(number))) for number in range(24)]
    request = similarity_pb2.BatchSearchRequest(queries=[similarity_pb2.Query(fingerprint=one) for one in prints])
    ids = {one.source.path: one.image_id for one in images(client)}
    seen: dict[int, set[tuple[tuple[str, str], ...]]] = {}
    done = threading.Event()

    def search() -> None:
        with RawClient(f"grpc://{client.address}") as other:
            while not done.is_set():
                results = other.call(other.similarity.BatchSearch, request).results
                [generation] = {one.answer.generation for one in results}
                found = tuple((one.answer.category, one.answer.matches[0].source) if one.answer.matches else ("", "")
                              for one in results)  # fmt: skip
                seen.setdefault(generation, set()).add(found)

    threads = [threading.Thread(target=search, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(0, 24, 2):
        upsert(client, new_image(number + 1, category="Tips"))
        deletion = catalog_pb2.BatchDeleteImagesRequest(image_ids=[ids[f"lims:{number}"]])
        client.call(client.catalog.BatchDeleteImages, deletion)
    done.set()
    for thread in threads:
        thread.join()
    assert len(seen) > 3
    assert {generation: len(answers) for generation, answers in seen.items() if len(answers) > 1} == {}


def test_server_loads_a_replaced_store(store: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    with open_writer(other, create=True) as writer:
        writer.publish()
    with serving(store, refresh_seconds=0.05) as target, RawClient(target) as client, connect(target) as remote:
        first = remote.identity
        upsert(client, new_image(1), new_image(2))
        store.rename(tmp_path / "away")
        time.sleep(0.3)
        assert remote.search(micrograph(1)).category == "Powder"  # the server still uses the previous store
        other.rename(store)
        assert eventually(lambda: not remote.stats()["images"])
        assert remote.search(micrograph(1)).grade == "none"
        with connect(store) as embedded:
            assert remote.stats()["store_id"] == embedded.stats()["store_id"] != first.partition("/")[0]
        written = upsert(client, new_image(3))
        assert found(client, 3, min_generation=written.generation).answer.matches[0].source == "lims:3"
        assert [one.source.path for one in images(client)] == ["lims:3"]
