"""The engine behind a server: the same answers as embedded, with little sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import grpc
from twinscope_indexer.errors import UnknownImageError
from twinscope_service.wire.index import stats_of

from twinscope_client.engine.arguments import search_options
from twinscope_client.engine.many import IMAGES_AT_ONCE, search_all
from twinscope_client.engine.options import ConnectOptions, HashOptions, SearchManyOptions, SearchOptions, require_known
from twinscope_client.engine.thumbnails import of_image, of_reference, with_thumbnails
from twinscope_client.errors import ClosedError
from twinscope_client.remote import protocol as dialogue
from twinscope_client.remote.channel import OPTIONS, Endpoint, bearer, current_token, pickled_options, seconds
from twinscope_client.remote.errors import raised, telling_distrust
from twinscope_client.remote.upload import Upload
from twinscope_client.remote.version_check import warn_of_skew

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
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
"""Images that `search_many` has under way: more than there are cores, as each waits for the server most of the time."""
R = TypeVar("R")
T = TypeVar("T")


class RemoteEngine:
    """A store behind a server; safe to use from several threads.

    A pickle of it holds the target and the options, and connects again. A token given as a file or a function is asked
    for there; one given as text is not put into a pickle, so that such an engine has none.

    Parameters
    ----------
    target : str
        ``grpc://host:port`` without TLS, ``grpcs://host:port`` with it.
    **options : ConnectOptions

    Raises
    ------
    OptionError
        If an option is unknown or out of range.
    SettingsError
        If the target or a file cannot be used.
    ServerError
        If the server cannot be reached, or refuses.
    """

    def __init__(self, target: str, **options: Unpack[ConnectOptions]) -> None:
        require_known(options, ConnectOptions)
        self.target = target
        self._options = options
        self._token = options.get("token")
        self._timeout = seconds(options)
        self._closed = False
        self._channel = open_channel(target, options)
        self._stubs = dialogue.Stubs.of(self._channel)
        try:
            if target.startswith("grpcs:"):
                with telling_distrust(target):
                    self._stubs.health(b"", timeout=min(self._timeout, dialogue.GREETING_SECONDS))
            self._index = self._hold(dialogue.describe(self._stubs))
        except BaseException:
            self.close()
            raise
        warn_of_skew(target, self._index.server_version, stacklevel=3)

    def search(self, image: Any, **options: Unpack[SearchOptions]) -> Answer:
        """Find the labelled twin of an image; see `Engine.search`.

        Hash and thumbnail are sent first; the image itself only where it could change the answer.
        """
        return self._search(image, search_options(options, SearchOptions), options.get("instrument"))

    def search_many(
        self, images: Iterable[T], *, workers: int | None = None, **options: Unpack[SearchManyOptions]
    ) -> Iterator[tuple[T, Answer | ImageError]]:
        """Find the labelled twins of many images; see `Engine.search_many`."""
        wanted = search_options(options, SearchManyOptions)
        self._require_open()
        at_once = _CALLS_AT_ONCE if workers is None else workers
        return search_all(lambda image: self._search(image, wanted, None), images, at_once)

    def search_hashes(self, hashes: Sequence[PHash], **options: Unpack[HashOptions]) -> list[Answer]:
        """Find the nearest references of hashes; see `Engine.search_hashes`."""
        wanted = search_options(options, HashOptions)
        return self._hold(dialogue.search_hashes(self._stubs, hashes, wanted, self._index.recipe, self.target))

    def search_stored(self, image_id: str, **options: Unpack[HashOptions]) -> Answer:
        """Find the nearest references of a stored image; see `Engine.search_stored`."""
        wanted = search_options(options, HashOptions)
        answer = self._hold(dialogue.search_stored(self._stubs, image_id, wanted))
        return with_thumbnails(answer, self, of_reference(image_id))

    def thumbnail(self, image_id: str) -> NDArray[np.uint8] | None:
        """Return the reduced pixels of a reference; see `Engine.thumbnail`."""
        try:
            return self._hold(dialogue.thumbnail(self._stubs, image_id))
        except UnknownImageError:
            return None

    def stats(self) -> dict[str, Any]:
        """Describe the store; see `Engine.stats`."""
        self.refresh()
        return stats_of(self._index)

    @property
    def identity(self) -> str:
        """Name the store and the state it answers from."""
        self._require_open()
        return dialogue.identity_of(self._index)

    def refresh(self) -> None:
        """Take note of the newest state; the server takes it up by itself."""
        self._index = self._hold(dialogue.describe(self._stubs))

    def close(self) -> None:
        """Close the connection."""
        self._closed = True
        self._channel.close()

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the target, not the connection."""
        self._require_open()
        return reconnected, (type(self), self.target, pickled_options(self._options))

    def _require_open(self) -> None:
        if self._closed:
            raise ClosedError(self.target)

    def _search(self, image: Any, options: Options, instrument: InstrumentMetadata | None) -> Answer:
        found = self._hold(dialogue.search(self._stubs, image, options, instrument))
        return with_thumbnails(found.answer, self, of_image(image, found.thumbnail))

    def _hold(self, held: dialogue.Dialogue[R]) -> R:
        self._require_open()
        step = dialogue.proceed(held, None)
        while isinstance(step, dialogue.Call):
            step = dialogue.proceed(held, self._respond(step))
        return step.value

    def _respond(self, call: dialogue.Call) -> Any:
        metadata = [] if self._token is None else [bearer(current_token(self._token))]
        upload = call.request if isinstance(call.request, Upload) else None
        try:
            return call.method(iter(upload) if upload else call.request, timeout=self._timeout, metadata=metadata)
        except grpc.RpcError as error:
            if upload and upload.failure:
                raise upload.failure from error
            raise raised(error, self.target) from error


def reconnected(kind: Any, target: str, options: dict[str, object]) -> Any:
    """Return an engine of the target and the options that a pickle of another one holds."""
    return kind(target, **options)


def open_channel(target: str, options: ConnectOptions) -> grpc.Channel:
    """Open a channel to a server.

    Raises
    ------
    SettingsError
        If the target or a file cannot be used, or a token would cross the network in plain text.
    """
    endpoint = Endpoint.of(target, options)
    if endpoint.credentials is None:
        return grpc.insecure_channel(endpoint.address, OPTIONS)
    return grpc.secure_channel(endpoint.address, endpoint.credentials, OPTIONS)
