"""From the statuses of a server to exceptions that name the caller's problem."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status
from twinscope_indexer.errors import (
    ImageError,
    RecipeError,
    StoreLockedError,
    TaxonomyError,
    TwinscopeError,
    UnknownImageError,
)
from twinscope_service.errors import GenerationError
from twinscope_service.server.status import DOMAIN
from twinscope_service.wire.text import unescaped

from twinscope_client.errors import AccessError, ServerError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_FAULTS = ("missing", "unreadable", "empty", "truncated", "damaged", "unsupported", "too_large")
_RETRIABLE = {"UNAVAILABLE", "RESOURCE_EXHAUSTED", "ABORTED", "DEADLINE_EXCEEDED", "DATA_LOSS"}
_DETAILS = "grpc-status-details-bin"
_DISTRUST = re.compile(r"CERTIFICATE_VERIFY_FAILED: (.+?)(?:: OK)?$|Hostname Verification Check failed")
"""What gRPC says where it does not trust the certificate of a server."""


def raised(error: grpc.RpcError, where: str) -> TwinscopeError:
    """Return the exception to raise for a failed call to the server `where`."""
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


@dataclass(frozen=True, slots=True)
class _Details:
    """What travels beside the sentence of a status, for programs."""

    info: details.ErrorInfo
    retry: details.RetryInfo
    resource: details.ResourceInfo
    request: details.BadRequest

    @classmethod
    def of(cls, status: Status) -> _Details:
        found = cls(details.ErrorInfo(), details.RetryInfo(), details.ResourceInfo(), details.BadRequest())
        for part in status.details:
            for message in (found.info, found.retry, found.resource, found.request):
                if part.Is(message.DESCRIPTOR):
                    part.Unpack(message)
        return found

    def value(self, key: str) -> str:
        """Return a value of the ErrorInfo; empty if there is none."""
        return unescaped(self.info.metadata.get(key, ""))

    def number(self, key: str) -> int:
        """Return a number of the ErrorInfo; 0 if there is none."""
        text = self.value(key)
        return int(text) if text.isdecimal() else 0


def exception_of(status: Status, where: str, code: str = "") -> TwinscopeError:
    """Return the exception for a status, of a call or of one item of it."""
    name = code or next(one.name for one in grpc.StatusCode if one.value[0] == status.code)
    found = _Details.of(status)
    text = unescaped(status.message) if found.info.domain == DOMAIN else status.message
    known = _known(found, text, where)
    if known is not None:
        return known
    delay = found.retry.retry_delay
    seconds = delay.ToMilliseconds() / 1000 if found.retry.HasField("retry_delay") else None
    distrust = None if found.info.reason else _distrust(text, where)
    if distrust is not None:
        return distrust
    kind = AccessError if name in {"UNAUTHENTICATED", "PERMISSION_DENIED"} else ServerError
    return kind(
        f"{where}: {text}{_hint(name, found.info.reason)}",
        code=name,
        reason=found.info.reason,
        retriable=name in _RETRIABLE,
        retry_seconds=seconds,
    )


def _known(found: _Details, text: str, where: str) -> TwinscopeError | None:
    """Return the exception that an embedded store would raise; None for what only a server can meet."""
    match found.info.reason:
        case "IMAGE_UNREADABLE":
            fault = found.value("fault")
            return ImageError("upload", fault if fault in _FAULTS else "damaged", found.value("detail"))  # type: ignore[arg-type]
        case "IMAGE_TOO_LARGE":
            return ImageError("upload", "too_large", text)
        case "RECIPE_MISMATCH":
            return RecipeError(found.value("found"), found.value("expected"))
        case "UNKNOWN_CATEGORY":
            faults = found.request.field_violations
            return TaxonomyError("; ".join(unescaped(fault.description) for fault in faults) or text)
        case "IMAGE_NOT_FOUND" if found.resource.resource_name:
            return UnknownImageError(found.resource.resource_name)
        case "STORE_LOCKED":
            return StoreLockedError(f"{where}: {text}")
        case "GENERATION_NOT_REACHED" if found.number("wanted"):
            return GenerationError(found.number("wanted"), found.number("generation"))
    return None


def _hint(name: str, reason: str) -> str:
    if name in {"UNAVAILABLE", "DEADLINE_EXCEEDED"} and not reason:
        return " (is the server running, and its address right? grpcs:// for TLS, grpc:// without)"
    return (
        " (give a token: --token-file, TWINSCOPE_TOKEN, or connect(..., token=...))"
        if reason == "TOKEN_INVALID"
        else ""
    )
