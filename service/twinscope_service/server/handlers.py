"""gRPC handlers: wrap each call in a context manager, and record which calls wait for their clients."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

import grpc
from google.protobuf.message import DecodeError

from twinscope_service.server.status import RequestError, invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import ThreadPoolExecutor
    from contextlib import AbstractContextManager

    from twinscope_service.server.admission import Slots


def wrapped(
    handler: grpc.RpcMethodHandler[Any, Any],
    around: Callable[[grpc.ServicerContext], AbstractContextManager[None]],
    slots: Slots,
    threads: ThreadPoolExecutor | None = None,
) -> grpc.RpcMethodHandler[Any, Any]:
    """Wrap a handler of any of the four kinds in a context manager.

    For gRPC, the returned handler always accepts a stream of requests. If a handler accepts a single request, a thread
    of gRPC waits for the request before it calls the handler. If no request arrives, this thread waits for ever. gRPC
    calls a handler of a stream immediately, so that the returned handler can read the request within the context.

    Parameters
    ----------
    handler : grpc.RpcMethodHandler
        The handler to wrap.
    around : callable
        Function that returns the context manager for a call.
    slots : Slots
        Slots that record when a call waits for its client.
    threads : ThreadPoolExecutor, optional
        Threads that run the handler; by default the threads of the server.
    """
    known = cast("Any", handler)
    kind = ("stream" if known.request_streaming else "unary", "stream" if known.response_streaming else "unary")
    inner = getattr(known, "_".join(kind))
    decode = _decoding(known.request_deserializer)

    def argument(messages: Iterator[Any], context: grpc.ServicerContext) -> Any:
        if known.request_streaming:
            return messages
        with slots.waiting(context):
            data = next(messages, None)
        if data is None:
            raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, "STREAM_ORDER", "the call ended without a request")
        request = decode(data)
        if isinstance(request, RequestError):
            raise request
        return request

    def streaming(messages: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        with around(context), closing(inner(argument(messages, context), context)) as responses:
            for response in responses:
                with slots.waiting(context):
                    yield response

    def single(messages: Iterator[Any], context: grpc.ServicerContext) -> Any:
        with around(context):
            return inner(argument(messages, context), context)

    behaviour = streaming if known.response_streaming else single
    cast("Any", behaviour).experimental_thread_pool = threads
    make = getattr(grpc, f"stream_{kind[1]}_rpc_method_handler")
    made: grpc.RpcMethodHandler[Any, Any] = make(
        behaviour, decode if known.request_streaming else None, known.response_serializer
    )
    return made


def _decoding(decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Return a decoder that returns an error if the bytes are invalid.

    If the decoder raised the error, gRPC would report the error without the status of Twinscope.
    """

    def decoded(data: bytes) -> Any:
        try:
            return decode(data)
        except DecodeError:
            return invalid([("", "the bytes are not a message of this method's type")])

    return decoded
