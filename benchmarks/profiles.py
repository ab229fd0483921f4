"""Profile three tasks on one core: indexing a JPEG, finding a twin, and refusing an image without a twin.

    python benchmarks/profiles.py [--markdown FILE.md] [--micrographs DIR] [--seed N]

The steps of indexing are timed one by one. The other two tasks are timed by Python's profiler, which adds a little time
to functions that are called often. Shares are fractions of the total time. The stores have 21,000 references, and the
files are the micrographs that `speed.py --quick` selects. --markdown puts the tables between the two marks
``<!-- profile -->`` and ``<!-- end of profile -->`` of a document.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Final

from harness import restrict
from speed import MICROGRAPHS, write_into

MARKS: Final = ("<!-- profile -->", "<!-- end of profile -->")
_LINES: Final = 10


def main() -> None:
    """Profile the three tasks, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", type=Path, help="write the tables into this document")
    parser.add_argument("--micrographs", type=Path, default=MICROGRAPHS, metavar="DIR")
    parser.add_argument("--seed", type=int, default=0)
    parsed = parser.parse_args()
    restrict(1)
    from collection_stores import furnish

    with tempfile.TemporaryDirectory() as scratch:
        work = furnish(Path(scratch), parsed.micrographs, quick=True, seed=parsed.seed)
        missing = [one.tiff for one in work.micrographs if one.scene in work.left_out]
        tables = [
            table("Index a JPEG", indexing([one.jpeg for one in work.micrographs])),
            table("Find the twin of a TIFF", searching(work.store, [one.tiff for one in work.micrographs])),
            table("Refuse a TIFF without a twin", searching(work.store_without, missing)),
        ]
    print("\n\n".join(tables))
    if parsed.markdown:
        write_into(parsed.markdown, "\n\n".join(tables), MARKS)


def indexing(paths: list[Path]) -> dict[str, float]:
    """Time the steps of indexing. Return the time of each step in milliseconds per file."""
    from harness import milliseconds
    from PIL import Image
    from twinscope_indexer.hashing.perceptual import hash_pixels
    from twinscope_indexer.hashing.thumbnail import encode_thumbnail
    from twinscope_indexer.imaging.reader import read_image
    from twinscope_indexer.indexing.reframing import encoded_frames
    from twinscope_indexer.metadata.reader import read_metadata

    spent: Counter[str] = Counter()
    for path in [paths[0], *paths]:
        data = path.read_bytes()
        pixels = read_image(data).pixels
        thumbnail = encode_thumbnail(pixels)
        steps = {
            "(Pillow's decoding alone)": lambda path=path: Image.open(path).load(),
            "read the file": path.read_bytes,
            "SHA-256": lambda data=data: sha256(data).digest(),
            "decode to grey": lambda data=data: read_image(data),
            "hash": lambda pixels=pixels: hash_pixels(pixels),
            "thumbnail": lambda pixels=pixels: encode_thumbnail(pixels),
            "frames (views)": lambda thumbnail=thumbnail: encoded_frames(thumbnail, "views"),
            "instrument metadata": lambda data=data: read_metadata(data),
        }
        if not spent:  # run the steps of the first file once without timing, so that loading code is not counted
            for step in steps.values():
                step()
        spent.update({name: milliseconds(step) / (len(paths) + 1) for name, step in steps.items()})
    return dict(spent)


def searching(store: Path, paths: list[Path]) -> dict[str, float]:
    """Profile searches. Return the time that each function itself takes, in milliseconds per file."""
    from twinscope_client.connect import connect

    with connect(store) as engine:
        for path in paths:
            engine.search(path)
    with connect(store) as engine:
        profile = cProfile.Profile()
        profile.enable()
        for path in paths:
            engine.search(path)
        profile.disable()
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    spent: Counter[str] = Counter()
    for (file, _, function), (_, _, own, *_) in stats.items():
        module = Path(file).stem
        spent[function if module in {"~", ""} else f"{module}.{function}"] += 1000 * own / len(paths)
    return dict(spent)


def table(title: str, spent: dict[str, float]) -> str:
    """Format the longest steps as a Markdown table.

    The last row is the sum of all steps, except steps with a name in parentheses.
    """
    whole = sum(ms for name, ms in spent.items() if not name.startswith("("))
    longest = sorted(spent.items(), key=lambda item: -item[1])[:_LINES]
    rows = [f"| `{name}` | {ms:.2f} | {ms / whole:.0%} |" for name, ms in longest]
    return "\n".join([f"| {title} | ms | share |", "|---|---:|---:|", *rows, f"| all | {whole:.1f} | 100% |"])


if __name__ == "__main__":
    main()
