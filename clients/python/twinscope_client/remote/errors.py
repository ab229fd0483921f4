"""Conversion of the error statuses of a server to exceptions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

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
from twinscope_client.remote.diagnosis import untrusted
from twinscope_client.remote.proxy import by_proxy

_FAULTS = ("missing", "unreadable", "empty", "truncated", "damaged", "unsupported", "too_large")
_RETRIABLE = {"UNAVAILABLE", "RESOURCE_EXHAUSTED", "ABORTED", "DEADLINE_EXCEEDED", "DATA_LOSS"}
_DETAILS = "grpc-status-details-bin"


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
    distrusted = None if found.info.reason else untrusted(text, target)
    if distrusted is not None:
        return distrusted
    kind = AccessError if name in {"UNAUTHENTICATED", "PERMISSION_DENIED"} else ServerError
    return kind(
        f"{target}: {text}{_hint(name, found.info.reason, target)}",
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


def _hint(name: str, reason: str, target: str) -> str:
    if name in {"UNAVAILABLE", "DEADLINE_EXCEEDED"} and not reason:
        return (
            " (check that the server is running and that the address is right: grpcs:// with TLS, grpc:// without"
            f"{by_proxy(urlsplit(target).hostname or '')})"
        )
    return (
        " (give a token with --token-file, TWINSCOPE_TOKEN or connect(..., token=...))"
        if reason == "TOKEN_INVALID"
        else ""
    )
