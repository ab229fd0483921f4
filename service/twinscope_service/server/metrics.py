"""Prometheus metrics of the server, which it offers over plain HTTP on a loopback port."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from twinscope_service.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


@dataclass(frozen=True, slots=True)
class MethodMetrics:
    """The metrics of one method: calls in progress, durations of calls, and ended calls by status code."""

    in_flight: Gauge
    seconds: Histogram
    ended: Callable[[str], Counter]


class Metrics:
    """The metrics of one server, in a registry that no other server uses."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "twinscope_requests", "Calls that ended, by method and status code.", ("method", "code"),
            registry=self.registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "twinscope_request_seconds", "Time from the first byte of a call to its status, by method.", ("method",),
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.in_flight = Gauge(
            "twinscope_requests_in_flight", "Calls in progress, by method.", ("method",), registry=self.registry
        )
        self.refused = Counter(
            "twinscope_requests_refused", "Calls that were refused before any work, by reason.", ("reason",),
            registry=self.registry,
        )  # fmt: skip
        self.stages = Histogram(
            "twinscope_stage_seconds", "Duration of each stage of a request: wait for a worker, work.", ("stage",),
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip

    @cache  # noqa: B019  a server has one such object and few methods
    def method(self, name: str) -> MethodMetrics:
        """Return the metrics of one method; the cache of this function avoids a slow lookup in prometheus_client."""
        return MethodMetrics(
            self.in_flight.labels(name),
            self.seconds.labels(name),
            cache(lambda code: self.requests.labels(name, code)),
        )

    @cache  # noqa: B019
    def stage(self, name: str) -> Histogram:
        """Return the histogram of the durations of one stage of the requests."""
        return self.stages.labels(name)

    def observe(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Register a gauge; the function `value` returns its value whenever the metrics are collected."""
        Gauge(f"twinscope_{name}", text, registry=self.registry).set_function(value)

    def count(self, name: str, text: str, label: str, values: Mapping[str, Callable[[], float]]) -> None:
        """Register one counter for each value of a label.

        The functions in `values` return the counts whenever the metrics are collected.
        """
        self.registry.register(_Counts(f"twinscope_{name}", text, label, values))

    def serve(self, port: int) -> Callable[[], None]:
        """Offer the metrics on a loopback port. Return a function that closes the port.

        Raises
        ------
        SettingsError
            If another program uses the port.
        """
        try:
            server, thread = start_http_server(port, addr="127.0.0.1", registry=self.registry)
        except OSError as error:
            msg = f"metrics cannot be served on port {port}: {error.strerror or error}"
            raise SettingsError(msg) from error

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return stop


class _Counts(Collector):
    def __init__(self, name: str, text: str, label: str, values: Mapping[str, Callable[[], float]]) -> None:
        self._name, self._text, self._label = name, text, label
        self._values = values

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(self._name, self._text, labels=[self._label])
        for value, read in self._values.items():
            family.add_metric([value], read())
        yield family
