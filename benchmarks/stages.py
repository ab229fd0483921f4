"""The stages of the pipeline against what people use for them today, on the same data in the same run.

    python benchmarks/stages.py [--quick] [--out FILE.json]

Each stage is timed in alternating rounds, one thread; the table shows the median of a round, and the ratio of the
medians with the smallest and the largest ratio of a round. Micrographs are synthetic (seed 0).
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import faiss
import imagehash
import numpy as np
import tifffile
from PIL import Image, ImageOps
from skimage.metrics import structural_similarity
from twinscope_client.demo.micrographs import CATEGORIES, synthesise
from twinscope_client.doctor import machine, versions
from twinscope_indexer.blocked import BlockedIndex
from twinscope_indexer.hashing import phash
from twinscope_indexer.imaging import read_image
from twinscope_indexer.standardise import standardise
from twinscope_indexer.thumbnail import decode_thumbnail, encode_thumbnail
from twinscope_service.scene import scene_scores
from twinscope_service.ssim import ssim

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Stage:
    """One line of the table; times in milliseconds."""

    stage: str
    peer: str
    peer_ms: float
    ours_ms: float
    ratio: float
    least: float
    most: float


def compare(stage: str, peer: str, theirs: Callable[[], object], ours: Callable[[], object], rounds: int) -> Stage:
    """Time two callables in alternating rounds, after one that is not counted."""
    theirs()
    ours()
    pairs = [(_milliseconds(theirs), _milliseconds(ours)) for _ in range(rounds)]
    ratios = [a / b for a, b in pairs]
    peer_ms, ours_ms = (statistics.median(times) for times in zip(*pairs, strict=True))
    return Stage(stage, peer, peer_ms, ours_ms, peer_ms / ours_ms, min(ratios), max(ratios))


def _milliseconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start)


def _reference_hash(image: Image.Image) -> str:
    return str(imagehash.phash(ImageOps.autocontrast(ImageOps.equalize(image.convert("L"))), hash_size=32))


def _encoded(pixels: NDArray[np.uint8], kind: str) -> bytes:
    data = io.BytesIO()
    if kind == "TIFF":
        tifffile.imwrite(data, pixels)
    else:
        Image.fromarray(pixels).save(data, "JPEG", quality=100)
    return data.getvalue()


def stages(rounds: int, codes: int) -> list[Stage]:
    """Measure every stage."""
    pictures = [synthesise(category, 0, width=1024, height=768) for category in CATEGORIES]
    table = []
    for kind in ("TIFF", "JPEG"):
        files = [_encoded(pixels, kind) for pixels in pictures]
        table.append(
            compare(
                f"hash a {kind} in memory (x{len(files)})", "Pillow + imagehash",
                lambda files=files: [_reference_hash(Image.open(io.BytesIO(data))) for data in files],
                lambda files=files: [phash(read_image(data).pixels) for data in files], rounds,
            )
        )  # fmt: skip
    a, b = pictures[0], standardise(pictures[1])
    table.append(
        compare(
            "standardise", "Pillow ImageOps",
            lambda: ImageOps.autocontrast(ImageOps.equalize(Image.fromarray(a))), lambda: standardise(a), rounds,
        )
    )  # fmt: skip
    table.append(
        compare("SSIM, 1024x768", "scikit-image", lambda: structural_similarity(a, b), lambda: ssim(a, b), rounds)
    )
    thumbnails = [decode_thumbnail(encode_thumbnail(pixels)) for pixels in pictures]
    table.append(
        compare(
            "verify one pair", "scikit-image SSIM of the full size",
            lambda: structural_similarity(a, b), lambda: scene_scores(thumbnails[0], thumbnails[1:2]), rounds,
        )
    )  # fmt: skip
    random = np.random.default_rng(0)
    stored = random.integers(0, 256, (codes, 128), dtype=np.uint8)
    index = BlockedIndex(np.arange(codes), stored)
    query = stored[:1].copy()
    table.append(
        compare(
            f"5 nearest of {codes} codes", "NumPy scan",
            lambda: np.argsort(np.bitwise_count(stored ^ query).sum(axis=1))[:5],
            lambda: index.search(query, 5, 1024), rounds,
        )
    )  # fmt: skip
    return table + [faiss_stage(size, together, rounds) for size in (codes, 1_000_000) for together in (1, 64)]


def faiss_stage(size: int, together: int, rounds: int) -> Stage:
    """Compare the search within 300 bits with FAISS's flat index, both on all cores."""
    random = np.random.default_rng(0)
    stored = random.integers(0, 256, (size, 128), dtype=np.uint8)
    flat, index = faiss.IndexBinaryFlat(1024), BlockedIndex(np.arange(size), stored)
    flat.add(stored)
    queries = stored[:together].copy()
    return compare(
        f"{together} of {size} codes", "FAISS flat index",
        lambda: flat.search(queries, 6), lambda: index.search(queries, 5, 300), rounds,
    )  # fmt: skip


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--out", type=Path, help="write the table as JSON")
    parsed = parser.parse_args()
    table = stages(5 if parsed.quick else 15, 25_000)
    print(f"{'stage':<30} {'peer':<36} {'peer ms':>9} {'ours ms':>9} {'ratio':>7}  (rounds)")
    for row in table:
        print(f"{row.stage:<30} {row.peer:<36} {row.peer_ms:9.2f} {row.ours_ms:9.2f} {row.ratio:6.1f}x "
              f" ({row.least:.1f} to {row.most:.1f})")  # fmt: skip
    print(" ".join(f"{name} {value};" for name, value in (machine() | versions()).items()))
    if parsed.out:
        result = {"stages": [asdict(row) for row in table], "machine": machine(), "versions": versions(), "seed": 0}
        parsed.out.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
