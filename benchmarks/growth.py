"""Measure how time and memory grow with the number of images (indexing, labelling) and the number of hashes (search).

    python benchmarks/growth.py [--quick] [--images N ...] [--hashes N ...] [--afresh] [--docs DIR] [--seed N]

The benchmark indexes 1,000, 10,000 and 100,000 synthetic JPEGs of 128 x 96 pixels (with --quick: 100, 300 and 1,000).
Then the benchmark labels the same numbers of TIFFs, which show the same images. It also searches 25,000 to 10,000,000
random hashes (with --quick: up to 250,000). Indexing, labelling and searching use all cores. Each measurement runs in a
separate process, and the peak memory of the process is read.

The benchmark writes two plots and ``growth.json`` into DIR (default: docs/performance). A straight line is fitted to
the logarithms of size and time, or of size and memory. The slope of the line is the exponent, which is printed. The
exponent 1 means that twice the size takes twice the time.

The measurements of each size are kept in ``benchmarks/out`` until a run is complete. An interrupted run therefore
continues where it stopped, if the seed, the versions and the machine are the same. With --afresh, all measurements are
made again. Use --afresh if the code has changed.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from collection_stores import small_files
from memory import alone
from twinscope_client.doctor import machine, versions

DOCS: Final = Path(__file__).resolve().parents[1] / "docs" / "performance"
KEPT: Final = Path(__file__).resolve().parent / "out" / "growth.json"
IMAGES: Final = (1_000, 10_000, 100_000)
HASHES: Final = (25_000, 250_000, 1_000_000, 10_000_000)
QUICK: Final = ((100, 300, 1_000), (25_000, 100_000, 250_000))
"""Numbers of images, and numbers of hashes, for the option --quick."""
_INK: Final = ("#0b6e99", "#c1440e")
_UNITS: Final = {"s": "seconds", "ms": "milliseconds", "MiB": "MiB"}
Found = dict[str, float]
"""The measurements of one size. The key is the name of the measured quantity."""


class Kept:
    """The measurements of an interrupted run, which are valid only for the same seed, machine and versions.

    Parameters
    ----------
    file : Path
        File that stores the measurements.
    seed : int
    afresh : bool
        Whether to ignore the stored measurements.
    """

    def __init__(self, file: Path, seed: int, *, afresh: bool) -> None:
        self._file = file
        self._with = json.dumps([seed, machine(), versions()], sort_keys=True)
        self._known: dict[str, dict[str, Found]] = {}
        if file.is_file() and not afresh:
            self._known = json.loads(file.read_text(encoding="utf-8"))

    def measured(self, title: str, measure: Callable[[], Found]) -> Found:
        """Return a stored measurement. If there is no such measurement, measure now and store the result.

        The function prints the title, the measured values and the time that the measurement took.
        """
        known = self._known.setdefault(self._with, {})
        if title in known:
            print(f"{title}: measured before the run was interrupted", flush=True)
            return known[title]
        start = time.perf_counter()
        known[title] = measure() | {"load": round(os.getloadavg()[1], 1)}
        shown = ", ".join(f"{name} {value:,.4g}" for name, value in known[title].items())
        print(f"{title}: {shown} ({time.perf_counter() - start:.0f} s)", flush=True)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps(self._known, indent=1), encoding="utf-8")
        return known[title]

    def forget(self) -> None:
        """Delete the stored measurements, so that the next run measures everything again."""
        self._file.unlink(missing_ok=True)


@dataclass(frozen=True)
class Curve:
    """One quantity that was measured at several sizes.

    Attributes
    ----------
    name : str
    unit : str
    sizes : list of int
        Numbers of images or hashes.
    values : list of float
        The measured value at each size.
    exponent : float
        Exponent of the power law that fits the values best.
    """

    name: str
    unit: str
    sizes: list[int]
    values: list[float]
    exponent: float

    @classmethod
    def of(cls, name: str, unit: str, sizes: Sequence[int], values: Sequence[float]) -> Curve:
        """Build a curve. The exponent is the slope of a straight line that is fitted to the logarithms."""
        slope, _ = np.polyfit(np.log(sizes), np.log(values), 1)
        return cls(name, unit, list(sizes), list(values), float(slope))


def of_images(sizes: Sequence[int], seed: int, kept: Kept) -> tuple[list[Curve], list[Curve]]:
    """Index and label images in several numbers. Return the curves of the time and the curves of the peak memory."""
    found = [kept.measured(f"{size:,} images", lambda size=size: _indexed_and_labelled(size, seed)) for size in sizes]
    curves = []
    for unit, measure, scale in (("s", "seconds", 1), ("MiB", "peak", 2**20)):
        values = {kind: [one[f"{kind} {measure}"] / scale for one in found] for kind in ("index", "label")}
        curves.append([Curve.of(kind, unit, sizes, some) for kind, some in values.items()])
    return curves[0], curves[1]


def _indexed_and_labelled(size: int, seed: int) -> Found:
    """Index JPEGs, label TIFFs of the same images, and return the measurements."""
    found: Found = {}
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        for kind, suffix, out in (("index", ".jpg", ()), ("label", ".tif", (work / "out",))):
            _write(work / suffix, size, seed, suffix)
            print(f"{size:,} images: files to {kind} are written", flush=True)
            found |= {
                f"{kind} {name}": value for name, value in alone(kind, work / suffix, work / "store", *out).items()
            }
    if found["label written"] != size:
        raise SystemExit(f"{found['label written']:.0f} of {size} images were labelled; see benchmarks/growth.py")
    return found


def _write(folder: Path, count: int, seed: int, suffix: str) -> None:
    """Write small image files on all cores. Each task writes a thousand files."""
    bounds = [*range(0, count, 1000), count]
    with ProcessPoolExecutor() as pool:
        tasks = [pool.submit(small_files, folder, end - at, seed, suffix, at) for at, end in pairwise(bounds)]
        for task in tasks:
            task.result()


def of_hashes(sizes: Sequence[int], seed: int, kept: Kept) -> tuple[list[Curve], list[Curve]]:
    """Search hashes in several numbers. Return the curves of the time of a query and of the memory of the index."""
    found = [
        kept.measured(f"{size:,} hashes", lambda size=size: alone("search", str(size), str(seed))) for size in sizes
    ]
    times = [
        Curve.of("search, one query", "ms", sizes, [one["one"] for one in found]),
        Curve.of("search, batches of 64", "ms", sizes, [one["batch"] for one in found]),
    ]
    return times, [Curve.of("index of hashes", "MiB", sizes, [one["bytes"] / 2**20 for one in found])]


def plot(file: Path, panels: Sequence[tuple[str, str, Sequence[Curve]]]) -> None:
    """Draw curves on logarithmic axes, in panels side by side.

    Each panel is given by the label of its horizontal axis, its title, and its curves.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter

    figure, panel_axes = plt.subplots(1, len(panels), figsize=(9, 3.6), dpi=110, layout="constrained")
    for axes, (counted, title, curves) in zip(panel_axes, panels, strict=True):
        for curve, ink in zip(curves, _INK, strict=False):
            label = f"{curve.name}: n^{curve.exponent:.2f}"
            axes.loglog(curve.sizes, curve.values, "o-", color=ink, label=label, linewidth=1.5, markersize=4)
        values = [value for curve in curves for value in curve.values]
        axes.set(title=title, xlabel=counted, ylabel=_UNITS[curves[0].unit])
        axes.set_ylim(min(values) / 2, 4 * max(values))  # leave room for the legend; a constant curve looks flat
        axes.set_xticks(curves[0].sizes, [f"{size:,}" for size in curves[0].sizes])
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.tick_params(labelsize=8)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_formatter(NullFormatter())
        axes.grid(visible=True, which="major", color="#dddddd", linewidth=0.6)
        axes.legend(frameon=False, loc="upper left")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Software": ""})
    plt.close(figure)


