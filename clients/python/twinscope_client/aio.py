"""The client for asyncio: an engine for a store on a server. The methods of this engine are coroutines."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections import deque
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, TypeVar

import grpc
import grpc.aio
from twinscope_indexer.compute.forking import leak, no_fork, protect
from twinscope_indexer.errors import UnknownImageError
from twinscope_service.errors import SettingsError
from twinscope_service.wire.index import stats_of

from twinscope_client.engine.arguments import search_options
from twinscope_client.engine.many import IMAGES_AT_ONCE, fault_of, require_several
from twinscope_client.engine.options import (
    AsyncConnectOptions,
    HashOptions,
    SearchManyOptions,
    SearchOptions,
    require_known,
)
from twinscope_client.engine.target import server_meant
from twinscope_client.engine.thumbnails import of_image, of_reference, with_thumbnails
from twinscope_client.errors import ClosedError, ServerError
from twinscope_client.remote import protocol as dialogue
from twinscope_client.remote.aio_connection import Connection
from twinscope_client.remote.aio_thumbnails import BlockingThumbnails
from twinscope_client.remote.aio_upload import send
from twinscope_client.remote.channel import (
    Endpoint,
    bearer,
    current_token,
    pickled_options,
    require_grpc,
    seconds,
)
from twinscope_client.remote.diagnosis import hopeless
from twinscope_client.remote.engine import reconnected
from twinscope_client.remote.errors import exception_of_call
from twinscope_client.remote.upload import Upload
from twinscope_client.remote.version_check import warn_of_skew

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence
    from types import TracebackType
    from typing import Self, Unpack

    import numpy as np
    from numpy.typing import NDArray
    from twinscope.v1 import catalog_pb2
    from twinscope_indexer.errors import ImageError
    from twinscope_indexer.hashing.perceptual import PHash
    from twinscope_indexer.metadata.model import InstrumentMetadata
    from twinscope_service.matching.answer import Answer
    from twinscope_service.matching.options import Options

_CALLS_AT_ONCE: Final = 32
"""Maximum number of calls in progress at the same time. If there are more calls, they wait in the client. By default, a
server accepts at most 64 streams and refuses more."""
R = TypeVar("R")
T = TypeVar("T")


def connect(target: str | os.PathLike[str], **options: Unpack[AsyncConnectOptions]) -> AsyncEngine:
    """Open a store on a server, for searches from asyncio.

    The engine connects to the server when an ``async with`` block starts. Without this block, the engine connects at
    the first call.

    Parameters
    ----------
    target : str
        Address of the server: ``grpc://host:port`` without TLS, or ``grpcs://host:port`` with TLS.
    token : str, path or callable, optional
        The bearer token: a text, the `Path` of a file that contains the token, or a function that returns the token.
        Twinscope reads the file or calls the function again for every request. The function must not block the event
        loop; it can be a coroutine function.
    ca, certificate, key : path or str, optional
        Paths of PEM files. `ca` contains the certificate authorities that Twinscope trusts instead of the authorities
        of the operating system. `certificate` and `key` are the certificate and the private key of this client, for
        mutual TLS (mTLS).
    timeout : float
        Maximum duration of one call to the server, in seconds; 60 by default.

    Returns
    -------
    AsyncEngine
        The engine. Use the engine in an ``async with`` statement, or close the engine after use.

    Raises
    ------
    OptionError
        If an option is unknown or out of range.
    SettingsError
        If the target is not a server, if a file cannot be used, or if the token would be sent over the network without
        encryption.

    Examples
    --------
    >>> async with connect("grpc://127.0.0.1:50051") as engine:  # doctest: +SKIP
    ...     answers = await asyncio.gather(*(engine.search(path) for path in paths))
    """
    text = os.fspath(target)
    if "://" not in text:
        meant = server_meant(text) or "grpc[s]://host:port"
        msg = (
            f"{text} is not a server: twinscope.aio needs {meant}. To open a folder, use twinscope.connect; then "
            "search in a thread: await asyncio.to_thread(engine.search, image)"
        )
        raise SettingsError(msg)
    return AsyncEngine(text, **options)


class AsyncEngine:
    """An engine for a store on a server, for asyncio. The function `connect` creates this engine.

    The class has the same methods, parameters, answers and errors as `twinscope_client.engine.protocol.Engine`. Images
    are read and hashed in threads, so that the event loop is never blocked. If a task is cancelled, its call to the
    server is also cancelled. Any number of tasks of one event loop can share an engine. The engine can be pickled like
    a `RemoteEngine`.

    The parameters and the errors are the same as for `connect`.
    """

    def __init__(self, target: str, **options: Unpack[AsyncConnectOptions]) -> None:
        require_known(options, AsyncConnectOptions)
        self.target = target
        self._options = options
        self._token = options.get("token")
        self._timeout = seconds(options)
        self._endpoint = Endpoint.of(target, options)
        self._images = asyncio.Semaphore(IMAGES_AT_ONCE)
        self._calls = asyncio.Semaphore(_CALLS_AT_ONCE)
        self._thumbnails = BlockingThumbnails(target, options)
        self._connection: Connection | None = None
        self._index: catalog_pb2.GetIndexResponse | None = None
        self._closed = False
        self._lost = False
        protect(self)

    async def search(self, image: Any, **options: Unpack[SearchOptions]) -> Answer:
        """Find the labelled twin of an image; see `Engine.search`.

        The engine first sends the hash and the thumbnail. The engine then sends the image itself, but only if the
        full-size pixels could change the answer.
        """
        return await self._search(image, search_options(options, SearchOptions), options.get("instrument"))

    def search_many(
        self, images: Iterable[T], *, workers: int | None = None, **options: Unpack[SearchManyOptions]
    ) -> AsyncIterator[tuple[T, Answer | ImageError]]:
        """Find the labelled twins of many images, in an ``async for`` loop; see `Engine.search_many`.

        If the loop ends early, close the iterator, for example with `contextlib.aclosing`. The remaining searches are
        cancelled when the iterator is closed or garbage-collected.
        """
        chosen = search_options(options, SearchManyOptions)
        self._require_open()
        require_several(images, workers)
        return self._search_all(images, chosen, workers or _CALLS_AT_ONCE)

    async def search_hashes(self, hashes: Sequence[PHash], **options: Unpack[HashOptions]) -> list[Answer]:
        """Find the nearest references of each hash; see `Engine.search_hashes`."""
        chosen = search_options(options, HashOptions)
        recipe = (await self._cached_index()).recipe
        return await self._complete(dialogue.search_hashes(self._stubs(), hashes, chosen, recipe, self.target))

    async def search_stored(self, image_id: str, **options: Unpack[HashOptions]) -> Answer:
        """Find the nearest references of a stored image; see `Engine.search_stored`."""
        chosen = search_options(options, HashOptions)
        await self._cached_index()
        answer = await self._complete(dialogue.search_stored(self._stubs(), image_id, chosen))
        return with_thumbnails(answer, self._thumbnails, of_reference(image_id))

    async def thumbnail(self, image_id: str) -> NDArray[np.uint8] | None:
        """Return the thumbnail of a reference; see `Engine.thumbnail`."""
        await self._cached_index()
        try:
            return await self._complete(dialogue.thumbnail(self._stubs(), image_id))
        except UnknownImageError:
            return None

    async def stats(self) -> dict[str, Any]:
        """Describe the store; see `Engine.stats`."""
        return stats_of(await self._fetch_index())

    async def identity(self) -> str:
        """Return the identifier of the store and of its generation, as the server last reported it; see `refresh`."""
        return dialogue.identity_of(await self._cached_index())

    async def refresh(self) -> None:
        """Ask the server which generation it uses, and update `identity`.

        A search does not need this call, because the server always uses the newest generation.
        """
        await self._fetch_index()

    async def close(self) -> None:
        """Close the connection to the server. Calls in progress then fail with a `ServerError`."""
        self._closed = True
        if self._connection is not None:
            await self._connection.channel.close()

    def _before_fork(self) -> None:
        """Do nothing: the parent process continues to use the connection."""

    def _after_fork(self, *, usable: bool) -> None:  # noqa: ARG002  never usable
        """Refuse all operations in this child process, if the engine of the parent process has connected."""
        if self._connection is not None and not self._lost:
            self._lost = True
            leak(self._connection)

    async def __aenter__(self) -> Self:
        """Connect to the server. Raise `ServerError` if the server cannot be reached or refuses the connection."""
        try:
            await self._cached_index()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection to the server."""
        await self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Store the target and the options in the pickle instead of the open connection."""
        self._require_open()
        return reconnected, (type(self), self.target, pickled_options(self._options))

    async def _search(self, image: Any, options: Options, instrument: InstrumentMetadata | None) -> Answer:
        await self._cached_index()
        found = await self._complete(dialogue.search(self._stubs(), image, options, instrument), self._images)
        return with_thumbnails(found.answer, self._thumbnails, of_image(image, found.thumbnail))

    async def _search_all(
        self, images: Iterable[T], options: Options, at_once: int
    ) -> AsyncIterator[tuple[T, Answer | ImageError]]:
        async def one(image: T) -> tuple[T, Answer | ImageError]:
            try:
                return image, await self._search(image, options, None)
            except Exception as error:  # noqa: BLE001  an error in one image must not stop the other searches
                return image, fault_of(image, error)

        pending: deque[asyncio.Task[tuple[T, Answer | ImageError]]] = deque()
        try:
            for image in images:
                pending.append(asyncio.create_task(one(image)))
                if len(pending) > at_once:
                    yield await pending.popleft()
            while pending:
                yield await pending.popleft()
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def _cached_index(self) -> catalog_pb2.GetIndexResponse:
        self._require_open()
        return await self._fetch_index() if self._index is None else self._index

    async def _fetch_index(self) -> catalog_pb2.GetIndexResponse:
        first = self._index is None
        if first and self._endpoint.credentials is not None:
            try:
                await self._stubs().health(b"", timeout=min(self._timeout, dialogue.HEALTH_TIMEOUT))
            except grpc.RpcError as error:
                await self._raise_if_hopeless(error)
        try:
            self._index = index = await self._complete(dialogue.describe(self._stubs()))
        except ServerError as error:
            if first:
                await self._raise_if_hopeless(error.__cause__)
            raise
        if first:
            warn_of_skew(self.target, index.server_version, stacklevel=4)
        return index

    async def _raise_if_hopeless(self, error: BaseException | None) -> None:
        """If a failed call would fail again, raise an error that names the cause."""
        found = await asyncio.to_thread(hopeless, error, self.target, self._options)
        if found is not None:
            raise found from error

    def _stubs(self) -> dialogue.Stubs:
        self._require_open()
        loop = asyncio.get_running_loop()
        # the channel is opened only here, because a channel belongs to the event loop that opens it
        if self._connection is None:
            require_grpc(self.target)
            self._connection = Connection(self._endpoint)
        if self._connection.loop is not loop:
            msg = f"the connection to {self.target} belongs to another event loop: create one engine for each loop"
            raise RuntimeError(msg)
        return self._connection.stubs

    def _require_open(self) -> None:
        if self._lost:
            raise ClosedError.by_fork_of_connection(self.target)
        if self._closed:
            raise ClosedError(self.target)

    async def _complete(self, steps: dialogue.Dialogue[R], turn: asyncio.Semaphore | None = None) -> R:
        async with turn or nullcontext():  # reads and hashes the image before the first call to the server
            step = await asyncio.to_thread(_proceed, steps, None)
        while isinstance(step, dialogue.Call):
            async with self._calls:
                response = await self._make_call(step)
            step = await asyncio.to_thread(_proceed, steps, response)
        return step.value

    async def _make_call(self, call: dialogue.Call) -> Any:
        self._require_open()
        token: object = None if self._token is None else current_token(self._token)
        token = await token if inspect.isawaitable(token) else token
        metadata = [] if self._token is None else [bearer(token)]
        try:
            if isinstance(call.request, Upload):
                return await send(call.method(timeout=self._timeout, metadata=metadata), call.request)
            return await call.method(call.request, timeout=self._timeout, metadata=metadata)
        except grpc.RpcError as error:
            raise exception_of_call(error, self.target) from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if self._closed and task is not None and not task.cancelling():  # `close` has cancelled the call
                msg = f"{self.target}: the connection was closed during the call"
                raise ServerError(msg, code="CANCELLED") from error
            raise


def _proceed(steps: dialogue.Dialogue[R], response: Any) -> dialogue.Call | dialogue.Outcome[R]:
    with no_fork():
        return dialogue.proceed(steps, response)
