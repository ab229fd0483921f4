"""Check on real micrographs that all twins are found and that no image without a twin is labelled.

The benchmark indexes every micrograph of a folder as a quality-100 JPEG under its category. Then it labels the original
TIFFs; originals in another format are converted to TIFF. In a second test, the scenes are divided into five parts. For
each part, the scenes of this part are left out of the index, and only the TIFFs of these scenes are labelled. Every
label in the second test is therefore false.

    python benchmarks/real_twins.py [--micrographs DIR] [--overlaps FILE] [--out FILE.json]

DIR must contain MANIFEST.tsv with the columns path and scene. The first component of the path is the category. Files
with the same scene show the same field. Some scenes show one place although the manifest separates them, such as a
field and its shifted copy. Each line of FILE contains the names of scenes that show one place; such scenes are left out
of the index together. The default for FILE is overlapping_scenes.tsv, which belongs to the micrographs of `../shared`.
The option --overlaps '' means that no scenes show the same place.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tifffile
from outcomes import is_held
from PIL import Image
from twinscope_client.connect import connect
from twinscope_client.doctor import machine, versions
from twinscope_client.labelling.journal import Decision, Journal
from twinscope_client.labelling.run import LabelSettings, label
from twinscope_indexer.errors import ImageError
from twinscope_indexer.imaging.reader import read_image
from twinscope_indexer.indexing.run import index
from twinscope_indexer.taxonomy import load_taxonomy

DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "data" / "micrographs"
OVERLAPS = Path(__file__).resolve().with_name("overlapping_scenes.tsv")
PARTS = 5
HELD = "sent to review by the limit alone"


@dataclass(frozen=True)
class Micrograph:
    """One readable file of the folder: a quality-100 JPEG, which is indexed, and a TIFF, which is the query."""

    name: str
    category: str
    scene: str
    jpeg: Path
    tiff: Path


def prepare(source: Path, work: Path, overlaps: Path | None = None) -> tuple[list[Micrograph], list[str]]:
    """Write the JPEGs and TIFFs. Return the readable micrographs, and the error messages of unreadable files."""
    made, unreadable = [], []
    lines = [] if overlaps is None else overlaps.read_text(encoding="utf-8").splitlines()
    first_of = {scene: line.split()[0] for line in lines for scene in line.split()}
    with (source / "MANIFEST.tsv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    for number, row in enumerate(rows):
        path = source / row["path"]
        try:
            image = read_image(path)
        except ImageError as error:
            unreadable.append(str(error))
            continue
        category = row["path"].partition("/")[0]
        jpeg = work / "jpeg" / category / f"{number:04d}.jpg"
        jpeg.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.pixels).save(jpeg, quality=100)
        tiff = path
        if image.format != "TIFF":
            tiff = work / "tiff" / f"{number:04d}.tif"
            tiff.parent.mkdir(exist_ok=True)
            tifffile.imwrite(tiff, image.pixels)
        made.append(Micrograph(row["path"], category, first_of.get(row["scene"], row["scene"]), jpeg, tiff))
    return made, unreadable


def decide(references: list[Micrograph], queries: list[Micrograph], work: Path) -> dict[str, Decision]:
    """Index the references, and label the queries.

    Returns
    -------
    dict of str to Decision
        Decision about each query. The key is the path of the query's TIFF.
    """
    folder = work / "collection"
    for reference in references:
        path = folder / reference.category / reference.jpeg.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.hardlink_to(reference.jpeg)
    index([folder], work / "store", taxonomy=load_taxonomy(keep_unknown=True))
    journal = Journal(work / "labelled")
    try:
        with connect(work / "store") as engine:
            label([query.tiff for query in queries], engine, journal, work / "labelled", LabelSettings(link="sym"))
        return {decision.path: decision for decision in journal.decisions()}
    finally:
        journal.close()


def twins(made: list[Micrograph], work: Path) -> dict[str, Any]:
    """Label all images while all scenes are in the index. Count the grades, and list the unexpected answers."""
    decisions = decide(made, made, work)
    scene_of = {one.jpeg.name: one.scene for one in made}
    grades: dict[str, int] = {}
    not_excellent, false, held = [], [], []
    for one in made:
        decision = decisions[str(one.tiff)]
        grades[decision.grade] = grades.get(decision.grade, 0) + 1
        if decision.grade != "excellent":
            not_excellent.append(f"{one.name}: {decision.grade}: {decision.reason}")
        if is_held(decision.reason_codes):
            held.append(f"{one.name}: {decision.match_source}: {decision.reason}")
        if decision.labelled and scene_of[Path(decision.match_source).name] != one.scene:
            false.append(f"{one.name}: {decision.match_source}: {decision.reason}")
    return {
        "queries": len(made), "grades": grades, "not excellent": not_excellent, "false labels": false,
        HELD: held,
    }  # fmt: skip


def strangers(made: list[Micrograph], work: Path) -> dict[str, Any]:
    """Label images of scenes that are not in the index. Count the grades, and list the labels, which are all false."""
    scenes = sorted({one.scene for one in made})
    grades: dict[str, int] = {}
    false, nearest, held = [], [], []
    for part in range(PARTS):
        left_out = set(scenes[part::PARTS])
        queries = [one for one in made if one.scene in left_out]
        references = [one for one in made if one.scene not in left_out]
        decisions = decide(references, queries, work / str(part))
        for one in queries:
            decision = decisions[str(one.tiff)]
            grades[decision.grade] = grades.get(decision.grade, 0) + 1
            if decision.scene_score is not None:
                nearest.append(decision.scene_score)
            if is_held(decision.reason_codes):
                held.append(f"{one.name}: {decision.match_source}: {decision.reason}")
            if decision.labelled:
                false.append(f"{one.name}: {decision.match_source}: {decision.reason}")
    return {
        "queries": sum(grades.values()), "grades": grades, "false labels": false, HELD: held,
        "highest scene scores of strangers": sorted(nearest)[-5:],
    }  # fmt: skip


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--micrographs", type=Path, default=DEFAULT)
    parser.add_argument(
        "--overlaps", default=str(OVERLAPS), metavar="FILE", help="file of scenes that show one place; '' means no file"
    )
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    parsed = parser.parse_args()
    if not (parsed.micrographs / "MANIFEST.tsv").is_file():
        parser.error(f"{parsed.micrographs} has no MANIFEST.tsv; give --micrographs DIR")
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        made, unreadable = prepare(parsed.micrographs, work, Path(parsed.overlaps) if parsed.overlaps else None)
        found, refused = twins(made, work / "twins"), strangers(made, work / "strangers")
    print(f"{len(made)} micrographs of {len({one.scene for one in made})} scenes; unreadable: {unreadable}")
    print(f"scene in the index:     {found['grades'].get('excellent', 0)} of {found['queries']} excellent "
          f"({found['grades']}), {len(found['false labels'])} labelled by another scene, "
          f"{len(found[HELD])} {HELD}")  # fmt: skip
    print(f"scene not in the index: {len(refused['false labels'])} of {refused['queries']} labelled "
          f"({refused['grades']}), {len(refused[HELD])} {HELD}; "
          f"highest scene scores {refused['highest scene scores of strangers']}")  # fmt: skip
    for line in (*found["not excellent"], *found["false labels"], *refused["false labels"], *refused[HELD]):
        print(f"  {line}")
    if parsed.out:
        result = {"twins": found, "strangers": refused, "unreadable": unreadable, "versions": versions()}
        parsed.out.write_text(json.dumps(result | {"machine": machine()}, indent=1), encoding="utf-8")
    return 1 if found["false labels"] or refused["false labels"] else 0


if __name__ == "__main__":
    sys.exit(main())
