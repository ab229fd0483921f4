"""Compare the speed and memory of every stage of the pipeline with other tools, on the same data in the same run.

    python benchmarks/speed.py [--quick] [--out FILE.json] [--markdown FILE.md] [--micrographs DIR] [--seed N]
                                [--only PART ...]

The other tool (the peer) and Twinscope are timed in alternating rounds. The table shows the medians, the ratio of the
medians, and the smallest and the largest ratio of a round. The table is also written as JSON. Rows for one core are
measured in a process that is restricted to one core. A ratio of speeds is the peer's time divided by Twinscope's time
("3.0x"). A ratio of costs or rates is Twinscope's figure divided by the peer's figure. --markdown puts the table
between the two marks ``<!-- bench -->`` and ``<!-- end -->`` of a document. The files are the micrographs of
`../shared`, or a few of these micrographs with --quick. If that folder does not exist, the files are synthetic.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from harness import Row, as_json, markdown_table, restrict, text_table

MICROGRAPHS: Final = Path(__file__).resolve().parents[2] / "shared" / "data" / "micrographs"
OUT: Final = Path(__file__).resolve().parent / "out" / "stages.json"
CORES: Final = len(os.sched_getaffinity(0))
ONE, ALL = 1, CORES
PARTS: Final = {"kernels": (ONE,), "scans": (ONE, ALL), "whole_jobs": (ONE, ALL), "memory": (ALL,)}
"""Modules that measure rows of the table, and the numbers of cores that each module is run with."""
MARKS: Final = ("<!-- bench -->", "<!-- end -->")


def measured(part: str, cores: int, folder: Path) -> list[Row]:
    """Measure a part in another process. If the process fails, print a message and return no rows."""
    out = folder / f"{part}-{cores}.json"
    command = [sys.executable, __file__, "--part", part, "--cores", str(cores), "--folder", folder, "--out", out]
    if subprocess.run(list(map(str, command)), check=False).returncode:
        print(f"{part} on {cores} cores: FAILED; the rows of this part are missing; see above", file=sys.stderr)
        return []
    return [Row(**one) for one in json.loads(out.read_text(encoding="utf-8"))]


def measure(part: str, cores: int, folder: Path, out: Path) -> None:
    """Measure a part in this process.

    The process is restricted to `cores` cores before the other modules are imported, because they read the number of
    cores on import.
    """
    restrict(cores)
    from collection_stores import Work

    rows = importlib.import_module(part).rows(Work.load(folder))
    out.write_text(json.dumps(as_json(rows)), encoding="utf-8")


def run(parsed: argparse.Namespace) -> tuple[list[Row], int, bool]:
    """Measure the selected parts; return the rows, the number of micrographs, and whether a part has failed."""
    from collection_stores import furnish

    rows: list[Row] = []
    failed, start = False, time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        work = furnish(Path(scratch), parsed.micrographs, quick=parsed.quick, seed=parsed.seed)
        print(f"stores: {time.perf_counter() - start:.0f} s", file=sys.stderr)
        for part in parsed.only:
            for cores in sorted(set(PARTS[part])):
                start = time.perf_counter()
                rows += (found := measured(part, cores, work.folder))
                failed = failed or not found
                print(f"{part} on {cores} cores: {time.perf_counter() - start:.0f} s", file=sys.stderr)
        return rows, len(work.micrographs), failed


def write_into(document: Path, table: str, marks: tuple[str, str] = MARKS) -> None:
    """Replace the text between the two marks of a document."""
    before, found, rest = document.read_text(encoding="utf-8").partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not (found and end):
        raise SystemExit(f"{document} has no {marks[0]} followed by {marks[1]}; nothing was written")
    document.write_text(f"{before}{marks[0]}\n\n{table}\n\n{marks[1]}{after}", encoding="utf-8")


def described(parsed: argparse.Namespace, micrographs: int, seconds: float) -> dict[str, Any]:
    """Return the conditions of the measurements: the files, the machine, the versions and the load."""
    from twinscope_client.doctor import machine, versions

    real = (parsed.micrographs / "MANIFEST.tsv").is_file()
    return {
        "micrographs": f"{micrographs} {'real' if real else 'synthetic'}", "seed": parsed.seed, "quick": parsed.quick,
        "seconds": round(seconds), "load": round(os.getloadavg()[1], 1), "machine": machine(), "versions": versions(),
    }  # fmt: skip


def legend(about: dict[str, Any]) -> str:
    """Format the conditions of the measurements as a sentence."""
    named = about["machine"] | about["versions"]
    listed = ", ".join(f"{name} {value}" for name, value in named.items())
    kind = "a quick run" if about["quick"] else "a full run"
    return (
        f"{about['micrographs']} micrographs, seed {about['seed']}, {kind} of {about['seconds']} s, load average "
        f"{about['load']}; {listed}."
    )


def main() -> int:
    """Run the benchmark. Return 1 if a part has failed; a missed target is not a failure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="use fewer files, fewer rounds and smaller stores")
    parser.add_argument(
        "--out", type=Path, default=OUT, help="write the table as JSON to this file (default: %(default)s)"
    )
    parser.add_argument("--markdown", type=Path, help="write the table into this document")
    parser.add_argument("--micrographs", type=Path, default=MICROGRAPHS, metavar="DIR")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    for hidden, kind in (("--part", str), ("--cores", int), ("--folder", Path)):
        parser.add_argument(hidden, type=kind, help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.part:
        measure(parsed.part, parsed.cores, parsed.folder, parsed.out)
        return 0
    start = time.perf_counter()
    rows, micrographs, failed = run(parsed)
    about = described(parsed, micrographs, time.perf_counter() - start)
    notes = list(dict.fromkeys(f"{one.stage} (cores: {one.cores}): {one.note}" for one in rows if one.note))
    print(text_table(rows))
    print("\n".join(notes))
    print(legend(about))
    parsed.out.parent.mkdir(parents=True, exist_ok=True)
    parsed.out.write_text(json.dumps(about | {"stages": as_json(rows)}, indent=1), encoding="utf-8")
    if parsed.markdown:
        lines = [markdown_table(rows), "", legend(about), "", *(f"- {note}" for note in notes)]
        write_into(parsed.markdown, "\n".join(lines))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
