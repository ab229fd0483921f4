"""The check for structure: noise, saturation, shading and real structure."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from twinscope_client.demo.micrographs import synthesise
from twinscope_indexer.hashing.hashability import REASONS, Reason, Unhashable, _without_shading, find_lack
from twinscope_indexer.hashing.perceptual import PHash, hash_pixels
from twinscope_indexer.taxonomy import builtin_taxonomy

Grey = NDArray[np.uint8]
SHAPES = [(768, 1024), (484, 645), (1887, 2048), (240, 320), (1024, 300)]


def noise(seed: int, shape: tuple[int, int], kind: str = "normal") -> Grey:
    rng = np.random.default_rng(seed)
    drawn = {
        "normal": lambda: rng.normal(128, 30, shape),
        "faint": lambda: rng.normal(40, 2, shape),
        "uniform": lambda: rng.uniform(0, 256, shape),
        "counts": lambda: 6 * rng.poisson(20, shape),
        "salt": lambda: 255 * (rng.random(shape) < 0.5),
    }
    return np.clip(drawn[kind](), 0, 255).astype(np.uint8)


def with_bar(pixels: Grey) -> Grey:
    barred = pixels.copy()
    barred[-(pixels.shape[0] // 12) :] = 0
    barred[-(pixels.shape[0] // 16) : -(pixels.shape[0] // 24), : pixels.shape[1] // 3] = 255
    return barred


@pytest.mark.parametrize("kind", ["normal", "faint", "uniform", "counts", "salt"])
@pytest.mark.parametrize("shape", SHAPES)
def test_noise_is_refused(kind: str, shape: tuple[int, int]) -> None:
    refused = [hash_pixels(change(noise(seed, shape, kind))) for seed in range(4) for change in (np.array, with_bar)]
    reasons = [found.reason for found in refused if isinstance(found, Unhashable)]
    # Noise of two grey levels is also a mask, and this is the reason if a random wave dominates.
    assert "noise" in reasons
    assert set(reasons) <= {"noise", "featureless" if kind == "salt" else "noise"}
    assert len(reasons) >= 6  # a random wave can dominate


def test_stored_and_shaded_noise_is_noise() -> None:
    data = io.BytesIO()
    Image.fromarray(noise(1, (768, 1024))).save(data, "JPEG", quality=50)
    assert hash_pixels(np.asarray(Image.open(data))).reason == "noise"  # type: ignore[union-attr]
    shaded = np.clip(noise(2, (768, 1024)) + np.linspace(-40, 40, 1024), 0, 255).astype(np.uint8)
    assert hash_pixels(shaded).reason == "noise"  # type: ignore[union-attr]


@pytest.mark.parametrize("category", [category.name for category in builtin_taxonomy().categories])
@pytest.mark.parametrize("sigma", [0, 20])
def test_noisy_micrographs_are_not_refused(category: str, sigma: int) -> None:
    pixels = synthesise(category, 0, width=512, height=384)
    noisy = np.clip(pixels + np.random.default_rng(0).normal(0, sigma, pixels.shape), 0, 255).astype(np.uint8)
    assert find_lack(noisy) is None


@pytest.mark.parametrize(("period", "axis"), [(3, 0), (7, 1), (16, 0), (50, 1)])
def test_lattice_in_noise_is_not_noise(period: int, axis: int) -> None:
    """For fine stripes, the means of blocks vary as little as for noise."""
    wave = 25 * np.sin(2 * np.pi * np.arange(768) / period)
    stripes = noise(0, (768, 768)) + (wave[:, None] if axis == 0 else wave[None])
    found = find_lack(np.clip(stripes, 0, 255).astype(np.uint8))
    assert found is None or period == 3  # too fine for the hash


def test_particle_in_noise_is_not_noise() -> None:
    y, x = np.mgrid[:768, :1024]
    particle = 60 * np.exp(-((y - 300) ** 2 + (x - 500) ** 2) / (2 * 60**2))
    assert find_lack(np.clip(noise(0, (768, 1024)) + particle, 0, 255).astype(np.uint8)) is None


@pytest.mark.parametrize("end", [0, 255])
def test_saturated_field_is_refused(end: int) -> None:
    pixels = np.full((480, 640), end, np.uint8)
    rng = np.random.default_rng(0)
    pixels[rng.random(pixels.shape) < 0.005] = 128
    found = hash_pixels(with_bar(pixels))
    assert isinstance(found, Unhashable)
    assert found.reason == "saturated"
    assert "%" in found.detail
    pixels[:, :320] = synthesise("Tips", 0, width=320, height=480)
    assert isinstance(hash_pixels(pixels), PHash)


def test_small_image_is_not_noise() -> None:
    assert find_lack(noise(0, (64, 64))) is None


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 140), st.integers(1, 140), st.integers(0, 10**6))
def test_quadratic_shading_is_no_contrast(height: int, width: int, seed: int) -> None:
    """The result is the same as by NumPy's least squares for all shapes, even if an image is too small for a slope."""
    image = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    surfaces = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1).reshape(-1, 6)
    strengths = np.linalg.lstsq(surfaces, image.ravel().astype(np.float64), rcond=1e-9)[0]
    expected = image - (surfaces @ strengths).reshape(image.shape)
    np.testing.assert_allclose(_without_shading(image), expected, atol=1e-9)


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("detail", ["", "a: b", "every pixel has the grey value 23"])
def test_the_stored_reason_is_read_back(reason: Reason, detail: str) -> None:
    lack = Unhashable(reason, detail)
    assert Unhashable.from_text(lack.to_text()) == lack


@pytest.mark.parametrize("text", ["", "noise", "unknown: text", "featureless:text"])
def test_another_text_is_no_stored_reason(text: str) -> None:
    with pytest.raises(ValueError, match="not the stored reason"):
        Unhashable.from_text(text)
