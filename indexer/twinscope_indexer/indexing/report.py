"""The report of an indexing run, and the protocol for its progress."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Protocol

_LISTED: Final = 20
"""Maximum number of entries in a list of the report."""


@dataclass(slots=True)
class IndexReport:
    """The results of an indexing run."""

    counts: Counter[str] = field(default_factory=Counter)
    """Images by outcome: ``added``, ``changed``, ``unchanged``, ``unhashable``, ``relabelled``, ``failed``,
    ``vanished``, ``removed``, ``withdrawn`` (removed because their label no longer holds)."""
    failures: list[tuple[str, str]] = field(default_factory=list)
    """URI and message of the first failures; all of them are in the catalog."""
    vanished: list[str] = field(default_factory=list)
    """Paths of the first images that are in the catalog but no longer in the sources."""
    ignored: Counter[str] = field(default_factory=Counter)
    """Number of files that are not images, by suffix."""
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    """Folders and archives that could not be opened."""
    runs: list[str] = field(default_factory=list)
    """Folders that were skipped because they are outputs of labelling runs (`corpus.is_run`)."""
    unknown_categories: Counter[str] = field(default_factory=Counter)
    """Messages about categories that the taxonomy does not know, with the number of images that each one excludes."""
    contradicting_prefixes: int = 0
    """Number of images in the store whose published prefix is not the code of their category."""
    prefixes: int = 0
    """Number of images in the store that have a published prefix."""
    searchable: int = 0
    """Number of images in the published index."""
    generation: int = 0
    """The published generation."""

    def list_failure(self, uri: str, message: str) -> None:
        """Add a failure if the list is not full."""
        if len(self.failures) < _LISTED:
            self.failures.append((uri, message))

    def list_vanished(self, path: str) -> None:
        """Add a vanished file if the list is not full."""
        if len(self.vanished) < _LISTED:
            self.vanished.append(path)

    def count_unknown_category(self, message: str) -> None:
        """Count a message about a category; messages beyond the limit are counted together."""
        known = self.unknown_categories
        known[message if message in known or len(known) < _LISTED else "others"] += 1


class Progress(Protocol):
    """A function that is called for every finished image."""

    def __call__(self, outcome: str, /) -> None:
        """Receive the outcome of one image; see `IndexReport.counts`."""