def main() -> None:
    """Run the benchmark, write the plots, and print the exponents."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="use at most 1,000 images and 250,000 hashes")
    parser.add_argument("--images", type=int, nargs="+", metavar="N", help="at least two numbers of images")
    parser.add_argument("--hashes", type=int, nargs="+", metavar="N", help="at least two numbers of hashes")
    parser.add_argument("--afresh", action="store_true", help="ignore the measurements of an interrupted run")
    parser.add_argument("--docs", type=Path, default=DOCS, metavar="DIR")
    parser.add_argument("--seed", type=int, default=0)
    parsed = parser.parse_args()
    images, hashes = QUICK if parsed.quick else (IMAGES, HASHES)
    images, hashes = sorted(set(parsed.images or images)), sorted(set(parsed.hashes or hashes))
    if min(len(images), len(hashes)) < 2 or min(*images, *hashes) < 1:
        parser.error("a curve needs at least two sizes, each at least 1")
    kept = Kept(KEPT, parsed.seed, afresh=parsed.afresh)
    hash_times, hash_sizes = of_hashes(hashes, parsed.seed, kept)
    image_times, image_peaks = of_images(images, parsed.seed, kept)
    plot(
        parsed.docs / "growth-time.png",
        [("images", "All images together", image_times), ("hashes", "One query, within 300 bits", hash_times)],
    )
    plot(
        parsed.docs / "growth-memory.png",
        [("images", "Peak memory of the process", image_peaks), ("hashes", "Memory of the index", hash_sizes)],
    )
    curves = [*image_times, *hash_times, *image_peaks, *hash_sizes]
    for curve in curves:
        shown = ", ".join(f"{value:.3g}" for value in curve.values)
        print(f"{curve.name} ({curve.unit}): n^{curve.exponent:.2f}; {shown} at {curve.sizes}")
    about: dict[str, Any] = {"machine": machine(), "versions": versions(), "seed": parsed.seed}
    result = about | {"load": round(os.getloadavg()[1], 1), "curves": [asdict(curve) for curve in curves]}
    (parsed.docs / "growth.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    kept.forget()


if __name__ == "__main__":
    main()
