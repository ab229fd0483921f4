"""Record the answers of Twinscope, or compare two records, to see whether a change of the code changed an answer.

    python benchmarks/answers.py record FILE [--quick] [--micrographs DIR] [--groups A B C D E F N R S]
                                 [--reach frame views windows] [--workers N]
    python benchmarks/answers.py compare BEFORE AFTER [--tolerance 1e-9] [--limit 20]

The queries are made from three sets of images: the real micrographs of DIR (default: the micrographs of `../shared`),
the synthetic micrographs of `synthetic`, and the fields of `lookalikes`. DIR needs a MANIFEST.tsv as for `real_twins`.
The groups of queries are:

A to E  images after the transforms of `transforms`, searched in stores that contain the images
R       unrelated images: the images of one half of the scenes, searched in stores of the other half, both unchanged and
        with the info bar of a reference; also empty images
F       image files with their instrument metadata, searched in a store of JPEGs and in stores of the files themselves;
        these stores also contain some files under a second category
S       queries with other thresholds, other policies, or of another kind (a hash, a stored image)
N       queries over gRPC to `twinscope serve`

Each transform is applied to a different subset of the images. Nothing is random, so the same code always writes the
same record. A record has one line of JSON for each answer. `compare` exits with 1 if the records differ, except if
only sentences for people differ.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from shutil import copyfile
from typing import Any, Final, NamedTuple

import tifffile
from tqdm import tqdm

# ---- the parts of Twinscope that this benchmark imports; everything else is done by the command `twinscope` ----
from twinscope_client import connect
from twinscope_indexer.hashing import hash_pixels
from twinscope_indexer.imaging import read_image

# ---- the other benchmarks that this benchmark imports ----
from differences import print_differences, read, write  # isort: skip
import lookalikes  # isort: skip
import synthetic  # isort: skip
import transforms  # isort: skip

DEFAULT: Final = Path(__file__).resolve().parents[2] / "shared" / "data" / "micrographs"
TWINSCOPE: Final = str(Path(sys.executable).with_name("twinscope"))
HALVES: Final = ("even", "odd")
FIELDS: Final = 8  # number of synthetic fields per category, and of look-alike fields per family
# A quick record uses every sixth scene, a quarter of the synthetic fields, and a third of the images per transform.
QUICK: Final = 6
THIN: Final = 3
GROUPS: Final = "ABCDEFNRS"
CHANGES: Final = {f"{t.group} {t.name}": t for t in transforms.TRANSFORMS}
REFUSALS: Final = {f"R {t.name}": t for t in transforms.REFUSALS}
WAYS: Final[dict[str, dict[str, Any]]] = {
    "": {}, "reach frame": {"reach": "frame"}, "reach views": {"reach": "views"},
    "within 100 bits": {"max_distance": 100}, "within 430 bits": {"max_distance": 430},
    "not beyond 300 bits": {"far_distance": 300}, "up to 480 bits": {"far_distance": 480},
    "SSIM 0.99": {"excellent_ssim": 0.99}, "SSIM never": {"ssim": "never"}, "SSIM all": {"ssim": "all"},
    "scene 0.7": {"good_scene": 0.7}, "scene 0.2": {"good_scene": 0.2}, "lone scene 0.5": {"lone_scene": 0.5},
    "wide margins": {"ssim_margin": 0.3, "scene_margin": 0.6}, "p_wrong 0.01": {"max_p_wrong": 0.01},
    "old rule": {"policy": "legacy"}, "not verified": {"verify": False}, "one candidate": {"k": 1},
    "20 candidates": {"k": 20}, "two categories": {"categories": ["Particles", "Tips"]},
    "hash alone": {}, "stored image": {},
}  # fmt: skip
"""Search options for each way to run a query. The key is the name of the way. The last two ways are special kinds of
query and need no options."""


# ---- the queries ----


class Image(NamedTuple):
    """An image file.

    ``half`` is the name of the half of the scenes that contains the image. If no store contains the image, ``half`` is
    empty.
    """

    number: int
    name: str
    path: Path
    half: str
    bar_rows: int


@dataclass(frozen=True, order=True)
class Store:
    """A store of one edition of the images with one reach. The edition ``original`` is the unchanged files."""

    edition: str
    reach: str
    halves: tuple[str, ...] = HALVES
    served: bool = False

    @property
    def name(self) -> str:
        """Name of the folder of the store."""
        return " ".join([self.edition, self.reach, *(self.halves if len(self.halves) == 1 else ())])


class Question(NamedTuple):
    """One query, given by its image, its transform and the way to run it.

    The transform is a key of `CHANGES` or `REFUSALS`, or ``file`` if the query is the path of the file. The way is a
    key of `WAYS`.
    """

    image: Image
    transform: str
    way: str = ""
    bar_of: Image | None = None


@lru_cache(maxsize=4)
def decoded(image: Image) -> transforms.Micrograph:
    """Decode an image file and return its pixels as a micrograph."""
    return transforms.Micrograph(image.name, read_image(image.path).pixels, image.bar_rows)


def images_of(micrographs: Path, work: Path, quick: bool) -> list[Image]:
    """Write the synthetic images, and return the list of all images. If `quick` is true, the list is a subset."""
    fields = FIELDS // 4 if quick else FIELDS
    made = {
        f"lookalikes/{family}/{number:02d}.tif": lookalikes.field(family, number, seed=0)
        for family in lookalikes.FAMILIES for number in range(fields)
    } | {f"empty/{frame.name}.tif": frame.pixels for frame in transforms.empty_frames()}  # fmt: skip
    for name, pixels in made.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(work / name, pixels)
    synthetic.write(work / "synthetic", fields, seed=1000)
    found = [(name, work / name, name, 0) for name in made]
    for source, folder in (("real", micrographs), ("synthetic", work / "synthetic")):
        with (folder / "MANIFEST.tsv").open(encoding="utf-8", newline="") as stream:
            rows = csv.DictReader(stream, delimiter="\t")
            found += [(f"{source}/{r['path']}", folder / r["path"], f"{source}/{r['scene']}", int(r.get("bar") or 0))
                      for r in rows]  # fmt: skip
    scenes = sorted({scene for _, _, scene, _ in found})
    many = [scene for scene in scenes if scene.startswith(("real/", "empty/"))]
    scenes = sorted({*scenes} - {*many} | {*many[:: QUICK if quick else 1]})
    half_of = {scene: "" if scene.startswith("empty/") else HALVES[n % 2] for n, scene in enumerate(scenes)}
    kept = sorted((name, path, half_of[scene], bar) for name, path, scene, bar in found if scene in half_of)
    return [Image(number, *rest) for number, rest in enumerate(kept)]


def plan(images: list[Image], groups: set[str], reaches: list[str], thin: int) -> Iterator[tuple[Store, Question]]:
    """Yield each query with its store.

    Each transform is applied to every n-th image. The subset of images differs between transforms.
    """
    widest = reaches[-1]
    frames = [name for name, one in CHANGES.items() if one.edition == "frame"]
    held = {half: [image for image in images if image.half == half] for half in HALVES}
    for image in images:
        turn, half = image.number, HALVES[image.half == "even"]  # `half` is the half that does not contain the image
        for position, (name, one) in enumerate(CHANGES.items() if image.half else ()):
            for reach in (reaches[:1] if one.edition == "barred" else reaches) if one.group in groups else ():
                every = (4 if reach == "windows" else 8) if one.group in "DE" else (12 if reach == "windows" else 7)
                if (turn + position) % (every * thin) == 0:
                    yield Store(one.edition, reach), Question(image, name)
            if "N" in groups and one.edition == "frame" and (turn + position) % (24 * thin) == 1:
                yield Store("frame", widest, served=True), Question(image, name)
        for position, name in enumerate(REFUSALS if "R" in groups else ()):
            for number, reach in enumerate(reaches):
                way, step = f"reach {reach}" if reach != widest else "", (turn + position + number) % (6 * thin)
                if step == 0:
                    yield Store("frame", widest, (half,)), Question(image, name, way)
                if step == 1 and image.half:
                    bar_of = held[half][7 * turn % len(held[half])]
                    yield Store("barred", widest, (half,)), Question(image, name, way, bar_of)
        if "F" in groups:
            stores = Store("original", "views"), Store("original", "views", (half,)), Store("frame", "views")
            yield from ((store, Question(image, "file")) for store in stores[turn % thin :: thin])
        for position, way in enumerate(WAYS if "S" in groups and image.half else ()):
            if (turn + position) % (8 * thin) == 0:
                yield Store("frame", widest), Question(image, frames[(7 * turn + position) % len(frames)], way)
            if (turn + position) % (24 * thin) == 1:
                yield Store("frame", widest, (half,)), Question(image, "R as is", way)


# ---- the stores ----


@dataclass(frozen=True)
class RunFolders:
    """Paths of the files of one run."""

    work: Path

    def target(self, store: Store) -> Path:
        """Return the folder of a store."""
        return self.work / "stores" / store.name

    def named(self, text: str, image: Image) -> str:
        """Replace the paths in a text by names that are the same in every run."""
        return text.replace(str(image.path), image.name).replace(f"{self.work / 'collections'}{os.sep}", "")

    def write(self, image: Image, editions: Sequence[str]) -> bool:
        """Write the references of an image in the given editions. Return whether the image can be read."""
        for edition in editions:
            path = self.work / "collections" / edition / image.half / f"{image.name}.jpg"
            (path.parent / "Powder").mkdir(parents=True, exist_ok=True)
            if edition == "original":
                copyfile(image.path, path.with_name(image.path.name))
                if image.number % 8 == 0:  # every eighth image is also stored under a second category
                    copyfile(image.path, path.parent / "Powder" / image.path.name)
                continue
            try:
                path.write_bytes(transforms.jpeg(transforms.reference(decoded(image), edition), 100))  # type: ignore[arg-type]
            except Exception:  # noqa: BLE001 - the query by file records the error
                return False
        return True

    def index(self, store: Store) -> None:
        """Build a store with the command ``twinscope index``."""
        folders = [str(self.work / "collections" / store.edition / half) for half in store.halves]
        reach = [] if store.reach == "views" else ["--reach", store.reach]  # a new store has the reach views by default
        command = [TWINSCOPE, "index", *folders, "--store", str(self.target(store)), "--workers", "1", *reach]
        done = subprocess.run([*command, "--unknown-category", "keep"], capture_output=True, text=True, check=False)
        if done.returncode not in (0, 3):  # the exit code 3 means that some file cannot be read
            raise RuntimeError(done.stderr)

    @contextmanager
    def served(self, store: Store) -> Iterator[str]:
        """Serve a store in another process, and yield the address of the server."""
        command = [TWINSCOPE, "serve", str(self.target(store)), "--port", "0", "--quiet"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
            try:
                yield next(found[0] for line in running.stderr or () if (found := re.search(r"grpc://[^;\s]+", line)))
            finally:
                running.terminate()


engine_of = lru_cache(maxsize=1)(connect)


def ask(task: tuple[Store, str, list[Question]], folders: RunFolders) -> dict[str, dict[str, Any]]:
    """Run all queries of an image against a store. This function runs in a worker process."""
    store, target, questions = task
    answers = {}
    for question in questions:
        name = question.transform + (", under a reference's bar" if question.bar_of else "")
        key = " | ".join([question.image.name, store.name + (", served" if store.served else ""), name, question.way])
        try:
            row = fields(answer(engine_of(target), question).to_dict())
        except Exception as error:  # noqa: BLE001 - the record also contains exceptions, because users see them
            row = {"grade": "error", "reason": f"{type(error).__name__}: {error}"}
        text = json.dumps(row, ensure_ascii=False, default=lambda value: value.item())
        answers[key] = json.loads(folders.named(text, question.image))
    return answers


def answer(engine: Any, question: Question) -> Any:
    """Run one query and return its answer."""
    if question.transform == "file":
        return engine.search(question.image.path)
    micrograph = decoded(question.image)
    if question.bar_of is not None:
        micrograph = transforms.same_bar(micrograph, decoded(question.bar_of))
    query_image = (CHANGES | REFUSALS)[question.transform].query(micrograph)
    if question.way == "hash alone":
        pixels = read_image(query_image).pixels if isinstance(query_image, bytes) else query_image
        return engine.search_hashes([hash_pixels(pixels)])[0]
    found = engine.search(query_image, **WAYS[question.way])
    return engine.search_stored(found.best.image_id) if question.way == "stored image" and found.best else found


def fields(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an answer that are recorded. Ids are replaced by names, and metadata by their digest."""
    best, *others = answer["matches"] or [{}]
    chance = answer.get("p_wrong") or {}
    metadata = json.dumps([answer["instrument"], best.get("instrument")], sort_keys=True, default=str)
    return {
        "grade": answer["grade"], "category": answer["category"], "code": answer["code"], **candidate(best),
        "p_wrong": [chance.get(name) for name in ("estimate", "low", "high", "calibration")],
        "others": [list(candidate(other).values()) for other in others], "hash": answer["query_hash"],
        "metadata": sha256(metadata.encode()).hexdigest()[:16], "contradicted": len(best.get("contradictions", ())),
        "reason": answer["reason"], "note": best.get("note"), "contradictions": best.get("contradictions"),
    }  # fmt: skip


