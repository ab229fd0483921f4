"""The exceptions that the indexer raises; `twinscope_client.errors` lists those of all floors."""

from __future__ import annotations

from typing import Any, Literal

ImageFault = Literal["missing", "unreadable", "empty", "truncated", "damaged", "unsupported", "too_large"]
"""Why an image could not be read; see `ImageError`."""


class TwinscopeError(Exception):
    """Base of all exceptions that Twinscope raises on purpose; it passes between processes with all its attributes."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the text and the attributes: the constructors of subclasses do not take the text."""
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
        Path or name of the image, as given by the caller.
    fault : str
        One of ``missing``, ``unreadable`` (permissions, I/O), ``empty``, ``truncated``, ``damaged``,
        ``unsupported`` and ``too_large`` (more pixels than the budget allows).
    detail : str
        What exactly is wrong, in words.
    """

    def __init__(self, source: str, fault: ImageFault, detail: str) -> None:
        super().__init__(f"{source}: {detail}")
        self.source = source
        self.fault = fault
        self.detail = detail


def fault_of(error: Exception) -> tuple[ImageFault, str]:
    """Return the fault of an image and its description, for any exception that was raised while reading it."""
    if isinstance(error, ImageError):
        return error.fault, error.detail
    if isinstance(error, MemoryError):
        return "too_large", "not enough memory to decode it"
    return "damaged", f"unexpected {type(error).__name__}: {error}"


class RecipeError(TwinscopeError):
    """An attempt to compare hashes of different recipes; their distances would mean nothing.

    Attributes
    ----------
    found, expected : str
        The recipe of the hash, and the recipe that the comparison needs.
    """

    def __init__(self, found: str, expected: str) -> None:
        self.found = found
        self.expected = expected
        super().__init__(
            f"this hash was made by recipe {found!r}, but {expected!r} is expected; distances between them would "
            "mean nothing. Hash the images again with one version of Twinscope."
        )


class TaxonomyError(TwinscopeError):
    """A category is not in the taxonomy, or the taxonomy (or a table of labels) is malformed."""


class StoreError(TwinscopeError):
    """A store is missing, is not a store, or cannot be used as it is."""


class StoreLockedError(StoreError):
    """Another process is writing to the store."""


class IndexEngineError(TwinscopeError):
    """The index engine that the environment names is unknown or cannot be loaded."""


class SourceError(TwinscopeError):
    """A folder, file or archive to be indexed or labelled cannot be used."""


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
