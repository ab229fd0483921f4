"""Conversion of exceptions to statuses.

A status contains a code and a reason for programs. A status contains no internal details of the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
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
from twinscope_service.wire.rules import MessageError
from twinscope_service.wire.text import escaped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from google.protobuf.message import Message

DOMAIN = "twinscope"
_MOST_VIOLATIONS = 16
_MOST_TEXT = 1000
"""Maximum length of a text in a status, in characters. A status is sent in the trailing metadata, of which clients
accept at most 8 KiB. If the status were longer, the client would receive a transport error instead."""


class RequestError(TwinscopeError):
    """A request fails for a reason that the wire contract defines.

    Attributes
    ----------
    code : grpc.StatusCode
        Status code that is sent.
    reason : str
        Name of a value of the enum ``ErrorReason``, without its prefix.
    metadata : dict of str
        Metadata of the ErrorInfo.
    retry_seconds : float or None
        Delay before a retry, in seconds; None if a retry would not help.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: str,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        retry_seconds: float | None = None,
        also: Sequence[Message] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.retry_seconds = retry_seconds
        self.also = tuple(also)

    @property
    def status(self) -> Status:
        """The status that the server sends for this error."""
        status = Status(code=self.code.value[0], message=_short(str(self)))
        messages: list[Message] = [
            details.ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=self.metadata),
            *self.also,
        ]
        if self.retry_seconds is not None:
            delay = Duration()
            delay.FromMilliseconds(int(1000 * self.retry_seconds))
            messages.append(details.RetryInfo(retry_delay=delay))
        for message in messages:
            packed = Any()
            packed.Pack(message)
            status.details.append(packed)
        return status


def invalid(violations: Sequence[tuple[str, str]], reason: str = "INVALID_FIELD") -> RequestError:
    """Return the error for a request that violates rules; each violation is the path of a field and a description."""
    listed = violations[:_MOST_VIOLATIONS]
    request = details.BadRequest(
        field_violations=[
            details.BadRequest.FieldViolation(field=field, description=_short(text, _MOST_TEXT // len(listed)))
            for field, text in listed
        ]
    )
    text = "; ".join(f"{field}: {fault}" if field else fault for field, fault in violations[:3])
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, reason, text, also=(request,))


def image_not_found(image_id: str) -> RequestError:
    """Return the error for an image id that is not in the store."""
    resource = details.ResourceInfo(resource_type="image", resource_name=image_id)
    return RequestError(grpc.StatusCode.NOT_FOUND, "IMAGE_NOT_FOUND", f"there is no image {image_id}", also=(resource,))


def unknown_category(error: TaxonomyError, field: str) -> RequestError:
    """Return the error for an unknown category; `field` is the path of the field with the category."""
    return invalid([(field, str(error))], "UNKNOWN_CATEGORY")


def overloaded(message: str, reason: str = "OVERLOADED", retry_seconds: float = 0.5) -> RequestError:
    """Return the error for a request that the server refuses before any work, for example because of too many calls."""
    return RequestError(grpc.StatusCode.RESOURCE_EXHAUSTED, reason, message, retry_seconds=retry_seconds)


def request_error(error: Exception, request_id: str) -> RequestError:
    """Convert an exception to the error that the server sends.

    For an unexpected exception, the error contains only the id of the request.
    """
    match error:
        case RequestError():
            return error
        case MessageError():
            return invalid(error.violations)
        case UnknownImageError():
            return image_not_found(error.image_id)
        case GenerationError():
            return RequestError(
                grpc.StatusCode.DEADLINE_EXCEEDED, "GENERATION_NOT_REACHED", str(error),
                metadata={"wanted": str(error.wanted), "generation": str(error.newest)}, retry_seconds=1.0,
            )  # fmt: skip
        case ImageError():
            return RequestError(
                grpc.StatusCode.INVALID_ARGUMENT, "IMAGE_UNREADABLE", f"the image cannot be read: {error.detail}",
                metadata={"fault": error.fault, "detail": _short(error.detail)},
            )  # fmt: skip
        case RecipeError():
            return RequestError(
                grpc.StatusCode.FAILED_PRECONDITION, "RECIPE_MISMATCH", str(error),
                metadata={"found": _short(error.found), "expected": error.expected},
            )  # fmt: skip
        case TaxonomyError():
            return unknown_category(error, "category")
        case StoreLockedError():
            return RequestError(
                grpc.StatusCode.UNAVAILABLE, "STORE_LOCKED", "another process is writing to the store",
                retry_seconds=2.0,
            )  # fmt: skip
        case MemoryError():
            return overloaded("not enough memory for this request")
    return RequestError(
        grpc.StatusCode.INTERNAL, "INTERNAL", f"internal error; see request {request_id} in the log of the server",
        metadata={"request_id": request_id},
    )  # fmt: skip


def _short(text: str, most: int = _MOST_TEXT) -> str:
    """Shorten a text to a maximum length and escape it, so that a status can contain it."""
    return escaped(text if len(text) <= most else f"{text[: most - 3]}...")
