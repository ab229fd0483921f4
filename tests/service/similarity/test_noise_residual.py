"""Copies of one acquisition have the same grain; other acquisitions with similar outlines have different grain."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matching import Matcher
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from twinscope_client import connect
from twinscope_indexer.errors import ImageError
from twinscope_indexer.hashing.perceptual import RECIPE
from twinscope_indexer.indexing.run import index
from twinscope_indexer.store.catalog.catalog import Record
from twinscope_indexer.store.reader import Store
from twinscope_service.matching.answer import Match, Transform
from twinscope_service.matching.full_size import PixelComparison
from twinscope_service.matching.policy import POLICIES
from twinscope_service.matching.query import Limits, Query
from twinscope_service.matching.reference_pixels import ReferencePixels
from twinscope_service.similarity.noise_residual import grain_score
from twinscope_service.thresholds import NOISE_CHANCE as CHANCE
from twinscope_service.thresholds import NOISE_PROOF as PROVEN

Grey = NDArray[np.uint8]
SHAPE = (384, 512)
MOTTLED = (0, 3, 6, 10)
"""Numbers of the gratings in the tests below whose mottled copies are found only by outlines and grain."""
WITHOUT_PIXELS = POLICIES["default"].adjusted({"ssim": "never"})


def grey(pixels: NDArray[np.floating]) -> Grey:
    levels: Grey = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return levels


def noise(seed: int, sigma: float, shape: tuple[int, ...] = SHAPE) -> NDArray[np.float64]:
    values: NDArray[np.float64] = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), sigma)
    values /= values.std()
    return values


def grating(seed: int) -> Grey:
    """Return bars of one pitch at nearly the same position, with the grain of one acquisition."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    bars = (x * np.cos(0.03) + y * np.sin(0.03) + np.random.default_rng(seed).uniform(0, 6)) % 64 < 32
    return grey(60 + 90 * gaussian_filter(bars.astype(float), 2) + 4 * noise(seed + 1000, 0.8))


def mottled(pixels: Grey, seed: int) -> Grey:
    """Return the inverted upper rows of an image, with stains as large as the structures that a hash represents."""
    upper = pixels[:356]
    stains = 6 * noise(seed + 2000, 4, upper.shape) + 3 * noise(seed + 3000, 0, upper.shape)
    return 255 - grey(upper * 0.8 + 20 + stains)


def encoded(pixels: Grey, quality: int) -> Grey:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=quality)
    return np.asarray(Image.open(data))


def reduced(pixels: Grey, share: float) -> Grey:
    size = round(pixels.shape[1] * share), round(pixels.shape[0] * share)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


# -- the measure -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_copies_of_one_acquisition_are_proven(seed: int) -> None:
    whole = grating(seed)
    copies = {
        "noise": grey(whole + 10 * noise(7, 0)),
        "JPEG": encoded(whole, 75),
        "gamma": grey(255 * (whole / 255.0) ** 1.8),
        "smaller": reduced(whole, 0.75),
        "cut": whole[:350],
        "shifted": np.roll(whole, (20, -30), (0, 1)),
    }
    for name, copy in copies.items():
        assert grain_score(copy, whole) >= PROVEN, name
        assert grain_score(whole, copy) >= PROVEN, name


@settings(max_examples=15, deadline=None)
@given(one=st.integers(0, 500), other=st.integers(501, 1000))
def test_other_acquisitions_of_the_same_outlines_are_not(one: int, other: int) -> None:
    assert grain_score(grating(one), grating(other)) <= PROVEN / 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((30, 400), (30, 400)),
        ((1, 1), (1, 1)),
        ((100, 400), (400, 100)),
        ((47, 47), (47, 47)),
    ],
)
def test_small_or_differently_shaped_images_have_no_grain(one: tuple[int, int], other: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, shape, dtype=np.uint8) for shape in (one, other)]
    assert grain_score(*images) == 0


@pytest.mark.parametrize("level", [0, 128, 255])
def test_blank_images_have_no_grain(level: int) -> None:
    for shape in (SHAPE, (768, 1024), (943, 1277)):
        blank = np.full(shape, level, np.uint8)
        assert grain_score(blank, blank) == 0
        assert grain_score(blank, grating(0)) == 0


