"""The report of a run of the indexer, and how its progress is told."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Protocol

_LISTED: Final = 20
"""Entries that a list of the report holds at most."""


@dataclass(slots=True)
class IndexReport:
    """What a run of the indexer did."""

    counts: Counter[str] = field(default_factory=Counter)
    """Images by outcome: ``added``, ``changed``, ``unchanged``, ``unhashable``, ``relabelled``, ``failed``,
    ``vanished``, ``removed``, ``withdrawn`` (removed, as their label no longer holds)."""
    failures: list[tuple[str, str]] = field(default_factory=list)
    """URI and message of the first failures; all of them are in the catalogue."""
    vanished: list[str] = field(default_factory=list)
    """Paths of the first images that are in the catalogue but no longer in the sources."""
    ignored: Counter[str] = field(default_factory=Counter)
    """Files that are no images, by suffix."""
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    """Folders and archives that could not be opened."""
    runs: list[str] = field(default_factory=list)
    """Folders that were left out as outputs of labelling runs (`corpus.is_run`)."""
    unknown_categories: Counter[str] = field(default_factory=Counter)
    """Messages about categories that the taxonomy does not know, with how many images they hold back."""
    contradicting_prefixes: int = 0
    """Images of the store whose published prefix is not the code of their category."""
    prefixes: int = 0
    """Images of the store that have a published prefix."""
    searchable: int = 0
    """Images in the published index."""
    generation: int = 0
    """The published generation."""

    def list_failure(self, uri: str, message: str) -> None:
        """Add a failure, if it is one of the first."""
        if len(self.failures) < _LISTED:
            self.failures.append((uri, message))

    def list_vanished(self, path: str) -> None:
        """Add a file that has vanished, if it is one of the first."""
        if len(self.vanished) < _LISTED:
            self.vanished.append(path)

    def count_unknown_category(self, message: str) -> None:
        """Count a message about a category; those after the first ones together."""
        known = self.unknown_categories
        known[message if message in known or len(known) < _LISTED else "others"] += 1


class Progress(Protocol):
    """Called for every image that is done."""

    def __call__(self, outcome: str, /) -> None:
        """Take the outcome of one image; see `IndexReport.counts`."""
