"""Receiving streams: nobody may hold one open without sending, and an upload is what it said it would be."""

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
"""Messages received before they are asked for; more would only take memory, HTTP/2 flow control holds the rest."""
_LOOK_AGAIN = 0.1
"""Seconds until a stream that waits for its client notices that the server is about to stop."""


class Received(Generic[T]):
    """The messages of a client's stream; gives up when the client is silent for too long.

    Parameters
    ----------
    messages : iterator
        As gRPC gives it; an error in the place of a message is raised in its turn.
    idle_seconds : float
        Longest silence.

    Raises
    ------
    RequestError
        While iterating: STREAM_IDLE, and those that came in the place of a message.
    """

    def __init__(self, messages: Iterator[T | RequestError], idle_seconds: float) -> None:
        self._messages = messages
        self._idle_seconds = idle_seconds
        self._queue: queue.Queue[tuple[T | RequestError | None, bool]] = queue.Queue(_AHEAD)
        self._closed = False
        threading.Thread(target=self._receive, name="receive", daemon=True).start()

    def __iter__(self) -> Iterator[T]:
        """Iterate."""
        return self

    def __next__(self) -> T:
        """Give the next message."""
        return self._next(None)

    def until(self, draining: threading.Event) -> Iterator[T]:
        """Give the messages until the client closes its side; end the stream when the server is about to stop.

        Raises
        ------
        RequestError
            DRAINING, and what iterating raises.
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
                message, ended = self._queue.get(timeout=max(0.0, min(left, _LOOK_AGAIN) if draining else left))
            except queue.Empty:
                if time.monotonic() < until:
                    continue
                raise RequestError(
                    grpc.StatusCode.ABORTED, "STREAM_IDLE",
                    f"nothing came for {self._idle_seconds:g} seconds; open a new stream when there is work",
                    retry_seconds=0.0,
                ) from None  # fmt: skip
            if isinstance(message, RequestError):
                raise message
            if ended or message is None:
                raise StopIteration
            return message

    def close(self) -> None:
        """Let the receiving thread end; what still comes is dropped."""
        self._closed = True
        while not self._queue.empty():
            self._queue.get_nowait()

    def _receive(self) -> None:
        with suppress(Exception):  # however the call ends (grpc raises a bare Exception), no more comes
            for message in self._messages:
                self._queue.put((message, False))
                if self._closed:
                    return
        self._queue.put((None, True))


class UploadMemory:
    """Memory for all uploads under way.

    Parameters
    ----------
    most : int
        Bytes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._taken = 0

    @property
    def taken(self) -> int:
        """Bytes that are reserved."""
        return self._taken

    def take(self, size: int) -> None:
        """Reserve the declared size of an upload, in bytes; to be given back by `leave`.

        Raises
        ------
        RequestError
            OVERLOADED.
        """
        with self._lock:
            if self._taken + size > self._most:
                raise overloaded("the uploads under way leave no memory for this one", retry_seconds=1.0)
            self._taken += size

    def leave(self, size: int) -> None:
        """Give back what was reserved."""
        with self._lock:
            self._taken -= size


def out_of_order(message: str) -> RequestError:
    """Make the error of a message that must not come here."""
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, "STREAM_ORDER", message)


def require_upload_size(size: int, most: int) -> None:
    """Refuse an image by its declared size, before any of it is read.

    Raises
    ------
    RequestError
        IMAGE_TOO_LARGE.
    """
    if size > most:
        raise RequestError(
            grpc.StatusCode.INVALID_ARGUMENT, "IMAGE_TOO_LARGE",
            f"the image has {size} bytes; this server takes up to {most}",
            metadata={"size_bytes": str(size), "max_image_bytes": str(most)},
        )  # fmt: skip


def assembled(chunks: Iterator[bytes], size: int, digest: bytes) -> bytes:
    """Put an uploaded file together, in one buffer.

    Parameters
    ----------
    chunks : iterator of bytes
    size : int
        Declared size in bytes; taken as given only after `require_upload_size`.
    digest : bytes
        Declared SHA-256; empty if there is none.

    Raises
    ------
    RequestError
        UPLOAD_DAMAGED if fewer or other bytes come than were declared, STREAM_ORDER if more.
    """
    buffer = BytesIO()  # gives its bytes without a copy
    while (come := buffer.tell()) < size:
        chunk = next(chunks, None)
        if chunk is None:
            raise damaged(f"the upload ended after {come} of {size} bytes")
        if come + len(chunk) > size:
            raise out_of_order(f"more bytes came than the {size} that the header declared")
        buffer.write(chunk)
    data = buffer.getvalue()
    if digest and sha256(data).digest() != digest:
        raise damaged("the bytes that came do not have the declared SHA-256")
    return data


def damaged(message: str) -> RequestError:
    """Make the error of an upload whose bytes are not what was declared."""
    return RequestError(grpc.StatusCode.DATA_LOSS, "UPLOAD_DAMAGED", message, retry_seconds=0.0)
