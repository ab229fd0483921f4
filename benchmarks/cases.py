"""Queries and stores for `ablation`, made from sets of images with known right answers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import lookalikes
from accuracy import (
    RunFolders,
    Source,
    Task,
    build_all,
    deal,
    editions_of,
    questions,
    sources_of,
    tasks_of,
    write_references,
)
from outcomes import REFUSAL_GROUP, held_by_limit
from PIL import Image
from transforms import GROUPS, TRANSFORMS, QueryImage
from twinscope_indexer.indexing.run import index
from twinscope_service.matching.answer import Answer

Found = Literal["right", "wrong", "overlap", "none"]
Label = Literal[Found, "held"]
"""Verdict on the label that was written. ``held`` means that only the limit on ``p_wrong`` prevented the label."""
ALL_GROUPS: Final = {*GROUPS, REFUSAL_GROUP}
TWO_LABELS: Final = "two labels"
FIRST, SECOND = "First", "Second"
COPIES: Final = 6
"""Number of copies of an image under its first category: one more than the default number of candidates."""
CHANGES: Final = ("quality 75", "half size", "noise 20", "bar added", "rotated 90", "noise 40")
"""Names of the transforms that are applied to an image with two labels."""


@dataclass(frozen=True)
class Extent:
    """The numbers that determine how many queries are run.

    Attributes
    ----------
    parts : int
        Number of parts into which the scenes are divided. For each part, there is a store without the part's scenes.
    asked : int
        Number of parts whose queries are run.
    scenes : int or None
        Number of scenes that are selected at random from each folder; None means all scenes.
    share, of_strangers : float
        Share of the queries with a twin that are run, and share of the queries without a twin that are run.
    references, strangers : int
        Number of look-alike fields per family that are in the store, and number that are not in the store.
    two_labels : int
        Number of images that are stored under two categories.
    seed : int
        Seed of the random selections.
    """

    parts: int
    asked: int
    scenes: int | None
    share: float
    of_strangers: float
    references: int
    strangers: int
    two_labels: int
    seed: int


@dataclass(frozen=True)
class Answered:
    """The verdict on an answer.

    Attributes
    ----------
    found : str
        Verdict on the match that was found, whether it is labelled or held by the limit; ``none`` if no match was
        found.
    grade : str
    held : bool
        Whether only the limit on ``p_wrong`` prevents the label.
    p_wrong : float or None
    source : str
        Category and file name of the best candidate, even if it is not labelled; empty if there is no candidate.
    """

    found: Found
    grade: str
    held: bool = False
    p_wrong: float | None = None
    source: str = ""

    @property
    def outcome(self) -> tuple[str, str]:
        """The grade and the best candidate. A rule changes an answer if the rule changes one of these two."""
        return self.grade, self.source

    @property
    def label(self) -> Label:
        """Verdict on the label that was written, or ``held``."""
        return "held" if self.held else self.found


@dataclass(frozen=True, eq=False)
class Case:
    """One query, with the references that are right answers.

    Attributes
    ----------
    of : str
        Name of the set that contains the query.
    name : str
    query_image : ndarray or bytes
    store : Path
        Store that is searched.
    own, overlap : frozenset of str
        References of the query's scene, and references of scenes that overlap with it. Each reference is given by its
        category and file name.
    """

    of: str
    name: str
    query_image: QueryImage
    store: Path
    own: frozenset[str] = frozenset()
    overlap: frozenset[str] = frozenset()

    def judged(self, answer: Answer) -> Answered:
        """Return the verdict on an answer to this query."""
        source = "" if answer.best is None else "/".join(Path(answer.best.source).parts[-2:])
        held = held_by_limit(answer)
        p_wrong = None if answer.p_wrong is None else answer.p_wrong.estimate
        found: Found = "none"
        if held or answer.category is not None:
            found = "right" if source in self.own else "overlap" if source in self.overlap else "wrong"
        return Answered(found, answer.grade, held, p_wrong, source)


class Cases(Protocol):
    """A group of queries. The queries are built when they are iterated over, in a worker process."""

    def __iter__(self) -> Iterator[Case]: ...


@dataclass(frozen=True)
class OfTask:
    """The queries of one image of a folder, as in `accuracy`."""

    of: str
    task: Task
    folders: RunFolders
    own: frozenset[str]
    overlap: frozenset[str]
    share: float
    seed: int

    def __iter__(self) -> Iterator[Case]:
        """Yield a random share of the queries of the image."""
        source = self.task.source.name if self.task.source else self.task.empty.name if self.task.empty else ""
        draw = random.Random(f"{self.seed} {source} {self.task.wanted} {self.task.bar_of is None}")
        of = self.of if self.task.wanted else f"{self.of} strangers"
        for one in questions(self.task, ALL_GROUPS, lambda _: draw.random() < self.share):
            store = self.folders.store(one.edition, self.task.part)
            yield Case(of, f"{one.transform}: {one.name}", one.query_image, store, self.own, self.overlap)


@dataclass(frozen=True)
class OfField:
    """The queries of one field of a family of look-alikes, as in `lookalikes`."""

    family: str
    number: int
    stored: bool
    store: Path

    def __iter__(self) -> Iterator[Case]:
        """Yield the field after every change if it is in the store; otherwise yield the unchanged field."""
        name = f"{self.family} {self.number}"
        if not self.stored:
            yield Case("look-alike strangers", name, lookalikes.field(self.family, self.number, 0), self.store)
            return
        own = frozenset({f"{self.family}/{lookalikes.reference_name(self.number)}"})
        for change, query_image in lookalikes.changed(self.family, self.number, 0):
            yield Case("look-alikes", f"{change}: {name}", query_image, self.store, own)


@dataclass(frozen=True)
class OfTwoLabels:
    """The queries of one image that is stored under two categories."""

    source: Source
    store: Path

    def __iter__(self) -> Iterator[Case]:
        """Yield the image after each transform of `CHANGES`."""
        micrograph = self.source.read()
        for transform in TRANSFORMS:
            if transform.name in CHANGES:
                query_image = transform.query(micrograph)
                yield Case(TWO_LABELS, f"{transform.name}: {micrograph.name}", query_image, self.store)


# ---- the stores ----


def of_folder(
    of: str, folder: Path, overlaps: Path | None, work: Path, extent: Extent, mapped: Callable[..., Iterable[Any]]
) -> Iterator[Cases]:
    """Build the stores of a folder, and yield the queries for these stores.

    The references are written with the function `mapped`, which works like `map`.
    """
    sources = sources_of(folder, overlaps)
    scenes = sorted({source.scene for source in sources})
    most = len(scenes) if extent.scenes is None else min(extent.scenes, len(scenes))
    drawn = set(random.Random(extent.seed).sample(scenes, most))
    chosen = [source for source in sources if source.scene in drawn]
    folders = RunFolders(work)
    write = partial(write_references, folders=folders, editions=editions_of(ALL_GROUPS))
    known = [one for one in mapped(write, chosen) if isinstance(one, Source)]
    dealt = deal(known, extent.parts, extent.seed)
    build_all(folders, dealt, ALL_GROUPS, {"reach": "windows"})
    for part in range(extent.asked):
        for task in tasks_of(dealt, part, ALL_GROUPS, extent.seed):
            own, near = references_of(task, known)
            share = extent.share if task.wanted else extent.of_strangers
            yield OfTask(of, task, folders, own, near, share, extent.seed)


def references_of(task: Task, known: Sequence[Source]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the references of the scene of a task, and the references of all scenes at the same place.

    Each reference is given by its category and file name.
    """
    if task.source is None:
        return frozenset(), frozenset()
    scene, place = task.source.scene, task.source.place
    return (
        frozenset(f"{one.category}/{one.reference_name}" for one in known if one.scene == scene),
        frozenset(f"{one.category}/{one.reference_name}" for one in known if one.place == place),
    )


