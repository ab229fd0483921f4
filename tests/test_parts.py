"""One field agrees in all its parts; what is shared in some place agrees there only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from twinscope_client.demo.micrographs import CATEGORIES, synthesise
from twinscope_indexer.thumbnail import decode_thumbnail, encode_thumbnail
from twinscope_service.parts import compare_parts
from twinscope_service.scene import scene_scores

Grey = NDArray[np.uint8]
SHAPE = (384, 512)
TEXTURED = ("Powder", "Porous_Sponge", "Fibres", "Biological")
"""Others are empty in most places, which is alike in all of them."""


def field(category: str, number: int) -> Grey:
    return synthesise(category, number, width=SHAPE[1], height=SHAPE[0], info_bar=False).astype(np.uint8)


def reduced(pixels: Grey) -> Grey:
    return decode_thumbnail(encode_thumbnail(pixels))


def panel(pixels: Grey) -> Grey:
    shared = pixels.copy()
    shared[:, :256] = np.random.default_rng(3).integers(0, 255, (SHAPE[0], 256))
    smooth: Grey = gaussian_filter(shared, 2)
    return smooth


def aperture(pixels: Grey) -> Grey:
    y, x = np.mgrid[-1 : 1 : SHAPE[0] * 1j, -1 : 1 : SHAPE[1] * 1j]
    return np.where(x * x / 0.6 + y * y / 0.4 < 1, pixels // 2 + 60, 10).astype(np.uint8)


def logo(pixels: Grey) -> Grey:
    shared = pixels // 2 + 60
    shared[96:288, 128:384] = 255 * (np.random.default_rng(4).integers(0, 2, (12, 16)).repeat(16, 0).repeat(16, 1))
    return shared


@pytest.mark.parametrize("shared", [panel, aperture, logo])
@pytest.mark.parametrize("category", TEXTURED)
def test_what_two_fields_share_in_some_place_is_not_everywhere(category: str, shared: Callable[[Grey], Grey]) -> None:
    assert not compare_parts(*(reduced(shared(field(category, number))) for number in (1, 2))).everywhere


@pytest.mark.parametrize("shared", [panel, aperture, logo])
@pytest.mark.parametrize("category", CATEGORIES)
def test_the_same_field_with_it_is(category: str, shared: Callable[[Grey], Grey]) -> None:
    picture = shared(field(category, 1)).astype(float)
    noisy = np.clip(picture + np.random.default_rng(1).normal(0, 5, SHAPE), 0, 255).astype(np.uint8)
    assert compare_parts(reduced(noisy), reduced(picture.astype(np.uint8))).everywhere


@settings(max_examples=30, deadline=None)
@given(
    category=st.sampled_from(TEXTURED), gamma=st.floats(0.6, 1.6), sigma=st.floats(0, 10), right=st.integers(0, 40),
    label=st.tuples(st.integers(0, 320), st.integers(0, 400)),
)  # fmt: skip
def test_a_changed_shifted_and_labelled_picture_agrees_everywhere(
    category: str, gamma: float, sigma: float, right: int, label: tuple[int, int]
) -> None:
    picture = field(category, 2)
    changed = 255 * (picture / 255.0) ** gamma + np.random.default_rng(2).normal(0, sigma, SHAPE)
    changed[label[0] : label[0] + 50, label[1] : label[1] + 90] = 255
    moved = np.clip(changed, 0, 255).astype(np.uint8)[:, right:]
    parts = compare_parts(reduced(moved), reduced(picture[:, : SHAPE[1] - right]))
    aligned = compare_parts(reduced(moved), reduced(picture[:, right:]))
    assert aligned.everywhere
    assert len(parts.correlations) == len(aligned.correlations) == 25
    assert all(-1 - 1e-5 <= correlation <= 1 + 1e-5 for correlation in parts.correlations)


def test_a_lost_bar_does_not_hide_agreement() -> None:
    for category in CATEGORIES:
        barred = field(category, 3)
        barred[-48:] = 20
        assert compare_parts(reduced(barred[:-48]), reduced(barred)).everywhere


def test_the_usual_part_is_near_the_scene_score_where_all_parts_are_alike() -> None:
    picture = gaussian_filter(np.random.default_rng(0).standard_normal(SHAPE), 3)
    grey = (128 + 30 * picture / picture.std()).clip(0, 255).astype(np.uint8)
    noisy = (grey + np.random.default_rng(1).normal(0, 40, SHAPE)).clip(0, 255).astype(np.uint8)
    [found] = scene_scores(reduced(noisy), [reduced(grey)])
    assert compare_parts(reduced(noisy), reduced(grey)).usual == pytest.approx(found.score, abs=0.05)


@pytest.mark.parametrize("shape", [(20, 400), (400, 20), (8, 8), (1, 1)])
def test_pictures_that_cannot_be_laid_over_each_other_agree_nowhere(shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (96, 128), dtype=np.uint8)
    other = np.zeros(shape, np.uint8)
    assert compare_parts(picture, other).usual == pytest.approx(0, abs=0.05)
