"""The server: ports, health, reflection, hot pick-up of new generations, and a graceful end."""

from __future__ import annotations

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
from twinscope_service.server.tls import Certificates
from twinscope_service.server.tokens import Tokens
from twinscope_service.server.warmup import warm

if TYPE_CHECKING:
    from pathlib import Path

    from twinscope_service.server.settings import ServerSettings

_LOOK_AGAIN = 0.05
_GIVEN_UP = 3.0
"""Seconds after which a call that does not even end when it is cancelled is left behind."""
_LAST_WORDS = 0.3
"""Seconds for the last answers to leave when nothing is worked on any more. Watchers of health stay on until then."""
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

    Attributes
    ----------
    port : int
        The port that it listens on.
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
        """Begin to serve; returns when the index is loaded.

        Until then health says NOT_SERVING, and calls are told INDEX_NOT_READY.

        Raises
        ------
        StoreError
            If there is no store, or it cannot be used.
        SettingsError
            If the port of the metrics is taken.
        """
        self._server.start()
        patience = threading.Thread(target=self._calls.end_overdue, args=(self._stopped,), name="patience", daemon=True)
        patience.start()
        self._closing.callback(patience.join)
        try:
            self._load()
        except BaseException:
            self._end(0.0)
            raise
        self._calls.ready.set()
        self._health.tell(health_pb2.HealthCheckResponse.SERVING)

    def stop(self) -> None:
        """Drain: tell 'not serving', refuse what is new, finish what is under way, and free everything.

        Takes no longer than ``lame_duck_seconds`` and ``grace_seconds`` and a few seconds: calls that are still under
        way then are cancelled, and `stuck` says whether threads had to be left behind.
        """
        self._health.tell(health_pb2.HealthCheckResponse.NOT_SERVING)
        self._stopped.wait(self._settings.lame_duck_seconds)  # load balancers look away
        self._end(self._settings.grace_seconds)

    @property
    def stuck(self) -> bool:
        """Whether a call is still being worked on after the server has stopped: a process would wait for its end."""
        return self._stopped.is_set() and not (self._ended and self._calls.idle)

    @property
    def target(self) -> str:
        """What clients on this machine connect to."""
        scheme = "grpc" if self._settings.tls_certificate is None else "grpcs"
        return f"{scheme}://{_bracketed(self._settings.host)}:{self.port}"

    def _load(self) -> None:
        settings = self._settings
        store = Store(self._folder)
        self._closing.callback(store.close)
        self.metrics.observe("index_images", "Searchable images.", lambda: store.view.count)
        self.metrics.observe("index_generation", "Generation answered from.", lambda: store.view.generation)
        if settings.metrics_port:
            self._closing.callback(self.metrics.serve(settings.metrics_port))
        warm()
        pixels = ReferencePixels(settings.cache_mib * _MIB, self._folder / UPLOADS_FOLDER)
        found = {"yes": lambda: pixels.hits, "no": lambda: pixels.misses}
        self.metrics.count("reference_cache_lookups", "Looked for pixels of references in memory.", "found", found)
        self.metrics.observe("reference_cache_bytes", "Pixels of references in memory.", lambda: pixels.nbytes)
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
        # gRPC cancels what has come but is not taken up yet when it stops: first let those be told that may try again.
        while not self._calls.idle and time.monotonic() < until:
            self._stopped.wait(_LOOK_AGAIN)
        self._stopped.wait(min(_LAST_WORDS, grace))
        last = min(_LAST_WORDS, max(0.0, until - time.monotonic()))
        self._ended = self._server.stop(last).wait(last + _GIVEN_UP)
        if not self._ended:
            LOGGER.warning("some calls did not end when they were cancelled; they are left behind")
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
        """Take up new generations as they are published; a failure is told, and tried again."""
        failing = False
        while not self._stopped.wait(self._settings.refresh_seconds):
            try:
                store.refresh()
                failing = False
            except Exception:  # noqa: BLE001  the server goes on with what it has
                if not failing:
                    LOGGER.exception("the store cannot be refreshed; still serving generation %d",
                                     store.view.generation)  # fmt: skip
                failing = True


def _bracketed(host: str) -> str:
    return f"[{host.strip('[]')}]" if ":" in host else host


def _channel_options(settings: ServerSettings) -> list[tuple[str, int]]:
    slots = settings.workers + settings.max_waiting + settings.max_streams
    return [
        ("grpc.so_reuseport", 0),  # else a second server on the port takes half of the calls, silently
        ("grpc.max_receive_message_length", settings.max_message_mib * _MIB),
        ("grpc.max_send_message_length", -1),
        # More than there are slots: behind a proxy, those who share its connection are refused, not left waiting.
        ("grpc.max_concurrent_streams", 2 * slots),
        ("grpc.max_metadata_size", 16 << 10),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
