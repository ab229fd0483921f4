"""The similarity service: receives queries, passes them to the searcher and sends the answers."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from twinscope.v1 import similarity_pb2, similarity_pb2_grpc
from twinscope_indexer.errors import TaxonomyError, TwinscopeError
from twinscope_indexer.imaging.reader import read_image
from twinscope_indexer.indexing.pages import first_hashable_page
from twinscope_indexer.metadata.reader import acquisition_of

from twinscope_service.matching.answer import Result
from twinscope_service.matching.query import Query
from twinscope_service.matching.searcher import MAX_WAIT, Searcher
from twinscope_service.server.batching import Batcher
from twinscope_service.server.status import request_error, unknown_category
from twinscope_service.server.streams import Received, assembled, out_of_order, require_upload_size
from twinscope_service.wire.answers import answer_message
from twinscope_service.wire.instruments import instrument_of
from twinscope_service.wire.queries import batch_options, header_options, options_of, query_of
from twinscope_service.wire.rules import below, check_chunk, check_sequence, require

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence

    import grpc

    from twinscope_service.matching.options import Options
    from twinscope_service.server.interceptor import Calls
    from twinscope_service.server.settings import ServerSettings


class SimilarityService(similarity_pb2_grpc.SimilarityServiceServicer):
    """Implementation of ``twinscope.v1.SimilarityService``; the wire contract states the rules.

    Attributes
    ----------
    searcher : Searcher
        The searcher that answers the queries. The searcher must be set before the first call is admitted.
    """

    searcher: Searcher

    def __init__(self, settings: ServerSettings, calls: Calls, draining: threading.Event) -> None:
        self._settings = settings
        self._calls = calls
        self._draining = draining
        self._batched: Batcher[Options, Query, similarity_pb2.QueryResult] = Batcher(self._hash_results)

    def Search(  # noqa: N802  the contract's name
        self, request: similarity_pb2.SearchRequest, context: grpc.ServicerContext
    ) -> similarity_pb2.SearchResponse:
        """Answer one query.

        A bare hash needs little work, so it is processed together with other bare hashes that wait.
        """
        options = options_of(request.options)
        query = query_of(request.query)
        if isinstance(query, Query) and query.thumbnail is None:
            self._await_generation(options, context)
            with _known_categories("options"):
                result = self._batched(options, query)
        else:
            with self._answering(options, "options", context):
                result = _result(self.searcher.answer(query, options))
        result.client_tag = request.query.client_tag
        return similarity_pb2.SearchResponse(result=result)

    def BatchSearch(  # noqa: N802
        self, request: similarity_pb2.BatchSearchRequest, context: grpc.ServicerContext
    ) -> similarity_pb2.BatchSearchResponse:
        """Answer a batch of queries."""
        return self._batch(request, context)

    def StreamSearch(  # noqa: N802
        self, request_iterator: Iterator[similarity_pb2.StreamSearchRequest], context: grpc.ServicerContext
    ) -> Iterator[similarity_pb2.StreamSearchResponse]:
        """Answer batches of queries in the order of their arrival."""
        received = Received(request_iterator, self._settings.stream_idle_seconds)
        last = 0
        try:
            for request in received.until(self._draining):
                require(check_sequence(request.sequence, "sequence"))
                if request.sequence <= last:
                    raise out_of_order(f"sequence {request.sequence} must be greater than the previous one, {last}")
                last = request.sequence
                yield self._stream_batch(request, context)
        finally:
            received.close()

    def SearchByImage(  # noqa: N802
        self, request_iterator: Iterator[similarity_pb2.SearchByImageRequest], context: grpc.ServicerContext
    ) -> similarity_pb2.SearchByImageResponse:
        """Answer a query whose image file the client uploads."""
        received = Received(request_iterator, self._settings.stream_idle_seconds)
        try:
            first = next(received, None)
            if first is None or first.WhichOneof("payload") != "header":
                raise out_of_order("the first message must be the header")
            header = first.header
            options = header_options(header)
            require_upload_size(header.size_bytes, self._settings.max_upload_mib << 20)
            self._require_categories(options, "header.options", context)
            with self._calls.upload(header.size_bytes):
                data = assembled(_chunks(received), header.size_bytes, header.sha256)
                if next(received, None) is not None:
                    raise out_of_order(f"more data arrived than the {header.size_bytes} bytes declared in the header")
                result = self._answer_file(data, header, options, context)
        finally:
            received.close()
        return similarity_pb2.SearchByImageResponse(result=_result(result, header.client_tag))

    def _answer_file(
        self, data: bytes, header: similarity_pb2.ImageHeader, options: Options, context: grpc.ServicerContext
    ) -> Result:
        with self._answering(options, "header.options", context):
            budget = self._settings.pixel_budget
            page = first_hashable_page(data, name="upload", pixel_budget=budget)
            image = read_image(data, name="upload", pixel_budget=budget, page=page)
            given = header.HasField("instrument")
            instrument = instrument_of(header.instrument) if given else acquisition_of(data)
            return self.searcher.answer(Query.of_pixels(image.pixels, instrument), options)

    def _require_categories(self, options: Options, path: str, context: grpc.ServicerContext) -> None:
        """Refuse categories that the requested generation does not contain, before the server reads the upload."""
        if options.categories:
            self._await_generation(options, context)
            with _known_categories(path):
                self.searcher.answer_all((), options)

    @contextmanager
    def _answering(self, options: Options, path: str, context: grpc.ServicerContext) -> Iterator[None]:
        """Wait for the generation that the options require, then occupy a worker until the ``with`` statement ends.

        `path` is the path of the options in the request, for error messages.
        """
        self._await_generation(options, context)
        with _known_categories(path), self._calls.working(context):
            yield

    def _await_generation(self, options: Options, context: grpc.ServicerContext) -> None:
        if options.min_generation:
            self.searcher.await_generation(options.min_generation, _time_left(context), context.is_active)

    def _hash_results(self, options: Options, queries: Sequence[Query]) -> list[similarity_pb2.QueryResult]:
        with self._calls.timed("hashes"):
            results = self.searcher.answer_all(queries, options)
            # Every result is a `Result`, because no query is the id of a stored image.
            return [_result(result) for result in results if isinstance(result, Result)]

    def _stream_batch(
        self, request: similarity_pb2.StreamSearchRequest, context: grpc.ServicerContext
    ) -> similarity_pb2.StreamSearchResponse:
        try:
            batch = self._batch(request.batch, context, "batch")
        except TwinscopeError as error:
            status = request_error(error, "").status
            return similarity_pb2.StreamSearchResponse(sequence=request.sequence, error=status)
        return similarity_pb2.StreamSearchResponse(sequence=request.sequence, batch=batch)

    def _batch(
        self, request: similarity_pb2.BatchSearchRequest, context: grpc.ServicerContext, path: str = ""
    ) -> similarity_pb2.BatchSearchResponse:
        options = batch_options(request, path)
        field = below(path, "queries")
        queries: list[Query | int] = []
        refused: dict[int, TwinscopeError] = {}
        for i, message in enumerate(request.queries):
            try:
                queries.append(query_of(message, f"{field}[{i}]"))
            except TwinscopeError as error:
                refused[i] = error
        with self._answering(options, below(path, "options"), context):
            answered = iter(self.searcher.answer_all(queries, options))
        results = []
        for i, message in enumerate(request.queries):
            outcome = refused[i] if i in refused else next(answered)
            if isinstance(outcome, Result):
                results.append(_result(outcome, message.client_tag))
            else:
                status = request_error(outcome, "").status
                results.append(similarity_pb2.QueryResult(client_tag=message.client_tag, error=status))
        return similarity_pb2.BatchSearchResponse(results=results)


@contextmanager
def _known_categories(path: str) -> Iterator[None]:
    """Add the path of the field to the error for an unknown category.

    `path` is the path of the options in the request.
    """
    try:
        yield
    except TaxonomyError as error:
        raise unknown_category(error, f"{path}.categories") from error


def _result(result: Result, tag: str = "") -> similarity_pb2.QueryResult:
    return similarity_pb2.QueryResult(
        answer=answer_message(result.answer), pixels_would_change_grade=result.pixels_would_change, client_tag=tag
    )


def _chunks(received: Received[similarity_pb2.SearchByImageRequest]) -> Iterator[bytes]:
    for message in received:
        if message.WhichOneof("payload") != "chunk":
            raise out_of_order("only chunks may follow the header")
        require(check_chunk(message.chunk))
        yield message.chunk


def _time_left(context: grpc.ServicerContext) -> float:
    """Return the seconds until shortly before the deadline of the call, at most `MAX_WAIT`.

    If the call has no deadline, gRPC returns None or a time of centuries.
    """
    left = context.time_remaining()
    return MAX_WAIT if left is None else max(0.0, min(left - 0.05, MAX_WAIT))
