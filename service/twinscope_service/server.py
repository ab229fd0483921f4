"""The server: ports, health, reflection, hot pick-up of new generations, and a graceful end."""

from __future__ import annotations

import threading
from concurrent import futures
from typing import TYPE_CHECKING, Any, cast

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from twinscope.v1 import catalog_pb2, catalog_pb2_grpc, similarity_pb2, similarity_pb2_grpc
from twinscope_indexer.errors import SettingsError
from twinscope_indexer.store import Store

from twinscope_service.answerer import Answerer
from twinscope_service.calls import LOGGER, Calls
from twinscope_service.catalog_service import CatalogService
from twinscope_service.certificates import Certificates
from twinscope_service.metrics import Metrics
from twinscope_service.pixels import UPLOADS_FOLDER, ReferencePixels
from twinscope_service.similarity_service import SimilarityService
from twinscope_service.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from twinscope_service.settings import ServerSettings

_HEALTH_THREADS = 8
_SERVICES = tuple(
    file.services_by_name[name].full_name
    for file, name in (
        (similarity_pb2.DESCRIPTOR, "SimilarityService"),
        (catalog_pb2.DESCRIPTOR, "CatalogService"),
    )
)
_MIB = 1 << 20


class TwinscopeServer:
    """A store behind a port.

    Parameters
    ----------
    store : Path
        The store's folder.
    settings : ServerSettings

    Raises
    ------
    SettingsError
        If certificates or tokens cannot be used, or the port is taken.
    StoreError
        If there is no store, or it cannot be used.

    Attributes
    ----------
    port : int
        The port that it listens on.
    """

    def __init__(self, store: Path, settings: ServerSettings) -> None:
        self._settings = settings
        self._draining = threading.Event()
        self._stopped = threading.Event()
        self.metrics = Metrics()
        tokens = None if settings.tokens is None else Tokens(settings.tokens)
        calls = Calls(settings, self.metrics, tokens, self._draining)
        self._server = grpc.server(
            futures.ThreadPoolExecutor(
                settings.workers + settings.max_waiting + settings.max_streams + _HEALTH_THREADS,
                thread_name_prefix="call",
            ),
            interceptors=[calls],
            options=_channel_options(settings),
        )
        self._health = health.HealthServicer(experimental_non_blocking=True)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._tell_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        self.port = self._bind()
        self._store = Store(store)
        pixels = ReferencePixels(settings.cache_mib * _MIB, store / UPLOADS_FOLDER)
        answerer = Answerer(self._store, pixels)
        similarity_pb2_grpc.add_SimilarityServiceServicer_to_server(
            SimilarityService(answerer, settings, calls, self._draining), self._server
        )
        catalog_pb2_grpc.add_CatalogServiceServicer_to_server(
            CatalogService(self._store, answerer, settings, calls, self._draining), self._server
        )
        _add_reflection(self._server)
        if settings.channelz:
            from grpc_channelz.v1 import channelz

            channelz.add_channelz_servicer(self._server)
        self._stop_metrics: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Begin to serve; returns at once."""
        view = self._store.view
        self.metrics.observe("index_images", "Searchable images.", lambda: self._store.view.count)
        self.metrics.observe("index_generation", "Generation answered from.", lambda: self._store.view.generation)
        if self._settings.metrics_port:
            self._stop_metrics = self.metrics.serve(self._settings.metrics_port)
        self._server.start()
        threading.Thread(target=self._watch, name="watch", daemon=True).start()
        self._tell_health(health_pb2.HealthCheckResponse.SERVING)
        LOGGER.info("serving %d images, generation %d, on port %d", view.count, view.generation, self.port)

    def stop(self) -> None:
        """Drain: tell 'not serving', refuse what is new, finish what is under way, and free everything."""
        self._tell_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        self._stopped.wait(self._settings.lame_duck_seconds)  # load balancers look away
        self._draining.set()
        self._server.stop(self._settings.grace_seconds).wait()
        self._stopped.set()
        self._stop_metrics()
        self._store.close()

    def wait(self) -> None:
        """Wait until the server has stopped."""
        self._server.wait_for_termination()

    def _bind(self) -> int:
        settings = self._settings
        host = f"[{settings.host.strip('[]')}]" if ":" in settings.host else settings.host
        address = f"{host}:{settings.port}"
        try:
            if settings.tls_certificate is None or settings.tls_key is None:
                return self._server.add_insecure_port(address)
            certificates = Certificates(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
            return self._server.add_secure_port(address, certificates.credentials())
        except RuntimeError as error:
            msg = f"cannot listen on {address}: is another server running there? ({error})"
            raise SettingsError(msg) from error

    def _tell_health(self, status: int) -> None:
        for service in ("", *_SERVICES):
            self._health.set(service, cast("Any", status))

    def _watch(self) -> None:
        """Take up new generations as they are published; a failure is told, and tried again."""
        failing = False
        while not self._stopped.wait(self._settings.refresh_seconds):
            try:
                self._store.refresh()
                failing = False
            except Exception:  # noqa: BLE001  the server goes on with what it has
                if not failing and not self._stopped.is_set():
                    LOGGER.exception("the store cannot be refreshed; still serving generation %d",
                                     self._store.view.generation)  # fmt: skip
                failing = True


def _channel_options(settings: ServerSettings) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),  # else a second server on the port takes half of the calls, silently
        ("grpc.max_receive_message_length", settings.max_message_mib * _MIB),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", 16 << 10),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


def _add_reflection(server: grpc.Server) -> None:
    """Serve reflection under both of its names: newer tools ask for v1, the library knows v1alpha; messages agree."""
    names = (*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME, "grpc.reflection.v1.ServerReflection")
    reflection.enable_server_reflection(names, server)
    servicer = cast("Any", reflection.ReflectionServicer(names))
    from grpc_reflection.v1alpha import reflection_pb2

    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    methods = {"ServerReflectionInfo": handler}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("grpc.reflection.v1.ServerReflection", methods),)
    )