@pytest.mark.parametrize("level", [0, 255])
def test_specks_on_a_clipped_background_have_no_grain(level: int) -> None:
    """The share of pixels with grain must be checked, because the correlation of a few specks exceeds any number of
    standard deviations."""
    rows, columns = np.mgrid[:943, :1277]

    def specks(seed: int) -> Grey:
        image = np.full((943, 1277), level, np.uint8)
        inside = (columns % 160 < 60) & (rows % 300 < 120)
        image[inside] = grey(128 + 20 * noise(seed, 1, (943, 1277)))[inside]
        return image

    assert grain_score(specks(1), specks(2)) < PROVEN / 2


def test_images_of_any_size_are_compared() -> None:
    large = np.kron(grating(3), np.ones((5, 5), np.uint8))
    assert grain_score(large, grating(3)) >= PROVEN
    assert grain_score(np.asfortranarray(large), grating(3)[::-1][::-1]) >= PROVEN


# -- the proof ---------------------------------------------------------------------------------------------------------


class _Pixels(ReferencePixels):
    """Full-size pixels of references; the keys are the numbers of the references."""

    def __init__(self, images: dict[int, Grey]) -> None:
        super().__init__()
        self._images = images

    def __call__(self, record: Record) -> Grey:
        if record.id not in self._images:
            raise ImageError(record.uri, "missing", "gone")
        return self._images[record.id]


def record_of(number: int) -> Record:
    return Record(
        number, Path("/collection"), f"{number}.jpg", None, 1, 1, bytes(32), "JPEG", "L", 8, SHAPE[1], SHAPE[0],
        bytes(128), None, RECIPE, "Tips", "L9", "1", None, "2024-01-01T00:00:00Z", 1,
    )  # fmt: skip


def against(query: Grey, images: dict[int, Grey]) -> PixelComparison:
    return PixelComparison(query, _Pixels(images), {number: record_of(number) for number in (1, 2, *images)})


def proof(query: Grey, images: dict[int, Grey]) -> float:
    """Return the proof that reference 1 is the twin. The other references are the next most similar ones."""
    matches = [Match(f"{number:016x}", "", "Tips", "L9", 320) for number in sorted({1, *images})]
    return against(query, images).proof(matches[0], matches[1:])


def test_twin_is_proven_among_other_acquisitions() -> None:
    query = grey(grating(0) + 5 * noise(5, 0))
    assert proof(query, {1: grating(0)}) >= PROVEN
    assert proof(query, {1: grating(0), 2: grating(1), 3: grating(2)}) >= PROVEN
    assert proof(query, {1: grating(1), 2: grating(2)}) == 0


def test_pattern_of_the_camera_proves_nothing() -> None:
    pattern = 6 * noise(99, 0.8)
    query, *others = (grey(grating(seed) + pattern) for seed in range(4))
    assert proof(query, {1: others[0]}) >= PROVEN  # no other reference to compare with
    assert proof(query, {1: others[0], 2: others[1], 3: others[2]}) == 0


@pytest.mark.parametrize("noisy", [5, 14])
def test_grain_shared_with_others_proves_nothing(noisy: int) -> None:
    whole = grating(0)
    query = grey(whole + noisy * noise(5, 0))
    own = grain_score(query, whole)
    most = min(CHANCE, own / 2)
    mixed = {share: grey(whole * share + grating(1) * (1 - share)) for share in np.linspace(0, 0.6, 13)}
    scores = {share: grain_score(query, image) for share, image in mixed.items()}
    assert min(scores.values()) < most < max(scores.values())
    for share, image in mixed.items():
        assert bool(proof(query, {1: whole, 2: image})) == (scores[share] <= most)


