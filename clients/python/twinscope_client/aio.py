"""The asyncio client: what `twinscope_client.connect` gives for a server, as coroutines."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, TypeVar

import grpc
import grpc.aio
from twinscope_indexer.errors import ServerError, SettingsError, UnknownImageError
from twinscope_service.wire.index import stats_of

from twinscope_client.engine.arguments import closed, search_options
from twinscope_client.remote import protocol as dialogue
from twinscope_client.remote.aio_upload import send
from twinscope_client.remote.channel import OPTIONS, Endpoint, File, bearer
from twinscope_client.remote.errors import raised, telling_distrust
from twinscope_client.remote.upload import Upload
from twinscope_client.remote.version_check import warn_of_skew

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    import numpy as np
    from numpy.typing import NDArray
    from twinscope.v1 import catalog_pb2
    from twinscope_indexer.hashing.perceptual import PHash
    from twinscope_indexer.metadata.reader import InstrumentMetadata
    from twinscope_service.matching.answer import Answer
    from twinscope_service.matching.policy import Policy

AsyncToken = str | Callable[[], str | Awaitable[str]]
"""A bearer token, or what gives the current one, now or when awaited; called for every request."""

_IMAGES_AT_ONCE: Final = min(os.cpu_count() or 1, 16)
"""Images that are read and hashed at the same time. asyncio has more threads: they go on with the uploads."""
_CALLS_AT_ONCE: Final = 32
"""Calls under way at the same time. More wait here: a server takes 64 streams (its default), and refuses the rest."""
R = TypeVar("R")


def connect(
    target: str | os.PathLike[str],
    *,
    token: AsyncToken | None = None,
    ca: File | None = None,
    certificate: File | None = None,
    key: File | None = None,
    timeout: float = 60.0,
) -> AsyncEngine:
    """Ask a server from asyncio.

    The connection is made when the context is entered, or at the first call.

    Parameters
    ----------
    target : str
        ``grpc://host:port``, or ``grpcs://host:port`` with TLS.
    token : str or callable, optional
        Bearer token, or what gives the current one: a function, which must not block, or a coroutine function.
    ca, certificate, key : path or str, optional
        PEM files: authorities to trust instead of the system's, and the client's own certificate (mTLS).
    timeout : float
        Seconds that one call to the server may take.

    Returns
    -------
    AsyncEngine
        Use it as an asynchronous context manager, or close it.

    Raises
    ------
    SettingsError
        If the target is no server, a file is not usable, or the token would cross the network in plain text.

    Examples
    --------
    >>> async with connect("grpc://127.0.0.1:50051") as ts:  # doctest: +SKIP
    ...     answers = await asyncio.gather(*(ts.search(path) for path in paths))
    """
    text = os.fspath(target)
    if "://" not in text:
        msg = (
            f"{text} is no server: twinscope_client.aio asks grpc://host:port or grpcs://host:port. Open a store's "
            "folder with twinscope_client.connect, and ask it in a thread: await asyncio.to_thread(ts.search, image)"
        )
        raise SettingsError(msg)
    return AsyncEngine(text, token=token, ca=ca, certificate=certificate, key=key, timeout=timeout)


class AsyncEngine:
    """A store behind a server, asked from asyncio; made by `connect`.

    Methods, parameters, answers and errors are those of `twinscope_client.engine.protocol.Engine`. Images are
    read and hashed in threads, so that the event loop goes on; a task that is cancelled takes its call with it. Any
    number of tasks may share an engine, all of one event loop.

    Parameters
    ----------
    target, token, ca, certificate, key, timeout
        As of `connect`.

    Raises
    ------
    SettingsError
        If the target is no server, a file is not usable, or the token would cross the network in plain text.
    """

    def __init__(
        self,
        target: str,
        *,
        token: AsyncToken | None = None,
        ca: File | None = None,
        certificate: File | None = None,
        key: File | None = None,
        timeout: float = 60.0,
    ) -> None:
        self.target = target
        self._token = token
        self._timeout = timeout
        self._endpoint = Endpoint.of(target, token, ca, certificate, key)
        self._images = asyncio.Semaphore(_IMAGES_AT_ONCE)
        self._calls = asyncio.Semaphore(_CALLS_AT_ONCE)
        self._connection: _Connection | None = None
        self._index: catalog_pb2.GetIndexResponse | None = None
        self._closed = False

    async def search(
        self,
        image: Any,
        *,
        policy: str | Policy = "default",
        k: int | None = None,
        categories: Sequence[str] = (),
        verify: bool = True,
        instrument: InstrumentMetadata | None = None,
        min_generation: int = 0,
        **thresholds: float | None,
    ) -> Answer:
        """Find the labelled twin of an image; see `Engine.search`.

        Hash and thumbnail are sent first; the image itself only where it could change the answer.
        """
        options = search_options(
            policy, {"k": k, **thresholds}, categories, verify=verify, min_generation=min_generation
        )
        await self._known()
        return await self._hold(dialogue.search(self._stubs(), image, options, instrument), self._images)

    async def search_hashes(
        self,
        hashes: Sequence[PHash],
        *,
        policy: str | Policy = "default",
        k: int | None = None,
        categories: Sequence[str] = (),
        min_generation: int = 0,
        **thresholds: float | None,
    ) -> list[Answer]:
        """Find the nearest references of hashes; see `Engine.search_hashes`."""
        options = search_options(policy, {"k": k, **thresholds}, categories, min_generation=min_generation)
        recipe = (await self._known()).recipe
        return await self._hold(dialogue.search_hashes(self._stubs(), hashes, options, recipe, self.target))

    async def search_stored(
        self,
        image_id: str,
        *,
        policy: str | Policy = "default",
        k: int | None = None,
        categories: Sequence[str] = (),
        min_generation: int = 0,
        **thresholds: float | None,
    ) -> Answer:
        """Find the nearest references of a stored image; see `Engine.search_stored`."""
        options = search_options(policy, {"k": k, **thresholds}, categories, min_generation=min_generation)
        await self._known()
        return await self._hold(dialogue.search_stored(self._stubs(), image_id, options))

    async def thumbnail(self, image_id: str) -> NDArray[np.uint8] | None:
        """Give the reduced pixels of a reference; see `Engine.thumbnail`."""
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
            raise closed(self.target)

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
        token: object = self._token() if callable(self._token) else self._token
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
