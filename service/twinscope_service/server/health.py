"""Health service: it reports whether the server accepts calls.

A client can ask for the status once, or watch for changes of the status.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NAME: Final = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_Response = health_pb2.HealthCheckResponse


class HealthService(health_pb2_grpc.HealthServicer):
    """Implementation of ``grpc.health.v1.Health``.

    The implementation in the gRPC library is not used, because one stuck watcher would block every check: this
    implementation holds its lock while it waits until a watcher accepts a message.

    Parameters
    ----------
    services : sequence of str
        Full names of the services; "" means the server as a whole. The initial status of all services is NOT_SERVING.
    """

    def __init__(self, services: Sequence[str]) -> None:
        self._services = frozenset(services)
        self._status: int = _Response.NOT_SERVING
        self._changed = threading.Condition()

    def set_status(self, status: int) -> None:
        """Set the status of all services."""
        with self._changed:
            self._status = status
            self._changed.notify_all()

    def Check(  # noqa: N802  the contract's name
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """Return the status of a service."""
        if request.service not in self._services:
            context.abort(grpc.StatusCode.NOT_FOUND, "this server has no such service")
        return _Response(status=self._status)

    def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> Iterator[health_pb2.HealthCheckResponse]:
        """Send the status of a service now and whenever it changes, until the client disconnects."""
        if not context.add_callback(self._wake):
            return
        sent = None
        while True:
            with self._changed:
                while context.is_active() and self._status_of(request.service) == sent:
                    self._changed.wait()
                if not context.is_active():
                    return
                sent = self._status_of(request.service)
            yield _Response(status=sent)

    def _status_of(self, service: str) -> int:
        return self._status if service in self._services else _Response.SERVICE_UNKNOWN

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
