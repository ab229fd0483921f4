"""The algorithm of the legacy scripts in the benchmarks makes the decisions that its description requires."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import imagehash
import numpy as np
import pytest
import tifffile
from PIL import Image
from twinscope_client.demo.micrographs import synthesise
from twinscope_indexer.hashing.perceptual import phash
from twinscope_service.similarity.legacy_ssim import legacy_ssim

_FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "old_scripts.py"
if not _FILE.is_file():
    pytest.skip("the benchmarks are not part of this distribution", allow_module_level=True)
_SPEC = importlib.util.spec_from_file_location("benchmark_old_scripts", _FILE)
old = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = old
_SPEC.loader.exec_module(old)


def of_bits(bits: np.ndarray) -> imagehash.ImageHash:
    return imagehash.ImageHash(bits.reshape(32, 32).astype(bool))


def tiff(folder: Path, pixels: np.ndarray, name: str = "sample.tif") -> Path:
    tifffile.imwrite(folder / name, pixels)
    return folder / name


def jpeg(folder: Path, pixels: np.ndarray, name: str) -> Path:
    Image.fromarray(pixels).save(folder / name, quality=100)
    return folder / name


def test_hash_is_the_recipe(tmp_path: Path) -> None:
    pixels = synthesise("Tips", 1, width=320, height=240)
    assert str(old.image_hash(tiff(tmp_path, pixels))) == phash(pixels).tobytes().hex()


def test_colour_is_hashed_as_grey(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    assert str(old.image_hash(tiff(tmp_path, pixels))) == phash(grey).tobytes().hex()


def test_two_nearest_are_those_of_a_scan() -> None:
    generator = np.random.default_rng(1)
    bits = generator.integers(0, 2, (200, 1024), dtype=np.uint8)
    query = bits[17].copy()
    query[:9] ^= 1
    references = [old.Reference(Path(f"{i}.jpg"), of_bits(row)) for i, row in enumerate(bits)]
    distances = (bits != query).sum(axis=1)
    found = old.nearest(of_bits(query), references)
    assert [distance for distance, _ in found] == sorted(distances)[:2]
    assert [reference.path.stem for _, reference in found] == [str(i) for i in np.argsort(distances, kind="stable")[:2]]


@pytest.mark.parametrize("size", [(320, 240), (300, 250)])
def test_ssim_is_that_of_the_legacy_rule(tmp_path: Path, size: tuple[int, int]) -> None:
    query = synthesise("Tips", 1, width=320, height=240)
    path = jpeg(tmp_path, synthesise("Tips", 1, width=size[0], height=size[1]), "reference.jpg")
    reference = np.asarray(Image.open(path))
    assert old.full_size_ssim(tiff(tmp_path, query), path) == pytest.approx(legacy_ssim(query, reference), abs=1e-9)


def test_the_highest_ssim_wins_not_the_smallest_distance(tmp_path: Path) -> None:
    pixels = synthesise("Fibres", 0, width=320, height=240)
    query = tiff(tmp_path, pixels)
    same = old.Reference(jpeg(tmp_path, pixels, "same.jpg"), of_bits(np.zeros(1024)))
    other = old.Reference(jpeg(tmp_path, np.roll(pixels, 50, axis=1), "other.jpg"), of_bits(np.zeros(1024)))
    found = old.verify(query, [(2, other), (148, same)])
    assert (found.jpeg, found.distance) == (same.path, 148)
    assert found.ssim == old.full_size_ssim(query, same.path)


def test_nothing_is_verified_from_150_bits_on(tmp_path: Path) -> None:
    pixels = synthesise("Fibres", 0, width=320, height=240)
    query, same = tiff(tmp_path, pixels), jpeg(tmp_path, pixels, "same.jpg")
    near, far = ((bits, old.Reference(same, of_bits(np.zeros(1024)))) for bits in (149, 150))
    assert old.verify(query, [near, far]).ssim is not None
    assert old.verify(query, [far, far]) == old.Match(query, same, 150, None)


def test_verified_tiff_is_copied_with_prefix_and_times(tmp_path: Path) -> None:
    query = tiff(tmp_path, np.zeros((8, 8), np.uint8), "sample_123.tif")
    os.utime(query, (1, 2))
    (tmp_path / "out").mkdir()
    copy = old.label(old.Match(query, Path("L5_001eb7.jpg"), 6, 0.1), tmp_path / "out")
    assert copy == tmp_path / "out" / "L5_sample_123.tif"
    assert copy.read_bytes() == query.read_bytes()
    assert copy.stat().st_mtime == 2


def test_unverified_tiff_is_not_copied(tmp_path: Path) -> None:
    query = tiff(tmp_path, np.zeros((8, 8), np.uint8))
    assert old.label(old.Match(query, Path("L5_001eb7.jpg"), 6), tmp_path) is None
    assert list(tmp_path.iterdir()) == [query]
