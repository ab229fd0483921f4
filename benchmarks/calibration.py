"""Fit the calibration that Twinscope ships, and see whether it tells the truth of scenes that it was not fitted on.

Indexes every micrograph under its scene as the category, so that what is found with the category left out is another
scene, and asks for each as `twinscope calibrate` does. Then, in five parts, fits on four fifths of the scenes and looks
at the fifth: how many matches are said to be wrong with less than 1 %, and how many of these are wrong.

    python benchmarks/calibration.py [--micrographs DIR] [--kin FILE] [--out FILE.json] [--ship]

``--ship`` writes the calibration fitted on all scenes to `service/twinscope_service/matching/calibration.json`. DIR
and FILE are those of real_twins.py.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from real_twins import DEFAULT, KIN, prepare
from twinscope_client.doctor import machine, versions
from twinscope_indexer.indexing.run import index
from twinscope_indexer.store.reader import Store
from twinscope_service.matching.calibrate import Samples, gather, in_other_categories, sampled
from twinscope_service.matching.calibration import fit

PARTS = 5
SURE = 0.01
SHIPPED = Path(__file__).resolve().parents[1] / "service" / "twinscope_service" / "calibration.json"
Rows = list[NDArray[np.float64]]


@dataclass(frozen=True)
class HeldOut:
    """What models say of images whose scenes they were not fitted on."""

    right: list[float]
    wrong: list[float]

    def sure(self) -> tuple[int, int]:
        """Count the matches below 1 %, and the wrong ones among them."""
        wrong = sum(p < SURE for p in self.wrong)
        return wrong + sum(p < SURE for p in self.right), wrong


def evidence_of(source: Path, kin: Path | None) -> tuple[list[str], Samples]:
    """Index the micrographs and ask for each; gives their scenes, in the order of the evidence."""
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        micrographs, _ = prepare(source, work, kin)
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


def held_out(scenes: list[str], found: Samples) -> HeldOut:
    """Fit on four fifths of the scenes, and judge the matches of the fifth."""
    order = np.random.default_rng(0).permutation(sorted(set(scenes))).tolist()
    right: list[float] = []
    wrong: list[float] = []
    for part in range(PARTS):
        out = set(order[part::PARTS])
        model = fit("part", *(_of(kind, scenes, out, within=False) for kind in (found.impostors, found.genuine)))
        for kind, judged in ((found.genuine, right), (found.impostors, wrong)):
            judged += [model.judged(row).estimate for rows in _of(kind, scenes, out, within=True) for row in rows]
    return HeldOut(right, wrong)


def _of(kind: list[Rows], scenes: list[str], out: set[str], *, within: bool) -> list[Rows]:
    return [rows for rows, scene in zip(kind, scenes, strict=True) if (scene in out) == within]


def main() -> int:
    """Run, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--micrographs", type=Path, default=DEFAULT)
    parser.add_argument("--kin", default=str(KIN))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--ship", action="store_true")
    parsed = parser.parse_args()
    scenes, found = evidence_of(parsed.micrographs, Path(parsed.kin) if parsed.kin else None)
    judged = held_out(scenes, found)
    model = fit("shipped", found.impostors, found.genuine)
    sure, false = judged.sure()
    kept = sum(p < SURE for p in judged.right)
    print(f"{found.images} micrographs of {len(set(scenes))} scenes; {machine()}; {versions()}")
    print(f"right matches {len(judged.right)}, wrong ones {len(judged.wrong)} (asked for without their scene)")
    print(f"scenes not fitted on: {sure} matches with p_wrong < {SURE:.0%}, {false} of them wrong")
    print(f"right matches with p_wrong < {SURE:.0%}: {kept} of {len(judged.right)}, {kept / len(judged.right):.1%}")
    weights = dict(zip(("one", "scene", "closeness", "ssim", "lead"), model.weights[0], strict=True))
    print("weights " + ", ".join(f"{name} {value:.2f}" for name, value in weights.items()))
    print(f"least estimate {model.floors[0]:.4f}, least upper end {model.floors[1]:.4f}; copies {found.copies}")
    if parsed.ship:
        SHIPPED.write_text(model.to_json() + "\n", encoding="utf-8")
    if parsed.out:
        figures = {"images": found.images, "right": judged.right, "wrong": judged.wrong, "sure": sure, "false": false}
        parsed.out.write_text(json.dumps(figures), encoding="utf-8")
    return int(false > SURE * sure)


if __name__ == "__main__":
    sys.exit(main())
