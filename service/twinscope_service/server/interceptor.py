"""What happens around every call: who may, how many at a time, how long it took, and what its failure is called."""

from __future__ import annotations

import itertools
import logging
import re
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import grpc
from grpc_status import rpc_status

from twinscope_service.server.admission import Slots
from twinscope_service.server.handlers import wrapped
from twinscope_service.server.json_log import Fields
from twinscope_service.server.rate_limit import Rates
from twinscope_service.server.status import RequestError, request_error
from twinscope_service.server.streams import UploadMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from twinscope_service.server.metrics import Metrics
    from twinscope_service.server.settings import ServerSettings
    from twinscope_service.server.tokens import Tokens

LOGGER = logging.getLogger("twinscope.server")

_SERVED = "/twinscope.v1."
"""Health and channelz are neither counted nor asked for a token; they have threads and slots of their own."""
_REFLECTION = "/grpc.reflection."
"""Needs no token either; its streams have few slots, of their own."""
_WRITES = frozenset({"BatchUpsertImages", "StreamUpsertImages", "UploadImages", "BatchDeleteImages"})
_MOST_REFLECTIONS = 8
_MOST_CHECKS = 64
_MOST_WATCHES = 64
_SPARE_THREADS = 8
"""For calls that are refused, or that end because they are."""
_GIVES_WAY = 0.25
"""Seconds after which a call whose request has not come gives its slot to another; requests come with their headers,
so that honest ones wait for milliseconds."""
_LOOK_AGAIN = 0.25
_RUN = uuid.uuid4().hex[:8]
_NUMBERS = itertools.count(1)
"""Of requests in this run: drawing random numbers for each would let other threads in, which costs more than it."""


