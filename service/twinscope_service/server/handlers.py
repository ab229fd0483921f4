"""gRPC handlers: wrap each call in a context manager, and keep track of threads that wait for a request."""

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

    To gRPC, the result looks like a handler of a request stream. For a single request, gRPC would wait in one of its
    threads before it calls the handler, for ever if no request arrives. A stream is passed on at once, and read within
    the context.

    Parameters
    ----------
    handler : grpc.RpcMethodHandler
    around : callable
        Returns the context manager of a call.
    slots : Slots
        Notified when a call waits for its client.
    threads : ThreadPoolExecutor, optional
        Threads that run the handler; by default those of the server.
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
    """Return a decoder that returns an error for invalid bytes; gRPC would report a raised error in its own way."""

    def decoded(data: bytes) -> Any:
        try:
            return decode(data)
        except DecodeError:
            return invalid([("", "the bytes are not a message of this method's type")])

    return decoded
