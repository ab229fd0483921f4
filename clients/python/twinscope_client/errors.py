"""All exceptions that Twinscope defines. The package ``twinscope`` exports the same names.

Each exception is defined in the package that raises it. The hierarchy::

    TwinscopeError
    |-- ImageError             an image cannot be read; the attribute `fault` holds the reason
    |-- SourceError            a folder, file or archive to be indexed or labelled cannot be used
    |-- TaxonomyError          a category is unknown, or a taxonomy or table of labels is malformed
    |-- RemovalError           `index` was refused, because it would take many images out of a store
    |-- RecipeError            hashes made by different recipes cannot be compared
    |-- StoreError             a folder is missing, holds no store, or holds a store that cannot be used
    |   `-- StoreLockedError   another process is writing to the store
    |-- IndexEngineError       the index engine chosen by an environment variable is unknown or cannot be loaded
    |-- UnknownImageError      the store has no image with the given image id
    |-- CalibrationError       a calibration cannot be computed or used
    |-- GenerationError        a generation of the store was not published in time
    |-- OptionError            an option is unknown, misspelt or out of range (also a ValueError)
    |-- SettingsError          a setting of a server, a connection or this process cannot be used
    |-- MessageError           a message violates the wire contract, or was sent by a newer release
    |-- ServerError            a server refused the call, failed, or cannot be reached
    |   `-- AccessError        the server did not accept the token, or the token has the wrong role
    |-- ClosedError            an engine was used after it was closed (also a ValueError)
    |-- OutputError            results cannot be written to the requested location
    `-- MissingExtraError      an optional component of Twinscope is not installed

There is also one warning: `VersionSkewWarning` is issued if client and server have different releases of Twinscope.
"""

from __future__ import annotations

from typing import Final, Self

from twinscope_indexer.errors import (
    ImageError,
    IndexEngineError,
    MissingExtraError,
    RecipeError,
    RemovalError,
    SettingsError,
    SourceError,
    StoreError,
    StoreLockedError,
    TaxonomyError,
    TwinscopeError,
    UnknownImageError,
)
from twinscope_service.errors import CalibrationError, GenerationError, OptionError
from twinscope_service.wire.rules import MessageError

__all__ = [
    "AccessError",
    "CalibrationError",
    "ClosedError",
    "GenerationError",
    "ImageError",
    "IndexEngineError",
    "MessageError",
    "MissingExtraError",
    "OptionError",
    "OutputError",
    "RecipeError",
    "RemovalError",
    "ServerError",
    "SettingsError",
    "SourceError",
    "StoreError",
    "StoreLockedError",
    "TaxonomyError",
    "TwinscopeError",
    "UnknownImageError",
]


FORKED_CONNECTION: Final = (
    "the process was forked after its parent process had connected to a server. Start processes with the method "
    "'spawn' or 'forkserver', or fork before the first connection"
)
"""Text of the errors in a forked process that cannot use gRPC."""


class ClosedError(TwinscopeError, ValueError):
    """An engine was used after it was closed, or in a child process that cannot use the engine of its parent."""

    def __init__(self, target: str, how: str = "was closed; connect to it again") -> None:
        super().__init__(f"{target} {how}")

    @classmethod
    def by_fork(cls, target: str) -> Self:
        """Return the error for the engine of a local store, if a forked process cannot use the engine."""
        return cls(
            target,
            "cannot be used in this process, because the process was forked while the engine of the parent process was "
            "busy; connect to it again in this process, or start processes with the method 'spawn'",
        )

    @classmethod
    def by_fork_of_connection(cls, target: str) -> Self:
        """Return the error for an engine that was connected to a server before this process was forked."""
        return cls(target, f"cannot be used in this process: {FORKED_CONNECTION}")


class OutputError(TwinscopeError):
    """Results cannot be written to the requested location."""


class ServerError(TwinscopeError):
    """A server refused a call or could not answer the call.

    Attributes
    ----------
    code : str
        Name of the gRPC status code, for example ``UNAVAILABLE``.
    reason : str
        Reason of the error: a value of ``ErrorReason`` in the wire contract, for example ``OVERLOADED``. Empty if the
        server gave no reason.
    retriable : bool
        Whether the same request may succeed if it is repeated later.
    retry_seconds : float or None
        Time to wait before a retry, in seconds. None if the server gave no time.
    """

    def __init__(
        self, message: str, *, code: str, reason: str = "", retriable: bool = False, retry_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.retriable = retriable
        self.retry_seconds = retry_seconds


class AccessError(ServerError):
    """A server did not accept the token, or the token lacks the required role."""
