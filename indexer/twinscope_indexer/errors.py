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


class RecipeError(TwinscopeError):
    """Hashes of different recipes were to be compared; their distances would mean nothing."""


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


class SettingsError(TwinscopeError):
    """The settings of a server contradict one another, or are out of range."""
