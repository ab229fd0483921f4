"""The engine for a store on a server.

This engine gives the same answers as an embedded engine, and sends little data to the server.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import grpc
from twinscope_indexer.compute.forking import leak, no_fork, protect
from twinscope_indexer.errors import UnknownImageError
from twinscope_service.wire.index import stats_of

from twinscope_client.engine.arguments import search_options
from twinscope_client.engine.many import IMAGES_AT_ONCE, search_all
from twinscope_client.engine.options import ConnectOptions, HashOptions, SearchManyOptions, SearchOptions, require_known
from twinscope_client.engine.thumbnails import of_image, of_reference, with_thumbnails
from twinscope_client.errors import ClosedError, ServerError
from twinscope_client.remote import protocol as dialogue
from twinscope_client.remote.channel import (
    bearer,
    current_token,
    open_channel,
    pickled_options,
    seconds,
)
from twinscope_client.remote.diagnosis import hopeless
from twinscope_client.remote.errors import exception_of_call
from twinscope_client.remote.upload import Upload
from twinscope_client.remote.version_check import warn_of_skew

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import Self, Unpack

    import numpy as np
    from numpy.typing import NDArray
    from twinscope_indexer.errors import ImageError
    from twinscope_indexer.hashing.perceptual import PHash
    from twinscope_indexer.metadata.model import InstrumentMetadata
    from twinscope_service.matching.answer import Answer
    from twinscope_service.matching.options import Options

_CALLS_AT_ONCE: Final = max(IMAGES_AT_ONCE, 8)
"""Default number of images that `search_many` searches at the same time. This number may be larger than the number of
cores, because a search mostly waits for the server."""
R = TypeVar("R")
T = TypeVar("T")


class RemoteEngine:
    """An engine for a store on a server. Several threads can use the engine at the same time.

    A pickle of the engine contains the target and the options. When the pickle is loaded, the engine connects to the
    server again. If the token was given as a file or a function, Twinscope gets the token again after the pickle is
    loaded. If the token was given as text, the engine cannot be pickled. A forked process cannot use the engine of its
    parent process, and gets a `ClosedError`.

    Parameters
    ----------
    target : str
        Address of the server: ``grpc://host:port`` without TLS, ``grpcs://host:port`` with TLS.
    **options : ConnectOptions
        Options of the connection.

    Raises
    ------
    OptionError
        If an option is unknown or out of range.
    SettingsError
        If the target, a PEM file or the token cannot be used.
    ServerError
        If the server cannot be reached or refuses the connection.
    """

    def __init__(self, target: str, **options: Unpack[ConnectOptions]) -> None:
        require_known(options, ConnectOptions)
        self.target = target
        self._options = options
        self._token = options.get("token")
        self._timeout = seconds(options)
        self._closed = False
        self._lost = False
        self._opening = threading.Lock()
        self._connection: _Connection | None = None
        protect(self)
        try:
            with no_fork():
                if target.startswith("grpcs:"):
                    self._check_trust()
                self._index = self._complete(dialogue.describe)
        except ServerError as error:
            self.close()
            found = hopeless(error.__cause__, target, options)
            raise error if found is None else found from error.__cause__
        except BaseException:
            self.close()
            raise
        warn_of_skew(target, self._index.server_version, stacklevel=3)

    def search(self, image: Any, **options: Unpack[SearchOptions]) -> Answer:
        """Find the labelled twin of an image; see `Engine.search`.

        The engine first sends the hash and the thumbnail. The engine then sends the image itself, but only if the
        full-size pixels could change the answer.
        """
        return self._search(image, search_options(options, SearchOptions), options.get("instrument"))

    def search_many(
        self, images: Iterable[T], *, workers: int | None = None, **options: Unpack[SearchManyOptions]
    ) -> Iterator[tuple[T, Answer | ImageError]]:
        """Find the labelled twins of many images; see `Engine.search_many`."""
        chosen = search_options(options, SearchManyOptions)
        self._require_open()
        at_once = _CALLS_AT_ONCE if workers is None else workers
        return search_all(lambda image: self._search(image, chosen, None), images, at_once)

    def search_hashes(self, hashes: Sequence[PHash], **options: Unpack[HashOptions]) -> list[Answer]:
        """Find the nearest references of each hash; see `Engine.search_hashes`."""
        chosen = search_options(options, HashOptions)
        recipe = self._index.recipe
        return self._complete(lambda stubs: dialogue.search_hashes(stubs, hashes, chosen, recipe, self.target))

    def search_stored(self, image_id: str, **options: Unpack[HashOptions]) -> Answer:
        """Find the nearest references of a stored image; see `Engine.search_stored`."""
        chosen = search_options(options, HashOptions)
        answer = self._complete(lambda stubs: dialogue.search_stored(stubs, image_id, chosen))
        return with_thumbnails(answer, self, of_reference(image_id))

    def thumbnail(self, image_id: str) -> NDArray[np.uint8] | None:
        """Return the thumbnail of a reference; see `Engine.thumbnail`."""
        try:
            return self._complete(lambda stubs: dialogue.thumbnail(stubs, image_id))
        except UnknownImageError:
            return None

    def stats(self) -> dict[str, Any]:
        """Describe the store; see `Engine.stats`."""
        self.refresh()
        return stats_of(self._index)

    @property
    def identity(self) -> str:
        """Identifier of the store and of its generation, as the server last reported it; see `refresh`."""
        self._require_open()
        return dialogue.identity_of(self._index)

    def refresh(self) -> None:
        """Ask the server which generation it uses, and update `identity`.

        A search does not need this call, because the server always uses the newest generation.
        """
        self._index = self._complete(dialogue.describe)

    def close(self) -> None:
        """Close the connection to the server."""
        self._closed = True
        if self._lost:
            return
        with self._opening:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.channel.close()

    def _before_fork(self) -> None:
        """Do nothing: the parent process continues to use the connection."""

    def _after_fork(self, *, usable: bool) -> None:  # noqa: ARG002  never usable
        """Refuse all operations in this child process."""
        if self._connection is not None:
            self._lost = True
            leak(self._connection)

    def __enter__(self) -> Self:
        """Return the engine, so that a program can use the engine in a ``with`` statement."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection to the server."""
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Store the target and the options in the pickle instead of the open connection."""
        self._require_open()
        return reconnected, (type(self), self.target, pickled_options(self._options))

    def _check_trust(self) -> None:
        """Raise an error at once if the certificate of the server is not trusted; gRPC would repeat other calls."""
        try:
            self._stubs.health(b"", timeout=min(self._timeout, dialogue.HEALTH_TIMEOUT))
        except grpc.RpcError as error:  # other failures are ignored: a proxy may not forward this call
            found = hopeless(error, self.target, self._options)
            if found is not None:
                raise found from error

    @property
    def _stubs(self) -> dialogue.Stubs:
        with self._opening:
            if self._connection is None:
                channel = open_channel(self.target, self._options)
                self._connection = _Connection(channel, dialogue.Stubs.of(channel))
            return self._connection.stubs

    def _require_open(self) -> None:
        if self._lost:
            raise ClosedError.by_fork_of_connection(self.target)
        if self._closed:
            raise ClosedError(self.target)

    def _search(self, image: Any, options: Options, instrument: InstrumentMetadata | None) -> Answer:
        found = self._complete(lambda stubs: dialogue.search(stubs, image, options, instrument))
        return with_thumbnails(found.answer, self, of_image(image, found.thumbnail))

    def _complete(self, start: Callable[[dialogue.Stubs], dialogue.Dialogue[R]]) -> R:
        with no_fork():
            self._require_open()
            steps = start(self._stubs)
            step = dialogue.proceed(steps, None)
            while isinstance(step, dialogue.Call):
                step = dialogue.proceed(steps, self._make_call(step))
            return step.value

    def _make_call(self, call: dialogue.Call) -> Any:
        metadata = [] if self._token is None else [bearer(current_token(self._token))]
        upload = call.request if isinstance(call.request, Upload) else None
        try:
            return call.method(iter(upload) if upload else call.request, timeout=self._timeout, metadata=metadata)
        except grpc.RpcError as error:
            if upload and upload.failure:
                raise upload.failure from error
            raise exception_of_call(error, self.target) from error


class _Connection(NamedTuple):
    """A gRPC channel, and the methods of the server at its other end."""

    channel: grpc.Channel
    stubs: dialogue.Stubs


def reconnected(kind: Any, target: str, options: dict[str, object]) -> Any:
    """Return a new engine for the target and the options from a pickle."""
    return kind(target, **options)
