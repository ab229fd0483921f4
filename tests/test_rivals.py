"""What pictures share besides their fields is no twin: apertures, panels, masks, dust, the pattern of a camera."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from twinscope_client import connect
from twinscope_client.demo.micrographs import synthesise
from twinscope_indexer.bulk import index
from twinscope_service.policy import POLICIES

Grey = NDArray[np.uint8]
CATEGORIES = ("Particles", "Fibres", "Powder", "Porous_Sponge")
SHAPE = (384, 512)


def aperture(pixels: Grey) -> Grey:
    y, x = np.mgrid[-1 : 1 : SHAPE[0] * 1j, -1.33 : 1.33 : SHAPE[1] * 1j]
    return np.where(x * x + y * y < 0.8, pixels, 0).astype(np.uint8)


def mask(pixels: Grey) -> Grey:
    masked = np.full(SHAPE, 255, np.uint8)
    masked[32:-32, 42:-42] = pixels[32:-32, 42:-42]
    return masked


def panel(pixels: Grey) -> Grey:
    shared = pixels.copy()
    shared[:, :112] = 90
    shared[20:360:24, 12:96] = np.random.default_rng(7).integers(0, 2, (15, 84)) * 200
    return shared


def pattern(pixels: Grey) -> Grey:
    fixed = gaussian_filter(np.random.default_rng(5).standard_normal(SHAPE), 2)
    grey: Grey = np.clip(pixels * 0.4 + 70 + 12 * fixed / fixed.std(), 0, 255).astype(np.uint8)
    return grey


def dust(pixels: Grey) -> Grey:
    rng, shared = np.random.default_rng(6), pixels.astype(float)
    for y, x in rng.integers((0, 0), SHAPE, (60, 2)):
        shared[max(0, y - 6) : y + 6, max(0, x - 6) : x + 6] *= 0.2
    return shared.astype(np.uint8)


ARTEFACTS: dict[str, Callable[[Grey], Grey]] = {
    "aperture": aperture, "mask": mask, "panel": panel, "pattern": pattern, "dust": dust,
}  # fmt: skip


def picture(category: str, number: int) -> Grey:
    return synthesise(category, number, width=SHAPE[1], height=SHAPE[0], info_bar=False).astype(np.uint8)


@pytest.mark.parametrize("name", ARTEFACTS)
def test_what_all_pictures_share_labels_no_stranger_and_hides_no_twin(tmp_path: Path, name: str) -> None:
    shared = ARTEFACTS[name]
    for category in CATEGORIES:
        (tmp_path / "labelled" / category).mkdir(parents=True)
        for number in range(3):
            image = Image.fromarray(shared(picture(category, number)))
            image.save(tmp_path / "labelled" / category / f"{number}.jpg", quality=95)
    index([tmp_path / "labelled"], tmp_path / "store", workers=2)
    with connect(tmp_path / "store") as engine:
        strangers = [engine.search(shared(picture(category, 50))) for category in CATEGORIES]
        assert [answer.category for answer in strangers] == [None] * len(CATEGORIES)
        twins = [engine.search(shared(picture(category, 1))) for category in CATEGORIES]
        assert [answer.category for answer in twins] == list(CATEGORIES)


def half_panel(pixels: Grey) -> Grey:
    shared = pixels.copy()
    shared[:, :256] = 90
    shared[20:360:24, 12:240] = np.random.default_rng(7).integers(0, 2, (15, 228)) * 200
    return shared


def narrow_aperture(pixels: Grey) -> Grey:
    y, x = np.mgrid[-1 : 1 : SHAPE[0] * 1j, -1 : 1 : SHAPE[1] * 1j]
    return np.where(x * x / 0.7 + y * y / 0.5 < 1, pixels // 4 + 100, 10).astype(np.uint8)


@pytest.mark.parametrize("artefact", [half_panel, narrow_aperture])
@pytest.mark.parametrize("sharers", [1, 2, 6])
def test_what_only_pictures_of_one_category_share_labels_no_stranger(
    tmp_path: Path, artefact: Callable[[Grey], Grey], sharers: int
) -> None:
    """Where one instrument took all of a category, no other category makes the answer ambiguous."""
    for number in range(6):
        save(tmp_path / "labelled" / "Fibres" / f"{number}.jpg", picture("Fibres", number))
        shared = picture("Particles", number)
        save(tmp_path / "labelled" / "Particles" / f"{number}.jpg", artefact(shared) if number < sharers else shared)
    index([tmp_path / "labelled"], tmp_path / "store", workers=2)
    with connect(tmp_path / "store") as engine:
        for category in CATEGORIES:
            for number in (50, 51):
                assert engine.search(artefact(picture(category, number))).category is None
        for number in range(sharers):
            query = with_noise(artefact(picture("Particles", number)), 8, number)
            assert engine.search(query).category == "Particles"


def with_noise(pixels: Grey, sigma: float, seed: int) -> Grey:
    noise = np.random.default_rng(seed).normal(0, sigma, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def save(path: Path, pixels: Grey) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=95)


def test_the_reference_that_is_most_alike_is_the_twin_though_another_hash_is_nearer(tmp_path: Path) -> None:
    """Two recordings of one field: the noise that the query has, too, tells which is meant, whatever its bar is."""
    for category in CATEGORIES:
        for seed in (1, 2):
            noisy = with_noise(picture(category, 1), 60, seed)
            noisy[-50:] = 20  # the bar, which the query has not
            save(tmp_path / "labelled" / category / f"{seed}.jpg", noisy)
    index([tmp_path / "labelled"], tmp_path / "store", workers=2)
    with connect(tmp_path / "store") as engine:
        for category in CATEGORIES:
            for seed in (1, 2):
                answer = engine.search(with_noise(picture(category, 1), 60, seed)[:-50])
                assert answer.category == category
                assert answer.best is not None
                assert Path(answer.best.source).name == f"{seed}.jpg"


@pytest.fixture(scope="module")
def faint() -> dict[str, Grey]:
    """Fields that noise of 60 grey levels nearly hides."""
    return {
        f"{category}/{number}": _faint_field(100 * place + number)
        for place, category in enumerate(CATEGORIES)
        for number in range(4)
    }


def _faint_field(seed: int) -> Grey:
    field = gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), 2)
    grey: Grey = np.rint(128 + 5 * field / field.std()).astype(np.uint8)
    return grey


def test_a_faint_twin_is_known_as_nothing_else_comes_near(tmp_path: Path, faint: dict[str, Grey]) -> None:
    for name, pixels in faint.items():
        save(tmp_path / "labelled" / f"{name}.jpg", pixels)
    index([tmp_path / "labelled"], tmp_path / "store", workers=2)
    with connect(tmp_path / "store") as engine:
        queries = {name: with_noise(pixels, 60, 5) for name, pixels in faint.items()}
        lenient = {name: engine.search(query) for name, query in queries.items()}
        strict = {name: engine.search(query, lone_scene=0.5) for name, query in queries.items()}
    assert all(answer.category in {None, name.partition("/")[0]} for name, answer in lenient.items())
    found = [name for name, answer in lenient.items() if answer.category]
    assert len(found) > len([name for name, answer in strict.items() if answer.category])
    for name in found:
        if strict[name].category is None:
            best = lenient[name].best
            assert best is not None
            assert 0.35 <= (best.scene_score or 0) < 0.5
            assert "no other reference comes near" in lenient[name].reason


def test_a_faint_twin_among_few_references_is_not_taken(tmp_path: Path, faint: dict[str, Grey]) -> None:
    """Whether nothing else comes near can only be told where there is something else."""
    few = {name: pixels for name, pixels in faint.items() if name.endswith("/0")}
    for name, pixels in few.items():
        save(tmp_path / "labelled" / f"{name}.jpg", pixels)
    index([tmp_path / "labelled"], tmp_path / "store", workers=2)
    with connect(tmp_path / "store") as engine:
        for pixels in few.values():
            answer = engine.search(with_noise(pixels, 60, 5))
            assert answer.category is None or (answer.best is not None and (answer.best.scene_score or 0) >= 0.5)


def test_who_raises_the_least_score_means_it() -> None:
    default = POLICIES["default"]
    assert default.lone_scene < default.good_scene
    assert default.adjusted({"good_scene": 0.7}).lone_scene == 0.7
    assert default.adjusted({"good_scene": 0.7, "lone_scene": 0.4}).lone_scene == 0.4


def test_copies_of_the_twin_are_no_rivals(tmp_path: Path) -> None:
    for category in CATEGORIES:
        (tmp_path / "labelled" / category).mkdir(parents=True)
        for quality in (95, 60, 30):
            image = Image.fromarray(picture(category, 1))
            image.save(tmp_path / "labelled" / category / f"{quality}.jpg", quality=quality)
    index([tmp_path / "labelled"], tmp_path / "store", workers=2)
    with connect(tmp_path / "store") as engine:
        for category in CATEGORIES:
            stretched = np.clip(picture(category, 1) * 0.5 + 60, 0, 255).astype(np.uint8)
            blurred = np.rint(gaussian_filter(stretched.astype(float), 2)).astype(np.uint8)
            answer = engine.search(blurred)
            assert (answer.grade, answer.category) == ("good", category)
