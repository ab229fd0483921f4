"""Check that a server is ready to answer.

Prints the status of the server. Ends with exit code 0 if the status is SERVING, otherwise with exit code 1. While a
server is starting or shutting down, the status is not SERVING. Containers and load balancers can use this command as
their health check. The command needs no token.

Example: twinscope health grpc://127.0.0.1:50051
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from twinscope_client.cli.console import DONE, FAILED, emit
from twinscope_client.cli.usage import StoreName

if TYPE_CHECKING:
    from twinscope_client.engine.options import ConnectOptions

_PAUSE_SECONDS: Final = 0.2
"""Time between two checks with --wait, in seconds."""

HELP = "check that a server is ready to answer"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand to the parser."""
    about = "address of the server: grpc://host:port, or grpcs://host:port with TLS"
    parser.add_argument("target", nargs="?", metavar="TARGET", action=StoreName, help=about)
    parser.add_argument("--at", dest="target", metavar="TARGET", action=StoreName, help="the same as TARGET")
    parser.add_argument(
        "--service", default="", metavar="NAME", help="check one service of the server instead of the whole server"
    )
    parser.add_argument(
        "--timeout", type=float, default=5.0, metavar="SECONDS", help="maximum time to wait, in seconds (default: 5)"
    )
    parser.add_argument(
        "--wait",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="wait at most this time until the status is SERVING, for example while a server is starting",
    )
    parser.add_argument(
        "--ca",
        type=Path,
        metavar="PEM",
        help="file with the certificate authorities to trust instead of the authorities of the operating system",
    )
    parser.add_argument(
        "--cert", type=Path, metavar="PEM", help="file with the certificate of this client, for mutual TLS (mTLS)"
    )
    parser.add_argument(
        "--key", type=Path, metavar="PEM", help="file with the private key for the certificate of --cert"
    )


def run(parsed: argparse.Namespace) -> int:
    """Run the subcommand, and return the exit code."""
    from twinscope_indexer.errors import extra_needed

    with extra_needed("the health check", "server"):
        import grpc
        from grpc_health.v1 import health_pb2, health_pb2_grpc

        from twinscope_client.remote.channel import open_channel
        from twinscope_client.remote.diagnosis import hopeless
        from twinscope_client.remote.errors import exception_of_call

    credentials: ConnectOptions = {"ca": parsed.ca, "certificate": parsed.cert, "key": parsed.key}
    until = time.monotonic() + parsed.wait
    while True:
        # A new channel for each attempt: a channel waits longer and longer before it connects again.
        with open_channel(parsed.target, credentials) as channel:
            # The type is Any, because the types of the package grpc_health are incomplete.
            stub: Any = health_pb2_grpc.HealthStub(channel)
            try:
                status = stub.Check(
                    health_pb2.HealthCheckRequest(service=parsed.service), timeout=parsed.timeout
                ).status
                failure = None
            except grpc.RpcError as error:
                status, failure = health_pb2.HealthCheckResponse.UNKNOWN, error
        if status == health_pb2.HealthCheckResponse.SERVING or time.monotonic() + _PAUSE_SECONDS > until:
            break
        if hopeless(failure, parsed.target, credentials) is not None:
            break
        time.sleep(_PAUSE_SECONDS)
    if failure is not None:
        if cast("Any", failure).code() is grpc.StatusCode.NOT_FOUND:
            from twinscope_service.errors import SettingsError

            known = "twinscope.v1.SimilarityService and twinscope.v1.CatalogService"
            msg = f"{parsed.target} has no service {parsed.service!r}; the services are {known}"
            raise SettingsError(msg) from failure
        known_cause = hopeless(failure, parsed.target, credentials)
        raise (known_cause or exception_of_call(failure, parsed.target)) from failure
    emit(health_pb2.HealthCheckResponse.ServingStatus.Name(status))
    return DONE if status == health_pb2.HealthCheckResponse.SERVING else FAILED
