"""The exceptions a caller can meet, one for each kind of problem."""

from __future__ import annotations

from typing import Literal

ImageFault = Literal["missing", "unreadable", "empty", "truncated", "damaged", "unsupported", "too_large"]
"""Why an image could not be read; see `ImageError`."""


class TwinscopeError(Exception):
    """Base of everything that Twinscope raises on purpose."""


class ImageError(TwinscopeError):
    """An image cannot be read.

    Attributes
    ----------
    source : str
        Path or name of the image, as it was given.
    fault : str
        One of ``missing``, ``unreadable`` (permissions, I/O), ``empty``, ``truncated``, ``damaged``,
        ``unsupported`` and ``too_large`` (more pixels than the budget allows).
    detail : str
        What exactly is wrong, for people.
    """

    def __init__(self, source: str, fault: ImageFault, detail: str) -> None:
        super().__init__(f"{source}: {detail}")
        self.source = source
        self.fault = fault
        self.detail = detail


def fault_of(error: Exception) -> tuple[ImageFault, str]:
    """Return the fault of an image, and its description, for whatever reading it has raised."""
    if isinstance(error, ImageError):
        return error.fault, error.detail
    if isinstance(error, MemoryError):
        return "too_large", "not enough memory to decode it"
    return "damaged", f"unexpected {type(error).__name__}: {error}"


class RecipeError(TwinscopeError):
    """Hashes of different recipes were to be compared; their distances would mean nothing.

    Attributes
    ----------
    found, expected : str
        The recipe of the hash, and the one that it was to be compared with.
    """

    def __init__(self, found: str, expected: str) -> None:
        self.found = found
        self.expected = expected
        super().__init__(
            f"this hash was made by recipe {found!r}, but {expected!r} is expected; distances between them would "
            "mean nothing. Hash the images again with one version of Twinscope."
        )


class TaxonomyError(TwinscopeError):
    """A category is not in the taxonomy, or the taxonomy (or a table of labels) is not well formed."""


class StoreError(TwinscopeError):
    """A store is missing, is no store, or cannot be used as it is."""


class StoreLockedError(StoreError):
    """Another process is writing to the store."""


class SourceError(TwinscopeError):
    """A folder, file or archive that was to be indexed or labelled cannot be used."""


class OutputError(TwinscopeError):
    """Results cannot be written where they were asked for."""


class CalibrationError(TwinscopeError):
    """A calibration cannot be made of the images that there are, or a stored one cannot be used."""


class SettingsError(TwinscopeError):
    """The settings of a server contradict one another, or are out of range."""


class UnknownImageError(TwinscopeError):
    """An image id is not in the store.

    Attributes
    ----------
    image_id : str
        The id.
    """

    def __init__(self, image_id: str) -> None:
        super().__init__(f"there is no image {image_id} in the store")
        self.image_id = image_id


class GenerationError(TwinscopeError):
    """A generation of the store was not published in time.

    Attributes
    ----------
    newest : int
        The newest one that is.
    """

    def __init__(self, wanted: int, newest: int) -> None:
        super().__init__(f"generation {wanted} is not published yet; the newest is {newest}. Try again later.")
        self.newest = newest


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
