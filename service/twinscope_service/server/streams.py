"""Receiving streams: the server ends idle streams and checks that an upload matches its declared size and SHA-256."""

from __future__ import annotations

import queue
import threading
import time
from contextlib import suppress
from hashlib import sha256
from io import BytesIO
from typing import TYPE_CHECKING, Generic, TypeVar

import grpc

from twinscope_service.server.status import RequestError, overloaded

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")

_AHEAD = 2
"""Maximum number of messages that are received before they are needed. More messages would only use memory, because
HTTP/2 flow control makes the client wait with the other messages."""
_POLL_SECONDS = 0.1
"""Maximum time until a stream that waits for its client notices that the server is about to stop, in seconds."""


class Received(Generic[T]):
    """Iterator over the messages of a stream; raises an error if the client sends nothing for too long.

    Parameters
    ----------
    messages : iterator
        The iterator from gRPC. If it yields an error instead of a message, `Received` raises this error.
    idle_seconds : float
        Maximum time without a message, in seconds.

    Raises
    ------
    RequestError
        During the iteration: STREAM_IDLE, or an error that the iterator of gRPC yields instead of a message.
    """

    def __init__(self, messages: Iterator[T | RequestError], idle_seconds: float) -> None:
        self._messages = messages
        self._idle_seconds = idle_seconds
        self._queue: queue.Queue[tuple[T | RequestError | None, bool]] = queue.Queue(_AHEAD)
        self._closed = False
        threading.Thread(target=self._receive, name="receive", daemon=True).start()

    def __iter__(self) -> Iterator[T]:
        """Return this iterator."""
        return self

    def __next__(self) -> T:
        """Return the next message."""
        return self._next(None)

    def until(self, draining: threading.Event) -> Iterator[T]:
        """Yield the messages until the client closes its side or the server is about to stop.

        Raises
        ------
        RequestError
            DRAINING if the server is about to stop, and the errors of the iteration.
        """
        with suppress(StopIteration):
            while True:
                yield self._next(draining)

    def _next(self, draining: threading.Event | None) -> T:
        until = time.monotonic() + self._idle_seconds
        while True:
            if draining is not None and draining.is_set():
                raise RequestError(
                    grpc.StatusCode.UNAVAILABLE, "DRAINING", "the server is shutting down", retry_seconds=1.0
                )
            left = until - time.monotonic()
            try:
                message, ended = self._queue.get(timeout=max(0.0, min(left, _POLL_SECONDS) if draining else left))
            except queue.Empty:
                if time.monotonic() < until:
                    continue
                raise RequestError(
                    grpc.StatusCode.ABORTED, "STREAM_IDLE",
                    f"nothing arrived for {self._idle_seconds:g} seconds; open a new stream when there is work",
                    retry_seconds=0.0,
                ) from None  # fmt: skip
            if isinstance(message, RequestError):
                raise message
            if ended or message is None:
                raise StopIteration
            return message

    def close(self) -> None:
        """End the receiving thread and discard the messages that still arrive."""
        self._closed = True
        while not self._queue.empty():
            self._queue.get_nowait()

    def _receive(self) -> None:
        with suppress(Exception):  # gRPC raises an Exception when the call ends; no message follows
            for message in self._messages:
                self._queue.put((message, False))
                if self._closed:
                    return
        self._queue.put((None, True))


class UploadMemory:
    """Limit on the memory of all uploads in progress.

    Parameters
    ----------
    most : int
        Maximum memory in bytes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._reserved = 0

    @property
    def reserved(self) -> int:
        """Number of bytes that are reserved at present."""
        return self._reserved

    def reserve(self, size: int) -> None:
        """Reserve memory for an upload of this declared size in bytes; `release` frees the memory.

        Raises
        ------
        RequestError
            OVERLOADED if too little memory is left.
        """
        with self._lock:
            if self._reserved + size > self._most:
                raise overloaded("the uploads in progress leave no memory for this one", retry_seconds=1.0)
            self._reserved += size

    def release(self, size: int) -> None:
        """Free the memory that was reserved for an upload of this size in bytes."""
        with self._lock:
            self._reserved -= size


def out_of_order(message: str) -> RequestError:
    """Return the error for a message that is not allowed at this point of the stream."""
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, "STREAM_ORDER", message)


def require_upload_size(size: int, most: int) -> None:
    """Refuse an image if its declared size is too large, before any byte of the image is read.

    Raises
    ------
    RequestError
        IMAGE_TOO_LARGE if the size is above the limit.
    """
    if size > most:
        raise RequestError(
            grpc.StatusCode.INVALID_ARGUMENT, "IMAGE_TOO_LARGE",
            f"the image has {size} bytes; this server accepts up to {most}",
            metadata={"size_bytes": str(size), "max_image_bytes": str(most)},
        )  # fmt: skip


def assembled(chunks: Iterator[bytes], size: int, digest: bytes) -> bytes:
    """Return the bytes of an uploaded file, assembled from its chunks.

    Parameters
    ----------
    chunks : iterator of bytes
    size : int
        Declared size in bytes. The caller checks the size with `require_upload_size` first.
    digest : bytes
        Declared SHA-256; empty if the client declared none.

    Raises
    ------
    RequestError
        UPLOAD_DAMAGED if fewer bytes arrive than declared, or if the SHA-256 differs. STREAM_ORDER if more bytes arrive
        than declared.
    """
    buffer = BytesIO()  # its getvalue() does not copy the bytes
    while (received := buffer.tell()) < size:
        chunk = next(chunks, None)
        if chunk is None:
            raise damaged(f"the upload ended after {received} of {size} bytes")
        if received + len(chunk) > size:
            raise out_of_order(f"more data arrived than the {size} bytes declared in the header")
        buffer.write(chunk)
    data = buffer.getvalue()
    if digest and sha256(data).digest() != digest:
        raise damaged("the received bytes do not have the declared SHA-256")
    return data


def damaged(message: str) -> RequestError:
    """Return the error for an upload whose bytes do not match its declaration."""
    return RequestError(grpc.StatusCode.DATA_LOSS, "UPLOAD_DAMAGED", message, retry_seconds=0.0)
