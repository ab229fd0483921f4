"""How time and memory grow: indexing and labelling of more and more images, search among more and more hashes.

    python benchmarks/growth.py [--quick | --full] [--docs DIR] [--seed N]

Indexes 1,000 to 10,000 (with --full 100,000, with --quick 1,000) synthetic JPEGs of 128 x 96 pixels, labels as many
TIFFs of the same pictures, and searches 25,000 to 1,000,000 (with --full 10,000,000) random hashes, all cores, each in
a process of its own whose peak memory is read. Writes two plots and ``growth.json`` into DIR (docs/performance), and
prints the exponents of straight lines fitted to the logarithms: 1 means that twice as much takes twice as long.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from footprint import alone
from shelves import small_files
from twinscope_client.doctor import machine, versions

DOCS: Final = Path(__file__).resolve().parents[1] / "docs" / "performance"
_SIZES: Final = {
    "quick": ((100, 300, 1_000), (25_000, 100_000, 300_000)),
    "usual": ((1_000, 3_000, 10_000), (25_000, 100_000, 300_000, 1_000_000)),
    "full": ((1_000, 3_000, 10_000, 100_000), (25_000, 100_000, 300_000, 1_000_000, 10_000_000)),
}
"""Of images and of hashes."""
_INK: Final = ("#0b6e99", "#c1440e")
_UNITS: Final = {"s": "seconds", "ms": "milliseconds", "MiB": "MiB"}


@dataclass(frozen=True)
class Curve:
    """One measure at several sizes.

    Attributes
    ----------
    name : str
    unit : str
    sizes : list of int
    values : list of float
    exponent : float
        Of the power of the size that fits best.
    """

    name: str
    unit: str
    sizes: list[int]
    values: list[float]
    exponent: float

    @classmethod
    def of(cls, name: str, unit: str, sizes: Sequence[int], values: Sequence[float]) -> Curve:
        """Fit a straight line to the logarithms."""
        slope, _ = np.polyfit(np.log(sizes), np.log(values), 1)
        return cls(name, unit, list(sizes), list(values), float(slope))


def of_images(sizes: Sequence[int], seed: int) -> tuple[list[Curve], list[Curve]]:
    """Index and label; gives the curves of the time and of the peak memory."""
    found: dict[str, list[dict[str, float]]] = {"index": [], "label": []}
    for size in sizes:
        with tempfile.TemporaryDirectory() as scratch:
            work = Path(scratch)
            small_files(work / "jpeg", size, seed)
            found["index"].append(alone("index", work / "jpeg", work / "store"))
            small_files(work / "tiff", size, seed, ".tif")
            labelled = alone("label", work / "tiff", work / "store", work / "out")
            if labelled["written"] != size:
                raise SystemExit(f"{labelled['written']:.0f} of {size} images were labelled; see benchmarks/growth.py")
            found["label"].append(labelled)
            shutil.rmtree(work / "out")
        print(f"{size:,} images: " + ", ".join(f"{kind} {some[-1]['seconds']:.1f} s" for kind, some in found.items()))
    times = [Curve.of(kind, "s", sizes, [one["seconds"] for one in some]) for kind, some in found.items()]
    peaks = [Curve.of(kind, "MiB", sizes, [one["peak"] / 2**20 for one in some]) for kind, some in found.items()]
    return times, peaks


def of_hashes(sizes: Sequence[int], seed: int) -> tuple[list[Curve], list[Curve]]:
    """Search; gives the curves of the time of a query and of the memory of the index."""
    found = [alone("search", str(size), str(seed)) for size in sizes]
    for size, one in zip(sizes, found, strict=True):
        print(f"{size:,} hashes: {one['one']:.2f} ms a query, {one['batch']:.2f} ms in batches of 64")
    times = [
        Curve.of("search, one query", "ms", sizes, [one["one"] for one in found]),
        Curve.of("search, batches of 64", "ms", sizes, [one["batch"] for one in found]),
    ]
    return times, [Curve.of("index of hashes", "MiB", sizes, [one["bytes"] / 2**20 for one in found])]


def plot(file: Path, panels: Sequence[tuple[str, str, Sequence[Curve]]]) -> None:
    """Draw curves over logarithmic axes; a panel is what its size counts, its title, and its curves."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter

    figure, axes = plt.subplots(1, len(panels), figsize=(9, 3.6), dpi=110, layout="constrained")
    for place, (counted, title, curves) in zip(axes, panels, strict=True):
        for curve, ink in zip(curves, _INK, strict=False):
            label = f"{curve.name}: n^{curve.exponent:.2f}"
            place.loglog(curve.sizes, curve.values, "o-", color=ink, label=label, linewidth=1.5, markersize=4)
        values = [value for curve in curves for value in curve.values]
        place.set(title=title, xlabel=counted, ylabel=_UNITS[curves[0].unit])
        place.set_ylim(min(values) / 2, 4 * max(values))  # room for the legend, and what does not grow looks flat
        place.set_xticks(curves[0].sizes, [f"{size:,}" for size in curves[0].sizes])
        place.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        place.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        place.tick_params(labelsize=8)
        for axis in (place.xaxis, place.yaxis):
            axis.set_minor_formatter(NullFormatter())
        place.grid(visible=True, which="major", color="#dddddd", linewidth=0.6)
        place.legend(frameon=False, loc="upper left")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Software": ""})
    plt.close(figure)


def main() -> None:
    """Run, plot, and print the exponents."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind, help_ in (("quick", "1,000 images"), ("full", "100,000 images and 10,000,000 hashes as well")):
        parser.add_argument(f"--{kind}", action="store_const", dest="kind", const=kind, default="usual", help=help_)
    parser.add_argument("--docs", type=Path, default=DOCS, metavar="DIR")
    parser.add_argument("--seed", type=int, default=0)
    parsed = parser.parse_args()
    images, hashes = _SIZES[parsed.kind]
    image_times, image_peaks = of_images(images, parsed.seed)
    hash_times, hash_sizes = of_hashes(hashes, parsed.seed)
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
    about: dict[str, Any] = {"machine": machine(), "versions": versions(), "seed": parsed.seed, "sizes": parsed.kind}
    result = about | {"load": round(os.getloadavg()[1], 1), "curves": [asdict(curve) for curve in curves]}
    (parsed.docs / "growth.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
