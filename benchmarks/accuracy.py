"""Measure recall and false labels after the transforms that micrographs go through in practice.

The scenes of a folder are dealt into parts. For each part, a store is built from quality-100 JPEGs of all other parts.
The queries are the images of the next part, whose scenes are in the store, after every transform of `transforms`. The
part itself must be refused, because its scenes are not in the store: its images as they are, and under the info bar of
a reference; also empty images and noise. So every image is once a query with a twin and once an unrelated image.

    python benchmarks/accuracy.py FOLDER [--groups A B C D E R] [--limit N] [--seed N] [--reach frame|views|windows]
                               [--parts N] [--overlaps FILE] [--out FILE.json] [--plots DIR] [--failures N]

FOLDER contains images; each subfolder is a category. A MANIFEST.tsv in it names the files and groups them:

path    path of the file, relative to FOLDER
scene   (optional) files of one scene show the same field; without it every file is its own scene
bar     (optional) height of the info bar at the bottom in pixels
note    (optional) if it contains "databar" or "info bar", the bar is measured in the pixels

The bar is also known from FEI's TIFF tags. A match is right if it is of the query's scene, and false if it is of
another one, even of the same category. Scenes that overlap although the manifest separates them can be named in
--overlaps (lines of scene names that belong together). A match between overlapping scenes counts neither as right nor
as false, and they are left out of an index together.

A query is found if it would be labelled without the limit on ``p_wrong``; recall counts that. ``labelled`` is how many
of these are labelled, ``review`` how many the limit sends to review, ``held`` how many false labels it prevents. The
second table shows the effect of other limits.

The exit code is 1 if anything was labelled falsely, or a transform misses the minimum recall of its group.
"""

from __future__ import annotations

import argparse
import csv
import inspect
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import tifffile
from outcomes import REFUSAL_GROUP, Outcome, Verdict, held_by_limit, plot, summarise, table
from tqdm import tqdm
from transforms import (
    GROUPS,
    REFUSALS,
    TRANSFORMS,
    Edition,
    Grey,
    Micrograph,
    QueryImage,
    Transform,
    empty_frames,
    jpeg,
    reference,
    same_bar,
)
from twinscope_client.connect import connect
from twinscope_client.doctor import machine, versions
from twinscope_client.engine.protocol import Engine
from twinscope_indexer.errors import ImageError
from twinscope_indexer.imaging.reader import read_image
from twinscope_indexer.indexing.run import index
from twinscope_indexer.sources.corpus import Walk, scope_of, walk
from twinscope_indexer.taxonomy import load_taxonomy
from twinscope_service.matching.answer import Answer

# ---- the folder ----


@dataclass(frozen=True)
class Source:
    """One file of the folder."""

    number: int
    path: Path
    name: str
    category: str
    scene: str
    place: str
    """Common name of the scenes that overlap with its own; its own scene if there are none."""
    note: str = ""
    bar_rows: int = 0

    @property
    def reference_name(self) -> str:
        """File name of its reference."""
        return f"{self.number:06d}.jpg"

    def read(self) -> Micrograph:
        """Decode the file; raises ImageError."""
        return Micrograph(self.name, read_image(self.path).pixels, self.bar_rows)


def sources_of(folder: Path, overlaps: Path | None) -> list[Source]:
    """List the files of the manifest, or all images in and below the folder if it has none."""
    manifest = folder / "MANIFEST.tsv"
    if manifest.is_file():
        with manifest.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
    else:
        rows = [{"path": item.path} for item in walk(scope_of(folder), Walk(), archives=False)]
    family = {scene: line.split()[0] for line in overlaps.read_text("utf-8").splitlines() for scene in line.split()} \
        if overlaps else {}  # fmt: skip
    made = []
    for number, row in enumerate(rows):
        name, scene = row["path"], row.get("scene") or row["path"]
        category = name.partition("/")[0] if "/" in name else "Unsorted"
        bar = int(row.get("bar") or 0)
        made.append(
            Source(number, folder / name, name, category, scene, family.get(scene, scene), row.get("note") or "", bar)
        )
    return made


def known_bar(source: Source, pixels: Grey) -> int:
    """Return the height of the info bar in pixels from the manifest or the metadata; 0 if it is not known."""
    if source.bar_rows:
        return source.bar_rows
    if source.path.suffix.lower() in {".tif", ".tiff"}:
        with tifffile.TiffFile(source.path) as file:
            field = (file.fei_metadata or {}).get("Image", {})
        rows, columns = field.get("ResolutionY") or 0, field.get("ResolutionX") or 0
        if columns == pixels.shape[1] and 0.8 * pixels.shape[0] < rows < pixels.shape[0]:
            return int(pixels.shape[0] - rows)
    if any(word in source.note.lower() for word in ("databar", "info bar")):
        return _measured_bar(pixels)
    return 0


