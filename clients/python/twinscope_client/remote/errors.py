"""Conversion of the error statuses of a server to exceptions."""

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
_UNTRUSTED = re.compile(r"CERTIFICATE_VERIFY_FAILED: (.+?)(?:: OK)?$|Hostname Verification Check failed")
"""Pattern for the texts of gRPC errors which mean that the certificate of the server is not trusted."""


def exception_of_call(error: grpc.RpcError, target: str) -> TwinscopeError:
    """Return the exception for a failed call. `target` is the address of the server."""
    call: Any = error
    code = call.code().name
    trailing = dict(call.trailing_metadata() or ())
    status = Status()
    if _DETAILS in trailing:
        status = Status.FromString(trailing[_DETAILS])
    if not status.message:
        status.message = call.details() or code.lower().replace("_", " ")
    return exception_of(status, target, code)


@contextmanager
def raise_if_untrusted(target: str) -> Iterator[None]:
    """Raise an error if a call in this context fails because the certificate of the server is not trusted.

    If the call fails for another reason, the failure is ignored. The call must be a health check, because gRPC does not
    retry a health check. gRPC would retry another call for several seconds, although all retries with the same
    certificate fail.

    Raises
    ------
    ServerError
        If the certificate is not trusted.
    """
    try:
        yield
    except grpc.RpcError as error:
        call: Any = error
        untrusted = _untrusted(call.details() or "", target)
        if untrusted is not None:
            raise untrusted from error


def _untrusted(text: str, target: str) -> ServerError | None:
    found = _UNTRUSTED.search(text)
    if found is None:
        return None
    why = found[1] or "the name in the certificate differs from this address"
    how = "name the certificate authority with --ca or connect(..., ca=...)"
    return ServerError(f"{target}: the certificate of the server is not trusted: {why} ({how})", code="UNAVAILABLE")


@dataclass(frozen=True, slots=True)
class _Details:
    """The machine-readable details of an error status."""

    info: details.ErrorInfo
    retry: details.RetryInfo
    resource: details.ResourceInfo
    request: details.BadRequest

    @classmethod
    def of(cls, status: Status) -> _Details:
        found = cls(details.ErrorInfo(), details.RetryInfo(), details.ResourceInfo(), details.BadRequest())
        for detail in status.details:
            for message in (found.info, found.retry, found.resource, found.request):
                if detail.Is(message.DESCRIPTOR):
                    detail.Unpack(message)
        return found

    def value(self, key: str) -> str:
        """Return the text for a key in the message ErrorInfo, or an empty text if the key is missing."""
        return unescaped(self.info.metadata.get(key, ""))

    def number(self, key: str) -> int:
        """Return the number for a key in the message ErrorInfo, or 0 if the key is missing."""
        text = self.value(key)
        return int(text) if text.isdecimal() else 0


def exception_of(status: Status, target: str, code: str = "") -> TwinscopeError:
    """Return the exception for the error status of a call, or for the error status of one query of a call."""
    name = code or next(one.name for one in grpc.StatusCode if one.value[0] == status.code)
    found = _Details.of(status)
    text = unescaped(status.message) if found.info.domain == DOMAIN else status.message
    known = _known(found, text, target)
    if known is not None:
        return known
    delay = found.retry.retry_delay
    seconds = delay.ToMilliseconds() / 1000 if found.retry.HasField("retry_delay") else None
    untrusted = None if found.info.reason else _untrusted(text, target)
    if untrusted is not None:
        return untrusted
    kind = AccessError if name in {"UNAUTHENTICATED", "PERMISSION_DENIED"} else ServerError
    return kind(
        f"{target}: {text}{_hint(name, found.info.reason)}",
        code=name,
        reason=found.info.reason,
        retriable=name in _RETRIABLE,
        retry_seconds=seconds,
    )


def _known(found: _Details, text: str, target: str) -> TwinscopeError | None:
    """Return the exception that an embedded engine would raise, or None if only a server can have this error."""
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
            return StoreLockedError(f"{target}: {text}")
        case "GENERATION_NOT_REACHED" if found.number("wanted"):
            return GenerationError(found.number("wanted"), found.number("generation"))
    return None


def _hint(name: str, reason: str) -> str:
    if name in {"UNAVAILABLE", "DEADLINE_EXCEEDED"} and not reason:
        return " (check that the server is running and that the address is right: grpcs:// with TLS, grpc:// without)"
    return (
        " (give a token with --token-file, TWINSCOPE_TOKEN or connect(..., token=...))"
        if reason == "TOKEN_INVALID"
        else ""
    )
