"""All exceptions that Twinscope raises on purpose; ``import twinscope`` has the same names.

Each class is defined on the floor that raises it, and shown here once::

    TwinscopeError
    |-- ImageError             an image cannot be read; `fault` says why
    |-- SourceError            a folder, file or archive to be indexed or labelled cannot be used
    |-- TaxonomyError          a category, a taxonomy or a table of labels is not known or not well formed
    |-- RecipeError            hashes of different recipes were to be compared
    |-- StoreError             a store is missing, is no store, or cannot be used as it is
    |   `-- StoreLockedError   another process is writing to it
    |-- IndexEngineError       the index engine that the environment asks for is unknown, or cannot be loaded
    |-- UnknownImageError      an image id is not in the store
    |-- CalibrationError       a calibration cannot be made or used
    |-- GenerationError        a generation of the store was not published in time
    |-- OptionError            an option is unknown, misspelt or out of range (also a ValueError)
    |-- SettingsError          the settings of a server, or of a connection, cannot be used
    |-- MessageError           a message breaks the wire contract, or is of a newer release
    |-- ServerError            a server refused, failed, or cannot be reached
    |   `-- AccessError        it did not accept the token, or the token's role
    |-- ClosedError            an engine was asked after it was closed (also a ValueError)
    |-- OutputError            results cannot be written where they were asked for
    `-- MissingExtraError      a part of Twinscope is not installed

One warning goes with them: `VersionSkewWarning`, if client and server are of different releases.
"""

from __future__ import annotations

from twinscope_indexer.errors import (
    ImageError,
    IndexEngineError,
    RecipeError,
    SourceError,
    StoreError,
    StoreLockedError,
    TaxonomyError,
    TwinscopeError,
    UnknownImageError,
)
from twinscope_service.errors import CalibrationError, GenerationError, OptionError, SettingsError
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
    "ServerError",
    "SettingsError",
    "SourceError",
    "StoreError",
    "StoreLockedError",
    "TaxonomyError",
    "TwinscopeError",
    "UnknownImageError",
]


class ClosedError(TwinscopeError, ValueError):
    """An engine was asked after it was closed."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} was closed; connect to it again")


class OutputError(TwinscopeError):
    """Results cannot be written where they were asked for."""


class MissingExtraError(TwinscopeError):
    """A part of Twinscope is not installed.

    Attributes
    ----------
    extra : str
        What to install: ``pip install 'twinscope[extra]'``.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs more than is installed: pip install 'twinscope[{extra}]'")
        self.extra = extra


class ServerError(TwinscopeError):
    """A server refused or failed to answer.

    Attributes
    ----------
    code : str
        The gRPC status code, for example ``UNAVAILABLE``.
    reason : str
        A value of the contract's ``ErrorReason``, for example ``OVERLOADED``; empty if the server gave none.
    retriable : bool
        Whether the same request may succeed later.
    retry_seconds : float or None
        When, if the server says so.
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
    """A server did not accept the token, or the token does not have the role."""
