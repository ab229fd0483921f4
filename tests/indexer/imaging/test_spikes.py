"""No-data values, X-ray hits and hot pixels do not set the window; single counts and small bright details do."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from twinscope_indexer.hashing.hashability import Unhashable
from twinscope_indexer.hashing.perceptual import hash_pixels, phash
from twinscope_indexer.imaging import window
from twinscope_indexer.imaging.reader import read_image
from twinscope_indexer.imaging.spikes import without_spikes

SHAPE = (384, 512)


def film(seed: int) -> NDArray[np.float64]:
    """Return a field of fine grain, with grey levels from about 60 to 180."""
    rng = np.random.default_rng(seed)
    fine, coarse = (gaussian_filter(rng.standard_normal(SHAPE), sigma) for sigma in (1.5, 12))
    return np.clip(120 + 16 * fine / fine.std() + 6 * coarse / coarse.std() + rng.normal(0, 4, SHAPE), 1, 255)


def pixels_of(samples: NDArray[np.generic]) -> NDArray[np.uint8]:
    data = io.BytesIO()
    tifffile.imwrite(data, samples)
    return read_image(data.getvalue()).pixels


def bits(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    return int(np.unpackbits(phash(one) ^ phash(other)).sum())


@pytest.mark.parametrize("value", [np.finfo(np.float32).min, -1e30, -1e10, -9999.0])
@pytest.mark.parametrize("share", [0.05, 0.34, 0.8])
def test_no_data_value_leaves_the_grey_levels_of_the_field(value: float, share: float) -> None:
    outside = np.arange(SHAPE[1])[None] + 0.3 * np.arange(SHAPE[0])[:, None] < share * SHAPE[1]
    field = film(1)
    absent = np.where(outside, np.nan, field).astype(np.float32)
    filled = np.where(outside, value, field).astype(np.float32)
    assert bits(pixels_of(filled), pixels_of(absent)) <= 4


def test_fields_with_one_no_data_outline_differ() -> None:
    outside = np.arange(SHAPE[1])[None] + 0.9 * np.arange(SHAPE[0])[:, None] < 0.62 * SHAPE[1]
    one, other = (pixels_of(np.where(outside, -1e30, film(seed)).astype(np.float32)) for seed in (1, 2))
    assert bits(one, other) > 200


@pytest.mark.parametrize("kind", ["u2", "i2", "i4", "f4"])
@pytest.mark.parametrize("share", [0.0005, 0.004])
def test_isolated_hits_do_not_set_the_window(kind: str, share: float) -> None:
    """Before, hits on more than one pixel of 10,000 left a few grey levels for the field."""
    rng = np.random.default_rng(3)
    field = film(4) * 4 + 100
    hit = field.copy()
    struck = rng.permutation(hit.size)[: int(share * hit.size)]
    hit.reshape(-1)[struck] = rng.uniform(15000, 32000, len(struck))
    low, high = window.fit(hit.astype(kind))
    assert high - low < 2000
    assert bits(pixels_of(hit.astype(kind)), pixels_of(field.astype(kind))) <= 60


def test_small_bright_details_are_no_spikes() -> None:
    field = film(5)
    bright = np.zeros(SHAPE)
    bright.reshape(-1)[np.random.default_rng(6).permutation(field.size)[:60]] = 1
    detailed = (field + 40_000 * gaussian_filter(bright, 1.2)).astype(np.float32)
    limits = float(detailed.min()), float(detailed.max())
    assert without_spikes(detailed, limits) == limits


def test_single_counts_of_a_sparse_image_are_kept() -> None:
    counts = np.random.default_rng(7).poisson(0.02, SHAPE).astype(np.uint16)
    counts[5, 5] = 30
    limits = 0.0, 30.0
    assert without_spikes(counts, limits) == limits


@pytest.mark.parametrize("levels", [2, 3])
def test_masks_are_not_hashed(levels: int) -> None:
    mask = (film(8) // (256 / levels) % levels * (255 // (levels - 1))).astype(np.uint8)
    assert len(np.unique(mask)) == levels
    found = hash_pixels(mask)
    assert isinstance(found, Unhashable)
    assert "is a mask" in found.detail


def test_micrograph_of_few_but_more_grey_levels_is_hashed() -> None:
    assert not isinstance(hash_pixels((film(9) // 16 * 16).astype(np.uint8)), Unhashable)
