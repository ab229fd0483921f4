"""Uploads in asyncio."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from twinscope_client.remote.upload import Upload

R = TypeVar("R")


async def send(call: grpc.aio.StreamUnaryCall[Any, Any], upload: Upload) -> Any:
    """Stream an upload and return the response.

    A thread reads the file piece by piece, no faster than the server accepts it. If anything ends the upload early,
    for example the cancellation of the task, the call also ends.

    Raises
    ------
    grpc.aio.AioRpcError
        If the call fails.
    ImageError
        If the file can no longer be read.
    """
    statuses = _Statuses(call)
    messages = iter(upload)
    try:
        # The server may answer before everything was sent. Writing then fails, and the call holds the reason.
        with suppress(grpc.RpcError, grpc.aio.InternalError, asyncio.InvalidStateError):
            while not call.done() and (message := await asyncio.to_thread(next, messages, None)) is not None:
                await call.write(message)
            await call.done_writing()
        return await call
    except grpc.RpcError as error:
        server_error = statuses.server_error()
        if server_error is None:
            raise
        raise server_error from error
    except BaseException:
        call.cancel()
        raise


class _Statuses:
    """The final statuses of a call, in order.

    There can be two: if a server ends a call while a message is being sent, grpc.aio replaces the status of the server
    by its own INTERNAL (https://github.com/grpc/grpc/issues/36066).
    """

    def __init__(self, call: grpc.aio.StreamUnaryCall[Any, Any]) -> None:
        self._errors: list[grpc.aio.AioRpcError] = []
        call.add_done_callback(self._record)

    def server_error(self) -> grpc.aio.AioRpcError | None:
        """Return the first error that is not INTERNAL, if there is one."""
        return next((error for error in self._errors if error.code() is not grpc.StatusCode.INTERNAL), None)

    def _record(self, call: Any) -> None:
        code, details, trailing = (_result_of(get()) for get in (call.code, call.details, call.trailing_metadata))
        if code is not grpc.StatusCode.OK:
            self._errors.append(grpc.aio.AioRpcError(code, None, trailing, details))


def _result_of(coroutine: Coroutine[Any, Any, R]) -> R:
    """Return the result of a coroutine that does not wait."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: R = end.value
        return result
    coroutine.close()
    msg = "a call has ended, but its status is unknown"
    raise RuntimeError(msg)
