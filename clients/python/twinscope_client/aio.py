"""The asyncio client: what `twinscope_client.connect` gives for a server, as coroutines."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, TypeVar

import grpc
import grpc.aio
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
from twinscope_client.engine.thumbnails import of_image, of_reference, with_thumbnails
from twinscope_client.errors import ClosedError, ServerError
from twinscope_client.remote import protocol as dialogue
from twinscope_client.remote.aio_upload import send
from twinscope_client.remote.channel import OPTIONS, Endpoint, bearer, current_token, pickled_options, seconds
from twinscope_client.remote.engine import RemoteEngine, reconnected
from twinscope_client.remote.errors import raised, telling_distrust
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
"""Calls under way at the same time. More wait here: a server takes 64 streams (its default), and refuses the rest."""
R = TypeVar("R")
T = TypeVar("T")


def connect(target: str | os.PathLike[str], **options: Unpack[AsyncConnectOptions]) -> AsyncEngine:
    """Ask a server from asyncio.

    The connection is made when the context is entered, or at the first call.

    Parameters
    ----------
    target : str
        ``grpc://host:port``, or ``grpcs://host:port`` with TLS.
    token : str, path or callable, optional
        Bearer token; or, asked for every request, the `Path` of the file that holds it, or what returns it: a function,
        which must not block, or a coroutine function.
    ca, certificate, key : path or str, optional
        PEM files: authorities to trust instead of the system's, and the client's own certificate (mTLS).
    timeout : float
        Seconds that one call to the server may take; 60 by default.

    Returns
    -------
    AsyncEngine
        Use it as an asynchronous context manager, or close it.

    Raises
    ------
    OptionError
        If an option is unknown or out of range.
    SettingsError
        If the target is no server, a file is not usable, or the token would cross the network in plain text.

    Examples
    --------
    >>> async with connect("grpc://127.0.0.1:50051") as engine:  # doctest: +SKIP
    ...     answers = await asyncio.gather(*(engine.search(path) for path in paths))
    """
    text = os.fspath(target)
    if "://" not in text:
        msg = (
            f"{text} is no server: twinscope.aio asks grpc://host:port or grpcs://host:port. Open a store's folder "
            "with twinscope.connect, and ask it in a thread: await asyncio.to_thread(engine.search, image)"
        )
        raise SettingsError(msg)
    return AsyncEngine(text, **options)


class AsyncEngine:
    """A store behind a server, asked from asyncio; made by `connect`.

    Methods, parameters, answers and errors are those of `twinscope_client.engine.protocol.Engine`. Images are
    read and hashed in threads, so that the event loop goes on; a task that is cancelled takes its call with it. Any
    number of tasks may share an engine, all of one event loop. It is pickled as `RemoteEngine` is.

    Parameters
    ----------
    target : str
    **options : AsyncConnectOptions
        As of `connect`.

    Raises
    ------
    OptionError
        If an option is unknown or out of range.
    SettingsError
        If the target is no server, a file is not usable, or the token would cross the network in plain text.
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
        self._shelf = _BlockingShelf(target, options)
        self._connection: _Connection | None = None
        self._index: catalog_pb2.GetIndexResponse | None = None
        self._closed = False

    async def search(self, image: Any, **options: Unpack[SearchOptions]) -> Answer:
        """Find the labelled twin of an image; see `Engine.search`.

        Hash and thumbnail are sent first; the image itself only where it could change the answer.
        """
        return await self._search(image, search_options(options, SearchOptions), options.get("instrument"))

    def search_many(
        self, images: Iterable[T], *, workers: int | None = None, **options: Unpack[SearchManyOptions]
    ) -> AsyncIterator[tuple[T, Answer | ImageError]]:
        """Find the labelled twins of many images, ``async for``; see `Engine.search_many`.

        Images that are still searched when the loop is left are given up when the iterator is closed
        (`contextlib.aclosing`) or collected.
        """
        wanted = search_options(options, SearchManyOptions)
        self._require_open()
        require_several(images, workers)
        return self._searched(images, wanted, workers or _CALLS_AT_ONCE)

    async def search_hashes(self, hashes: Sequence[PHash], **options: Unpack[HashOptions]) -> list[Answer]:
        """Find the nearest references of hashes; see `Engine.search_hashes`."""
        wanted = search_options(options, HashOptions)
        recipe = (await self._known()).recipe
        return await self._hold(dialogue.search_hashes(self._stubs(), hashes, wanted, recipe, self.target))

    async def search_stored(self, image_id: str, **options: Unpack[HashOptions]) -> Answer:
        """Find the nearest references of a stored image; see `Engine.search_stored`."""
        wanted = search_options(options, HashOptions)
        await self._known()
        answer = await self._hold(dialogue.search_stored(self._stubs(), image_id, wanted))
        return with_thumbnails(answer, self._shelf, of_reference(image_id))

    async def thumbnail(self, image_id: str) -> NDArray[np.uint8] | None:
        """Return the reduced pixels of a reference; see `Engine.thumbnail`."""
        await self._known()
        try:
            return await self._hold(dialogue.thumbnail(self._stubs(), image_id))
        except UnknownImageError:
            return None

    async def stats(self) -> dict[str, Any]:
        """Describe the store; see `Engine.stats`."""
        return stats_of(await self._described())

    async def identity(self) -> str:
        """Name the store and the state it answers from, as far as is known; see `refresh`."""
        return dialogue.identity_of(await self._known())

    async def refresh(self) -> None:
        """Take note of the newest state; the server takes it up by itself."""
        await self._described()

    async def close(self) -> None:
        """Close the connection; calls under way raise `ServerError`."""
        self._closed = True
        if self._connection is not None:
            await self._connection.channel.close()

    async def __aenter__(self) -> Self:
        """Connect: raise `ServerError` if the server cannot be reached, or refuses."""
        try:
            await self._known()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        await self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the target, not the connection."""
        self._require_open()
        return reconnected, (type(self), self.target, pickled_options(self._options))

    async def _search(self, image: Any, options: Options, instrument: InstrumentMetadata | None) -> Answer:
        await self._known()
        found = await self._hold(dialogue.search(self._stubs(), image, options, instrument), self._images)
        return with_thumbnails(found.answer, self._shelf, of_image(image, found.thumbnail))

    async def _searched(
        self, images: Iterable[T], options: Options, at_once: int
    ) -> AsyncIterator[tuple[T, Answer | ImageError]]:
        async def one(image: T) -> tuple[T, Answer | ImageError]:
            try:
                return image, await self._search(image, options, None)
            except Exception as error:  # noqa: BLE001  whatever one file does, the others are still searched
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

    async def _known(self) -> catalog_pb2.GetIndexResponse:
        self._require_open()
        return await self._described() if self._index is None else self._index

    async def _described(self) -> catalog_pb2.GetIndexResponse:
        first = self._index is None
        if first and self._endpoint.credentials is not None:
            with telling_distrust(self.target):
                await self._stubs().health(b"", timeout=min(self._timeout, dialogue.GREETING_SECONDS))
        self._index = index = await self._hold(dialogue.describe(self._stubs()))
        if first:
            warn_of_skew(self.target, index.server_version, stacklevel=4)
        return index

    def _stubs(self) -> dialogue.Stubs:
        self._require_open()
        loop = asyncio.get_running_loop()
        if self._connection is None:  # not earlier: a channel belongs to the event loop that it is made in
            self._connection = _Connection(loop, _open_channel(self._endpoint))
        if self._connection.loop is not loop:
            msg = f"the connection to {self.target} belongs to another event loop: make an engine for each"
            raise RuntimeError(msg)
        return self._connection.stubs

    def _require_open(self) -> None:
        if self._closed:
            raise ClosedError(self.target)

    async def _hold(self, held: dialogue.Dialogue[R], turn: asyncio.Semaphore | None = None) -> R:
        async with turn or nullcontext():  # an image is read and hashed before the first call
            step = await asyncio.to_thread(dialogue.proceed, held, None)
        while isinstance(step, dialogue.Call):
            async with self._calls:
                response = await self._respond(step)
            step = await asyncio.to_thread(dialogue.proceed, held, response)
        return step.value

    async def _respond(self, call: dialogue.Call) -> Any:
        self._require_open()
        token: object = None if self._token is None else current_token(self._token)
        token = await token if inspect.isawaitable(token) else token
        metadata = [] if self._token is None else [bearer(token)]
        try:
            if isinstance(call.request, Upload):
                return await send(call.method(timeout=self._timeout, metadata=metadata), call.request)
            return await call.method(call.request, timeout=self._timeout, metadata=metadata)
        except grpc.RpcError as error:
            raise raised(error, self.target) from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if self._closed and task is not None and not task.cancelling():  # by `close`, not by whoever has the task
                msg = f"{self.target}: the connection was closed during the call"
                raise ServerError(msg, code="CANCELLED") from error
            raise


class _BlockingShelf:
    """Thumbnails for a notebook, which awaits nothing to show an answer, and shows it within the event loop."""

    def __init__(self, target: str, options: AsyncConnectOptions) -> None:
        self._target = target
        self._options = options

    def thumbnail(self, image_id: str) -> NDArray[np.uint8] | None:
        """Fetch the reduced pixels of a reference, over a connection of its own, in a thread of its own."""
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(self._fetched, image_id).result()

    def _fetched(self, image_id: str) -> NDArray[np.uint8] | None:
        token = self._options.get("token")
        now: Any = None if token is None else current_token(token)
        if inspect.isawaitable(now):
            now = asyncio.run(_awaited(now))
        options: Any = self._options | {"token": now, "timeout": dialogue.GREETING_SECONDS}
        with RemoteEngine(self._target, **options) as engine:
            return engine.thumbnail(image_id)


async def _awaited(token: Any) -> Any:
    return await token


class _Connection:
    """A channel, its stubs, and the event loop that they belong to."""

    def __init__(self, loop: asyncio.AbstractEventLoop, channel: grpc.aio.Channel) -> None:
        self.loop = loop
        self.channel = channel
        self.stubs = dialogue.Stubs.of(channel)


def _open_channel(endpoint: Endpoint) -> grpc.aio.Channel:
    if endpoint.credentials is None:
        return grpc.aio.insecure_channel(endpoint.address, OPTIONS)
    return grpc.aio.secure_channel(endpoint.address, endpoint.credentials, OPTIONS)
