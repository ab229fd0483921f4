"""Two images of one field agree in all regions; two images that share an overlay agree only in the regions of the
overlay."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from twinscope_client.demo.micrographs import CATEGORIES, synthesise
from twinscope_indexer.hashing.thumbnail import decode_thumbnail, encode_thumbnail
from twinscope_service.similarity.regions import Regions, compare_regions
from twinscope_service.similarity.scene_score import scene_scores
from twinscope_service.thresholds import INNER_REGIONS_APART

Grey = NDArray[np.uint8]
SHAPE = (384, 512)
TEXTURED = ("Powder", "Porous_Sponge", "Fibres", "Biological")
"""Categories with structure in most regions. Images of the other categories are mostly empty and therefore similar."""


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
def test_fields_that_share_only_an_overlay_do_not_agree(category: str, shared: Callable[[Grey], Grey]) -> None:
    assert not compare_regions(*(reduced(shared(field(category, number))) for number in (1, 2))).agree


@pytest.mark.parametrize("shared", [panel, aperture, logo])
@pytest.mark.parametrize("category", CATEGORIES)
def test_same_field_with_the_overlay_agrees(category: str, shared: Callable[[Grey], Grey]) -> None:
    image = shared(field(category, 1)).astype(float)
    noisy = np.clip(image + np.random.default_rng(1).normal(0, 5, SHAPE), 0, 255).astype(np.uint8)
    assert compare_regions(reduced(noisy), reduced(image.astype(np.uint8))).agree


def _inner_regions(label: tuple[int, int], width: int) -> int:
    """Return how many of the nine regions in the middle a label of 50 x 90 pixels touches."""
    rows = {int(5 * row / SHAPE[0]) for row in range(label[0], label[0] + 50)}
    columns = {int(5 * column / width) for column in range(label[1], label[1] + 90) if column >= 0}
    return len(rows & {1, 2, 3}) * len(columns & {1, 2, 3})


@settings(max_examples=30, deadline=None)
@given(
    category=st.sampled_from(TEXTURED), gamma=st.floats(0.6, 1.6), sigma=st.floats(0, 10), right=st.integers(0, 40),
    label=st.tuples(st.integers(0, 320), st.integers(0, 400)),
)  # fmt: skip
def test_changed_shifted_and_labelled_image_agrees(
    category: str, gamma: float, sigma: float, right: int, label: tuple[int, int]
) -> None:
    # A label over four of the nine regions in the middle may be refused: see inner_regions_apart.
    assume(_inner_regions((label[0], label[1] - right), SHAPE[1] - right) <= INNER_REGIONS_APART)
    image = field(category, 2)
    changed = 255 * (image / 255.0) ** gamma + np.random.default_rng(2).normal(0, sigma, SHAPE)
    changed[label[0] : label[0] + 50, label[1] : label[1] + 90] = 255
    moved = np.clip(changed, 0, 255).astype(np.uint8)[:, right:]
    shifted = compare_regions(reduced(moved), reduced(image[:, : SHAPE[1] - right]))
    aligned = compare_regions(reduced(moved), reduced(image[:, right:]))
    assert aligned.agree
    assert len(shifted.correlations) == len(aligned.correlations) == 25
    assert all(-1 - 1e-5 <= correlation <= 1 + 1e-5 for correlation in shifted.correlations)


def test_missing_info_bar_does_not_hide_agreement() -> None:
    for category in CATEGORIES:
        barred = field(category, 3)
        barred[-48:] = 20
        assert compare_regions(reduced(barred[:-48]), reduced(barred)).agree


def test_median_is_near_the_scene_score_of_uniform_images() -> None:
    texture = gaussian_filter(np.random.default_rng(0).standard_normal(SHAPE), 3)
    grey = (128 + 30 * texture / texture.std()).clip(0, 255).astype(np.uint8)
    noisy = (grey + np.random.default_rng(1).normal(0, 40, SHAPE)).clip(0, 255).astype(np.uint8)
    [found] = scene_scores(reduced(noisy), [reduced(grey)])
    assert compare_regions(reduced(noisy), reduced(grey)).median == pytest.approx(found.score, abs=0.05)


@pytest.mark.parametrize("shape", [(20, 400), (400, 20), (8, 8), (1, 1)])
def test_images_that_cannot_be_aligned_agree_nowhere(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (96, 128), dtype=np.uint8)
    other = np.zeros(shape, np.uint8)
    assert compare_regions(image, other).median == pytest.approx(0, abs=0.05)
    assert not compare_regions(image, other).agree
    assert all(compare_regions(image, other).flat)
    assert not compare_regions(other, other).agree


def dim(pixels: Grey) -> Grey:
    """Return a field with only faint shades in seven of its 25 regions."""
    lit = np.array([0] * 5 + [0] * 2 + [1] * 18, float).reshape(5, 5)
    weights = gaussian_filter(lit.repeat(77, 0).repeat(103, 1)[: SHAPE[0], : SHAPE[1]], 6)
    shades = gaussian_filter(np.random.default_rng(7).standard_normal(SHAPE), 8)
    return np.clip(20 + 6 * shades / shades.std() + weights * (25 + 0.8 * pixels), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("changed", [lambda grey: grey, lambda grey: 255 - grey], ids=["black", "white"])
@pytest.mark.parametrize("category", TEXTURED)
def test_black_or_white_regions_are_clipped(category: str, changed: Callable[[Grey], Grey]) -> None:
    twin = dim(field(category, 1))
    darker = np.clip(twin.astype(int) - 40, 0, 255).astype(np.uint8)
    for one, two in ((darker, twin), (twin, darker)):
        compared = compare_regions(reduced(changed(one)), reduced(changed(two)))
        assert np.flatnonzero(compared.clipped).tolist() == list(range(7))
        assert compared.agree
    assert not any(compare_regions(reduced(changed(twin)), reduced(changed(twin))).clipped)


@pytest.mark.parametrize("category", TEXTURED)
def test_black_region_of_a_different_field_is_not_clipped(category: str) -> None:
    twin = dim(field(category, 1))
    darker = np.clip(twin.astype(int) - 40, 0, 255).astype(np.uint8)
    assert not any(compare_regions(reduced(darker), reduced(field(category, 1))).clipped)


@pytest.mark.parametrize("grey", [0, 255])
@pytest.mark.parametrize("category", TEXTURED)
def test_blank_image_with_a_shared_panel_is_no_twin(category: str, grey: int) -> None:
    blank = np.full(SHAPE, grey, np.uint8)
    assert not compare_regions(reduced(panel(blank)), reduced(panel(field(category, 1)))).agree


# -- the decision ------------------------------------------------------------------------------------------------------


INNER = (6, 7, 8, 11, 12, 13, 16, 17, 18)
"""Numbers of the nine inner regions."""
OUTER = tuple(number for number in range(25) if number not in INNER)


def regions(
    usual: float = 0.8, *, flat: tuple[int, ...] = (), clipped: tuple[int, ...] = (), **others: tuple[int, ...]
) -> Regions:
    """Return regions. Flat regions have the correlation 1; each name in `others` is the correlation of its regions."""
    correlations = [usual] * 25
    for number in flat:
        correlations[number] = 1.0
    for name, numbers in others.items():
        for number in numbers:
            correlations[number] = int(name.removeprefix("of_")) / 100
    are_flat, are_clipped = (tuple(number in numbers for number in range(25)) for numbers in (flat, clipped))
    return Regions(tuple(correlations), are_flat, are_clipped)


def test_a_few_regions_may_disagree() -> None:
    assert regions().agree
    assert regions(of_0=OUTER[:5]).agree
    assert not regions(of_0=OUTER[:6]).agree
    assert not regions(of_20=OUTER[:6]).agree
    assert regions(of_60=OUTER).agree  # less than the others, but within the normal range


def test_half_the_correlation_fails_in_clear_images() -> None:
    assert regions(0.8, of_40=OUTER[:6]).agree
    assert not regions(0.9, of_45=OUTER[:6]).agree
    assert regions(0.9, of_45=OUTER[:5]).agree
    assert regions(0.9, of_60=OUTER[:6]).agree


def test_fewer_inner_regions_may_disagree() -> None:
    assert regions(of_0=INNER[:3]).agree
    assert not regions(of_0=INNER[:4]).agree
    assert regions(of_0=INNER[:3] + OUTER[:2]).agree


def test_inner_regions_must_agree_like_the_outer_ones() -> None:
    assert regions(of_60=INNER).agree
    assert not regions(of_50=INNER).agree
    assert regions(of_50=INNER[:4]).agree


def test_flat_regions_do_not_count() -> None:
    assert regions(of_0=OUTER[:5], flat=OUTER[:5]).agree
    assert regions(of_0=OUTER[:15], flat=OUTER[:15]).agree  # although no other region agrees
    assert regions(of_0=INNER[:8], flat=INNER[:8]).agree
    assert regions(of_0=INNER, flat=INNER).agree
    assert regions(of_0=INNER + OUTER[:4], flat=INNER + OUTER[:4]).median == 0.8


def test_allowed_disagreement_shrinks_with_flat_regions() -> None:
    """This is true although the edge of a mask makes flat regions agree fully."""
    assert regions(of_0=OUTER[:3], flat=OUTER[6:]).agree  # 15 are not flat
    assert not regions(of_0=OUTER[:4], flat=OUTER[6:]).agree
    assert not regions(of_0=INNER[:2], flat=INNER[5:]).agree  # of five in the middle
    assert regions(of_0=INNER[:1], flat=INNER[5:]).agree
    assert not regions(of_50=INNER[:3], flat=INNER[3:]).agree
    assert regions(of_60=INNER[:3], flat=INNER[3:]).agree


def test_a_limited_number_of_clipped_regions_may_disagree() -> None:
    assert regions(of_0=OUTER[:8], clipped=OUTER[:8]).agree
    assert not regions(of_0=OUTER[:9], clipped=OUTER[:9]).agree
    assert regions(of_0=OUTER[:8], clipped=OUTER).agree  # the limit counts only regions that disagree
    assert regions(of_0=INNER[:6], clipped=INNER[:6]).agree
    assert not regions(of_0=INNER[:6], clipped=INNER[:2]).agree
    assert regions(of_0=OUTER[:11], clipped=OUTER[:8]).agree
    assert not regions(of_0=OUTER[:12], clipped=OUTER[:8]).agree


@pytest.mark.parametrize("correlation", [0.0, 0.5, 1.0])
def test_nothing_agrees_if_all_regions_are_flat(correlation: float) -> None:
    nothing = Regions((correlation,) * 25, (True,) * 25, (True,) * 25)
    assert nothing.median == 0
    assert not nothing.agree


def test_nothing_agrees_if_the_median_does_not() -> None:
    assert not regions(0.0).agree
    assert not regions(-0.5).agree


def masked(pixels: Grey, share: float) -> Grey:
    """Cover all but the middle with a grey level that the field does not contain."""
    height, width = SHAPE
    rows, columns = round(share * height), round(share * width)
    covered = np.full(SHAPE, 255, np.uint8)
    covered[rows : height - rows, columns : width - columns] = pixels[rows : height - rows, columns : width - columns]
    return covered


@pytest.mark.parametrize("share", [0.2, 0.3])
@pytest.mark.parametrize("category", TEXTURED)
def test_regions_divide_the_unmasked_area(category: str, share: float) -> None:
    noisy = field(category, 1) + np.random.default_rng(1).normal(0, 5, SHAPE)
    twin, unrelated = np.clip(noisy, 0, 255).astype(np.uint8), field(category, 2)
    reference = reduced(masked(field(category, 1), share))
    same, other = (compare_regions(reduced(masked(pixels, share)), reference) for pixels in (twin, unrelated))
    assert same.agree
    assert not any(same.flat)
    assert not other.agree


def test_regions_flat_in_both_images_are_flat() -> None:
    """A region that has structure in only one of the images counts as a disagreement."""
    texture = gaussian_filter(np.random.default_rng(0).standard_normal(SHAPE), 3)
    grey = (128 + 30 * texture / texture.std()).clip(0, 255).astype(np.uint8)
    one, other = grey.copy(), grey.copy()
    height, width = SHAPE
    for image in (one, other):  # covers regions 6 and 11, except for the smoothing of the thumbnail
        image[round(0.15 * height) : round(0.53 * height), round(0.15 * width) : round(0.45 * width)] = 90
    one[:, width // 2 :] = 90
    found = compare_regions(reduced(one), reduced(other))
    assert [number for number, flat in enumerate(found.flat) if flat] == [6, 11]
    assert all(abs(found.correlations[number]) < 0.5 for number in range(25) if number % 5 > 2)
