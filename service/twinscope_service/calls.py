"""What happens around every call: who may, how many at a time, how long it took, and what its failure is called."""

from __future__ import annotations

import itertools
import json
import logging
import re
import threading
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import grpc
from grpc_status import rpc_status

from twinscope_service.failures import RequestError, overloaded, request_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from twinscope_service.metrics import Metrics
    from twinscope_service.settings import ServerSettings
    from twinscope_service.tokens import Tokens

LOGGER = logging.getLogger("twinscope.server")

_SERVED = "/twinscope.v1."
"""Health and channelz are not counted, limited or asked for a token."""
_REFLECTION = "/grpc.reflection."
"""Needs no token either, but its streams hold threads and take places like others."""
_WRITES = frozenset({"BatchUpsertImages", "StreamUpsertImages", "UploadImages", "BatchDeleteImages"})
_MAX_CALLERS = 10_000
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
        self._settings = settings
        self._metrics = metrics
        self._tokens = tokens
        self._draining = draining
        self.ready = threading.Event()
        self._working = threading.BoundedSemaphore(settings.workers)
        self._lock = threading.Lock()
        self._calls = 0
        self._streams = 0
        self._rates: dict[str, tuple[float, float]] = {}
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the handler of a call."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith((_SERVED, _REFLECTION)):
            return handler
        if method not in self._wrapped:
            name = method.rpartition("/")[2]
            stream = bool(handler.request_streaming or handler.response_streaming)
            is_open = method.startswith(_REFLECTION)
            self._wrapped[method] = _wrapped(
                handler, lambda context: self._around(name, context, stream=stream, is_open=is_open)
            )
        return self._wrapped[method]

    @property
    def idle(self) -> bool:
        """Whether no call is under way."""
        with self._lock:
            return self._calls == 0 and self._streams == 0

    @contextmanager
    def _around(self, method: str, context: grpc.ServicerContext, *, stream: bool, is_open: bool) -> Iterator[None]:
        start = time.perf_counter()
        request_id = _request_id(context)
        who = ""
        code = grpc.StatusCode.OK
        metrics = self._metrics.method(method)
        metrics.in_flight.inc()
        try:
            if not is_open:
                who = self._admitted(method, context)
            with self._place(stream):
                yield
        except GeneratorExit:  # the client has gone
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
                LOGGER.info(json.dumps(line | {"who": who or context.peer()}))

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
                self._metrics.refused.labels("TOKEN_INVALID").inc()
                raise RequestError(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID", "a valid bearer token is needed")
            if method in _WRITES and holder.role != "write":
                self._metrics.refused.labels("ROLE_MISSING").inc()
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
        if self._settings.requests_per_second > 0:
            self._count(who or context.peer().rpartition(":")[0])
        return who

    def _count(self, who: str) -> None:
        """Take one from the caller's bucket, which fills at the allowed rate and holds one second's worth."""
        rate = self._settings.requests_per_second
        most = max(1.0, rate)
        with self._lock:
            if len(self._rates) > _MAX_CALLERS:
                self._rates.clear()
            left, last = self._rates.get(who, (most, time.monotonic()))
            now = time.monotonic()
            left = min(most, left + rate * (now - last))
            if left < 1:
                self._rates[who] = (left, now)
                self._metrics.refused.labels("RATE_LIMITED").inc()
                raise overloaded("too many requests a second", "RATE_LIMITED", (1 - left) / rate)
            self._rates[who] = (left - 1, now)

    @contextmanager
    def _place(self, stream: bool) -> Iterator[None]:
        """Hold one of the places that are worked on at the same time; streams take one only while they compute."""
        with self._lock:
            full = (
                self._streams >= self._settings.max_streams
                if stream
                else self._calls >= self._settings.workers + self._settings.max_waiting
            )
            if not full and stream:
                self._streams += 1
            elif not full:
                self._calls += 1
        if full:
            self._metrics.refused.labels("OVERLOADED").inc()
            raise overloaded("too many open streams" if stream else "too much work at the same time")
        try:
            yield
        finally:
            with self._lock:
                if stream:
                    self._streams -= 1
                else:
                    self._calls -= 1

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


def _wrapped(
    handler: grpc.RpcMethodHandler[Any, Any], around: Callable[[grpc.ServicerContext], AbstractContextManager[None]]
) -> grpc.RpcMethodHandler[Any, Any]:
    """Put a context manager around a handler, of whichever of the four kinds it is."""
    known = cast("Any", handler)
    kind = ("stream" if known.request_streaming else "unary", "stream" if known.response_streaming else "unary")
    inner = getattr(known, "_".join(kind))
    make = getattr(grpc, f"{'_'.join(kind)}_rpc_method_handler")

    def streaming(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        with around(context):
            yield from inner(request, context)

    def single(request: Any, context: grpc.ServicerContext) -> Any:
        with around(context):
            return inner(request, context)

    behaviour = streaming if known.response_streaming else single
    made: grpc.RpcMethodHandler[Any, Any] = make(behaviour, known.request_deserializer, known.response_serializer)
    return made
