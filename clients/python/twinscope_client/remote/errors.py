"""From the statuses of a server to exceptions that name the caller's problem."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status
from twinscope_indexer.errors import (
    AccessError,
    GenerationError,
    ImageError,
    RecipeError,
    ServerError,
    StoreLockedError,
    TaxonomyError,
    TwinscopeError,
    UnknownImageError,
)
from twinscope_service.server.status import DOMAIN
from twinscope_service.wire.text import unescaped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_FAULTS = ("missing", "unreadable", "empty", "truncated", "damaged", "unsupported", "too_large")
_RETRIABLE = {"UNAVAILABLE", "RESOURCE_EXHAUSTED", "ABORTED", "DEADLINE_EXCEEDED", "DATA_LOSS"}
_DETAILS = "grpc-status-details-bin"
_DISTRUST = re.compile(r"CERTIFICATE_VERIFY_FAILED: (.+?)(?:: OK)?$|Hostname Verification Check failed")
"""What gRPC says where it does not trust the certificate of a server."""


def raised(error: grpc.RpcError, where: str) -> TwinscopeError:
    """Give the exception to raise for a failed call to the server `where`."""
    call: Any = error
    code = call.code().name
    trailing = dict(call.trailing_metadata() or ())
    status = Status()
    if _DETAILS in trailing:
        status = Status.FromString(trailing[_DETAILS])
    if not status.message:
        status.message = call.details() or code.lower().replace("_", " ")
    return exception_of(status, where, code)


@contextmanager
def telling_distrust(where: str) -> Iterator[None]:
    """Tell at once that the certificate of the server `where` is not trusted; pass over whatever else fails.

    It will not be trusted later either, and yet gRPC asks again for seconds in calls that it repeats.

    Raises
    ------
    ServerError
        If the certificate is not trusted.
    """
    try:
        yield
    except grpc.RpcError as error:
        call: Any = error
        distrust = _distrust(call.details() or "", where)
        if distrust is not None:
            raise distrust from error


def _distrust(text: str, where: str) -> ServerError | None:
    found = _DISTRUST.search(text)
    if found is None:
        return None
    why = found[1] or "it is for another name than that of this address"
    how = "name its authority: --ca, or connect(..., ca=...)"
    return ServerError(f"{where}: the server's certificate is not trusted: {why} ({how})", code="UNAVAILABLE")


def exception_of(status: Status, where: str, code: str = "") -> TwinscopeError:
    """Give the exception for a status, of a call or of one item of it."""
    name = code or next(one.name for one in grpc.StatusCode if one.value[0] == status.code)
    info, retry = details.ErrorInfo(), details.RetryInfo()
    for part in status.details:
        if part.Is(details.ErrorInfo.DESCRIPTOR):
            part.Unpack(info)
        elif part.Is(details.RetryInfo.DESCRIPTOR):
            part.Unpack(retry)
    text = unescaped(status.message) if info.domain == DOMAIN else status.message
    known = _known(info, text, where)
    if known is not None:
        return known
    seconds = retry.retry_delay.ToMilliseconds() / 1000 if retry.HasField("retry_delay") else None
    distrust = None if info.reason else _distrust(text, where)
    if distrust is not None:
        return distrust
    kind = AccessError if name in {"UNAUTHENTICATED", "PERMISSION_DENIED"} else ServerError
    hint = _hint(name, info.reason)
    return kind(
        f"{where}: {text}{hint}", code=name, reason=info.reason, retriable=name in _RETRIABLE,
        retry_seconds=seconds,
    )  # fmt: skip


def _known(info: details.ErrorInfo, text: str, where: str) -> TwinscopeError | None:
    match info.reason:
        case "IMAGE_UNREADABLE":
            fault = info.metadata.get("fault", "damaged")
            detail = unescaped(info.metadata.get("detail", ""))
            return ImageError("upload", fault if fault in _FAULTS else "damaged", detail)  # type: ignore[arg-type]
        case "IMAGE_TOO_LARGE":
            return ImageError("upload", "too_large", text)
        case "RECIPE_MISMATCH":
            return RecipeError(unescaped(info.metadata.get("found", "")), info.metadata.get("expected", ""))
        case "UNKNOWN_CATEGORY":
            return TaxonomyError(text.partition(": ")[2] or text)
        case "IMAGE_NOT_FOUND":
            return UnknownImageError(text.rpartition(" ")[2])
        case "STORE_LOCKED":
            return StoreLockedError(f"{where}: {text}")
        case "GENERATION_NOT_REACHED":
            error = GenerationError(0, int(info.metadata.get("generation", "0")))
            error.args = (text,)
            return error
    return None


def _hint(name: str, reason: str) -> str:
    if name in {"UNAVAILABLE", "DEADLINE_EXCEEDED"} and not reason:
        return " (is the server running, and its address right? grpcs:// for TLS, grpc:// without)"
    return (
        " (give a token: --token-file, TWINSCOPE_TOKEN, or connect(..., token=...))"
        if reason == "TOKEN_INVALID"
        else ""
    )
