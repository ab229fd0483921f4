"""Measure recall and false labels after the changes that micrographs undergo in practice.

The scenes of a folder are divided into parts. For each part, a store is built from quality-100 JPEGs of all other
parts. There are two kinds of queries. The images of the next part, after every transform of `transforms`, must be
found, because their scenes are in the store. The images of the part that is left out must be refused, because their
scenes are not in the store. Images that must be refused are queried unchanged, and with the info bar of a reference.
Empty images and noise must be refused too. So every image is once a query with a twin and once an unrelated image.

    python benchmarks/accuracy.py FOLDER [--groups A B C D E R] [--limit N] [--seed N] [--reach frame|views|windows]
                               [--parts N] [--overlaps FILE] [--out FILE.json] [--plots DIR] [--failures N]

FOLDER contains images. Each subfolder is a category. A file MANIFEST.tsv in FOLDER can list the image files. The
columns of MANIFEST.tsv are:

path    path of the file, relative to FOLDER
scene   (optional) name of the scene; files of one scene show the same field; by default every file is its own scene
bar     (optional) height of the info bar at the bottom, in pixels
note    (optional) if the note contains "databar" or "info bar", the height of the info bar is measured in the image

The height of the info bar is also known if the file has FEI's TIFF tags. A match is right if it shows the scene of the
query. A match is false if it shows another scene, even if both scenes have the same category. Some scenes overlap
although the manifest separates them. The file for --overlaps lists them: each line contains the names of scenes that
overlap. A match between overlapping scenes counts neither as right nor as false. If a scene is left out of an index,
all scenes that overlap with it are left out too.

A query is found if it would be labelled without the limit on ``p_wrong``. Recall is the share of queries that are
found. ``labelled`` is the number of found queries that are labelled. ``review`` is the number of found queries that the
limit sends to review. ``held`` is the number of false labels that the limit prevents. The second table shows the effect
of other limits.

The exit code is 1 if any query was labelled falsely, or if a transform misses the minimum recall of its group.
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
    """One image file of the folder."""

    number: int
    path: Path
    name: str
    category: str
    scene: str
    place: str
    """Common name of all scenes that overlap with the scene of this file; without overlapping scenes, the scene."""
    note: str = ""
    bar_rows: int = 0

    @property
    def reference_name(self) -> str:
        """File name of the reference that is made from this file."""
        return f"{self.number:06d}.jpg"

    def read(self) -> Micrograph:
        """Decode the file. An `ImageError` is raised if the file cannot be read."""
        return Micrograph(self.name, read_image(self.path).pixels, self.bar_rows)


def sources_of(folder: Path, overlaps: Path | None) -> list[Source]:
    """List the files of the manifest. Without a manifest, list all images in and below the folder."""
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
    """Return the height of the info bar in pixels; 0 if the height is unknown.

    The height comes from the manifest, from the metadata, or from the pixels if the manifest mentions an info bar.
    """
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
    """Measure the height of an info bar that has a uniform background.

    The bar consists of the rows at the bottom whose median is the grey level of the background.
    """
    medians = np.median(pixels[round(0.8 * len(pixels)) :], axis=1)
    flat = np.abs(medians - medians[-1]) <= 3
    rows = int(np.argmin(flat[::-1])) if not flat.all() else 0
    clear = rows and abs(medians[-rows - 1] - medians[-1]) > 8
    return rows if clear and rows >= 0.04 * len(pixels) else 0


# ---- queries and their stores ----


@dataclass(frozen=True)
class Task:
    """All queries of one image against the stores that leave out one part of the scenes."""

    part: int
    source: Source | None
    """File of the image; None for an empty image."""
    empty: Micrograph | None = None
    bar_of: Source | None = None
    """Reference whose info bar is put on the image, if the image is unrelated."""
    wanted: bool = True
    """Whether the scene of the image is in the store."""


@dataclass(frozen=True, eq=False)
class Question:
    """One query, with the edition of the references that the query is compared with."""

    transform: str
    group: str
    edition: Edition
    query_image: QueryImage
    name: str


def deal(sources: Sequence[Source], parts: int, seed: int) -> list[list[Source]]:
    """Divide the files into parts at random. Scenes that overlap are in the same part."""
    places = sorted({source.place for source in sources})
    random.Random(seed).shuffle(places)
    part_of = {name: number % parts for number, name in enumerate(places)}
    dealt: list[list[Source]] = [[] for _ in range(parts)]
    for source in sources:
        dealt[part_of[source.place]].append(source)
    return dealt


def tasks_of(dealt: list[list[Source]], part: int, groups: set[str], seed: int) -> list[Task]:
    """List the tasks for the stores that leave out one part."""
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
    """Yield the queries of a task. The function `drawn` decides which transforms are used.

    Raises
    ------
    ImageError
        If the file of the task cannot be read.
    """
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
    """List the editions of the references that the queries of the groups need."""
    wanted = {transform.edition for transform in TRANSFORMS if transform.group in groups}
    if REFUSAL_GROUP in groups:
        wanted |= {"frame", "barred"}
    return [edition for edition in get_args(Edition) if edition in wanted]


# ---- the references ----


@dataclass(frozen=True)
class RunFolders:
    """Paths of the files of one run: the JPEGs of every edition, and a store for each part and edition."""

    work: Path

    def jpeg(self, edition: Edition, source: Source) -> Path:
        """Return the path of the JPEG of a reference."""
        return self.work / "jpeg" / edition / source.reference_name

    def store(self, edition: Edition, part: int) -> Path:
        """Return the path of the store that leaves out a part."""
        return self.work / "stores" / f"{part}-{edition}"


def write_references(source: Source, folders: RunFolders, editions: Sequence[Edition]) -> Source | str:
    """Write the quality-100 JPEGs of a file in the given editions.

    Returns
    -------
    Source or str
        The file with the height of its info bar, or an error message if the file cannot be read.
    """
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
    """Build one store for each part, without the scenes of the part. Yield the number of each part after its store.

    All references are indexed only once. For each part, the store is copied, and the references of the part are removed
    from the copy.
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
        report = index([collection], store, taxonomy=taxonomy, prune=True, allow_removals=True, **options)
        for source in part:
            path_of[source].hardlink_to(folders.jpeg(edition, source))
        if report.counts["removed"] != len(part) or report.counts["added"]:
            msg = f"the store of part {number} should leave out exactly its {len(part)} files: {report.counts}"
            raise RuntimeError(msg)
        yield number


