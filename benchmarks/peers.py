"""Compare Twinscope with other methods, the peers, on the queries of `accuracy`.

    python benchmarks/peers.py FOLDER [the options of accuracy.py] [--pairs N] [--out FILE.json]

Each column of the table is one method. A method labels a query with a reference, or refuses the query:

Twinscope
    The default policy. --reach is the reach of the index.
pHash 64
    The 64-bit pHash of imagehash. The nearest reference is the label if it is at most 10 bits away (the default of
    imagededup).
PDQ
    The 256-bit hash PDQ, as ThreatExchange recommends. The nearest reference is the label if it is at most 31 bits away
    from any of the query's 8 orientations and the quality of both images is at least 50.
ORB
    500 features, a ratio test at 0.75, and a homography by RANSAC (5 pixels). The reference with the most inliers is
    the label if there are at least 15 inliers. Every query is compared with every reference, so --pairs limits the
    number of queries.
tiles
    144-bit hashes of square crops. Each crop votes for a reference and a location in this reference; see `tiles`. This
    method is an alternative to windows.
old rule
    The 1024-bit pHash, with Twinscope's policy ``legacy``. SSIM is computed for the two nearest references if they are
    closer than 120 bits. A reference with an SSIM above 0.95 is the label. Here Twinscope converts 16-bit files to
    8 bits; the legacy scripts clipped the grey levels of such files to white.

The last two lines of the table are the costs: the median time of a query, and the size of the index. The time of a
query includes everything that a method does except hashing the references. The size of the index is the number of bytes
of codes or features per reference, without thumbnails and images.

PDQ needs the package pdqhash, and ORB needs opencv-python-headless. The table shows if a package is missing. The peers
read a query with Pillow. A query that Pillow or a peer cannot process counts as refused. A cell of the table contains
the recall and the number of false labels. For queries that must be refused, it contains only the number of false
labels.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import pickle
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

import imagehash
import numpy as np
import tiles
from accuracy import (
    REFUSAL_GROUP,
    STORES,
    Question,
    RunFolders,
    Source,
    Task,
    build_all,
    common_arguments,
    deal,
    editions_of,
    indexing_options,
    prepare,
    questions,
    relation,
    tasks_of,
    workers,
)
from numpy.typing import NDArray
from outcomes import found as is_found
from PIL import Image
from tqdm import tqdm
from transforms import REFUSALS, TRANSFORMS, Edition, QueryImage
from twinscope_client.doctor import machine, versions
from twinscope_indexer.errors import ImageError
from twinscope_indexer.hashing.codes import BYTES
from twinscope_indexer.hashing.frames import reference_frames
from twinscope_indexer.hashing.reach import Reach

Bits = NDArray[np.bool_]
PEERS: Final = {"pHash 64": "imagehash", "PDQ": "pdqhash", "ORB": "cv2", "tiles": "faiss"}
"""Methods of the peers, and the package that each method needs."""
COLUMNS: Final = ("Twinscope", *PEERS, "old rule")

_PHASH_BITS, _PDQ_BITS, _PDQ_QUALITY = 10, 31, 50
_CODE_BYTES: Final = {"pHash 64": 8, "PDQ": 32}
_ORB_FEATURES, _ORB_INLIERS, _ORB_RATIO = 500, 15, 0.75


@lru_cache
def package(name: str) -> Any:
    """Import a package; return None if it is missing."""
    try:
        module = importlib.import_module(name)
    except ImportError:
        return None
    if name == "cv2":
        module.setNumThreads(1)
    return module


# ---- the features of the peers ----


def _phash(image: Image.Image) -> Bits:
    return np.asarray(imagehash.phash(image).hash).ravel()


def _pdq(image: Image.Image) -> tuple[Bits, int]:
    """Return the bits of the 8 orientations, shape (8, 256), beginning with the original image, and the quality."""
    codes, quality = package("pdqhash").compute_dihedral(np.asarray(image.convert("L").convert("RGB")))
    return np.array(codes, dtype=bool), int(quality)


def _orb(image: Image.Image) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return the coordinates of the feature points (n, 2) and their descriptors (n, 32)."""
    found, descriptors = package("cv2").ORB_create(_ORB_FEATURES).detectAndCompute(np.asarray(image.convert("L")), None)
    if descriptors is None:
        return np.zeros((0, 2), np.float32), np.zeros((0, 32), np.uint8)
    return np.array([point.pt for point in found], np.float32), descriptors


