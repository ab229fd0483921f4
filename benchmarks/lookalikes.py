"""Search for synthetic fields that look alike because they show similar objects, for example grids, holes or tips.

    python benchmarks/lookalikes.py [--references 40] [--strangers 25] [--seed 0] [--reach windows] [--out FILE.json]

The fields belong to families. All fields of a family show the same kind of object: a grid, an array of holes, a
grating, a comb, a ring, a disc, an edge or a tip. The position and size of the object are random; in the families
``one pitch``, the size is always the same. Particles, wires and grain differ between all fields. All references of a
family have the same category, so that no answer is ambiguous.

There are two kinds of queries. Unrelated fields belong to the same families but are not in the store; they must not be
labelled. Twins are references after a change; they must be found. A twin is found if it would be labelled without the
limit on ``p_wrong``.

The table has one line for each family. The columns ``of-limit`` contain the number of queries that only the limit sends
to review, for unrelated fields and for twins.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from outcomes import found, held_by_limit
from PIL import Image
from scipy.ndimage import gaussian_filter
from twinscope_client.connect import connect
from twinscope_client.engine.protocol import Engine
from twinscope_indexer.indexing.run import index

HEIGHT: Final = 480
WIDTH: Final = 640
Field = NDArray[np.float64]
Grey = NDArray[np.uint8]
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH].astype(float)


def _turned(angle: float) -> tuple[Field, Field]:
    return COLUMNS * np.cos(angle) + ROWS * np.sin(angle), ROWS * np.cos(angle) - COLUMNS * np.sin(angle)


def _grid(rng: np.random.Generator, pitch: float) -> Field:
    across, down = _turned(rng.uniform(-0.05, 0.05))
    bars = ((across + rng.uniform(0, pitch)) % pitch < pitch / 4) | ((down + rng.uniform(0, pitch)) % pitch < pitch / 4)
    return np.where(bars, -1.0, 1.0)


def _holes(rng: np.random.Generator, pitch: float) -> Field:
    across, down = _turned(rng.uniform(-0.05, 0.05))
    away = np.hypot(
        (across + rng.uniform(0, pitch)) % pitch - pitch / 2, (down + rng.uniform(0, pitch)) % pitch - pitch / 2
    )
    return np.where(away < pitch / 3, 1.0, -1.0)


def _grating(rng: np.random.Generator, pitch: float) -> Field:
    across, _ = _turned(rng.uniform(-0.05, 0.05))
    return np.where((across + rng.uniform(0, pitch)) % pitch < pitch / 2, 1.0, -1.0)


def _comb(rng: np.random.Generator, pitch: float) -> Field:
    fingers = (COLUMNS + rng.uniform(0, pitch)) % pitch < pitch / 2
    return np.where(fingers & (rng.uniform(0.15, 0.35) * HEIGHT < ROWS), 1.0, -1.0)


def _away(rng: np.random.Generator) -> Field:
    return np.hypot(ROWS - HEIGHT * rng.uniform(0.4, 0.6), COLUMNS - WIDTH * rng.uniform(0.4, 0.6))


def _ring(rng: np.random.Generator, size: float) -> Field:
    return 2 * np.exp(-(((_away(rng) - size) / (0.2 * size)) ** 2)) - 1


def _disc(rng: np.random.Generator, size: float) -> Field:
    return np.where(_away(rng) < size, 1.0, -1.0)


def _edge(rng: np.random.Generator, size: float) -> Field:
    across, _ = _turned(rng.uniform(-0.1, 0.1) * size / 100)
    return np.where(across > WIDTH * rng.uniform(0.35, 0.65), 1.0, -1.0)


def _tip(rng: np.random.Generator, size: float) -> Field:
    half = np.clip(ROWS - HEIGHT * rng.uniform(0.2, 0.4), 0, None) * size / 250
    return np.where(np.abs(COLUMNS - WIDTH * rng.uniform(0.4, 0.6)) < half, 1.0, -1.0)


FAMILIES: Final[dict[str, tuple[Callable[[np.random.Generator, float], Field], float, float]]] = {
    "grid": (_grid, 60, 160),
    "grid, one pitch": (_grid, 120, 120),
    "holes": (_holes, 40, 110),
    "holes, one pitch": (_holes, 64, 64),
    "grating": (_grating, 40, 120),
    "comb": (_comb, 60, 140),
    "ring": (_ring, 60, 170),
    "disc": (_disc, 60, 170),
    "edge": (_edge, 0, 100),
    "tip": (_tip, 40, 140),
}
"""For each family: the function that draws the outline, and the minimum and maximum pitch or size in pixels."""


def field(family: str, number: int, seed: int) -> Grey:
    """Build a field of a family: the outline of the object, with particles, wires and grain."""
    rng = np.random.default_rng([seed, list(FAMILIES).index(family), number])
    outline, least, largest = FAMILIES[family]
    shades = rng.uniform(90, 140) + rng.uniform(35, 60) * gaussian_filter(
        outline(rng, rng.uniform(least, largest)), 1.5
    )
    grain = gaussian_filter(rng.standard_normal((HEIGHT, WIDTH)), rng.uniform(1, 3))
    shades += rng.uniform(2, 6) * grain / grain.std() + rng.normal(0, 5, (HEIGHT, WIDTH))
    for _ in range(rng.integers(20, 60)):
        row, column, radius = rng.uniform(0, HEIGHT), rng.uniform(0, WIDTH), rng.uniform(2, 7)
        shades += rng.choice([-40, 40]) * np.exp(-((ROWS - row) ** 2 + (COLUMNS - column) ** 2) / (2 * radius**2))
    for _ in range(rng.integers(0, 6)):
        across, _ = _turned(rng.uniform(0, np.pi))
        shades += rng.choice([-30, 30]) * np.exp(-(((across - across.mean() - rng.uniform(-200, 200)) / 3) ** 2))
    return _grey(shades)


def _grey(shades: Field) -> Grey:
    levels: Grey = np.clip(np.rint(shades), 0, 255).astype(np.uint8)
    return levels


def _noisy(pixels: Grey, sigma: float) -> Grey:
    return _grey(pixels + np.random.default_rng(1).normal(0, sigma, pixels.shape))


CHANGES: Final[dict[str, Callable[[Grey], Grey]]] = {
    "noise 20": lambda pixels: _noisy(pixels, 20),
    "turned, inverted, gamma 1.7": lambda pixels: _grey(255 * (np.rot90(255 - pixels) / 255.0) ** 1.7),
    "halved, cut": lambda pixels: np.asarray(Image.fromarray(pixels[:440]).reduce(2)),
}


def write_collection(folder: Path, references: int, seed: int) -> None:
    """Write the references of all families. Each family has its own folder."""
    for family in FAMILIES:
        (folder / family).mkdir(parents=True)
        for number in range(references):
            Image.fromarray(field(family, number, seed)).save(folder / family / reference_name(number), quality=95)


def reference_name(number: int) -> str:
    """Return the file name of a reference in the folder of its family."""
    return f"{number}.jpg"


def stranger_numbers(references: int, strangers: int) -> range:
    """Return the numbers of the unrelated fields of each family, which are not in the store."""
    return range(references, references + strangers)


def twin_numbers(references: int) -> range:
    """Return the numbers of the references that are used as twins: they are changed and searched for."""
    return range(0, references, 8)


def changed(family: str, number: int, seed: int) -> Iterator[tuple[str, Grey]]:
    """Yield the name of every change, with the field after this change."""
    original = field(family, number, seed)
    for name, change in CHANGES.items():
        yield name, np.ascontiguousarray(change(original))


def count(engine: Engine, family: str, references: int, strangers: int, seed: int) -> Counter[str]:
    """Search for the unrelated fields and the twins of a family, and count the answers."""
    counts: Counter[str] = Counter()
    for number in stranger_numbers(references, strangers):
        answer = engine.search(field(family, number, seed))
        counts[answer.grade] += 1
        counts["strangers to review"] += held_by_limit(answer)
    for number in twin_numbers(references):
        for _, query_image in changed(family, number, seed):
            answer = engine.search(query_image)
            best = () if answer.best is None else Path(answer.best.source).parts[-2:]
            own = best == (family, reference_name(number))
            counts["twins"] += 1
            counts["found" if own and found(answer) else "wrong" if answer.category is not None else "refused"] += 1
            counts["twins to review"] += own and held_by_limit(answer)
    return counts


def main() -> None:
    """Build the fields, run the queries, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=int, default=40, metavar="N", help="number of references in each family")
    parser.add_argument(
        "--strangers", type=int, default=25, metavar="N", help="number of unrelated fields in each family"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reach", choices=("frame", "views", "windows"), default="windows")
    parser.add_argument("--out", type=Path)
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder, store = Path(scratch) / "collection", Path(scratch) / "store"
        write_collection(folder, parsed.references, parsed.seed)
        index([folder], store, reach=parsed.reach, keep_unknown=True)
        with connect(store) as engine:
            counts = {
                family: count(engine, family, parsed.references, parsed.strangers, parsed.seed) for family in FAMILIES
            }
    print(f"{'family':18} unrelated labelled doubtful of-limit | twins found wrong refused of-limit")
    for family, some in counts.items():
        labelled = some["good"] + some["excellent"]
        print(
            f"{family:18} {parsed.strangers:9} {labelled:8} {some['doubtful']:8} {some['strangers to review']:8} | "
            f"{some['twins']:5} {some['found']:5} {some['wrong']:5} {some['refused']:7} {some['twins to review']:8}"
        )
    if parsed.out:
        arguments = vars(parsed) | {"out": None}
        parsed.out.write_text(json.dumps({"arguments": arguments, "families": counts}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