def _measured_bar(pixels: Grey) -> int:
    """Measure a bar with a uniform background: the rows at the bottom whose median is the background."""
    medians = np.median(pixels[round(0.8 * len(pixels)) :], axis=1)
    flat = np.abs(medians - medians[-1]) <= 3
    rows = int(np.argmin(flat[::-1])) if not flat.all() else 0
    clear = rows and abs(medians[-rows - 1] - medians[-1]) > 8
    return rows if clear and rows >= 0.04 * len(pixels) else 0


# ---- queries and their stores ----


@dataclass(frozen=True)
class Task:
    """All queries of one image in one part."""

    part: int
    source: Source | None
    """None: an empty image."""
    empty: Micrograph | None = None
    bar_of: Source | None = None
    """The reference whose info bar an unrelated image gets."""
    wanted: bool = True
    """Whether its scene is indexed."""


@dataclass(frozen=True, eq=False)
class Question:
    """One query, and the edition of the references that it is compared with."""

    transform: str
    group: str
    edition: Edition
    query_image: QueryImage
    name: str


def deal(sources: Sequence[Source], parts: int, seed: int) -> list[list[Source]]:
    """Deal the files into parts; overlapping scenes go into the same part."""
    places = sorted({source.place for source in sources})
    random.Random(seed).shuffle(places)
    part_of = {name: number % parts for number, name in enumerate(places)}
    dealt: list[list[Source]] = [[] for _ in range(parts)]
    for source in sources:
        dealt[part_of[source.place]].append(source)
    return dealt


def tasks_of(dealt: list[list[Source]], part: int, groups: set[str], seed: int) -> list[Task]:
    """List the tasks while a part is left out of the index."""
    tasks = []
    if groups & set(GROUPS):
        tasks += [Task(part, source) for source in dealt[(part + 1) % len(dealt)]]
    if REFUSAL_GROUP in groups:
        indexed = [source for other in dealt if other is not dealt[part] for source in other]
        choice = random.Random(seed + part)
        for unrelated in dealt[part]:
            tasks.append(Task(part, unrelated, wanted=False))
            tasks.append(Task(part, unrelated, bar_of=choice.choice(indexed), wanted=False))
        tasks += [Task(part, None, frame, wanted=False) for frame in empty_frames()[part :: len(dealt)]]
    return tasks


def questions(task: Task, groups: set[str], drawn: Callable[[Transform], bool] = lambda _: True) -> Iterator[Question]:
    """Yield the queries of a task that are drawn; raises ImageError if its file cannot be read."""
    micrograph = task.source.read() if task.source is not None else task.empty
    if micrograph is None:
        return
    if task.wanted:
        for transform in TRANSFORMS:
            if transform.group in groups and drawn(transform):
                yield _question(transform, micrograph, transform.group, transform.edition)
        return
    edition: Edition = "frame"
    kind = "foreign field" if task.source else "empty frame"
    if task.bar_of is not None:
        micrograph, edition, kind = same_bar(micrograph, task.bar_of.read()), "barred", "under a reference's bar"
    for transform in filter(drawn, REFUSALS):
        yield _question(replace(transform, name=f"{kind}, {transform.name}"), micrograph, REFUSAL_GROUP, edition)


def _question(transform: Transform, micrograph: Micrograph, group: str, edition: Edition) -> Question:
    return Question(transform.name, group, edition, transform.query(micrograph), micrograph.name)


def editions_of(groups: set[str]) -> list[Edition]:
    """List the editions of the references that the queries need."""
    wanted = {transform.edition for transform in TRANSFORMS if transform.group in groups}
    if REFUSAL_GROUP in groups:
        wanted |= {"frame", "barred"}
    return [edition for edition in get_args(Edition) if edition in wanted]


# ---- the references ----


@dataclass(frozen=True)
class RunFolders:
    """The folders of one run: JPEGs of every edition, and a store for each part and edition."""

    work: Path

    def jpeg(self, edition: Edition, source: Source) -> Path:
        """Return the path of a reference."""
        return self.work / "jpeg" / edition / source.reference_name

    def store(self, edition: Edition, part: int) -> Path:
        """Return the path of a store."""
        return self.work / "stores" / f"{part}-{edition}"


def write_references(source: Source, folders: RunFolders, editions: Sequence[Edition]) -> Source | str:
    """Write the quality-100 JPEGs of a file; return the file with its info bar, or why it cannot be read."""
    try:
        micrograph = source.read()
        known = replace(source, bar_rows=known_bar(source, micrograph.pixels))
    except (ImageError, tifffile.TiffFileError) as error:
        return str(error)
    for edition in editions:
        path = folders.jpeg(edition, known)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(reference(replace(micrograph, bar_rows=known.bar_rows), edition), 100))
    return known