def test_unreadable_reference_proves_nothing() -> None:
    query = grey(grating(0) + 5 * noise(5, 0))
    twin, lost = (Match(f"{number:016x}", "", "Tips", "L9", 320) for number in (1, 2))
    assert proof(query, {2: grating(1)}) == 0
    assert against(query, {1: grating(0)}).proof(twin, []) >= PROVEN
    assert against(query, {1: grating(0)}).proof(twin, [lost]) == 0


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_grain_is_compared_in_the_matched_frame(turns: int) -> None:
    query = np.ascontiguousarray(np.rot90(grating(0), turns))
    for reference_frame, shown in (("whole", 1.0), ("bottom 14 % cut", 0.86)):
        reference = np.concatenate([grating(0)[: round(SHAPE[0] * shown)], grating(9)[round(SHAPE[0] * shown) :]])
        query = np.ascontiguousarray(np.rot90(grating(0)[: round(SHAPE[0] * shown)], turns))
        transform = Transform(f"rotated by {90 * turns}", "whole", reference_frame)
        twin = Match("0000000000000001", "", "Tips", "L9", 320, transform=transform)
        assert against(query, {1: reference}).proof(twin, []) >= PROVEN
        assert against(query, {1: reference}).proof(replace(twin, transform=None), []) == 0


# -- the matcher -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gratings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a store of twelve bare gratings of one category, with their collection in the same folder."""
    folder = tmp_path_factory.mktemp("gratings")
    (folder / "collection" / "Patterned_surface").mkdir(parents=True)
    for seed in range(12):
        Image.fromarray(grating(seed)).save(folder / "collection" / "Patterned_surface" / f"{seed}.png")
    index([folder / "collection"], folder / "store", workers=1)
    return folder


@pytest.mark.parametrize("seed", MOTTLED)
def test_grain_decides_if_outlines_are_inconclusive(gratings: Path, seed: int) -> None:
    with connect(gratings / "store") as engine:
        answer = engine.search(mottled(grating(seed), seed))
        assert (answer.grade, answer.best and Path(answer.best.source).stem) == ("good", str(seed))
        assert "the noise also agrees" in answer.reason
        assert answer.p_wrong is not None
        without = engine.search(mottled(grating(seed), seed), policy=WITHOUT_PIXELS)
        assert (without.grade, without.p_wrong) == ("doubtful", None)  # no calibration covers this case


def test_other_acquisitions_of_the_bars_get_no_label(gratings: Path) -> None:
    with connect(gratings / "store") as engine:
        grades = [engine.search(grating(seed)).grade for seed in range(100, 140)]
    assert set(grades) <= {"none", "doubtful"}
    assert "doubtful" in grades


def test_query_without_pixels_is_doubtful_and_requests_them(gratings: Path) -> None:
    store = Store(gratings / "store")
    try:
        query = Query.of_pixels(mottled(grating(3), 3))
        requested = []
        for policy in (POLICIES["default"], WITHOUT_PIXELS):
            [result] = Matcher(store).results([replace(query, pixels=None)], policy, Limits(), store.view)
            assert result.answer.grade == "doubtful"
            requested.append(result.pixels_would_change)
        assert requested == [True, False]
    finally:
        store.close()


def test_missing_reference_file_leaves_the_answer_doubtful(gratings: Path) -> None:
    hidden = gratings / "elsewhere"
    (gratings / "collection").rename(hidden)
    try:
        with connect(gratings / "store") as engine:
            assert engine.search(mottled(grating(3), 3)).grade == "doubtful"
    finally:
        hidden.rename(gratings / "collection")


@pytest.mark.parametrize("gone", [False, True])
def test_pattern_of_the_camera_gives_no_label(tmp_path: Path, gone: bool) -> None:
    """Make a store of one grating and other images, all with the same pattern. The queries are other gratings with this
    pattern."""
    pattern = 3 * noise(99, 0.8)
    (tmp_path / "collection" / "Tips").mkdir(parents=True)
    images = [grating(0), *(grey(128 + 40 * noise(seed, 6) + 4 * noise(seed + 50, 0.8)) for seed in range(1, 9))]
    for number, image in enumerate(images):
        Image.fromarray(grey(image + pattern)).save(tmp_path / "collection" / "Tips" / f"{number}.png")
    index([tmp_path / "collection"], tmp_path / "store", workers=1)
    for number in range(1, 9) if gone else ():
        (tmp_path / "collection" / "Tips" / f"{number}.png").unlink()
    with connect(tmp_path / "store") as engine:
        answers = [engine.search(grey(grating(seed) + pattern)) for seed in range(100, 120)]
    assert {answer.grade for answer in answers} == {"doubtful"}
