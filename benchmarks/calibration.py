"""Fit the calibration that Twinscope ships, and check it on scenes that it was not fitted on.

The benchmark indexes every micrograph with its scene as the category. A search without this category therefore finds
another scene. Each image is searched for as `twinscope calibrate` does. Then the scenes are divided into five parts.
For each part, a model is fitted on the other four parts and evaluated on this part. The results are:

- the number of matches with a ``p_wrong`` below 1 %, and how many of these matches are wrong
- for each limit: how many right matches and how many wrong matches have a ``p_wrong`` of at most this limit
- for each bin of ``p_wrong``: the mean ``p_wrong`` of its matches, and the share of wrong matches

    python benchmarks/calibration.py [--micrographs DIR] [--overlaps FILE] [--out FILE.json] [--ship]

A wrong match is the nearest image of another scene, even if its scene score is low. Twinscope would never label most of
these matches. Therefore wrong matches with a scene score of at least `good_scene` are also counted separately.

``--ship`` writes the calibration that was fitted on all scenes to
`service/twinscope_service/matching/calibration.json`. DIR and FILE are described in real_twins.py.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from outcomes import LIMITS
from real_twins import DEFAULT, OVERLAPS, prepare
from twinscope_client.doctor import machine, versions
from twinscope_indexer.indexing.run import index
from twinscope_indexer.store.reader import Store
from twinscope_service.matching.calibrate import Samples, gather, in_other_categories, sampled
from twinscope_service.matching.calibration import PRIOR, fit
from twinscope_service.matching.policy import POLICIES

PARTS = 5
SURE = 0.01
SHIPPED = Path(__file__).resolve().parents[1] / "service" / "twinscope_service" / "matching" / "calibration.json"
BINS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
Rows = list[NDArray[np.float64]]


@dataclass(frozen=True)
class Judged:
    """The estimate of a model for one match. The model was not fitted on the scene of the query."""

    p_wrong: float
    wrong: bool
    scene_score: float
    weight: float
    """Weight of the match in averages. All right matches together have the weight 1 - `PRIOR`, and all wrong matches
    together have the weight `PRIOR`. The weight of the right matches is divided equally among the images, and so is the
    weight of the wrong matches."""


@dataclass(frozen=True)
class AtLimit:
    """The effect of one limit on ``p_wrong``."""

    limit: float
    right: int
    """Number of right matches with a ``p_wrong`` of at most the limit."""
    wrong: int
    """Number of wrong matches with a ``p_wrong`` of at most the limit."""
    wrong_fields: int
    """Number of these wrong matches that have a scene score of at least `good_scene`."""


@dataclass(frozen=True)
class Bin:
    """The matches whose ``p_wrong`` is above `low` and at most `high`."""

    low: float
    high: float
    right: int
    wrong: int
    said: float
    """Weighted mean of ``p_wrong``."""
    found: float
    """Weighted share of wrong matches."""


def sure(judged: Sequence[Judged]) -> tuple[int, int]:
    """Count the matches with a ``p_wrong`` below 1 %, and how many of these matches are wrong."""
    below = [one for one in judged if one.p_wrong < SURE]
    return len(below), sum(one.wrong for one in below)


def at_limit(judged: Sequence[Judged], limit: float) -> AtLimit:
    """Count the right and wrong matches with a ``p_wrong`` of at most the limit."""
    passed = [one for one in judged if one.p_wrong <= limit]
    wrong = [one for one in passed if one.wrong]
    fields = [one for one in wrong if one.scene_score >= POLICIES["default"].good_scene]
    return AtLimit(limit, len(passed) - len(wrong), len(wrong), len(fields))


def reliability(judged: Sequence[Judged]) -> list[Bin]:
    """Compare the mean estimate with the share of wrong matches, for every bin that contains matches."""
    made = []
    for low, high in pairwise(BINS):
        some = [one for one in judged if low < one.p_wrong <= high]
        if some:
            mass = sum(one.weight for one in some)
            wrong = sum(one.wrong for one in some)
            said = sum(one.weight * one.p_wrong for one in some) / mass
            found = sum(one.weight for one in some if one.wrong) / mass
            made.append(Bin(low, high, len(some) - wrong, wrong, said, found))
    return made


def evidence_of(source: Path, overlaps: Path | None) -> tuple[list[str], Samples]:
    """Index the micrographs and search for each of them.

    Returns
    -------
    list of str, Samples
        Scene of each micrograph, and the evidence of the searches in the same order.
    """
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        micrographs, _ = prepare(source, work, overlaps)
        for micrograph in micrographs:
            folder = work / "scenes" / micrograph.scene
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(micrograph.jpeg, folder)
        index([work / "scenes"], work / "store", keep_unknown=True)
        store = Store(work / "store")
        try:
            images = sampled(store, len(micrographs), 0)
            return [image.category for image in images], gather(store, images, 2, among=in_other_categories)
        finally:
            store.close()


def held_out(scenes: list[str], found: Samples) -> list[Judged]:
    """Divide the scenes into five parts, and estimate the matches of each part by a model fitted on the other parts."""
    order = np.random.default_rng(0).permutation(sorted(set(scenes))).tolist()
    kinds = ((found.genuine, False, 1 - PRIOR), (found.impostors, True, PRIOR))
    judged = []
    for part in range(PARTS):
        out = set(order[part::PARTS])
        model = fit("part", *(_of(kind, scenes, out, within=False) for kind in (found.impostors, found.genuine)))
        for kind, wrong, share in kinds:
            images = sum(1 for rows in kind if rows)
            judged += [
                Judged(model.judged(row).estimate, wrong, float(row[1]), share / (images * len(rows)))
                for rows in _of(kind, scenes, out, within=True)
                for row in rows
            ]
    return judged


def _of(kind: list[Rows], scenes: list[str], out: set[str], *, within: bool) -> list[Rows]:
    return [rows for rows, scene in zip(kind, scenes, strict=True) if (scene in out) == within]


def limits_table(judged: Sequence[Judged]) -> str:
    """Format the effect of each limit as a Markdown table for a document."""
    right, wrong = (sum(one.wrong == kind for one in judged) for kind in (False, True))
    lines = [
        (
            "| limit | right matches kept | right matches sent to review | wrong matches accepted "
            "| wrong matches accepted with a scene score of at least `good_scene` |"
        ),
        "|---:|---:|---:|---:|---:|",
    ]
    for limit in LIMITS:
        one = at_limit(judged, limit)
        lines.append(
            f"| {limit:g} | {one.right:,} ({one.right / right:.1%}) | {right - one.right:,} | "
            f"{one.wrong:,} ({one.wrong / wrong:.1%}) | {one.wrong_fields} |"
        )
    return "\n".join(lines)


def reliability_table(judged: Sequence[Judged]) -> str:
    """Format the reliability as a Markdown table for a document."""
    lines = ["| p_wrong | right | wrong | estimated | measured |", "|---|---:|---:|---:|---:|"]
    lines += [
        f"| above {one.low:g}, to {one.high:g} | {one.right:,} | {one.wrong:,} | {one.said:.1%} | {one.found:.1%} |"
        for one in reliability(judged)
    ]
    return "\n".join(lines)


def main() -> int:
    """Run the benchmark and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--micrographs", type=Path, default=DEFAULT)
    parser.add_argument("--overlaps", default=str(OVERLAPS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--ship", action="store_true")
    parsed = parser.parse_args()
    scenes, found = evidence_of(parsed.micrographs, Path(parsed.overlaps) if parsed.overlaps else None)
    judged = held_out(scenes, found)
    model = fit("shipped", found.impostors, found.genuine)
    certain, false = sure(judged)
    right, wrong = (sum(one.wrong == kind for one in judged) for kind in (False, True))
    kept = certain - false
    print(f"{found.images} micrographs of {len(set(scenes))} scenes; {machine()}; {versions()}")
    print(f"{right} right matches; {wrong} wrong matches (from searches without the scene of the query)")
    print(f"held-out scenes: {certain} matches with p_wrong < {SURE:.0%}, {false} of them wrong")
    print(f"right matches with p_wrong < {SURE:.0%}: {kept} of {right}, {kept / right:.1%}")
    print(limits_table(judged))
    print(reliability_table(judged))
    weights = dict(zip(("one", "scene", "closeness", "ssim", "lead"), model.weights[0], strict=True))
    print("weights " + ", ".join(f"{name} {value:.2f}" for name, value in weights.items()))
    print(
        f"smallest possible estimate {model.floors[0]:.4f}, smallest possible upper bound {model.floors[1]:.4f}; "
        f"copies {[(pair.one, pair.other) for pair in found.copies]}"
    )
    if parsed.ship:
        SHIPPED.write_text(model.to_json() + "\n", encoding="utf-8")
    if parsed.out:
        figures = {"images": found.images, "judged": [asdict(one) for one in judged], "sure": certain, "false": false}
        parsed.out.write_text(json.dumps(figures), encoding="utf-8")
    return int(false > SURE * certain)


if __name__ == "__main__":
    sys.exit(main())
