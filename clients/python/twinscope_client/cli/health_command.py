"""Check that a server is ready to answer.

Prints the status of the server. Ends with exit code 0 if the status is SERVING, otherwise with exit code 1. While a
server is starting or shutting down, the status is not SERVING. Containers and load balancers can use this command as
their health check. The command needs no token.

Example: twinscope health grpc://127.0.0.1:50051
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, cast

from twinscope_client.cli.console import DONE, FAILED, emit

HELP = "check that a server is ready to answer"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand to the parser."""
    parser.add_argument(
        "target", metavar="TARGET", help="address of the server: grpc://host:port, or grpcs://host:port with TLS"
    )
    parser.add_argument(
        "--service", default="", metavar="NAME", help="check one service of the server instead of the whole server"
    )
    parser.add_argument(
        "--timeout", type=float, default=5.0, metavar="SECONDS", help="maximum time to wait, in seconds (default: 5)"
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

    with extra_needed("twinscope health", "server"):
        import grpc
        from grpc_health.v1 import health_pb2, health_pb2_grpc

        from twinscope_client.remote.engine import open_channel
        from twinscope_client.remote.errors import exception_of_call

    with open_channel(parsed.target, {"ca": parsed.ca, "certificate": parsed.cert, "key": parsed.key}) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # Any: the types of the package grpc_health are incomplete
        try:
            response = stub.Check(health_pb2.HealthCheckRequest(service=parsed.service), timeout=parsed.timeout)
        except grpc.RpcError as error:
            if cast("Any", error).code() is grpc.StatusCode.NOT_FOUND:
                from twinscope_service.errors import SettingsError

                known = "twinscope.v1.SimilarityService and twinscope.v1.CatalogService"
                msg = f"{parsed.target} has no service {parsed.service!r}; the services are {known}"
                raise SettingsError(msg) from error
            raise exception_of_call(error, parsed.target) from error
    emit(health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))
    return DONE if response.status == health_pb2.HealthCheckResponse.SERVING else FAILED