def candidate(match: dict[str, Any]) -> dict[str, Any]:
    """Return the measurements of a candidate, for example its distance and scene score."""
    change = match.get("transform") or {}
    return {
        "matched": match.get("source"), "of": match.get("category"),
        **{name: match.get(name) for name in ("distance", "scene_score", "ssim", "shift")},
        "frames": [change.get(name) for name in ("symmetry", "query_frame", "reference_frame")],
    }  # fmt: skip


def record(parsed: argparse.Namespace, work: Path) -> dict[str, dict[str, Any]]:
    """Build the stores, run all queries, and return the answers by key."""
    images, folders = images_of(parsed.micrographs, work, parsed.quick), RunFolders(work)
    asked: dict[tuple[Store, Image], dict[Question, None]] = defaultdict(dict)  # without duplicates
    for store, question in plan(images, set(parsed.groups), sorted(parsed.reach), THIN if parsed.quick else 1):
        asked[store, question.image][question] = None
    stores = sorted({store for store, _ in asked})
    built = sorted({replace(store, served=False) for store in stores})
    written_by = partial(folders.write, editions=sorted({s.edition for s in stores}, key="original".__ne__))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ExitStack() as stack:
        pool = stack.enter_context(ProcessPoolExecutor(parsed.workers, mp_context=get_context("spawn")))
        held = [image for image in images if image.half]
        written = list(tqdm(pool.map(written_by, held, chunksize=4), "references", len(held), disable=None))
        readable = {None, *(i for i in images if not i.half), *(i for i, one in zip(held, written, strict=True) if one)}
        with ThreadPoolExecutor(parsed.workers) as threads:
            list(tqdm(threads.map(folders.index, built), "stores", len(built), disable=None))
        target_of = {s: stack.enter_context(folders.served(s)) if s.served else str(folders.target(s)) for s in stores}
        tasks = [
            (store, target_of[store], [q for q in some if q.transform == "file" or {image, q.bar_of} <= readable])
            for (store, image), some in sorted(asked.items(), key=lambda item: (item[0][0], item[0][1].number))
        ]
        replies = tqdm(pool.map(partial(ask, folders=folders), tasks), "images", len(tasks), disable=None)
        return dict(sorted(pair for reply in replies for pair in reply.items()))


