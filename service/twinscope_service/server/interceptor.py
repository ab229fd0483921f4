"""The interceptor around every call.

The interceptor checks access and limits, measures times, and converts errors to statuses.
"""

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
"""Beginning of the method names of Twinscope. Calls of other services (health, channelz) need no token and are not
counted in the metrics; they have separate threads and slots."""
_REFLECTION = "/grpc.reflection."
"""Beginning of the method names of reflection. Reflection needs no token, and its streams have a few separate slots."""
_WRITES = frozenset({"BatchUpsertImages", "StreamUpsertImages", "UploadImages", "BatchDeleteImages"})
_MOST_REFLECTIONS = 8
_MOST_CHECKS = 64
_MOST_WATCHES = 64
_SPARE_THREADS = 8
"""Number of additional threads, for calls that are refused, or that are ending because they were cancelled."""
_EVICT_AFTER = 0.25
"""Time that a call may keep its slot without a request if another call needs the slot, in seconds. A request normally
arrives with its headers, within milliseconds."""
_POLL_SECONDS = 0.25
_RUN = uuid.uuid4().hex[:8]
_NUMBERS = itertools.count(1)
"""Numbers of the requests since the server started. A counter is faster than a random number for each request, which
would cause a switch of threads."""


class Calls(grpc.ServerInterceptor):
    """The outermost interceptor, which counts, limits and logs calls.

    Parameters
    ----------
    settings : ServerSettings
    metrics : Metrics
    tokens : Tokens or None
        Tokens of the clients. If None, every client that can connect may do everything.
    draining : threading.Event
        Event that is set when the server is about to stop. New calls are then refused.

    Attributes
    ----------
    ready : threading.Event
        Event that must be set when the index is loaded. Until then, calls are refused.
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
        self._single = Slots(most, "too many concurrent requests", wait_limit=idle, evict_after=_EVICT_AFTER)
        self._streams = Slots(settings.max_streams, "too many open streams", wait_limit=idle)
        self._reflections = Slots(_MOST_REFLECTIONS, "too many open reflection streams", wait_limit=idle)
        self._checks = Slots(_MOST_CHECKS, "too many health checks", wait_limit=idle, evict_after=_EVICT_AFTER)
        self._watches = Slots(_MOST_WATCHES, "too many health watchers", wait_limit=idle, evict_after=_EVICT_AFTER)
        self.threads = ThreadPoolExecutor(
            most + settings.max_streams + _MOST_REFLECTIONS + _SPARE_THREADS, thread_name_prefix="call"
        )
        self._aside = ThreadPoolExecutor(_MOST_CHECKS + _MOST_WATCHES + _SPARE_THREADS, thread_name_prefix="health")
        self._uploads = uploads = UploadMemory(settings.max_uploads_mib << 20)
        metrics.observe("upload_bytes", "Total declared size of the uploads in progress.", lambda: uploads.reserved)
        self._rates = Rates(settings.requests_per_second)
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the handler of a call, wrapped in the checks of this class."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:
            return None
        if method not in self._wrapped:
            self._wrapped[method] = self._with_slot(method, handler)
        return self._wrapped[method]

    @property
    def idle(self) -> bool:
        """Whether no call is in progress; a call whose request has not arrived does not count."""
        return self._single.served == 0 and self._streams.used == 0

    def end_overdue(self, stopped: threading.Event) -> None:
        """Check repeatedly, until the server has stopped, and cancel calls that wait too long for their clients."""
        while not stopped.wait(_POLL_SECONDS):
            for slots in (self._single, self._streams, self._reflections, self._checks, self._watches):
                slots.end_overdue()

    def close(self) -> None:
        """Shut down the thread pools without waiting for them."""
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
            return wrapped(handler, lambda context: self._around(name, context, slots, _admit_all), slots)
        slots = self._watches if streams else self._checks
        return wrapped(handler, lambda context: self._around_aside(context, slots), slots, self._aside)

    @contextmanager
    def _around_aside(self, context: grpc.ServicerContext, slots: Slots) -> Iterator[None]:
        try:
            slots.acquire()
            try:
                yield
            finally:
                slots.release()
        except RequestError as failure:
            _abort(context, failure)
        except NotImplementedError:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "this server does not have this method")

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
        caller = ""
        code = grpc.StatusCode.OK
        metrics = self._metrics.method(method)
        metrics.in_flight.inc()
        try:
            try:
                caller = admitted(method, context)
                slots.acquire()
            except RequestError as refusal:
                self._metrics.refused.labels(refusal.reason).inc()
                raise
            try:
                yield
            finally:
                slots.release()
        except (GeneratorExit, grpc.RpcError):  # the client has disconnected or was too slow
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception as error:
            aborted = cast("Any", context).code()  # set if an inner handler aborted; missing in the type stubs
            if aborted is not None:
                code = aborted
                raise
            failure = request_error(error, request_id)
            code = failure.code
            if code is grpc.StatusCode.INTERNAL:
                LOGGER.exception("request %s: %s failed", request_id, method)
            _abort(context, failure)
        finally:
            seconds = time.perf_counter() - start
            metrics.in_flight.dec()
            metrics.ended(code.name).inc()
            metrics.seconds.observe(seconds)
            if LOGGER.isEnabledFor(logging.INFO):
                line = {"request": request_id, "method": method, "code": code.name, "ms": round(1000 * seconds, 2)}
                LOGGER.info("%s", Fields(line, who=caller or context.peer()))

    def _admitted(self, method: str, context: grpc.ServicerContext) -> str:
        """Check the token and the rate of requests.

        Returns
        -------
        str
            Name of the client that the token belongs to, or "" if the server needs no tokens.

        Raises
        ------
        RequestError
            TOKEN_INVALID, ROLE_MISSING, RATE_LIMITED, DRAINING or INDEX_NOT_READY.
        """
        name = ""
        if self._tokens is not None:
            given = dict(context.invocation_metadata()).get("authorization", "")
            scheme, _, token = str(given).partition(" ")
            holder = self._tokens.holder(token) if scheme.lower() == "bearer" and token else None
            if holder is None:
                raise RequestError(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID", "a valid bearer token is required")
            if method in _WRITES and holder.role != "write":
                raise RequestError(
                    grpc.StatusCode.PERMISSION_DENIED, "ROLE_MISSING", "this token permits reading but not writing",
                    metadata={"role": "write"},
                )  # fmt: skip
            name = holder.name
        if self._draining.is_set():
            raise RequestError(
                grpc.StatusCode.UNAVAILABLE, "DRAINING", "the server is shutting down", retry_seconds=1.0
            )
        if not self.ready.is_set():
            raise RequestError(
                grpc.StatusCode.UNAVAILABLE, "INDEX_NOT_READY", "the index is still loading", retry_seconds=1.0
            )
        if self._rates.limited:
            self._rates.take(name or context.peer().rpartition(":")[0])
        return name

    @contextmanager
    def upload(self, size: int) -> Iterator[None]:
        """Reserve memory for an upload of `size` bytes while the body of the ``with`` statement runs.

        Raises
        ------
        RequestError
            OVERLOADED if too little memory is left.
        """
        try:
            self._uploads.reserve(size)
        except RequestError as refusal:
            self._metrics.refused.labels(refusal.reason).inc()
            raise
        try:
            yield
        finally:
            self._uploads.release(size)

    def timed(self, stage: str) -> AbstractContextManager[object]:
        """Return a context manager that measures the duration of a stage of a request."""
        return self._metrics.stage(stage).time()

    @contextmanager
    def working(self, context: grpc.ServicerContext) -> Iterator[None]:
        """Occupy a worker while the body of the ``with`` statement runs.

        The call waits for a free worker until the deadline of the call. The body must not wait for another worker.

        Raises
        ------
        RequestError
            If the deadline of the call passes, or if the client disconnects, before a worker is free.
        """
        left = context.time_remaining()
        start = time.perf_counter()
        if not self._working.acquire(timeout=min(left, 3600.0) if left is not None else 3600.0):
            raise RequestError(
                grpc.StatusCode.DEADLINE_EXCEEDED, "OVERLOADED", "the deadline passed before a worker was free"
            )
        try:
            if not context.is_active():
                raise RequestError(grpc.StatusCode.CANCELLED, "OVERLOADED", "the caller has disconnected")
            self._metrics.stage("wait").observe(time.perf_counter() - start)
            with self.timed("work"):
                yield
        finally:
            self._working.release()


def _admit_all(method: str, context: grpc.ServicerContext) -> str:  # noqa: ARG001  signature of Calls._admitted
    return ""


def _request_id(context: grpc.ServicerContext) -> str:
    """Return the request id that the client sent, if this id is valid; otherwise return a new id."""
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
