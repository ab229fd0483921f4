"""Data for the speed benchmarks: real micrographs, stores of 21,000 references, and small synthetic files."""

from __future__ import annotations

import csv
import json
import random
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from real_twins import Micrograph, prepare
from twinscope_client.demo.micrographs import CATEGORIES, synthesise
from twinscope_indexer.files import utc_now
from twinscope_indexer.hashing.frames import reference_frames
from twinscope_indexer.hashing.perceptual import RECIPE
from twinscope_indexer.indexing.run import index
from twinscope_indexer.store.catalog.catalog import Record
from twinscope_indexer.store.reader import open_writer
from twinscope_indexer.taxonomy import load_taxonomy

REFERENCES: Final = 21_000
"""Number of references in a store. The collection that the legacy scripts were written for has this size."""
_ROWS: Final = 32


@dataclass(frozen=True)
class Work:
    """Data that all parts of a run share. The first process writes the data, and the processes of the parts read it.

    Attributes
    ----------
    folder : Path
        Scratch folder for all parts.
    source : Path
        Folder of the original micrographs.
    micrographs : list of Micrograph
        The selected micrographs, each as a TIFF and as a quality-100 JPEG.
    store : Path
        Store of 21,000 references, which include the JPEGs of all micrographs.
    store_without : Path
        Copy of `store` without the references of the scenes `left_out`.
    left_out : list of str
        Names of the scenes that `store_without` does not contain.
    quick : bool
    seed : int
    """

    folder: Path
    source: Path
    micrographs: list[Micrograph]
    store: Path
    store_without: Path
    left_out: list[str]
    quick: bool
    seed: int

    def save(self) -> None:
        """Write the data into the scratch folder."""
        (self.folder / "work.json").write_text(json.dumps(asdict(self), default=str), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Work:
        """Read the data that `save` wrote into the scratch folder."""
        found = json.loads((folder / "work.json").read_text(encoding="utf-8"))
        found["micrographs"] = [
            Micrograph(one["name"], one["category"], one["scene"], Path(one["jpeg"]), Path(one["tiff"]))
            for one in found["micrographs"]
        ]
        paths = {name: Path(found[name]) for name in ("folder", "source", "store", "store_without")}
        return cls(**found | paths)

    def sample(self, count: int) -> list[Micrograph]:
        """Select micrographs at random. The selection depends on the seed."""
        return random.Random(self.seed).sample(self.micrographs, min(count, len(self.micrographs)))


def furnish(folder: Path, source: Path, *, quick: bool, seed: int) -> Work:
    """Select micrographs (30 if `quick`), write them as JPEGs and TIFFs, and build stores of 21,000 references."""
    drawn = _drawn(folder / "micrographs", source, 30 if quick else 100_000, seed)
    micrographs, _ = prepare(drawn, folder)
    scenes = sorted({one.scene for one in micrographs})
    left_out = scenes[::2]
    collection, store, without = (folder / name for name in ("collection", "store", "store-without"))
    for one in micrographs:
        path = collection / one.category / one.jpeg.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.hardlink_to(one.jpeg)
    index([collection], store, taxonomy=load_taxonomy(keep_unknown=True), reach="views")
    fill(store, REFERENCES, seed)
    shutil.copytree(store, without)
    leave_out(without, [one.jpeg.name for one in micrographs if one.scene in left_out])
    work = Work(folder, drawn, micrographs, store, without, left_out, quick, seed)
    work.save()
    return work


def _drawn(folder: Path, source: Path, most: int, seed: int) -> Path:
    """Build a folder of randomly selected micrographs with a manifest.

    The micrographs are synthetic if `source` has no manifest.
    """
    folder.mkdir(parents=True)
    manifest = source / "MANIFEST.tsv"
    if manifest.is_file():
        with manifest.open(encoding="utf-8", newline="") as stream:
            rows = [(row["path"], row["scene"]) for row in csv.DictReader(stream, delimiter="\t")]
    else:
        rows = [(f"{category}/{n}.tif", f"{category}-{n}") for category in CATEGORIES for n in range(6)]
    rows = sorted(random.Random(seed).sample(rows, min(most, len(rows))))
    for path, scene in rows:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if manifest.is_file():
            (folder / path).symlink_to((source / path).resolve())
        else:
            category, _, number = scene.rpartition("-")
            tifffile.imwrite(folder / path, synthesise(category, int(number), width=1024, height=768))
    lines = ["path\tscene", *("\t".join(row) for row in rows)]
    (folder / "MANIFEST.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def fill(folder: Path, size: int, seed: int) -> None:
    """Add records to a store until it has `size` records. The new records have hashes and frames, but no files.

    A hash has 32 rows of bits. Each row of a new hash is copied from the hash of a randomly selected stored image. The
    bits within a row are therefore correlated as in micrographs. No new hash is closer to a query than an unrelated
    image is. The frames are made in the same way. The new records also have no thumbnails.
    """
    generator = np.random.default_rng(seed)
    with open_writer(folder) as writer:
        _, codes = writer.catalog.codes(above=0, upto=writer.generation)
        stored = sum(1 for _ in writer.catalog.all_records())
        _, frames = writer.catalog.frames(len(reference_frames("views")), above=0, upto=writer.generation)
        root = Path("/nowhere")
        root_id, _, _ = writer.catalog.root_for(root)
        with writer.catalog.transaction():
            for number in range(size - stored):
                donors = generator.integers(0, min(len(codes), len(frames)), _ROWS)
                record = Record(
                    writer.catalog.new_id(root, f"{number}.jpg", None), root, f"{number}.jpg", None, 1, 1, bytes(32),
                    "JPEG", "L", 8, 1024, 768, crossed(codes[:, None], donors).tobytes(), None, RECIPE,
                    CATEGORIES[number % 10], f"L{number % 10}", "", None, utc_now(), writer.generation,
                )  # fmt: skip
                writer.catalog.put(record, root_id, b"", crossed(frames, donors).tobytes())
        writer.publish()


def leave_out(folder: Path, names: list[str]) -> None:
    """Remove the images with the given file names from a store."""
    with open_writer(folder) as writer:
        found = [one.id for one in writer.catalog.all_records() if Path(one.path).name in set(names)]
        writer.catalog.delete(found, writer.generation)
        writer.publish()


def crossed(codes: NDArray[np.uint8], donors: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Combine the codes of several images into new codes. Each of the 32 rows of bits comes from one image.

    Parameters
    ----------
    codes : ndarray of uint8, shape (n, frames, 128)
        Codes of the frames of n images.
    donors : ndarray of int64, shape (32,)
        For each row, the number of the image that the row is copied from.

    Returns
    -------
    ndarray of uint8, shape (frames, 128)
    """
    rows = codes.reshape(len(codes), codes.shape[1], _ROWS, -1)
    return np.ascontiguousarray(rows[donors, :, np.arange(_ROWS)].swapaxes(0, 1)).reshape(codes.shape[1], -1)


def small_files(folder: Path, count: int, seed: int, suffix: str = ".jpg", first: int = 0) -> None:
    """Write unrelated images of 128 x 96 pixels, which show random fields.

    The category changes after every thousand images.
    """
    for number in range(first, first + count):
        grains = np.random.default_rng((seed, number)).integers(0, 256, (24, 32), dtype=np.uint8)
        image = Image.fromarray(grains).resize((128, 96), Image.Resampling.BICUBIC)
        path = folder / CATEGORIES[number // 1000 % len(CATEGORIES)] / f"{number:06d}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, **({"quality": 95} if suffix == ".jpg" else {}))