# ---- the decisions of the peers: each function returns the position of the matching reference, or None ----


def _phash_match(query: Bits, references: Sequence[Bits]) -> int | None:
    distances = (np.array(references) != query).sum(axis=1)
    best = int(distances.argmin())
    return best if distances[best] <= _PHASH_BITS else None


def _pdq_match(query: tuple[Bits, int], references: Sequence[tuple[Bits, int]]) -> int | None:
    orientations, quality = query
    if quality < _PDQ_QUALITY:
        return None
    upright = np.array([codes[0] for codes, _ in references])
    distances = (upright[None] != orientations[:, None]).sum(axis=2).min(axis=0)
    distances[[quality < _PDQ_QUALITY for _, quality in references]] = 257
    best = int(distances.argmin())
    return best if distances[best] <= _PDQ_BITS else None


def _orb_match(query: Any, references: Sequence[Any]) -> int | None:
    inliers = [_orb_inliers(query, reference) for reference in references]
    best = int(np.argmax(inliers))
    return best if inliers[best] >= _ORB_INLIERS else None


def _orb_inliers(query: Any, reference: Any) -> int:
    cv2 = package("cv2")
    if min(len(query[0]), len(reference[0])) < _ORB_INLIERS:
        return 0
    pairs = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(query[1], reference[1], k=2)
    good = [first for first, second in pairs if first.distance < _ORB_RATIO * second.distance]
    if len(good) < _ORB_INLIERS:
        return 0
    here = query[0][[match.queryIdx for match in good]]
    there = reference[0][[match.trainIdx for match in good]]
    found, inside = cv2.findHomography(here, there, cv2.RANSAC, 5.0)
    return 0 if found is None else int(inside.sum())


_DESCRIBE: Final[dict[str, Callable[[Image.Image], Any]]] = {
    "pHash 64": _phash,
    "PDQ": _pdq,
    "ORB": _orb,
    "tiles": tiles.reference_tiles,
}
_DESCRIBE_QUERY: Final[dict[str, Callable[[Image.Image], Any]]] = _DESCRIBE | {"tiles": tiles.query_tiles}
_MATCH: Final[dict[str, Callable[[Any, Any], int | None]]] = {
    "pHash 64": _phash_match,
    "PDQ": _pdq_match,
    "ORB": _orb_match,
    "tiles": tiles.match,
}


def present() -> list[str]:
    """List the names of the peers whose package is installed."""
    return [name for name, needed in PEERS.items() if package(needed) is not None]


# ---- references ----


def _features_path(folders: RunFolders, edition: Edition, source: Source) -> Path:
    return folders.jpeg(edition, source).with_suffix(".features")


def describe(source: Source, folders: RunFolders, editions: Sequence[Edition]) -> dict[str, float]:
    """Compute and store the features of all peers for the references of one file. Runs in a worker process.

    Returns
    -------
    dict
        Size of the features in an index, in bytes per reference. The key is the name of the peer.
    """
    sizes: dict[str, float] = dict.fromkeys(present(), 0.0)
    for edition in editions:
        with Image.open(folders.jpeg(edition, source)) as image:
            features = {name: _DESCRIBE[name](image) for name in present()}
        _features_path(folders, edition, source).write_bytes(pickle.dumps(features))
        for name in sizes:
            sizes[name] += _size(name, features[name]) / len(editions)
    return sizes


def _size(name: str, features: Any) -> int:
    """Return the size of the codes or features in bytes.

    The locations of tiles are not counted, because an index of windows contains no locations either.
    """
    if name == "ORB":
        return int(features[0].nbytes + features[1].nbytes)  # ORB also needs the coordinates of its points
    return int(features.codes.nbytes) if name == "tiles" else _CODE_BYTES[name]


@lru_cache(maxsize=3)
def _features(folders: RunFolders, edition: Edition, references: tuple[Source, ...]) -> dict[str, Any]:
    """Return the references as each peer needs them: a list of their features, or an index of their features."""
    kept = [pickle.loads(_features_path(folders, edition, source).read_bytes()) for source in references]
    gathered: dict[str, Any] = {name: [features[name] for features in kept] for name in present()}
    if "tiles" in gathered:
        gathered["tiles"] = tiles.TileIndex(gathered["tiles"])
    return gathered


