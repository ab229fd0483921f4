"""Fields that look alike because of what they lie on: grids, holes, gratings, combs, rings, discs, edges, tips.

    python benchmarks/lookalikes.py [--references 40] [--strangers 25] [--seed 0] [--reach windows] [--out FILE.json]

Every family has one outline, of a random place, and a random size or (``one pitch``) the same; on it lie particles,
wires and grain that are of each field alone. References of a family are of one category, so that nothing is ambiguous.
Strangers are fields of the same families that are not in the store, and must not be labelled; twins are references,
changed. A table has the counts of each family.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from twinscope_client.connect import connect
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
"""What makes the outline, and the least and the largest pitch, or size, in pixels."""


def field(family: str, number: int, seed: int) -> Grey:
    """Make a field: an outline, and what lies on it."""
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


def main() -> None:
    """Make the fields, ask for them, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=int, default=40, metavar="N", help="of each family")
    parser.add_argument("--strangers", type=int, default=25, metavar="N", help="of each family")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reach", choices=("frame", "views", "windows"), default="windows")
    parser.add_argument("--out", type=Path)
    parsed = parser.parse_args()
    counts: dict[str, Counter[str]] = {family: Counter() for family in FAMILIES}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "collection"
        for family in FAMILIES:
            (folder / family).mkdir(parents=True)
            for number in range(parsed.references):
                Image.fromarray(field(family, number, parsed.seed)).save(folder / family / f"{number}.jpg", quality=95)
        index([folder], Path(scratch) / "store", reach=parsed.reach, keep_unknown=True)
        with connect(Path(scratch) / "store") as engine:
            for family, count in counts.items():
                for number in range(parsed.references, parsed.references + parsed.strangers):
                    count[engine.search(field(family, number, parsed.seed)).grade] += 1
                for number in range(0, parsed.references, 8):
                    for change in CHANGES.values():
                        answer = engine.search(np.ascontiguousarray(change(field(family, number, parsed.seed))))
                        own = answer.best is not None and Path(answer.best.source).parts[-2:] == (
                            family,
                            f"{number}.jpg",
                        )
                        labelled = answer.category is not None
                        count["twins"] += 1
                        count["found" if labelled and own else "wrong" if labelled else "refused"] += 1
    print(f"{'family':18} strangers labelled doubtful | twins found wrong refused")
    for family, count in counts.items():
        labelled = count["good"] + count["excellent"]
        print(
            f"{family:18} {parsed.strangers:9} {labelled:8} {count['doubtful']:8} | "
            f"{count['twins']:5} {count['found']:5} {count['wrong']:5} {count['refused']:7}"
        )
    if parsed.out:
        parsed.out.write_text(json.dumps({"arguments": vars(parsed) | {"out": None}, "families": counts}, indent=1))


if __name__ == "__main__":
    main()