# ---- the answers ----


class Stores:
    """The stores that are open in a worker process. All open stores belong to one part."""

    def __init__(self) -> None:
        self._part = -1
        self._engines: dict[Edition, Engine] = {}

    def engine(self, folders: RunFolders, part: int, edition: Edition) -> Engine:
        """Return the open store of a part and an edition. The stores of other parts are closed."""
        if part != self._part:
            for engine in self._engines.values():
                engine.close()
            self._part, self._engines = part, {}
        if edition not in self._engines:
            self._engines[edition] = connect(folders.store(edition, part))
        return self._engines[edition]


STORES = Stores()  # one for each worker process


def ask(task: Task, folders: RunFolders, groups: set[str], by_name: dict[str, Source]) -> list[Outcome]:
    """Run all queries of a task. This function runs in a worker process."""
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
    """Return the outcome of a query.

    The answer is judged by the scene of the best candidate. If the query could not be read, the outcome contains the
    error.
    """
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
    """Return whether a candidate shows the scene of the query, an overlapping scene or another scene.

    The result is empty if there is no candidate.
    """
    if found is None:
        return ""
    if task.source is None:
        return "other"
    if found.scene == task.source.scene:
        return "own"
    return "overlap" if found.place == task.source.place else "other"


# ---- a run ----


def workers() -> ProcessPoolExecutor:
    """Build a pool of one worker process per core. Each process uses one thread for linear algebra."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn"))


def common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command-line arguments that select the queries."""
    parser.add_argument("folder", type=Path)
    groups = [*GROUPS, REFUSAL_GROUP]
    parser.add_argument("--groups", nargs="+", choices=groups, default=groups, help="R: queries that must be refused")
    parser.add_argument("--limit", type=int, metavar="N", help="number of scenes to select at random (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", type=int, default=5)
    parser.add_argument("--overlaps", type=Path, metavar="FILE", help="each line lists scenes that overlap")
    parser.add_argument("--reach", choices=("frame", "views", "windows"), help="reach of the stores")
    parser.add_argument("--out", type=Path, help="write the result as JSON")


def prepare(
    parsed: argparse.Namespace, parser: argparse.ArgumentParser, folders: RunFolders, pool: ProcessPoolExecutor
) -> tuple[list[Source], list[str]]:
    """List the files, select scenes, and write the references.

    Returns
    -------
    list of Source, list of str
        The readable files, and the error messages of the other files.
    """
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
    """Return the options for the indexer. An old indexer has no reach; then the options are empty."""
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
    parser.add_argument(
        "--failures", type=int, default=5, help="maximum number of failures to print for each transform and verdict"
    )
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