class Calls(grpc.ServerInterceptor):
    """The outermost interceptor.

    Parameters
    ----------
    settings : ServerSettings
    metrics : Metrics
    tokens : Tokens or None
        None: everybody who can connect may do everything.
    draining : threading.Event
        Set when the server is about to stop: what comes then is refused.

    Attributes
    ----------
    ready : threading.Event
        To be set when the index is loaded: what comes before is refused.
    """

    def __init__(
        self, settings: ServerSettings, metrics: Metrics, tokens: Tokens | None, draining: threading.Event
    ) -> None:
        self._metrics = metrics
        self._tokens = tokens
        self._draining = draining
        self.ready = threading.Event()
        self._working = threading.BoundedSemaphore(settings.workers)
        idle = settings.stream_idle_seconds
        most = settings.workers + settings.max_waiting
        self._single = Slots(most, "too much work at the same time", patience=idle, gives_way=_GIVES_WAY)
        self._streams = Slots(settings.max_streams, "too many open streams", patience=idle)
        self._reflections = Slots(_MOST_REFLECTIONS, "too many open streams of reflection", patience=idle)
        self._checks = Slots(_MOST_CHECKS, "too many checks", patience=idle, gives_way=_GIVES_WAY)
        self._watches = Slots(_MOST_WATCHES, "too many watchers", patience=idle, gives_way=_GIVES_WAY)
        self.threads = ThreadPoolExecutor(
            most + settings.max_streams + _MOST_REFLECTIONS + _SPARE_THREADS, thread_name_prefix="call"
        )
        self._aside = ThreadPoolExecutor(_MOST_CHECKS + _MOST_WATCHES + _SPARE_THREADS, thread_name_prefix="health")
        self._uploads = uploads = UploadMemory(settings.max_uploads_mib << 20)
        metrics.observe("upload_bytes", "Declared sizes of the uploads under way.", lambda: uploads.taken)
        self._rates = Rates(settings.requests_per_second)
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the handler of a call."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:
            return None
        if method not in self._wrapped:
            self._wrapped[method] = self._with_slot(method, handler)
        return self._wrapped[method]

    @property
    def idle(self) -> bool:
        """Whether no call is under way; those do not count whose request has not come."""
        return self._single.served == 0 and self._streams.taken == 0

    def end_overdue(self, stopped: threading.Event) -> None:
        """Cancel calls that wait for their clients for too long, until the server has stopped."""
        while not stopped.wait(_LOOK_AGAIN):
            for slots in (self._single, self._streams, self._reflections, self._checks, self._watches):
                slots.end_overdue()

    def close(self) -> None:
        """Let the threads end."""
        self.threads.shutdown(wait=False)
        self._aside.shutdown(wait=False)

    def _with_slot(self, method: str, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        name = method.rpartition("/")[2]
        streams = bool(handler.request_streaming or handler.response_streaming)
        if method.startswith(_SERVED):
            slots = self._streams if streams else self._single
            return wrapped(handler, lambda context: self._around(name, context, slots, self._admitted), slots)
        if method.startswith(_REFLECTION):
            slots = self._reflections
            return wrapped(handler, lambda context: self._around(name, context, slots, _anybody), slots)
        slots = self._watches if streams else self._checks
        return wrapped(handler, lambda context: self._around_aside(context, slots), slots, self._aside)

    @contextmanager
    def _around_aside(self, context: grpc.ServicerContext, slots: Slots) -> Iterator[None]:
        try:
            slots.take()
            try:
                yield
            finally:
                slots.leave()
        except RequestError as failure:
            _abort(context, failure)
        except NotImplementedError:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "this server does not have that method")

    @contextmanager
    def _around(
        self,
        method: str,
        context: grpc.ServicerContext,
        slots: Slots,
        admitted: Callable[[str, grpc.ServicerContext], str],
    ) -> Iterator[None]:
        start = time.perf_counter()
        request_id = _request_id(context)
        who = ""
        code = grpc.StatusCode.OK
        metrics = self._metrics.method(method)
        metrics.in_flight.inc()
        try:
            try:
                who = admitted(method, context)
                slots.take()
            except RequestError as refusal:
                self._metrics.refused.labels(refusal.reason).inc()
                raise
            try:
                yield
            finally:
                slots.leave()
        except (GeneratorExit, grpc.RpcError):  # the client has gone, or was waited for too long
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception as error:
            aborted = cast("Any", context).code()  # set by an abort further in; not in the published types
            if aborted is not None:
                code = aborted
                raise
            failure = request_error(error, request_id)
            code = failure.code
            if code is grpc.StatusCode.INTERNAL:
                LOGGER.exception("request %s: %s failed", request_id, method)
            _abort(context, failure)
        finally:
            took = time.perf_counter() - start
            metrics.in_flight.dec()
            metrics.ended(code.name).inc()
            metrics.seconds.observe(took)
            if LOGGER.isEnabledFor(logging.INFO):
                line = {"request": request_id, "method": method, "code": code.name, "ms": round(1000 * took, 2)}
                LOGGER.info("%s", Fields(line, who=who or context.peer()))

    def _admitted(self, method: str, context: grpc.ServicerContext) -> str:
        """Check token and rate, and give the name of the token's holder; none where no tokens are asked for.

        Raises
        ------
        RequestError
            TOKEN_INVALID, ROLE_MISSING, RATE_LIMITED, DRAINING or INDEX_NOT_READY.
        """
        who = ""
        if self._tokens is not None:
            given = dict(context.invocation_metadata()).get("authorization", "")
            scheme, _, token = str(given).partition(" ")
            holder = self._tokens.holder(token) if scheme.lower() == "bearer" and token else None
            if holder is None:
                raise RequestError(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID", "a valid bearer token is needed")
            if method in _WRITES and holder.role != "write":
                raise RequestError(
                    grpc.StatusCode.PERMISSION_DENIED, "ROLE_MISSING", "this token may read, but not write",
                    metadata={"role": "write"},
                )  # fmt: skip
            who = holder.name
        if self._draining.is_set():
            raise RequestError(
                grpc.StatusCode.UNAVAILABLE, "DRAINING", "the server is shutting down", retry_seconds=1.0
            )
        if not self.ready.is_set():
            raise RequestError(
                grpc.StatusCode.UNAVAILABLE, "INDEX_NOT_READY", "the index is still being loaded", retry_seconds=1.0
            )
        if self._rates.limited:
            self._rates.take(who or context.peer().rpartition(":")[0])
        return who

    @contextmanager
    def upload(self, size: int) -> Iterator[None]:
        """Hold the memory of an upload of so many bytes.

        Raises
        ------
        RequestError
            OVERLOADED.
        """
        try:
            self._uploads.take(size)
        except RequestError as refusal:
            self._metrics.refused.labels(refusal.reason).inc()
            raise
        try:
            yield
        finally:
            self._uploads.leave(size)

    def timed(self, stage: str) -> AbstractContextManager[object]:
        """Measure a stage of a request."""
        return self._metrics.stage(stage).time()

    @contextmanager
    def working(self, context: grpc.ServicerContext) -> Iterator[None]:
        """Wait for a worker, no longer than the caller does; what is waited for meanwhile must need no worker.

        Raises
        ------
        RequestError
            If the caller's deadline passes, or the caller leaves, before it is its turn.
        """
        left = context.time_remaining()
        start = time.perf_counter()
        if not self._working.acquire(timeout=min(left, 3600.0) if left is not None else 3600.0):
            raise RequestError(grpc.StatusCode.DEADLINE_EXCEEDED, "OVERLOADED", "the deadline passed in the queue")
        try:
            if not context.is_active():
                raise RequestError(grpc.StatusCode.CANCELLED, "OVERLOADED", "the caller has left")
            self._metrics.stage("wait").observe(time.perf_counter() - start)
            with self.timed("work"):
                yield
        finally:
            self._working.release()


def _anybody(method: str, context: grpc.ServicerContext) -> str:  # noqa: ARG001  as Calls._admitted
    return ""


def _request_id(context: grpc.ServicerContext) -> str:
    """Give the caller's id of the request, if it sent a plain one, else a new one."""
    given = next((str(value) for key, value in context.invocation_metadata() if key == "x-request-id"), "")
    if given and re.fullmatch(r"[\w.-]{1,64}", given):
        return given
    return f"{_RUN}{next(_NUMBERS):08x}"


def _abort(context: grpc.ServicerContext, failure: RequestError) -> None:
    status = rpc_status.to_status(failure.status)
    trailing = status.trailing_metadata
    if failure.retry_seconds is not None:
        trailing = (*trailing, ("grpc-retry-pushback-ms", str(int(1000 * failure.retry_seconds))))
    context.set_trailing_metadata(trailing)
    context.abort(status.code, status.details)
