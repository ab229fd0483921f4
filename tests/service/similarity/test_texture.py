"""Texture differs between fields with similar grids or shapes, but not between images of one field."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from twinscope_client import connect
from twinscope_client.engine.protocol import Engine
from twinscope_indexer.hashing.thumbnail import decode_thumbnail, encode_thumbnail
from twinscope_indexer.indexing.run import index
from twinscope_service.similarity.alignment import align
from twinscope_service.similarity.scene_score import scene_scores
from twinscope_service.similarity.texture import agree_in_texture, texture_distance
from twinscope_service.thresholds import TEXTURE_BITS as MOST

Grey = NDArray[np.uint8]
SHAPE = (384, 512)


def reduced(pixels: Grey) -> Grey:
    return decode_thumbnail(encode_thumbnail(pixels))


def measured(one: Grey, other: Grey) -> int:
    found = texture_distance(one, other)
    assert found is not None
    return found


def grey(pixels: NDArray[np.floating]) -> Grey:
    levels: Grey = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return levels


def smooth(seed: int, sigma: float) -> NDArray[np.float64]:
    noise: NDArray[np.float64] = gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), sigma)
    noise /= noise.std()
    return noise


def under_a_grid(seed: int) -> Grey:
    """Return particles on a film under a grid of bars at a random position."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    bars = ((x + rng.integers(110)) % 110 < 28) | ((y + rng.integers(110)) % 110 < 28)
    film = gaussian_filter(np.where(bars, 30.0, 190.0), 1.5) + 6 * smooth(seed, 1.5)
    for _ in range(60):
        row, column, radius = rng.uniform(0, SHAPE[0]), rng.uniform(0, SHAPE[1]), rng.uniform(2, 5)
        film -= 40 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * radius**2))
    return grey(film)


def ring(seed: int) -> Grey:
    """Return one ring in the middle of a rough background."""
    rng = np.random.default_rng(seed)
    y, x = (
        np.mgrid[: SHAPE[0], : SHAPE[1]] - np.array([192 + rng.uniform(-4, 4), 256 + rng.uniform(-4, 4)])[:, None, None]
    )
    shape = np.exp(-(((np.hypot(y, x) - 110) / 30) ** 2))
    return grey(60 + 140 * shape + 5 * smooth(seed, 2.5))


def changed_copy(pixels: Grey, seed: int) -> Grey:
    return grey(pixels * 0.8 + 20 + np.random.default_rng(seed).normal(0, 12, pixels.shape))


@pytest.mark.parametrize("made", [under_a_grid, ring])
@pytest.mark.parametrize("seed", range(4))
def test_similar_shapes_agree_in_score_but_not_in_texture(made: Callable[[int], Grey], seed: int) -> None:
    one, other = reduced(made(seed)), reduced(made(seed + 10))
    [found] = scene_scores(one, [other])
    assert found.score > 0.5
    assert measured(one, other) > MOST - 10  # a few are slightly within the limit
    assert measured(reduced(changed_copy(made(seed), 1)), one) < MOST - 60


@settings(max_examples=25, deadline=None)
@given(down=st.integers(-30, 30), right=st.integers(-40, 40), seed=st.integers(0, 5), grid=st.booleans())
def test_shifted_images_are_aligned_first(down: int, right: int, seed: int, grid: bool) -> None:
    whole = under_a_grid(seed) if grid else grey(128 + 40 * smooth(seed, 3))
    rows, columns = (slice(max(0, by), size + min(0, by)) for by, size in ((down, SHAPE[0]), (right, SHAPE[1])))
    padded = np.pad(whole[rows, columns], ((max(0, -down), max(0, down)), (max(0, -right), max(0, right))), mode="edge")
    one, other = reduced(whole), reduced(padded)
    overlap = align(one, other)
    assert overlap is not None
    assert overlap.normal[0].shape == overlap.pixels[0].shape == overlap.pixels[1].shape
    if not grid:  # a grid also agrees when shifted by one bar
        assert measured(one, other) < 250


def test_image_is_near_itself_and_far_from_its_negative() -> None:
    one = reduced(under_a_grid(1))
    assert measured(one, one) == 0
    assert measured(one, 255 - one) > 700


@pytest.mark.parametrize("black", [0.3, 0.6])
def test_brightest_pixels_are_compared_if_many_are_black(black: float) -> None:
    bright = np.clip(smooth(3, 5) - 0.3, 0, None) * 80
    whole = 40 + 12 * smooth(4, 2) + bright
    darker = grey(whole - np.quantile(whole, black))
    assert measured(reduced(darker), reduced(grey(whole))) < 250
    assert measured(reduced(grey(whole)), reduced(darker)) < 250
    assert measured(reduced(255 - darker), reduced(255 - grey(whole))) < 250
    unrelated = grey(40 + 12 * smooth(6, 2) + np.clip(smooth(5, 5) - 0.3, 0, None) * 80)
    assert measured(reduced(darker), reduced(unrelated)) > MOST


@pytest.mark.parametrize("shape", [(20, 400), (400, 20), (10, 192)])
def test_images_that_cannot_be_aligned_have_maximum_distance(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (144, 192), dtype=np.uint8)
    assert texture_distance(image, np.zeros(shape, np.uint8)) == 1024
    assert not agree_in_texture(image, np.zeros(shape, np.uint8), 0.9)


@pytest.mark.parametrize("shape", [(46, 192), (24, 192), (39, 39), (1, 1)])
def test_too_small_overlap_is_not_a_contradiction(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    assert texture_distance(image, image) is None
    assert agree_in_texture(image, image, 0.9)


def test_blank_images_raise_no_error() -> None:
    blank = np.zeros((144, 192), np.uint8)
    assert texture_distance(blank, blank) in {None, 0}


@pytest.fixture(scope="module")
def under_grids(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Index twelve fields under one kind of grid, all in one category so that no answer is ambiguous."""
    folder = tmp_path_factory.mktemp("grids")
    (folder / "collection" / "Particles").mkdir(parents=True)
    for seed in range(12):
        Image.fromarray(under_a_grid(seed)).save(folder / "collection" / "Particles" / f"{seed}.png")
    index([folder / "collection"], folder / "store", reach="windows", workers=1)
    with connect(folder / "store") as engine:
        yield engine


def test_other_fields_under_the_same_grid_get_no_label(under_grids: Engine) -> None:
    grades = [under_grids.search(under_a_grid(seed)).grade for seed in range(100, 130)]
    assert set(grades) <= {"none", "doubtful"}
    assert "doubtful" in grades  # so more than the hash was compared


@pytest.mark.parametrize("seed", range(0, 12, 3))
def test_changed_images_of_indexed_fields_get_a_label(under_grids: Engine, seed: int) -> None:
    pixels = under_a_grid(seed)
    for query in (changed_copy(pixels, seed), 255 - np.rot90(pixels)):
        answer = under_grids.search(np.ascontiguousarray(query))
        assert answer.category == "Particles"
        assert answer.best is not None
        assert Path(answer.best.source).stem == str(seed)