# ---- the queries ----


@dataclass(frozen=True)
class Cell:
    """The verdict of one method on one query."""

    column: str
    group: str
    transform: str
    verdict: str
    milliseconds: float


@dataclass(frozen=True, eq=False)
class Asking:
    """Data that all tasks of a run share."""

    folders: RunFolders
    groups: set[str]
    dealt: list[list[Source]]

    def references(self, part: int) -> tuple[Source, ...]:
        """List the references of the index that leaves out one part of the scenes."""
        return tuple(source for other in self.dealt if other is not self.dealt[part] for source in other)


def ask(task: tuple[Task, bool], asking: Asking) -> list[Cell]:
    """Answer the queries of one image with all methods. Runs in a worker process.

    ORB answers the queries only if the second value of the task is true.
    """
    job, with_orb = task
    references = asking.references(job.part)
    by_name = {source.reference_name: source for source in references}
    peers = [name for name in present() if name != "ORB" or with_orb]
    cells = []
    for question in questions(job, asking.groups):
        features = _features(asking.folders, question.edition, references)
        for column in ("Twinscope", *peers, "old rule"):
            start = time.perf_counter()
            if column in PEERS:
                position = _ask_peer(column, question.query_image, features[column])
                found = None if position is None else references[position]
            else:
                found = _ask_twinscope(column, question, job, asking.folders, by_name)
            taken = 1000 * (time.perf_counter() - start)
            verdict = {"": "refused", "own": "right", "overlap": "overlap", "other": "wrong"}[relation(job, found)]
            cells.append(Cell(column, question.group, question.transform, verdict, taken))
    return cells


def _ask_peer(name: str, query_image: QueryImage, references: Any) -> int | None:
    try:
        image = Image.open(io.BytesIO(query_image)) if isinstance(query_image, bytes) else Image.fromarray(query_image)
        return _MATCH[name](_DESCRIBE_QUERY[name](image), references)
    except (OSError, ValueError):
        return None


def _ask_twinscope(
    column: str, question: Question, task: Task, folders: RunFolders, by_name: dict[str, Source]
) -> Source | None:
    engine = STORES.engine(folders, task.part, question.edition)
    try:
        answer = engine.search(question.query_image, policy="default" if column == "Twinscope" else "legacy")
    except ImageError:
        return None
    best = answer.best
    return by_name[Path(best.source).name] if best is not None and is_found(answer) else None


def with_orb(tasks: Sequence[Task], asking: Asking, pairs: int, seed: int) -> list[bool]:
    """Select the tasks for ORB at random.

    ORB compares at most `pairs` pairs of images, but it always gets at least one task.
    """
    order = list(range(len(tasks)))
    random.Random(seed).shuffle(order)
    chosen: set[int] = set()
    spent = 0
    for number in order:
        task = tasks[number]
        queries = sum(t.group in asking.groups for t in TRANSFORMS) if task.wanted else len(REFUSALS)
        spent += queries * len(asking.references(task.part))
        if spent > pairs and chosen:
            break
        chosen.add(number)
    return [number in chosen for number in range(len(tasks))]


# ---- the result ----


