"""The queries that the ablation asks, of sets of images whose right answers are known, and the stores that it asks."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import lookalikes
from accuracy import (
    Shelf,
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
from transforms import GROUPS, TRANSFORMS, Picture
from twinscope_indexer.indexing.run import index
from twinscope_service.matching.answer import Answer

Found = Literal["right", "wrong", "overlap", "none"]
Label = Literal[Found, "held"]
"""What was written: ``held`` where the limit on ``p_wrong`` alone keeps it from being written."""
ALL_GROUPS: Final = {*GROUPS, REFUSAL_GROUP}
TWO_LABELS: Final = "two labels"
FIRST, SECOND = "First", "Second"
COPIES: Final = 6
"""One more than candidates are looked at."""
CHANGES: Final = ("quality 75", "half size", "noise 20", "bar added", "rotated 90", "noise 40")
"""What is done to an image of two labels."""


@dataclass(frozen=True)
class Extent:
    """How much is asked.

    Attributes
    ----------
    parts : int
        That scenes are dealt into; each is left out of a store.
    asked : int
        Parts that are asked.
    scenes : int or None
        Drawn from each folder; None: all.
    share, of_strangers : float
        Of their queries: with a twin, and without one.
    references, strangers : int
        Fields that look alike, of each family.
    two_labels : int
        Images that are stored under two categories.
    seed : int
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
    """What an answer is worth.

    Attributes
    ----------
    found : str
        What was found, labelled or held by the limit.
    grade : str
    held : bool
        Whether the limit on ``p_wrong`` alone keeps it from being labelled.
    p_wrong : float or None
    source : str
        Category and file name of the best candidate, labelled or not; empty without one.
    """

    found: Found
    grade: str
    held: bool = False
    p_wrong: float | None = None
    source: str = ""

    @property
    def outcome(self) -> tuple[str, str]:
        """Grade and best candidate."""
        return self.grade, self.source

    @property
    def label(self) -> Label:
        """What was written."""
        return "held" if self.held else self.found


@dataclass(frozen=True, eq=False)
class Case:
    """One query, and which references are right.

    Attributes
    ----------
    of : str
        Which set it is of.
    name : str
    picture : ndarray or bytes
    store : Path
        What is asked.
    own, overlap : frozenset of str
        Category and file name of the references of its scene, and of those that overlap with it.
    """

    of: str
    name: str
    picture: Picture
    store: Path
    own: frozenset[str] = frozenset()
    overlap: frozenset[str] = frozenset()

    def judged(self, answer: Answer) -> Answered:
        """Return what an answer is worth."""
        source = "" if answer.best is None else "/".join(Path(answer.best.source).parts[-2:])
        held = held_by_limit(answer)
        p_wrong = None if answer.p_wrong is None else answer.p_wrong.estimate
        found: Found = "none"
        if held or answer.category is not None:
            found = "right" if source in self.own else "overlap" if source in self.overlap else "wrong"
        return Answered(found, answer.grade, held, p_wrong, source)


class Cases(Protocol):
    """Makes queries, in a worker process."""

    def __iter__(self) -> Iterator[Case]: ...


@dataclass(frozen=True)
class OfTask:
    """The queries of one image among those of its folder; see `accuracy`."""

    of: str
    task: Task
    shelf: Shelf
    own: frozenset[str]
    overlap: frozenset[str]
    share: float
    seed: int

    def __iter__(self) -> Iterator[Case]:
        """Make the queries that are drawn."""
        source = self.task.source.name if self.task.source else self.task.empty.name if self.task.empty else ""
        draw = random.Random(f"{self.seed} {source} {self.task.wanted} {self.task.bar_of is None}")
        of = self.of if self.task.wanted else f"{self.of} strangers"
        for one in questions(self.task, ALL_GROUPS, lambda _: draw.random() < self.share):
            store = self.shelf.store(one.edition, self.task.part)
            yield Case(of, f"{one.transform}: {one.name}", one.picture, store, self.own, self.overlap)


@dataclass(frozen=True)
class OfField:
    """The queries of one field of a family that looks alike; see `lookalikes`."""

    family: str
    number: int
    stored: bool
    store: Path

    def __iter__(self) -> Iterator[Case]:
        """Make the field, changed in every way where it is stored."""
        name = f"{self.family} {self.number}"
        if not self.stored:
            yield Case("look-alike strangers", name, lookalikes.field(self.family, self.number, 0), self.store)
            return
        own = frozenset({f"{self.family}/{lookalikes.reference_name(self.number)}"})
        for change, picture in lookalikes.changed(self.family, self.number, 0):
            yield Case("look-alikes", f"{change}: {name}", picture, self.store, own)


@dataclass(frozen=True)
class OfTwoLabels:
    """The queries of one image that is stored under two categories."""

    source: Source
    store: Path

    def __iter__(self) -> Iterator[Case]:
        """Make the queries."""
        micrograph = self.source.read()
        for transform in TRANSFORMS:
            if transform.name in CHANGES:
                picture = transform.query(micrograph)
                yield Case(TWO_LABELS, f"{transform.name}: {micrograph.name}", picture, self.store)


# ---- the stores ----


def of_folder(
    of: str, folder: Path, overlaps: Path | None, work: Path, extent: Extent, mapped: Callable[..., Iterable[Any]]
) -> Iterator[Cases]:
    """Build the stores of a folder, by a `map` of any kind, and list what is asked of them."""
    sources = sources_of(folder, overlaps)
    scenes = sorted({source.scene for source in sources})
    most = len(scenes) if extent.scenes is None else min(extent.scenes, len(scenes))
    drawn = set(random.Random(extent.seed).sample(scenes, most))
    chosen = [source for source in sources if source.scene in drawn]
    shelf = Shelf(work)
    write = partial(write_references, shelf=shelf, editions=editions_of(ALL_GROUPS))
    known = [one for one in mapped(write, chosen) if isinstance(one, Source)]
    dealt = deal(known, extent.parts, extent.seed)
    build_all(shelf, dealt, ALL_GROUPS, {"reach": "windows"})
    for part in range(extent.asked):
        for task in tasks_of(dealt, part, ALL_GROUPS, extent.seed):
            own, near = references_of(task, known)
            share = extent.share if task.wanted else extent.of_strangers
            yield OfTask(of, task, shelf, own, near, share, extent.seed)


def references_of(task: Task, known: Sequence[Source]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of the references of the scene of a task, and those of scenes that overlap with it."""
    if task.source is None:
        return frozenset(), frozenset()
    scene, place = task.source.scene, task.source.place
    return (
        frozenset(f"{one.category}/{one.reference_name}" for one in known if one.scene == scene),
        frozenset(f"{one.category}/{one.reference_name}" for one in known if one.place == place),
    )


def of_lookalikes(work: Path, references: int, strangers: int) -> Iterator[Cases]:
    """Build the store of the fields that look alike, and list what is asked of it."""
    lookalikes.write_collection(work / "collection", references, 0)
    index([work / "collection"], work / "store", reach="windows", keep_unknown=True)
    for family in lookalikes.FAMILIES:
        for number in lookalikes.stranger_numbers(references, strangers):
            yield OfField(family, number, stored=False, store=work / "store")
        for number in lookalikes.twin_numbers(references):
            yield OfField(family, number, stored=True, store=work / "store")


def of_two_labels(sources: Sequence[Source], work: Path) -> Iterator[Cases]:
    """Build a store of images under two categories each, and list what is asked of it."""
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
