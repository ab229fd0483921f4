"""The server: it opens ports, reports its health, loads new generations, and stops without losing requests."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from twinscope.v1 import catalog_pb2, catalog_pb2_grpc, similarity_pb2, similarity_pb2_grpc
from twinscope_indexer.store.reader import Store

from twinscope_service.errors import SettingsError
from twinscope_service.matching.reference_pixels import UPLOADS_FOLDER, ReferencePixels
from twinscope_service.matching.searcher import Searcher
from twinscope_service.server.catalog_service import CatalogService
from twinscope_service.server.health import NAME, HealthService
from twinscope_service.server.interceptor import LOGGER, Calls
from twinscope_service.server.metrics import Metrics
from twinscope_service.server.reflection import add_reflection
from twinscope_service.server.similarity_service import SimilarityService
from twinscope_service.server.tls import Certificates, certificate_names
from twinscope_service.server.tokens import Tokens
from twinscope_service.server.warmup import warm

if TYPE_CHECKING:
    from pathlib import Path

    from twinscope_service.server.settings import ServerSettings

_POLL_SECONDS = 0.05
_CANCEL_SECONDS = 3.0
"""Maximum time that the server waits for the end of a cancelled call, in seconds."""
_FLUSH_SECONDS = 0.3
"""Time for sending the last answers after all work has finished, in seconds. Health watchers stay connected during this
time."""
_SERVICES = tuple(
    file.services_by_name[name].full_name
    for file, name in (
        (similarity_pb2.DESCRIPTOR, "SimilarityService"),
        (catalog_pb2.DESCRIPTOR, "CatalogService"),
    )
)
_ALL_ADDRESSES = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  compared with the setting, not listened on
"""The loopback address for each address that means all addresses of this machine."""
_MIB = 1 << 20


class TwinscopeServer:
    """A gRPC server for one store.

    Parameters
    ----------
    store : Path
        Path of the folder of the store.
    settings : ServerSettings

    Raises
    ------
    SettingsError
        If certificates or tokens cannot be used, or if another program uses the port.

    Attributes
    ----------
    port : int
        The port that the server listens on.
    """

    def __init__(self, store: Path, settings: ServerSettings) -> None:
        self._settings = settings
        self._draining = threading.Event()
        self._stopped = threading.Event()
        self._ended = False
        self.metrics = Metrics()
        self._folder = store
        tokens = None if settings.tokens is None else Tokens(settings.tokens)
        self._calls = calls = Calls(settings, self.metrics, tokens, self._draining)
        self._server = grpc.server(calls.threads, interceptors=[calls], options=_channel_options(settings))
        self._health = HealthService(("", *_SERVICES))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._similarity = SimilarityService(settings, calls, self._draining)
        self._catalog = CatalogService(settings, calls, self._draining)
        similarity_pb2_grpc.add_SimilarityServiceServicer_to_server(self._similarity, self._server)
        catalog_pb2_grpc.add_CatalogServiceServicer_to_server(self._catalog, self._server)
        add_reflection(self._server, (*_SERVICES, NAME), settings.stream_idle_seconds)
        if settings.channelz:
            from grpc_channelz.v1 import channelz

            channelz.add_channelz_servicer(self._server)
        self._closing = ExitStack()
        self.port = self._bind()

    def start(self) -> None:
        """Start the server and return when the index is loaded.

        While the index is loading, the health status is NOT_SERVING, and calls fail with INDEX_NOT_READY.

        Raises
        ------
        StoreError
            If the store does not exist or cannot be used.
        SettingsError
            If another program uses the port of the metrics.
        """
        self._server.start()
        overdue = threading.Thread(target=self._calls.end_overdue, args=(self._stopped,), name="overdue", daemon=True)
        overdue.start()
        self._closing.callback(overdue.join)
        try:
            self._load()
        except BaseException:
            self._end(0.0)
            raise
        self._calls.ready.set()
        self._health.set_status(health_pb2.HealthCheckResponse.SERVING)

    def stop(self) -> None:
        """Stop the server: report NOT_SERVING, refuse new calls, finish the calls in progress, and free all resources.

        This method takes at most the sum of ``lame_duck_seconds``, ``grace_seconds`` and a few seconds. It cancels the
        calls that have not finished by then. Afterwards, `stuck` is true if some threads did not end.
        """
        self._health.set_status(health_pb2.HealthCheckResponse.NOT_SERVING)
        self._stopped.wait(self._settings.lame_duck_seconds)  # load balancers now stop sending calls
        self._end(self._settings.grace_seconds)

    @property
    def stuck(self) -> bool:
        """Whether a call is still running after the server has stopped, which keeps the process running."""
        return self._stopped.is_set() and not (self._ended and self._calls.idle)

    @property
    def target(self) -> str:
        """Target with which clients on this machine connect to the server.

        If the server listens on all addresses, the target contains a name from the certificate, or the loopback address
        if there is no certificate.
        """
        settings = self._settings
        scheme = "grpc" if settings.tls_certificate is None else "grpcs"
        host = settings.host.strip("[]")
        if host in _ALL_ADDRESSES:
            host = _ALL_ADDRESSES[host]
            if settings.tls_certificate is not None and settings.tls_key is not None:
                host = next(iter(certificate_names(settings.tls_certificate, settings.tls_key)), socket.gethostname())
        return f"{scheme}://{_bracketed(host)}:{self.port}"

    def _load(self) -> None:
        settings = self._settings
        store = Store(self._folder)
        self._closing.callback(store.close)
        self.metrics.observe("index_images", "Searchable images.", lambda: store.view.count)
        self.metrics.observe("index_generation", "Generation in use.", lambda: store.view.generation)
        if settings.metrics_port:
            self._closing.callback(self.metrics.serve(settings.metrics_port))
        warm()
        pixels = ReferencePixels(
            settings.cache_mib * _MIB,
            self._folder / UPLOADS_FOLDER,
            pixel_budget=settings.pixel_budget,
        )
        found = {"yes": lambda: pixels.hits, "no": lambda: pixels.misses}
        self.metrics.count("reference_cache_lookups", "Lookups in the cache of reference pixels.", "found", found)
        self.metrics.observe("reference_cache_bytes", "Size of the cache of reference pixels.", lambda: pixels.nbytes)
        searcher = Searcher(store, pixels)
        self._similarity.searcher = searcher
        self._catalog.use(store, searcher)
        watch = threading.Thread(target=self._watch, args=(store,), name="watch", daemon=True)
        watch.start()
        self._closing.callback(watch.join)
        view = store.view
        LOGGER.info("serving %d images, generation %d, on port %d", view.count, view.generation, self.port)

    def _end(self, grace: float) -> None:
        until = time.monotonic() + grace
        self._draining.set()
        # When gRPC stops, it cancels calls that have arrived but not started. Before that, the server answers these
        # calls with an error that permits a retry.
        while not self._calls.idle and time.monotonic() < until:
            self._stopped.wait(_POLL_SECONDS)
        self._stopped.wait(min(_FLUSH_SECONDS, grace))
        last = min(_FLUSH_SECONDS, max(0.0, until - time.monotonic()))
        self._ended = self._server.stop(last).wait(last + _CANCEL_SECONDS)
        if not self._ended:
            LOGGER.warning("some cancelled calls did not end; the server no longer waits for these calls")
        self._stopped.set()
        self._closing.close()
        self._calls.close()

    def wait(self) -> None:
        """Wait until the server has stopped."""
        self._server.wait_for_termination()

    def _bind(self) -> int:
        settings = self._settings
        address = f"{_bracketed(settings.host)}:{settings.port}"
        try:
            if settings.tls_certificate is None or settings.tls_key is None:
                return self._server.add_insecure_port(address)
            certificates = Certificates(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
            return self._server.add_secure_port(address, certificates.credentials())
        except RuntimeError as error:
            msg = f"cannot listen on {address}: is another server running there? ({error})"
            raise SettingsError(msg) from error

    def _watch(self, store: Store) -> None:
        """Load each new generation after it is published; if loading fails, log the failure once and try again."""
        failing = False
        while not self._stopped.wait(self._settings.refresh_seconds):
            try:
                store.refresh()
                failing = False
            except Exception:  # noqa: BLE001  the server continues with the generation that it has
                if not failing:
                    LOGGER.exception("the store cannot be refreshed; the server still uses generation %d",
                                     store.view.generation)  # fmt: skip
                failing = True


def _bracketed(host: str) -> str:
    return f"[{host.strip('[]')}]" if ":" in host else host


def _channel_options(settings: ServerSettings) -> list[tuple[str, int]]:
    slots = settings.workers + settings.max_waiting + settings.max_streams
    return [
        ("grpc.so_reuseport", 0),  # otherwise a second server could use the same port and get half of the calls
        ("grpc.max_receive_message_length", settings.max_message_mib * _MIB),
        ("grpc.max_send_message_length", -1),
        # The limit is higher than the number of slots. Clients that share the connection of a proxy are then refused
        # instead of kept waiting.
        ("grpc.max_concurrent_streams", 2 * slots),
        ("grpc.max_metadata_size", 16 << 10),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
