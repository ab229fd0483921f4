"""The catalog service: writes and reads the images of the store."""

from __future__ import annotations

from hashlib import sha256
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

import grpc
from twinscope.v1 import catalog_pb2, catalog_pb2_grpc
from twinscope_indexer.errors import ImageError, RecipeError, TaxonomyError, TwinscopeError, UnknownImageError
from twinscope_indexer.image_id import image_id

from twinscope_service.matching.new_image import NewImage, Upload
from twinscope_service.matching.policy import POLICIES
from twinscope_service.server.catalog_writer import Stored, Writes
from twinscope_service.server.status import RequestError, request_error, unknown_category
from twinscope_service.server.streams import Received, assembled, damaged, out_of_order, require_upload_size
from twinscope_service.wire.answers import policy_message
from twinscope_service.wire.index import index_message
from twinscope_service.wire.instruments import instrument_message
from twinscope_service.wire.records import image_message, image_numbers, page_of, page_token
from twinscope_service.wire.rules import MessageError, below, check_chunk, check_sequence, image_number_of, require
from twinscope_service.wire.upserts import check_upserts, new_image_of, upload_of

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from twinscope_indexer.store.catalog.catalog import Record
    from twinscope_indexer.store.reader import Store

    from twinscope_service.matching.searcher import Searcher
    from twinscope_service.server.interceptor import Calls
    from twinscope_service.server.settings import ServerSettings

_CHANGES: Final = {
    "created": catalog_pb2.StoredImage.CHANGE_CREATED,
    "replaced": catalog_pb2.StoredImage.CHANGE_REPLACED,
    "unchanged": catalog_pb2.StoredImage.CHANGE_UNCHANGED,
}


