"""The exceptions that the indexer raises; `twinscope_client.errors` shows those of all floors."""

from __future__ import annotations

from typing import Any, Literal

ImageFault = Literal["missing", "unreadable", "empty", "truncated", "damaged", "unsupported", "too_large"]
"""Why an image could not be read; see `ImageError`."""


class TwinscopeError(Exception):
    """Base of everything that Twinscope raises on purpose; with all its attributes it passes between processes."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the text and the attributes: the subclasses take other arguments than their text."""
        return _unpickled, (type(self), self.args, vars(self))


def _unpickled(kind: type[TwinscopeError], args: tuple[Any, ...], attributes: dict[str, Any]) -> TwinscopeError:
    error = kind.__new__(kind, *args)
    vars(error).update(attributes)
    return error


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


class IndexEngineError(TwinscopeError):
    """The index engine that the environment asks for is unknown, or cannot be loaded."""


class SourceError(TwinscopeError):
    """A folder, file or archive that was to be indexed or labelled cannot be used."""


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