def summarise(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Count the verdicts of each method for each transform."""
    some: dict[tuple[str, str], dict[str, list[Cell]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        some[cell.group, cell.transform][cell.column].append(cell)
    rows = []
    for (group, transform), columns in sorted(some.items(), key=lambda item: item[0][0]):
        row: dict[str, Any] = {"group": group, "transform": transform}
        for column, answered in columns.items():
            verdicts = [cell.verdict for cell in answered]
            row[column] = {verdict: verdicts.count(verdict) for verdict in ("right", "wrong", "overlap", "refused")}
            row[column]["queries"] = len(answered)
            row[column]["median ms"] = sorted(cell.milliseconds for cell in answered)[len(answered) // 2]
        rows.append(row)
    return rows


def costs(cells: Sequence[Cell], sizes: Sequence[dict[str, float]], reach: Reach) -> dict[str, dict[str, float]]:
    """Return the costs of each method: the median time of a query in milliseconds, and the bytes per reference."""
    hashes = {"Twinscope": BYTES * (1 + len(reference_frames(reach))), "old rule": BYTES}
    made = {}
    for column in {cell.column: None for cell in cells}:
        times = [cell.milliseconds for cell in cells if cell.column == column]
        size = hashes[column] if column in hashes else np.mean([one[column] for one in sizes])
        made[column] = {"median ms": float(np.median(times)), "bytes": float(size)}
    return made


def table(rows: Sequence[dict[str, Any]], cost: dict[str, dict[str, float]]) -> str:
    """Format the result as a text table: recall, false labels if there are any, numbers of queries, and the costs."""
    lines = [f"{'':3}{'transform':40}" + "".join(f"{column:>22}" for column in COLUMNS)]
    for row in rows:
        cells = [_cell(row.get(column), column, refusal=row["group"] == REFUSAL_GROUP) for column in COLUMNS]
        lines.append(f"{row['group']:3}{row['transform']:40}" + "".join(f"{cell:>22}" for cell in cells))
    lines.append("")
    for name in ("right", "wrong", "queries"):
        sums = [sum(row[c][name] for row in rows if c in row) if any(c in r for r in rows) else "" for c in COLUMNS]
        lines.append(f"{'':3}{f'{name}, sum of all lines':40}" + "".join(f"{one:>22}" for one in sums))
    for title, key, form in (
        ("median time of a query in ms", "median ms", ",.1f"),
        ("bytes per reference", "bytes", ",.0f"),
    ):
        some = [format(cost[c][key], form) if c in cost else "" for c in COLUMNS]
        lines.append(f"{'':3}{title:40}" + "".join(f"{one:>22}" for one in some))
    return "\n".join(lines)


def _cell(counts: dict[str, Any] | None, column: str, *, refusal: bool) -> str:
    if counts is None:
        return "not installed" if column in PEERS and column not in present() else "not asked"
    false, queries = counts["wrong"], counts["queries"]
    if refusal:
        return f"{false} false of {queries}"
    return f"{counts['right'] / queries:.0%}{f', {false} false' if false else ''} of {queries}"


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common_arguments(parser)
    parser.add_argument("--pairs", type=int, default=20_000, help="maximum number of pairs of images that ORB compares")
    parsed = parser.parse_args()
    groups = set(parsed.groups)
    with tempfile.TemporaryDirectory() as scratch, workers() as pool:
        folders = RunFolders(Path(scratch))
        sources, unreadable = prepare(parsed, parser, folders, pool)
        dealt = deal(sources, parsed.parts, parsed.seed)
        asking = Asking(folders, groups, dealt)
        build_all(folders, dealt, groups, indexing_options(parsed.reach))
        described = pool.map(partial(describe, folders=folders, editions=editions_of(groups)), sources, chunksize=4)
        sizes = list(tqdm(described, "features", len(sources), disable=None))
        tasks = [task for part in range(parsed.parts) for task in tasks_of(dealt, part, groups, parsed.seed)]
        jobs = list(zip(tasks, with_orb(tasks, asking, parsed.pairs, parsed.seed), strict=True))
        answers = pool.map(partial(ask, asking=asking), jobs)
        cells = [cell for some in tqdm(answers, "images", len(jobs), disable=None) for cell in some]
    rows, cost = summarise(cells), costs(cells, sizes, parsed.reach or "views")
    print(f"{len(sources)} images of {len({s.scene for s in sources})} scenes, reach {parsed.reach or 'default'}, "
          f"seed {parsed.seed}; {len(unreadable)} unreadable")  # fmt: skip
    print(table(rows, cost))
    if parsed.out:
        result = {
            "folder": parsed.folder.name, "images": len(sources), "unreadable": unreadable, "limit": parsed.limit,
            "seed": parsed.seed, "parts": parsed.parts, "reach": parsed.reach or "default", "pairs": parsed.pairs,
            "rows": rows, "costs": cost, "installed": present(),
            "machine": machine(), "versions": versions() | peer_versions(),
        }  # fmt: skip
        parsed.out.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return 0


def peer_versions() -> dict[str, str]:
    """Return the versions of the peers' packages."""
    return {needed: str(getattr(package(needed), "__version__", "missing")) for needed in PEERS.values()}


if __name__ == "__main__":
    sys.exit(main())