def of_lookalikes(work: Path, references: int, strangers: int) -> Iterator[Cases]:
    """Build the store of the look-alike fields, and yield the queries for this store."""
    lookalikes.write_collection(work / "collection", references, 0)
    index([work / "collection"], work / "store", reach="windows", keep_unknown=True)
    for family in lookalikes.FAMILIES:
        for number in lookalikes.stranger_numbers(references, strangers):
            yield OfField(family, number, stored=False, store=work / "store")
        for number in lookalikes.twin_numbers(references):
            yield OfField(family, number, stored=True, store=work / "store")


def of_two_labels(sources: Sequence[Source], work: Path) -> Iterator[Cases]:
    """Build a store that contains each image under two categories, and yield the queries for this store."""
    folder = work / "collection"
    for category in (FIRST, SECOND):
        (folder / category).mkdir(parents=True)
    for number, source in enumerate(sources):
        image = Image.fromarray(source.read().pixels)
        for copy in range(COPIES if number % 2 else 1):
            image.save(folder / FIRST / f"{number}-{copy}.jpg", quality=95 - 2 * copy)
        image.save(folder / SECOND / f"{number}.jpg", quality=90)
    index([folder], work / "store", reach="windows", keep_unknown=True)
    for source in sources:
        yield OfTwoLabels(source, work / "store")
