"""Write a folder of synthetic micrographs with a manifest. The benchmarks `accuracy` and `peers` can use this folder.

    python benchmarks/synthetic.py FOLDER [--count N] [--seed N]

Each of the ten categories gets N different fields as 8-bit TIFFs of 1024 x 768 pixels. Every second field has an info
bar. No threshold of Twinscope was chosen on these fields.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import tifffile
from twinscope_client.demo.infobar import bar_height
from twinscope_client.demo.micrographs import CATEGORIES, synthesise

_WIDTH, _HEIGHT = 1024, 768


def write(folder: Path, count: int, seed: int) -> None:
    """Write `count` micrographs of each category, and ``MANIFEST.tsv``."""
    lines = ["path\tscene\tbar"]
    for category in CATEGORIES:
        (folder / category).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            barred = number % 2 == 1
            name = f"{category}/{number:03d}.tif"
            field = synthesise(category, seed + number, width=_WIDTH, height=_HEIGHT, info_bar=barred)
            tifffile.imwrite(folder / name, field)
            lines.append(f"{name}\t{category}-{number:03d}\t{bar_height(_HEIGHT) if barred else 0}")
    (folder / "MANIFEST.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=12, help="number of fields of each category (default: 12)")
    parser.add_argument("--seed", type=int, default=1000)
    parsed = parser.parse_args()
    write(parsed.folder, parsed.count, parsed.seed)


if __name__ == "__main__":
    main()
