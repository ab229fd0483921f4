"""The engine behind a server: the same answers as embedded, with little sent."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Sequence
from hashlib import sha256
from importlib.metadata import version
from ipaddress import ip_address
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import grpc
from twinscope.v1 import catalog_pb2, catalog_pb2_grpc, similarity_pb2, similarity_pb2_grpc
from twinscope_indexer.errors import SettingsError, UnknownImageError
from twinscope_indexer.thumbnail import decode_thumbnail
from twinscope_service.wire.answers import answer_of
from twinscope_service.wire.index import stats_of
from twinscope_service.wire.queries import Fingerprint, fingerprint_message, options_message

from twinscope_client.asking import image_number, search_options
from twinscope_client.pixels import grey_pixels
from twinscope_client.statuses import exception_of, raised

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    import numpy as np
    from numpy.typing import NDArray
    from twinscope_indexer.hashing import PHash
    from twinscope_service.answer import Answer
    from twinscope_service.options import Options
    from twinscope_service.policy import Policy

Token = str | Callable[[], str]
"""A bearer token, or what gives the current one; called for every request."""

CHUNK = 256 << 10
"""Bytes of one piece of an uploaded file; measured best from 256 KiB to 1 MiB."""
_RETRIED_UPLOAD = 64 << 20
"""Bytes of a larger upload are not kept, and it is not retried once so much was sent."""
_BATCH = 1024
_SERVICE_CONFIG = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{"service": "twinscope.v1.SimilarityService"}, {"service": "twinscope.v1.CatalogService"}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.3s",  # 7.6 s together, longer than a restart takes
                    "maxBackoff": "5s",
                    "backoffMultiplier": 2.5,
                    # CANCELLED: a server that stops says so of calls that it has not taken up
                    "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED"],
                },
            }
        ]
    }
)
R = TypeVar("R")


class VersionSkewWarning(UserWarning):
    """Client and server are of different releases; answers may differ from those of an embedded store."""


class RemoteEngine:
    """A store behind a server; safe to use from several threads.

    Parameters
    ----------
    target : str
        ``grpc://host:port`` without TLS, ``grpcs://host:port`` with it.
    token : str or callable, optional
        Bearer token. Without TLS it is sent to this machine only.
    ca, certificate, key : Path, optional
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
        ca: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
        timeout: float = 60.0,
    ) -> None:
        self.target = target
        self._token = token
        self._timeout = timeout
        self._channel = open_channel(target, token, ca, certificate, key)
        self._similarity = similarity_pb2_grpc.SimilarityServiceStub(self._channel)
        self._catalog = catalog_pb2_grpc.CatalogServiceStub(self._channel)
        try:
            self._index = self._described()
        except BaseException:
            self.close()
            raise
        self._warn_of_skew()

    def search(
        self,
        image: Any,
        *,
        policy: str | Policy = "default",
        k: int | None = None,
        categories: Sequence[str] = (),
        verify: bool = True,
        **thresholds: float | None,
    ) -> Answer:
        """Find the labelled twin of an image; see `Engine.search`.

        Hash and thumbnail are sent first; the image itself only where it could change the answer.
        """
        options = search_options(policy, {"k": k, **thresholds}, categories, verify=verify)
        pixels = grey_pixels(image)
        query = similarity_pb2.Query(fingerprint=fingerprint_message(Fingerprint.of_pixels(pixels)))
        request = similarity_pb2.SearchRequest(query=query, options=options_message(options))
        result = self._call(self._similarity.Search, request).result
        if result.pixels_would_change_grade:
            result = self._call(self._similarity.SearchByImage, _Upload(image, pixels, options)).result
        return answer_of(result.answer)

    def search_hashes(
        self,
        hashes: Sequence[PHash],
        *,
        policy: str | Policy = "default",
        k: int | None = None,
        categories: Sequence[str] = (),
        **thresholds: float | None,
    ) -> list[Answer]:
        """Find the nearest references of hashes; see `Engine.search_hashes`."""
        options = options_message(search_options(policy, {"k": k, **thresholds}, categories))
        size = max(1, min(_BATCH, 65_536 // (options.policy.k or 1)))
        answers = []
        for start in range(0, len(hashes), size):
            part = hashes[start : start + size]
            queries = [similarity_pb2.Query(hash=hashed.code) for hashed in part]
            if any(hashed.recipe != self._index.recipe for hashed in part):
                options.recipe = next(hashed.recipe for hashed in part if hashed.recipe != self._index.recipe)
            response = self._call(
                self._similarity.BatchSearch, similarity_pb2.BatchSearchRequest(queries=queries, options=options)
            )
            for result in response.results:
                if result.HasField("error"):
                    raise exception_of(result.error, self.target)
                answers.append(answer_of(result.answer))
        return answers

    def search_stored(
        self,
        image_id: str,
        *,
        policy: str | Policy = "default",
        k: int | None = None,
        categories: Sequence[str] = (),
        **thresholds: float | None,
    ) -> Answer:
        """Find the nearest references of a stored image; see `Engine.search_stored`."""
        options = options_message(search_options(policy, {"k": k, **thresholds}, categories))
        image_number(image_id)
        request = similarity_pb2.SearchRequest(query=similarity_pb2.Query(image_id=image_id), options=options)
        return answer_of(self._call(self._similarity.Search, request).result.answer)

    def thumbnail(self, image_id: str) -> NDArray[np.uint8] | None:
        """Give the reduced pixels of a reference; see `Engine.thumbnail`."""
        try:
            image_number(image_id)
            response = self._call(self._catalog.GetThumbnail, catalog_pb2.GetThumbnailRequest(image_id=image_id))
        except UnknownImageError:
            return None
        return decode_thumbnail(response.thumbnail)

    def stats(self) -> dict[str, Any]:
        """Describe the store; see `Engine.stats`."""
        self._index = self._described()
        return stats_of(self._index)

    @property
    def identity(self) -> str:
        """Name the store and the state it answers from."""
        return f"{self._index.store_id}/{self._index.generation}"

    def refresh(self) -> None:
        """Take note of the newest state; the server takes it up by itself."""
        self._index = self._described()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _described(self) -> catalog_pb2.GetIndexResponse:
        described: catalog_pb2.GetIndexResponse = self._call(self._catalog.GetIndex, catalog_pb2.GetIndexRequest())
        return described

    def _call(self, method: Callable[..., Any], request: Any) -> Any:
        metadata = []
        if self._token is not None:
            token = self._token if isinstance(self._token, str) else self._token()
            metadata.append(("authorization", f"Bearer {token}"))
        upload = request if isinstance(request, _Upload) else None
        try:
            return method(iter(upload) if upload else request, timeout=self._timeout, metadata=metadata)
        except grpc.RpcError as error:
            raise raised(error, self.target) from error

    def _warn_of_skew(self) -> None:
        ours, theirs = version("twinscope"), self._index.server_version
        if ours.split(".")[:2] != theirs.split(".")[:2]:
            warnings.warn(
                f"{self.target} runs Twinscope {theirs}, this is {ours}: bring both to one release",
                VersionSkewWarning, stacklevel=4,
            )  # fmt: skip


class _Upload:
    """The messages that upload one image; read from disk as they are sent."""

    def __init__(self, image: Any, pixels: NDArray[np.uint8], options: Options) -> None:
        if hasattr(image, "read"):
            image.seek(0)
            image = image.read()
        self._image = image if isinstance(image, (str, bytes, PathLike)) else _as_tiff(pixels)
        self._options = options

    def __iter__(self) -> Iterator[similarity_pb2.SearchByImageRequest]:
        with self._opened() as stream:
            digest, size = sha256(), 0
            while piece := stream.read(CHUNK):
                digest.update(piece)
                size += len(piece)
            header = similarity_pb2.ImageHeader(
                size_bytes=size, sha256=digest.digest(), options=options_message(self._options)
            )
            yield similarity_pb2.SearchByImageRequest(header=header)
            stream.seek(0)
            while piece := stream.read(CHUNK):
                yield similarity_pb2.SearchByImageRequest(chunk=piece)

    def _opened(self) -> io.BufferedIOBase:
        return io.BytesIO(self._image) if isinstance(self._image, bytes) else Path(self._image).open("rb")


def _as_tiff(pixels: NDArray[np.uint8]) -> bytes:
    import tifffile

    data = io.BytesIO()
    tifffile.imwrite(data, pixels)
    return data.getvalue()


def open_channel(
    target: str, token: Token | None, ca: Path | None, certificate: Path | None, key: Path | None
) -> grpc.Channel:
    """Open a channel to a server; the parameters are those of `RemoteEngine`.

    Raises
    ------
    SettingsError
        If the target or a file cannot be used, or a token would cross the network in plain text.
    """
    msg = f"{target} is no server: write grpc://host:port, or grpcs://host:port with TLS"
    try:
        parts = urlsplit(target)
        port = parts.port
    except ValueError as error:
        raise SettingsError(msg) from error
    if parts.scheme not in {"grpc", "grpcs"} or not parts.hostname or not port or parts.path.strip("/"):
        raise SettingsError(msg)
    address = f"[{parts.hostname}]:{port}" if ":" in parts.hostname else f"{parts.hostname}:{port}"
    options = [
        ("grpc.service_config", _SERVICE_CONFIG),
        ("grpc.max_receive_message_length", -1),
        ("grpc.per_rpc_retry_buffer_size", _RETRIED_UPLOAD),
        ("grpc.keepalive_time_ms", 60_000),
    ]
    if parts.scheme == "grpc":
        if token is not None and not _is_loopback(parts.hostname):
            msg = f"a token would cross the network to {parts.hostname} in plain text: use grpcs://"
            raise SettingsError(msg)
        return grpc.insecure_channel(address, options)
    try:
        files = [None if file is None else file.read_bytes() for file in (ca, key, certificate)]
    except OSError as error:
        msg = f"{error.filename} cannot be read: {error.strerror}"
        raise SettingsError(msg) from error
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(*files), options)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