def build(folders: RunFolders, edition: Edition, dealt: list[list[Source]], options: dict[str, Any]) -> Iterator[int]:
    """Build the store of every part: index all references once, then prune the part from a copy.

    Yields the number of each finished part.
    """
    collection, whole = folders.work / "collections" / edition, folders.work / "stores" / f"all-{edition}"
    path_of = {s: collection / s.category / s.reference_name for part in dealt for s in part}
    for source, path in path_of.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.hardlink_to(folders.jpeg(edition, source))
    taxonomy = load_taxonomy(keep_unknown=True)
    index([collection], whole, taxonomy=taxonomy, **options)
    for number, part in enumerate(dealt):
        store = folders.store(edition, number)
        shutil.copytree(whole, store)
        for source in part:
            path_of[source].unlink()
        report = index([collection], store, taxonomy=taxonomy, prune=True, **options)
        for source in part:
            path_of[source].hardlink_to(folders.jpeg(edition, source))
        if report.counts["removed"] != len(part) or report.counts["added"]:
            msg = f"the store of part {number} should leave out exactly its {len(part)} files: {report.counts}"
            raise RuntimeError(msg)
        yield number


# ---- the answers ----


class Stores:
    """The open stores of the current part of a worker process."""

    def __init__(self) -> None:
        self._part = -1
        self._engines: dict[Edition, Engine] = {}

    def engine(self, folders: RunFolders, part: int, edition: Edition) -> Engine:
        """Return the open store of an edition; close those of other parts."""
        if part != self._part:
            for engine in self._engines.values():
                engine.close()
            self._part, self._engines = part, {}
        if edition not in self._engines:
            self._engines[edition] = connect(folders.store(edition, part))
        return self._engines[edition]


STORES = Stores()  # one for each worker process


def ask(task: Task, folders: RunFolders, groups: set[str], by_name: dict[str, Source]) -> list[Outcome]:
    """Run all queries of a task; runs in a worker process."""
    outcomes = []
    for question in questions(task, groups):
        engine = STORES.engine(folders, task.part, question.edition)
        start = time.perf_counter()
        try:
            answer: Answer | ImageError = engine.search(question.query_image)
        except ImageError as error:
            answer = error
        outcomes.append(outcome_of(question, task, answer, by_name, 1000 * (time.perf_counter() - start)))
    return outcomes


def outcome_of(
    question: Question, task: Task, answer: Answer | ImageError, by_name: dict[str, Source], milliseconds: float = 0.0
) -> Outcome:
    """Return the outcome of a query: its answer, or why it could not be read, judged by scenes."""
    asked = question.transform, question.group, question.name, task.source.category if task.source else "-"
    if isinstance(answer, ImageError):
        measured = None, None, None, None
        return Outcome(*asked, "refused", False, "error", str(answer), "", "", *measured, milliseconds)
    best = answer.best
    source = None if best is None else by_name[Path(best.source).name]
    candidate = relation(task, source)
    verdicts: dict[str, Verdict] = {"own": "right", "overlap": "overlap", "other": "wrong"}
    held = held_by_limit(answer)
    return Outcome(
        *asked,
        verdict=verdicts[candidate] if held or answer.category is not None else "refused",
        held=held,
        grade=answer.grade,
        reason=answer.reason,
        candidate=candidate,
        candidate_name=source.name if source else "",
        distance=best.distance if best else None,
        score=best.scene_score if best else None,
        ssim=best.ssim if best else None,
        p_wrong=answer.p_wrong.estimate if answer.p_wrong else None,
        milliseconds=milliseconds,
    )


def relation(task: Task, found: Source | None) -> Literal["", "own", "overlap", "other"]:
    """Return which scene a candidate is of: the query's own, an overlapping one, or another one."""
    if found is None:
        return ""
    if task.source is None:
        return "other"
    if found.scene == task.source.scene:
        return "own"
    return "overlap" if found.place == task.source.place else "other"


# ---- a run ----


def workers() -> ProcessPoolExecutor:
    """Build the pool of worker processes: one per core, each with one thread for linear algebra."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn"))


def common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose the queries."""
    parser.add_argument("folder", type=Path)
    groups = [*GROUPS, REFUSAL_GROUP]
    parser.add_argument("--groups", nargs="+", choices=groups, default=groups, help="R: queries that must be refused")
    parser.add_argument("--limit", type=int, metavar="N", help="only this many scenes, drawn by the seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", type=int, default=5)
    parser.add_argument("--overlaps", type=Path, metavar="FILE", help="lines of scenes that overlap")
    parser.add_argument("--reach", choices=("frame", "views", "windows"), help="passed on to the indexer")
    parser.add_argument("--out", type=Path, help="write the result as JSON")


