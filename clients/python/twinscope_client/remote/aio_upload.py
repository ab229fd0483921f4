"""Upload of an image to a server by the client for asyncio."""

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
    """Send the messages of an upload to the server, and return the response of the server.

    A separate thread reads the file in pieces, and reads the next piece only after the server has accepted the previous
    piece. If the upload ends early, for example because the task was cancelled, the call is also cancelled.

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
        # The server may answer before the whole image was sent. Then the write fails, and the status of the call
        # contains the reason.
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
    """The final statuses of a call, in the order in which they arrived.

    A call can have two final statuses. If a server ends the call while the client is sending a message, grpc.aio
    replaces the status of the server with a status INTERNAL. See https://github.com/grpc/grpc/issues/36066.
    """

    def __init__(self, call: grpc.aio.StreamUnaryCall[Any, Any]) -> None:
        self._errors: list[grpc.aio.AioRpcError] = []
        call.add_done_callback(self._record)

    def server_error(self) -> grpc.aio.AioRpcError | None:
        """Return the first error whose status is not INTERNAL, or None if there is no such error."""
        return next((error for error in self._errors if error.code() is not grpc.StatusCode.INTERNAL), None)

    def _record(self, call: Any) -> None:
        code, details, trailing = (_result_of(get()) for get in (call.code, call.details, call.trailing_metadata))
        if code is not grpc.StatusCode.OK:
            self._errors.append(grpc.aio.AioRpcError(code, None, trailing, details))


def _result_of(coroutine: Coroutine[Any, Any, R]) -> R:
    """Return the result of a coroutine that finishes without waiting for anything."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: R = end.value
        return result
    coroutine.close()
    msg = "a call has ended, but its status is unknown"
    raise RuntimeError(msg)
