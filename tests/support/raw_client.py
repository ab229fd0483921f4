"""A client without retries and checks, so that tests can send invalid messages."""

from __future__ import annotations

import queue
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc
from twinscope.v1 import catalog_pb2_grpc, similarity_pb2, similarity_pb2_grpc

HANGS = 60.0
"""Time limit in seconds that only a hanging call exceeds, even on a busy machine."""
SERVICES = ("twinscope.v1.SimilarityService", "twinscope.v1.CatalogService")


@dataclass(frozen=True)
class Failure:
    """Failure of a call or of one of its items."""

    code: str
    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    fields: tuple[str, ...] = ()
    retry_seconds: float | None = None
    pushback_ms: str | None = None
    message: str = ""
    resource: tuple[str, str] | None = None

    @classmethod
    def of_status(cls, status: Status, code: str = "", pushback_ms: str | None = None) -> Failure:
        info, bad, retry, resource = (
            details.ErrorInfo(),
            details.BadRequest(),
            details.RetryInfo(),
            details.ResourceInfo(),
        )
        for detail in status.details:
            for known in (info, bad, retry, resource):
                if detail.Is(known.DESCRIPTOR):
                    detail.Unpack(known)
        assert not info.reason or info.domain == "twinscope"
        return cls(
            code or next(one.name for one in grpc.StatusCode if one.value[0] == status.code),
            info.reason,
            dict(info.metadata),
            tuple(violation.field for violation in bad.field_violations),
            retry.retry_delay.ToMilliseconds() / 1000 if retry.HasField("retry_delay") else None,
            pushback_ms,
            status.message,
            (resource.resource_type, resource.resource_name) if resource.resource_name else None,
        )


class RawClient:
    def __init__(
        self, target: str, token: str | None = None, credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        options = [
            ("grpc.enable_retries", 0),
            ("grpc.max_receive_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        self.address = address = urlsplit(target).netloc
        self.channel = (
            grpc.insecure_channel(address, options)
            if credentials is None
            else grpc.secure_channel(address, credentials, options)
        )
        self.metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        self.similarity = similarity_pb2_grpc.SimilarityServiceStub(self.channel)
        self.catalog = catalog_pb2_grpc.CatalogServiceStub(self.channel)
        self.health = health_pb2_grpc.HealthStub(self.channel)

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def call(self, method: Callable[..., Any], request: Any, timeout: float = HANGS, **options: Any) -> Any:
        metadata = (*self.metadata, *options.pop("metadata", ()))
        return method(request, timeout=timeout, metadata=metadata, **options)

    def failure(self, method: Callable[..., Any], request: Any, timeout: float = HANGS, **options: Any) -> Failure:
        """Make a call that must fail; return its failure."""
        try:
            answer = self.call(method, request, timeout, **options)
            if not hasattr(answer, "DESCRIPTOR"):  # a stream
                list(answer)
        except grpc.RpcError as error:
            return failure_of(error)
        raise AssertionError(f"the call did not fail: {answer}")

    def serving(self, service: str = "") -> str:
        answer = self.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=HANGS)
        return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def failure_of(error: Any) -> Failure:
    trailing = dict(error.trailing_metadata() or ())
    status = Status.FromString(trailing.get("grpc-status-details-bin", b""))
    if status.code:
        assert status.code == error.code().value[0]
        assert status.message == error.details()
    else:
        status.message = error.details() or ""
    return Failure.of_status(status, error.code().name, trailing.get("grpc-retry-pushback-ms"))


def upload(
    data: bytes, *, size: int | None = None, sha256: bytes = b"", chunk: int = 64 << 10, **header: Any
) -> Iterator[similarity_pb2.SearchByImageRequest]:
    declared = len(data) if size is None else size
    yield similarity_pb2.SearchByImageRequest(
        header=similarity_pb2.ImageHeader(size_bytes=declared, sha256=sha256, **header)
    )
    for start in range(0, len(data), chunk):
        yield similarity_pb2.SearchByImageRequest(chunk=data[start : start + chunk])


def eventually(condition: Callable[[], bool], seconds: float = HANGS) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


class Held:
    """A stream of requests that sends the messages put into it and stays open until it is closed."""

    def __init__(self, first: Iterable[Any] = ()) -> None:
        self._queue: queue.Queue[Any] = queue.Queue()
        for one in first:
            self._queue.put(one)

    def put(self, message: Any) -> None:
        self._queue.put(message)

    def close(self) -> None:
        self._queue.put(None)

    def __iter__(self) -> Held:
        return self

    def __next__(self) -> Any:
        message = self._queue.get()
        if message is None:
            raise StopIteration
        return message


@contextmanager
def held() -> Iterator[Held]:
    stream = Held()
    try:
        yield stream
    finally:
        stream.close()


@dataclass(frozen=True)
class Authority:
    """A certificate authority made with the openssl command."""

    folder: Path
    name: str

    @property
    def pem(self) -> Path:
        return self.folder / f"{self.name}.pem"

    def issue(self, name: str, *, days: int = 2) -> tuple[Path, Path]:
        """Return the paths of a certificate for this machine and of its key."""
        certificate, key, request, extension = (self.folder / f"{name}.{kind}" for kind in ("pem", "key", "csr", "ext"))
        extension.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
        _openssl("req", "-new", *_NEW_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        _openssl("x509", "-req", "-in", request, "-CA", self.pem, "-CAkey", self.pem.with_suffix(".key"),
                 "-CAcreateserial", "-days", days, "-extfile", extension, "-out", certificate)  # fmt: skip
        return certificate, key


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def authority(folder: Path, name: str) -> Authority:
    made = Authority(folder, name)
    _openssl("req", "-x509", *_NEW_KEY, "-keyout", made.pem.with_suffix(".key"), "-out", made.pem, "-days", 2,
             "-subj", f"/CN={name}", "-addext", "keyUsage=keyCertSign")  # fmt: skip
    return made


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