def prepare(
    parsed: argparse.Namespace, parser: argparse.ArgumentParser, folders: RunFolders, pool: ProcessPoolExecutor
) -> tuple[list[Source], list[str]]:
    """List the files, draw scenes, write the references; return the readable files, and why others are not."""
    if not parsed.folder.is_dir():
        parser.error(f"{parsed.folder} is not a folder")
    sources = sources_of(parsed.folder, parsed.overlaps)
    scenes = sorted({source.scene for source in sources})
    if parsed.limit:
        scenes = random.Random(parsed.seed).sample(scenes, min(parsed.limit, len(scenes)))
    drawn = [source for source in sources if source.scene in set(scenes)]
    if parsed.parts < 2 or len({source.place for source in drawn}) < 2 * parsed.parts:
        parser.error(f"{len(scenes)} scenes are too few for {parsed.parts} parts: each needs at least two scenes")
    write = partial(write_references, folders=folders, editions=editions_of(set(parsed.groups)))
    written = list(tqdm(pool.map(write, drawn, chunksize=4), "references", len(drawn), disable=None))
    return [one for one in written if isinstance(one, Source)], [one for one in written if isinstance(one, str)]


def indexing_options(reach: str | None) -> dict[str, Any]:
    """Return the reach as options, if the indexer has that option."""
    if reach is None:
        return {}
    if "reach" in inspect.signature(index).parameters:
        return {"reach": reach}
    print(f"this indexer has no reach; --reach {reach} is ignored", file=sys.stderr)
    return {}


def build_all(folders: RunFolders, dealt: list[list[Source]], groups: set[str], options: dict[str, Any]) -> None:
    """Build the stores of all parts and editions."""
    wanted = editions_of(groups)
    with tqdm(desc="stores", total=len(wanted) * len(dealt), disable=None) as progress:
        for edition in wanted:
            for _ in build(folders, edition, dealt, options):
                progress.update()


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common_arguments(parser)
    parser.add_argument("--plots", type=Path, metavar="DIR", help="plot histograms of the scores")
    parser.add_argument("--failures", type=int, default=5, help="failures to show for each transform and kind")
    parsed = parser.parse_args()
    groups, start = set(parsed.groups), time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch, workers() as pool:
        folders = RunFolders(Path(scratch))
        sources, unreadable = prepare(parsed, parser, folders, pool)
        dealt = deal(sources, parsed.parts, parsed.seed)
        options = indexing_options(parsed.reach)
        build_all(folders, dealt, groups, options)
        tasks = [task for part in range(parsed.parts) for task in tasks_of(dealt, part, groups, parsed.seed)]
        asked = partial(ask, folders=folders, groups=groups, by_name={s.reference_name: s for s in sources})
        outcomes = [o for some in tqdm(pool.map(asked, tasks), "images", len(tasks), disable=None) for o in some]
    result = summarise(outcomes, parsed.reach)
    refusals = len({o.name for o in outcomes if o.group == REFUSAL_GROUP})
    result = {
        "folder": parsed.folder.name, "images": len(sources), "scenes": len({s.scene for s in sources}),
        "real info bars": sum(s.bar_rows > 0 for s in sources), "unreadable": unreadable, "limit": parsed.limit,
        "seed": parsed.seed, "parts": parsed.parts, "reach": parsed.reach or "default",
        "overlaps": parsed.overlaps is not None,
        "to be refused": refusals, "seconds": round(time.perf_counter() - start),
    } | result  # fmt: skip
    print(f"{result['images']} images of {result['scenes']} scenes ({result['real info bars']} with a known info bar), "
          f"reach {result['reach']}, seed {parsed.seed}, {result['seconds']} s")  # fmt: skip
    for line in unreadable:
        print(f"unreadable: {line}")
    if REFUSAL_GROUP in groups and refusals < 200:
        print(f"only {refusals} images that must be refused; a full run needs 200")
    print(table(result, parsed.failures))
    if parsed.plots:
        plot(outcomes, parsed.plots)
    if parsed.out:
        full = result | {"machine": machine(), "versions": versions(), "outcomes": [asdict(o) for o in outcomes]}
        parsed.out.write_text(json.dumps(full, indent=1), encoding="utf-8")
    return 0 if all(row["met"] for row in result["transforms"]) else 1


if __name__ == "__main__":
    sys.exit(main())