def main() -> int:
    """Run the subcommand ``record`` or ``compare``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("record", help="run all queries and write the answers")
    one.add_argument("file", type=Path)
    one.add_argument("--micrographs", type=Path, default=DEFAULT, metavar="DIR")
    one.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    one.add_argument("--reach", nargs="+", choices=("frame", "views", "windows"), default=["views", "windows"])
    one.add_argument("--quick", action="store_true", help="run fewer queries; this takes about a minute")
    one.add_argument("--workers", type=int, metavar="N", default=os.cpu_count(), help="number of processes")
    two = commands.add_parser("compare", help="list the differences between two records")
    two.add_argument("before", type=Path)
    two.add_argument("after", type=Path)
    two.add_argument(
        "--tolerance", type=float, default=1e-9, help="largest allowed difference of two numbers (default: 1e-9)"
    )
    two.add_argument(
        "--limit", type=int, default=20, metavar="N", help="maximum number of differences to print (default: 20)"
    )
    parsed = parser.parse_args()
    if parsed.command == "compare":
        return print_differences(read(parsed.before), read(parsed.after), parsed.tolerance, parsed.limit)
    if not (parsed.micrographs / "MANIFEST.tsv").is_file():
        parser.error(f"{parsed.micrographs} has no MANIFEST.tsv; give --micrographs DIR")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        answers = record(parsed, Path(scratch).resolve())
    write(parsed.file, answers)
    grades = Counter(row["grade"] for row in answers.values()).most_common()
    print(f"{len(answers)} answers in {time.perf_counter() - start:.0f} s: {dict(grades)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
