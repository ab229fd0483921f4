"""An upload on its way, in asyncio."""

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
    """Stream an upload, and give the response.

    The file is read in a thread, a piece at a time, no faster than the server takes it. Whatever ends this early, a
    cancelled task included, ends the call.

    Raises
    ------
    grpc.aio.AioRpcError
        If the call fails.
    ImageError
        If the file cannot be read any more.
    """
    ends = _Ends(call)
    messages = iter(upload)
    try:
        # The server may answer before all was sent. Writing then fails in one way or another; the call knows why.
        with suppress(grpc.RpcError, grpc.aio.InternalError, asyncio.InvalidStateError):
            while not call.done() and (message := await asyncio.to_thread(next, messages, None)) is not None:
                await call.write(message)
            await call.done_writing()
        return await call
    except grpc.RpcError as error:
        told = ends.told()
        if told is None:
            raise
        raise told from error
    except BaseException:
        call.cancel()
        raise


class _Ends:
    """The statuses that a call has ended with, as they came.

    There may be two: where a server ends a call while a message is on its way, grpc.aio puts an INTERNAL of its own in
    place of the server's status (https://github.com/grpc/grpc/issues/36066).
    """

    def __init__(self, call: grpc.aio.StreamUnaryCall[Any, Any]) -> None:
        self._errors: list[grpc.aio.AioRpcError] = []
        call.add_done_callback(self._note)

    def told(self) -> grpc.aio.AioRpcError | None:
        """Give the first status that is not INTERNAL, if there is one."""
        return next((error for error in self._errors if error.code() is not grpc.StatusCode.INTERNAL), None)

    def _note(self, call: Any) -> None:
        code, details, trailing = (_at_once(part()) for part in (call.code, call.details, call.trailing_metadata))
        if code is not grpc.StatusCode.OK:
            self._errors.append(grpc.aio.AioRpcError(code, None, trailing, details))


def _at_once(coroutine: Coroutine[Any, Any, R]) -> R:
    """Give the result of a coroutine that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: R = end.value
        return result
    coroutine.close()
    msg = "a call has ended, and yet its status is not known"
    raise RuntimeError(msg)
