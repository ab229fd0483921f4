"""Rows of the speed table for whole jobs on real files, compared with the legacy scripts and with decoding alone."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Final

import imagehash
import numpy as np
import old_scripts
from collection_stores import Work
from harness import Row, Target, cores_at_hand, milliseconds, row
from PIL import Image
from real_twins import Micrograph
from twinscope_client.connect import connect
from twinscope_client.labelling.journal import Journal
from twinscope_client.labelling.run import LabelSettings, label
from twinscope_indexer.compute.ordered import in_order
from twinscope_indexer.indexing.run import index
from twinscope_indexer.store.reader import Store
from twinscope_indexer.taxonomy import load_taxonomy

LABEL_TARGETS: Final = {1: 15.0}
"""Target for the speed of labelling. The key is the number of cores. For more cores, the target is 25."""
_ROUNDS: Final = 3


def label_rows(work: Work) -> list[Row]:
    """Measure the matching and labelling of TIFFs with a store of 21,000 references."""
    files = [one for one in work.sample(len(work.micrographs)) if _pillow_reads(one.tiff)]
    files = files[: 4 if work.quick else 36]
    references = old_references(work)
    label_once(work, files[:1], "warm")
    old_round(work, files[:1], references, "warm")
    pairs, parts = [], []
    for number in range(_ROUNDS):
        parts.append(old_round(work, files, references, str(number)))
        pairs.append((sum(parts[-1].values()), label_once(work, files, str(number))))
    each = {name: statistics.median(part[name] for part in parts) for name in parts[0]}
    note = f"{len(files)} files; the old scripts' {', '.join(f'{name} {ms:.1f}' for name, ms in each.items())} ms"
    target = Target("faster", LABEL_TARGETS.get(cores_at_hand(), 25.0))
    name = f"match and label a TIFF, {len(references):,} references"
    return [row(name, "the old scripts (one core)", pairs, target, note=note)]


def label_once(work: Work, files: list[Micrograph], name: str) -> float:
    """Label files as ``twinscope label`` does, with a store that is already open. Return milliseconds per file."""
    out = work.folder / f"labelled-{cores_at_hand()}-{len(files)}-{name}"
    journal = Journal(out)
    try:
        with connect(work.store) as engine:
            settings = LabelSettings(workers=cores_at_hand())
            start = time.perf_counter()
            report = label([one.tiff for one in files], engine, journal, out, settings)
            taken = 1000 * (time.perf_counter() - start) / len(files)
        if report.counts["failed"] or report.counts["written"] < len(files) / 2:
            raise SystemExit(f"labelling {len(files)} files failed: {dict(report.counts)}; nothing was measured")
        return taken
    finally:
        journal.close()


def old_references(work: Work) -> list[old_scripts.Reference]:
    """Return the table of references for the legacy scripts.

    The JPEGs are hashed as the scripts do. The other references have no files, so their hashes come from the store.
    """
    names = {one.jpeg.name: one.jpeg for one in work.micrographs}
    store = Store(work.store)
    try:
        found = []
        for record in store.catalog.all_records():
            name = Path(record.path).name
            if record.path.count("/") and name in names:
                found.append(old_scripts.Reference(names[name], old_scripts.image_hash(names[name])))
            elif record.hash is not None:
                bits = np.unpackbits(np.frombuffer(record.hash, np.uint8)).reshape(32, 32).astype(bool)
                found.append(old_scripts.Reference(Path(record.path), imagehash.ImageHash(bits)))
        return found
    finally:
        store.close()


def old_round(
    work: Work, files: list[Micrograph], references: list[old_scripts.Reference], name: str
) -> dict[str, float]:
    """Label files as the legacy scripts did. Return the time of each step in milliseconds per file."""
    out = work.folder / f"old-{cores_at_hand()}-{len(files)}-{name}"
    out.mkdir()
    spent: Counter[str] = Counter()
    for one in files:
        moments = [time.perf_counter()]
        hashed = old_scripts.image_hash(one.tiff)
        moments.append(time.perf_counter())
        candidates = old_scripts.nearest(hashed, references)
        moments.append(time.perf_counter())
        match = old_scripts.verify(one.tiff, candidates)
        moments.append(time.perf_counter())
        old_scripts.label(match, out)
        moments.append(time.perf_counter())
        for step, start, end in zip(("hash", "distances", "SSIM", "copy"), moments, moments[1:], strict=False):
            spent[step] += 1000 * (end - start) / len(files)
    return dict(spent)


def refusal_rows(work: Work) -> list[Row]:
    """Measure searches for the same TIFFs in a store with their twins and in a store without their twins.

    Each round opens both stores again.
    """
    files = [one for one in work.sample(len(work.micrographs)) if one.scene in work.left_out]
    files = files[: 3 if work.quick else 10]
    with connect(work.store_without) as without, connect(work.store) as whole:
        files = [
            one for one in files
            if whole.search(one.tiff).grade in {"excellent", "good"} and without.search(one.tiff).grade == "none"
        ]  # fmt: skip
    pairs = []
    for _ in range(_ROUNDS):
        with connect(work.store_without) as without, connect(work.store) as whole:
            found, refused = (
                milliseconds(lambda engine=engine: [engine.search(one.tiff) for one in files]) / len(files)
                for engine in (whole, without)
            )
        pairs.append((found, refused))
    note = f"{len(files)} files"
    return [row("refuse a TIFF without a twin", "find a TIFF with a twin", pairs, Target("share", 5), note=note)]


def indexing_rows(work: Work) -> list[Row]:
    """Measure the indexing of the JPEGs, compared with Pillow decoding the same JPEGs in the same number of threads."""
    collection = work.folder / "collection"
    paths = sorted(collection.rglob("*.jpg"))
    workers = cores_at_hand()
    taxonomy = load_taxonomy(keep_unknown=True)

    def decode(path: Path) -> None:
        Image.open(path).load()

    rates = []
    for number in range(_ROUNDS):
        decoding = milliseconds(lambda: list(in_order(decode, paths, workers)))
        store = work.folder / f"indexed-{workers}-{number}"
        indexing = milliseconds(
            lambda store=store: index([collection], store, taxonomy=taxonomy, reach="views", workers=workers)
        )
        rates.append((1000 * len(paths) / decoding, 1000 * len(paths) / indexing))
    note = f"{len(paths)} files; the figures include the first round"
    return [row("index JPEGs", "Pillow's decoding alone", rates, Target("rate", 0.8), unit="/s", note=note)]


def _pillow_reads(path: Path) -> bool:
    """Check whether the legacy scripts can read a file."""
    with suppress(OSError, ValueError), Image.open(path) as image:
        image.convert("L")
        return True
    return False


def rows(work: Work) -> list[Row]:
    """Measure all jobs. Indexing is measured only on more than one core."""
    every = [*label_rows(work), *refusal_rows(work)]
    return every if cores_at_hand() == 1 else [*every, *indexing_rows(work)]
