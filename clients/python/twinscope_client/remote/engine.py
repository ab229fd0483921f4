"""The engine behind a server: the same answers as embedded, with little sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from twinscope_indexer.errors import UnknownImageError
from twinscope_service.wire.index import stats_of

from twinscope_client.engine.arguments import closed, search_options
from twinscope_client.remote import protocol as dialogue
from twinscope_client.remote.channel import OPTIONS, Endpoint, File, bearer
from twinscope_client.remote.errors import raised, telling_distrust
from twinscope_client.remote.upload import Upload
from twinscope_client.remote.version_check import VersionSkewWarning, warn_of_skew

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    import numpy as np
    from numpy.typing import NDArray
    from twinscope_indexer.hashing.perceptual import PHash
    from twinscope_indexer.metadata.reader import InstrumentMetadata
    from twinscope_service.matching.answer import Answer
    from twinscope_service.matching.policy import Policy

__all__ = ["RemoteEngine", "Token", "VersionSkewWarning", "open_channel"]

Token = str | Callable[[], str]
"""A bearer token, or what gives the current one; called for every request."""

R = TypeVar("R")


class RemoteEngine:
    """A store behind a server; safe to use from several threads.

    Parameters
    ----------
    target : str
        ``grpc://host:port`` without TLS, ``grpcs://host:port`` with it.
    token : str or callable, optional
        Bearer token. Without TLS it is sent to this machine only.
    ca, certificate, key : path or str, optional
        PEM files: authorities to trust instead of the system's, and the client's own certificate (mTLS).
    timeout : float
        Seconds that a call may take.

    Raises
    ------
    SettingsError
        If the target or a file cannot be used.
    ServerError
        If the server cannot be reached, or refuses.
    """

    def __init__(
        self,
        target: str,
        *,
        token: Token | None = None,
        ca: File | None = None,
        certificate: File | None = None,
        key: File | None = None,
        timeout: float = 60.0,
    ) -> None:
        self.target = target
        self._token = token
        self._timeout = timeout
        self._closed = False
        self._channel = open_channel(target, token, ca, certificate, key)
        self._stubs = dialogue.Stubs.of(self._channel)
        try:
            if target.startswith("grpcs:"):
                with telling_distrust(target):
                    self._stubs.health(b"", timeout=min(timeout, dialogue.GREETING_SECONDS))
            self._index = self._hold(dialogue.describe(self._stubs))
        except BaseException:
            self.close()
            raise
        warn_of_skew(target, self._index.server_version, stacklevel=3)

    def search(
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
        return self._hold(dialogue.search(self._stubs, image, options, instrument))

    def search_hashes(
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
        return self._hold(dialogue.search_hashes(self._stubs, hashes, options, self._index.recipe, self.target))

    def search_stored(
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
        return self._hold(dialogue.search_stored(self._stubs, image_id, options))

    def thumbnail(self, image_id: str) -> NDArray[np.uint8] | None:
        """Give the reduced pixels of a reference; see `Engine.thumbnail`."""
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

    def _require_open(self) -> None:
        if self._closed:
            raise closed(self.target)

    def _hold(self, held: dialogue.Dialogue[R]) -> R:
        self._require_open()
        step = dialogue.proceed(held, None)
        while isinstance(step, dialogue.Call):
            step = dialogue.proceed(held, self._respond(step))
        return step.value

    def _respond(self, call: dialogue.Call) -> Any:
        token = self._token() if callable(self._token) else self._token
        metadata = [] if self._token is None else [bearer(token)]
        upload = call.request if isinstance(call.request, Upload) else None
        try:
            return call.method(iter(upload) if upload else call.request, timeout=self._timeout, metadata=metadata)
        except grpc.RpcError as error:
            if upload and upload.failure:
                raise upload.failure from error
            raise raised(error, self.target) from error


def open_channel(
    target: str, token: Token | None, ca: File | None, certificate: File | None, key: File | None
) -> grpc.Channel:
    """Open a channel to a server; the parameters are those of `RemoteEngine`.

    Raises
    ------
    SettingsError
        If the target or a file cannot be used, or a token would cross the network in plain text.
    """
    endpoint = Endpoint.of(target, token, ca, certificate, key)
    if endpoint.credentials is None:
        return grpc.insecure_channel(endpoint.address, OPTIONS)
    return grpc.secure_channel(endpoint.address, endpoint.credentials, OPTIONS)
