"""The policy ``legacy`` decides like the legacy scripts, which are written again here from their description."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageOps
from shelf import Shelf
from skimage.metrics import structural_similarity
from skimage.transform import resize
from twinscope_client import connect
from twinscope_client.demo.micrographs import synthesise
from twinscope_indexer.indexing.run import index
from twinscope_service.similarity.legacy_ssim import legacy_ssim


def standardised(image: Image.Image) -> Image.Image:
    grey = image if image.mode == "L" else image.convert("L")
    return ImageOps.autocontrast(ImageOps.equalize(grey))


def script_hash(path: Path) -> imagehash.ImageHash:
    with Image.open(path) as image:
        return imagehash.phash(standardised(image), hash_size=32)


def script_ssim(tiff: Path, jpeg: Path) -> float:
    with Image.open(tiff) as image:
        query = np.array(standardised(image))
    with Image.open(jpeg) as image:
        reference = np.array(standardised(image))
    if query.shape != reference.shape:
        query = resize(query, reference.shape, anti_aliasing=True, preserve_range=True).astype(np.uint8)
    return float(structural_similarity(query, reference, data_range=reference.max() - reference.min()))


@dataclass
class ScriptMatch:
    jpeg: str
    distance: int
    ssim: float | None

    @property
    def grade(self) -> str:
        return "excellent" if self.ssim is not None and self.ssim > 0.95 else "unverified"


def script_match(tiff: Path, jpegs: dict[Path, imagehash.ImageHash]) -> ScriptMatch | None:
    """Return the better of the two nearest references: by SSIM below 120 bits, otherwise the nearest below 150 bits."""
    query = script_hash(tiff)
    two = sorted((int(query - hashed), str(path)) for path, hashed in jpegs.items())[:2]
    candidates = [
        ScriptMatch(path, distance, script_ssim(tiff, Path(path)) if distance < 120 else None)
        for distance, path in two
        if distance < 150
    ]
    verified = [candidate for candidate in candidates if candidate.ssim is not None]
    if verified:
        return max(verified, key=lambda candidate: candidate.ssim or -1.0)
    return candidates[0] if candidates else None


def noisy(pixels: np.ndarray, strength: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, strength, pixels.shape)
    return np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)


def shifted(pixels: np.ndarray, columns: int) -> np.ndarray:
    return np.roll(pixels, columns, axis=1)


def rgb_jpeg(pixels: np.ndarray, quality: int = 100) -> Image.Image:
    data = io.BytesIO()
    Image.fromarray(pixels).convert("RGB").save(data, "JPEG", quality=quality)
    return Image.open(io.BytesIO(data.getvalue()))


@pytest.fixture(scope="module")
def lab(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path], list[Path]]:
    """Return a store with near-duplicates in one category, its JPEGs, and TIFFs at various distances."""
    root = tmp_path_factory.mktemp("legacy")
    jpegs = [path for (category, number) in shelf.pixels for path in [shelf.reference(category, number)]]
    near = root / "more" / "Tips"
    near.mkdir(parents=True)
    for number, strength in enumerate((4, 25)):
        image = Image.fromarray(noisy(shelf.pixels["Tips", 0], strength)).convert("RGB")
        image.save(near / f"near_{number}.jpg", quality=100)
        jpegs.append(near / f"near_{number}.jpg")
    index([shelf.references, root / "more"], root / "store", workers=1)
    tiffs = []
    for (category, number), pixels in shelf.pixels.items():
        for name, changed in {
            "same": pixels,
            "noise": noisy(pixels, 12, seed=9),
            "more_noise": noisy(pixels, 60, seed=9),
            "shift": shifted(pixels, 3),
            "far_shift": shifted(pixels, 8),
            "half": np.asarray(Image.fromarray(pixels).resize((160, 120), Image.Resampling.LANCZOS)),
            "stretched": np.asarray(Image.fromarray(pixels).resize((350, 230), Image.Resampling.BICUBIC)),
        }.items():
            tiffs.append(root / f"{category}_{number}_{name}.tif")
            Image.fromarray(changed).save(tiffs[-1])
    for number in range(3):
        tiffs.append(root / f"unrelated_{number}.tif")
        Image.fromarray(synthesise("Powder", 90 + number, width=320, height=240).astype(np.uint8)).save(tiffs[-1])
    rgb_jpeg(shelf.pixels["Fibres", 0], 50).save(root / "colour.tif")
    return root / "store", jpegs, [*tiffs, root / "colour.tif"]


def test_legacy_policy_decides_like_the_legacy_scripts(lab: tuple[Path, list[Path], list[Path]]) -> None:
    store, jpegs, tiffs = lab
    hashed = {path: script_hash(path) for path in jpegs}
    grades, distances = [], []
    with connect(store) as ts:
        for tiff in tiffs:
            expected, new = script_match(tiff, hashed), ts.search(tiff, policy="legacy")
            if expected is None:
                assert (new.grade, new.best) == ("none", None), tiff.name
                grades.append("none")
                continue
            assert new.best is not None
            assert (new.best.source, new.best.distance, new.grade) == (
                expected.jpeg,
                expected.distance,
                expected.grade,
            ), tiff.name
            assert (new.best.ssim is None) == (expected.ssim is None), tiff.name
            assert new.best.ssim == pytest.approx(expected.ssim, abs=1e-9), tiff.name
            grades.append(expected.grade if expected.ssim is not None else "preliminary")
            distances.append(expected.distance)
    # The comparison must cover every branch.
    assert set(grades) == {"none", "preliminary", "unverified", "excellent"}
    assert min(distances) < 20
    assert len(set(distances)) > 10


def test_best_ssim_wins_over_the_nearest_hash(tmp_path: Path, shelf: Shelf) -> None:
    query = shelf.pixels["Particles", 1]
    patched = query.copy()
    patched[:50, :50] = 255  # this change affects many bits but few SSIM windows
    pair = {"patched": patched, "noisy": noisy(query, 12)}
    assert _distance(query, pair["noisy"]) < _distance(query, pair["patched"]) < 120
    folder = tmp_path / "Particles"
    folder.mkdir()
    for name, pixels in pair.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    index([folder], tmp_path / "store", workers=1)
    with connect(tmp_path / "store") as ts:
        answer = ts.search(query, policy="legacy")
    assert [Path(each.source).stem for each in answer.matches] == ["patched", "noisy"]
    assert answer.matches[0].distance > answer.matches[1].distance


def _distance(a: np.ndarray, b: np.ndarray) -> int:
    hashes = [imagehash.phash(standardised(Image.fromarray(pixels)), hash_size=32) for pixels in (a, b)]
    return int(hashes[0] - hashes[1])


@pytest.mark.parametrize("shapes", [((60, 80), (60, 80)), ((60, 80), (31, 41)), ((20, 30), (61, 45)), ((7, 7), (7, 9))])
def test_ssim_equals_that_of_the_legacy_scripts(
    tmp_path: Path, shapes: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    rng = np.random.default_rng(3)
    query, reference = (rng.integers(20, 200, shape, np.uint8) for shape in shapes)
    Image.fromarray(query).save(tmp_path / "query.tif")
    Image.fromarray(reference).save(tmp_path / "reference.png")
    expected = script_ssim(tmp_path / "query.tif", tmp_path / "reference.png")
    assert legacy_ssim(query, reference) == pytest.approx(expected, abs=1e-12)
