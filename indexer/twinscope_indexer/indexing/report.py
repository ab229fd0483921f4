"""The report of an indexing run, and the type of a function that is called after each image."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Protocol

_LISTED: Final = 20
"""Maximum number of entries in each list of the report."""
_REMARKS: Final = 200
"""Maximum number of different remarks, and of different causes."""


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
    pruned: bool = False
    """Whether the vanished images were removed from the store."""
    runs: list[str] = field(default_factory=list)
    """Folders that were skipped because a labelling run wrote them; see `corpus.is_run`."""
    unknown_categories: Counter[str] = field(default_factory=Counter)
    """For each cause (see `TaxonomyError.cause`): the number of images that were excluded, because they have no known
    category."""
    known_categories: list[str] = field(default_factory=list)
    """The categories of the taxonomy, for example ``Tips (L9)``."""
    categories: dict[str, int] = field(default_factory=dict)
    """Number of images in the store for each category, after the run."""
    remarks: Counter[str] = field(default_factory=Counter)
    """Sentences about folders that are not a category, but may be meant as a category. The value is the number of
    images below the folder. The counter contains only the first such folders."""
    relabelled: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Number of images for each old and new name of their category. The two names differ."""
    unhashable: list[tuple[str, str]] = field(default_factory=list)
    """URI of the first images that cannot be hashed, and the reasons."""
    written: array[int] = field(default_factory=lambda: array("q"))
    """Ids of the images that were added, changed, or given another category."""
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

    def list_unhashable(self, uri: str, reason: str) -> None:
        """Add an image that cannot be hashed to `unhashable`, unless that list already has 20 entries."""
        if len(self.unhashable) < _LISTED:
            self.unhashable.append((uri, reason))

    def note_relabelled(self, number: int, old: str, new: str) -> None:
        """Note that an image has another category, code or taxonomy. `number` is its id."""
        if old != new:
            self.relabelled[old, new] += 1
            self.written.append(number)

    def remark(self, sentence: str) -> None:
        """Count an image for a remark. After 200 different remarks, new remarks are ignored."""
        if sentence in self.remarks or len(self.remarks) < _REMARKS:
            self.remarks[sentence] += 1

    def list_vanished(self, path: str) -> None:
        """Add the path of a vanished image to `vanished`, unless that list already has 20 entries."""
        if len(self.vanished) < _LISTED:
            self.vanished.append(path)

    def count_unknown_category(self, cause: str) -> None:
        """Count an image that has no known category.

        The first 200 different causes are counted separately. All other causes are counted together as ``others``.
        """
        known = self.unknown_categories
        known[cause if cause in known or len(known) < _REMARKS else "others"] += 1


class Progress(Protocol):
    """A function that `index` calls for every finished image."""

    def __call__(self, outcome: str, /) -> None:
        """Process the outcome of one image. The possible outcomes are listed in `IndexReport.counts`."""