class CatalogService(catalog_pb2_grpc.CatalogServiceServicer):
    """Implementation of ``twinscope.v1.CatalogService``; the wire contract states the rules."""

    _store: Store
    _searcher: Searcher
    _writes: Writes

    def __init__(self, settings: ServerSettings, calls: Calls, draining: threading.Event) -> None:
        self._settings = settings
        self._calls = calls
        self._draining = draining

    def use(self, store: Store, searcher: Searcher) -> None:
        """Set the store and the searcher; the server must call this method before it admits the first call."""
        self._store = store
        self._searcher = searcher
        self._writes = Writes(store)

    def BatchUpsertImages(  # noqa: N802  the contract's name
        self, request: catalog_pb2.BatchUpsertImagesRequest, context: grpc.ServicerContext
    ) -> catalog_pb2.BatchUpsertImagesResponse:
        """Store images that the client sends as fingerprints."""
        self._require_writable()
        return self._upsert(request, context)

    def StreamUpsertImages(  # noqa: N802
        self, request_iterator: Iterator[catalog_pb2.StreamUpsertImagesRequest], context: grpc.ServicerContext
    ) -> Iterator[catalog_pb2.StreamUpsertImagesResponse]:
        """Store batches of fingerprints in the order of their arrival."""
        self._require_writable()
        received = Received(request_iterator, self._settings.stream_idle_seconds)
        last = 0
        try:
            for request in received.until(self._draining):
                last = _following(request.sequence, last)
                try:
                    batch = self._upsert(request.batch, context, "batch")
                    yield catalog_pb2.StreamUpsertImagesResponse(sequence=last, batch=batch)
                except (MessageError, RecipeError, RequestError) as error:
                    if isinstance(error, RequestError) and error.code is not grpc.StatusCode.INVALID_ARGUMENT:
                        raise
                    status = request_error(error, "").status
                    yield catalog_pb2.StreamUpsertImagesResponse(sequence=last, error=status)
        finally:
            received.close()

    def UploadImages(  # noqa: N802
        self, request_iterator: Iterator[catalog_pb2.UploadImagesRequest], context: grpc.ServicerContext
    ) -> Iterator[catalog_pb2.UploadImagesResponse]:
        """Store images that the client sends as files."""
        self._require_writable()
        received = Received(request_iterator, self._settings.stream_idle_seconds)
        last = 0
        try:
            for message in received.until(self._draining):
                if message.WhichOneof("payload") != "header":
                    raise out_of_order("an upload must begin with its header")
                upload = upload_of(message.header)
                last = _following(upload.sequence, last)
                require_upload_size(upload.size, self._settings.max_upload_mib << 20)
                with self._calls.upload(upload.size):
                    response = self._uploaded(upload, _file(received, upload), context)
                yield response
        finally:
            received.close()

    def BatchDeleteImages(  # noqa: N802
        self, request: catalog_pb2.BatchDeleteImagesRequest, context: grpc.ServicerContext
    ) -> catalog_pb2.BatchDeleteImagesResponse:
        """Remove images from the store."""
        self._require_writable()
        numbers = image_numbers(request)
        with self._calls.working(context):
            missing, generation = self._writes.delete(numbers)
        return catalog_pb2.BatchDeleteImagesResponse(
            deleted_count=len(set(numbers) - set(missing)),
            missing_image_ids=[image_id(number) for number in missing],
            generation=generation,
        )

    def GetImage(  # noqa: N802
        self, request: catalog_pb2.GetImageRequest, context: grpc.ServicerContext
    ) -> catalog_pb2.GetImageResponse:
        """Return the record and the instrument metadata of one image."""
        with self._calls.working(context):
            record = self._record(request.image_id)
            metadata = self._store.view.instruments([record.id]).get(record.id)
            instrument = None if metadata is None else instrument_message(metadata)
            return catalog_pb2.GetImageResponse(image=image_message(record), instrument=instrument)

    def ListImages(  # noqa: N802
        self, request: catalog_pb2.ListImagesRequest, context: grpc.ServicerContext
    ) -> catalog_pb2.ListImagesResponse:
        """Return one page of the list of images."""
        size, after = page_of(request)
        with self._calls.working(context):
            records = self._store.view.snapshot.page(after, size + 1)
        token = page_token(records[size - 1].id) if len(records) > size else ""
        images = [image_message(record) for record in records[:size]]
        return catalog_pb2.ListImagesResponse(images=images, next_page_token=token)

    def GetThumbnail(  # noqa: N802
        self, request: catalog_pb2.GetThumbnailRequest, context: grpc.ServicerContext
    ) -> catalog_pb2.GetThumbnailResponse:
        """Return the thumbnail of an image."""
        number = image_number_of(request.image_id)
        with self._calls.working(context):
            data = self._store.view.thumbnail(number)
        if data is None:
            raise UnknownImageError(request.image_id)
        return catalog_pb2.GetThumbnailResponse(thumbnail=data)

    def GetIndex(  # noqa: N802
        self,
        request: catalog_pb2.GetIndexRequest,  # noqa: ARG002
        context: grpc.ServicerContext,
    ) -> catalog_pb2.GetIndexResponse:
        """Return a description of the store, the index and the server."""
        settings = self._settings
        with self._calls.working(context):
            message = index_message(self._searcher.describe())
        message.policies.extend(policy_message(policy) for policy in POLICIES.values())
        message.limits.max_message_bytes = settings.max_message_mib << 20
        message.limits.max_image_bytes = settings.max_upload_mib << 20
        message.limits.max_image_pixels = settings.pixel_budget
        message.limits.stream_idle_seconds = int(settings.stream_idle_seconds)
        message.server_version = version("twinscope")
        message.writable = settings.write
        return message

    def _upsert(
        self, request: catalog_pb2.BatchUpsertImagesRequest, context: grpc.ServicerContext, path: str = ""
    ) -> catalog_pb2.BatchUpsertImagesResponse:
        check_upserts(request, path)
        field = below(path, "images")
        images: list[NewImage | TwinscopeError] = []
        for i, message in enumerate(request.images):
            try:
                image = new_image_of(message, f"{field}[{i}]")
                self._store.view.taxonomy.resolve(image.description.category)
                images.append(image)
            except TaxonomyError as error:
                images.append(unknown_category(error, f"{field}[{i}].description.category"))
            except TwinscopeError as error:
                images.append(error)
        with self._calls.working(context):
            results, generation = self._writes.upsert(images, partly=request.return_partial_success)
        return catalog_pb2.BatchUpsertImagesResponse(results=[_outcome(one) for one in results], generation=generation)

    def _uploaded(
        self, upload: Upload, data: bytes | RequestError, context: grpc.ServicerContext
    ) -> catalog_pb2.UploadImagesResponse:
        outcome: Stored | TwinscopeError
        generation = 0
        if isinstance(data, RequestError):
            outcome = data
        else:
            try:
                with self._calls.working(context):
                    budget = self._settings.pixel_budget
                    outcome, generation = self._writes.upload(upload, data, budget)
            except ImageError as error:
                outcome = error
            except TaxonomyError as error:
                outcome = unknown_category(error, "header.description.category")
        return catalog_pb2.UploadImagesResponse(
            sequence=upload.sequence, result=_outcome(outcome), generation=generation
        )

    def _record(self, wanted: str) -> Record:
        number = image_number_of(wanted)
        record = self._store.records([number]).get(number)
        if record is None:
            raise UnknownImageError(wanted)
        return record

    def _require_writable(self) -> None:
        if not self._settings.write:
            raise RequestError(grpc.StatusCode.FAILED_PRECONDITION, "READ_ONLY", "this server does not accept writes")


def _outcome(result: Stored | TwinscopeError) -> catalog_pb2.UpsertResult:
    if isinstance(result, Stored):
        stored = catalog_pb2.StoredImage(image_id=image_id(result.number), change=_CHANGES[result.change])
        return catalog_pb2.UpsertResult(image=stored)
    return catalog_pb2.UpsertResult(error=request_error(result, "").status)


def _following(sequence: int, last: int) -> int:
    require(check_sequence(sequence, "sequence"))
    if sequence <= last:
        raise out_of_order(f"sequence {sequence} must be greater than the previous one, {last}")
    return sequence


def _file(received: Received[catalog_pb2.UploadImagesRequest], upload: Upload) -> bytes | RequestError:
    """Return the bytes of one uploaded image, or an error if the SHA-256 of the bytes does not match.

    The error concerns only this image; the stream stays open.
    """
    data = assembled(_chunks(received), upload.size, b"")
    if upload.sha256 and sha256(data).digest() != upload.sha256:
        return damaged("the received bytes do not have the declared SHA-256")
    return data


def _chunks(received: Received[catalog_pb2.UploadImagesRequest]) -> Iterator[bytes]:
    for message in received:
        if message.WhichOneof("payload") != "chunk":
            raise out_of_order("a header arrived before the previous image was complete")
        require(check_chunk(message.chunk))
        yield message.chunk
