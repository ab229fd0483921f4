"""The report of an indexing run, and the type of a function that is called after each image."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Protocol

_LISTED: Final = 20
"""Maximum number of entries in each list of the report."""


@dataclass(slots=True)
class IndexReport:
    """The results of an indexing run."""

    counts: Counter[str] = field(default_factory=Counter)
    """Number of images for each outcome: ``added``, ``changed``, ``unchanged``, ``unhashable``, ``relabelled``,
    ``failed``, ``vanished``, ``removed`` or ``withdrawn``. The outcome ``withdrawn`` means that an image was removed
    because its label is no longer valid."""
    failures: list[tuple[str, str]] = field(default_factory=list)
    """URI and error message of the first images that failed. The catalog lists all failed images."""
    vanished: list[str] = field(default_factory=list)
    """Paths of images that are in the catalog but no longer in the sources. The list contains only the first such
    images."""
    ignored: Counter[str] = field(default_factory=Counter)
    """Number of files that are not images, for each suffix."""
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    """Folders and archives that could not be opened."""
    runs: list[str] = field(default_factory=list)
    """Folders that were skipped because a labelling run wrote them; see `corpus.is_run`."""
    unknown_categories: Counter[str] = field(default_factory=Counter)
    """For each error message: the number of images that were excluded with this message. Their category is unknown."""
    contradicting_prefixes: int = 0
    """Number of images in the store whose published prefix differs from the code of their category."""
    prefixes: int = 0
    """Number of images in the store that have a published prefix."""
    searchable: int = 0
    """Number of images in the published index."""
    generation: int = 0
    """Number of the generation that the run published."""

    def list_failure(self, uri: str, message: str) -> None:
        """Add a failed image to `failures`, unless that list already has 20 entries."""
        if len(self.failures) < _LISTED:
            self.failures.append((uri, message))

    def list_vanished(self, path: str) -> None:
        """Add the path of a vanished image to `vanished`, unless that list already has 20 entries."""
        if len(self.vanished) < _LISTED:
            self.vanished.append(path)

    def count_unknown_category(self, message: str) -> None:
        """Count an image that has no known category.

        The first 20 different messages are counted separately. All other messages are counted together as ``others``.
        """
        known = self.unknown_categories
        known[message if message in known or len(known) < _LISTED else "others"] += 1


class Progress(Protocol):
    """A function that `index` calls for every finished image."""

    def __call__(self, outcome: str, /) -> None:
        """Process the outcome of one image. The possible outcomes are listed in `IndexReport.counts`."""
