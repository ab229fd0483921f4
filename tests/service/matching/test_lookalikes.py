"""Images that share only an artefact are not twins: an aperture, a panel, a mask, dust or the pattern of a camera."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from twinscope_client import connect
from twinscope_client.demo.micrographs import synthesise
from twinscope_client.testing import serving
from twinscope_indexer.indexing.run import index
from twinscope_indexer.store.reader import Store
from twinscope_service.matching.options import Options
from twinscope_service.matching.policy import POLICIES
from twinscope_service.matching.query import Query
from twinscope_service.matching.searcher import Searcher

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


@cache
def micrograph(category: str, number: int) -> Grey:
    made: Grey = synthesise(category, number, width=SHAPE[1], height=SHAPE[0], info_bar=False).astype(np.uint8)
    made.setflags(write=False)
    return made


@pytest.mark.parametrize("name", ARTEFACTS)
def test_artefact_of_all_images_gives_no_label_and_hides_no_twin(tmp_path: Path, name: str) -> None:
    shared = ARTEFACTS[name]
    for category in CATEGORIES:
        (tmp_path / "labelled" / category).mkdir(parents=True)
        for number in range(3):
            image = Image.fromarray(shared(micrograph(category, number)))
            image.save(tmp_path / "labelled" / category / f"{number}.jpg", quality=95)
    index([tmp_path / "labelled"], tmp_path / "store", workers=2)
    with connect(tmp_path / "store") as engine:
        unrelated = [engine.search(shared(micrograph(category, 50))) for category in CATEGORIES]
        assert [answer.category for answer in unrelated] == [None] * len(CATEGORIES)
        twins = [engine.search(shared(micrograph(category, 1))) for category in CATEGORIES]
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
def test_artefact_of_one_category_labels_no_unrelated_image(
    tmp_path: Path, artefact: Callable[[Grey], Grey], sharers: int
) -> None:
    """If one instrument recorded a whole category, no other category makes the answer ambiguous."""
    for number in range(6):
        save(tmp_path / "labelled" / "Fibres" / f"{number}.jpg", micrograph("Fibres", number))
        shared = micrograph("Particles", number)
        save(tmp_path / "labelled" / "Particles" / f"{number}.jpg", artefact(shared) if number < sharers else shared)
    index([tmp_path / "labelled"], tmp_path / "store", workers=2)
    with connect(tmp_path / "store") as engine:
        for category in CATEGORIES:
            for number in (50, 51):
                assert engine.search(artefact(micrograph(category, number))).category is None
        for number in range(sharers):
            query = with_noise(artefact(micrograph("Particles", number)), 8, number)
            assert engine.search(query).category == "Particles"


def with_noise(pixels: Grey, sigma: float, seed: int) -> Grey:
    noise = np.random.default_rng(seed).normal(0, sigma, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def save(path: Path, pixels: Grey) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=95)


def make_store(folder: Path, images: dict[str, Grey], reach: Any = "frame") -> Path:
    """Index images with names of the form ``Category/name``."""
    for name, pixels in images.items():
        save(folder / "labelled" / f"{name}.jpg", pixels)
    index([folder / "labelled"], folder / "store", workers=1, reach=reach)
    return folder / "store"


def plain(category: str, numbers: Iterable[int]) -> dict[str, Grey]:
    return {f"{category}/{number}": micrograph(category, number) for number in numbers}


def flat_field(category: str) -> tuple[Grey, Grey]:
    """Return two images of one field of low contrast, shifted by 9 pixels: enough for another hash."""
    field = micrograph(category, 1).astype(float)
    pale = np.clip((field - field.mean()) / 4 + 128, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(pale[:, :-9]), np.ascontiguousarray(pale[:, 9:])


@pytest.mark.parametrize("category", CATEGORIES[1:])
@pytest.mark.parametrize("label", ["Tips", "its own"])
def test_most_similar_reference_wins_over_a_nearer_hash(tmp_path: Path, category: str, label: str) -> None:
    """A very noisy recording is aligned with the query. The better recording is shifted, so that no hash finds it."""
    clear, moved = flat_field(category)
    other = category if label == "its own" else label
    noisy = {f"{category}/clear": clear, f"{other}/noisy": with_noise(moved, 80, 1)}
    query = with_noise(moved, 30, 2)
    with connect(make_store(tmp_path, noisy | plain("Particles", range(3)))) as engine:
        [nearest] = engine.search(query, k=1, verify=False).matches
        assert Path(nearest.source).name == "noisy.jpg"
        for k in (1, 2, 5):
            answer = engine.search(query, k=k, max_p_wrong=1)
            assert (answer.grade, answer.category) == ("good", category)
            assert answer.best is not None
            assert Path(answer.best.source).name == "clear.jpg"
            assert answer.best.distance > nearest.distance > 200
            assert len(answer.matches) == min(k, 2)


@pytest.mark.parametrize("category", CATEGORIES[1:])
def test_better_reference_of_an_excluded_category_makes_doubtful(tmp_path: Path, category: str) -> None:
    clear, moved = flat_field(category)
    noisy = {f"{category}/clear": clear, "Tips/noisy": with_noise(moved, 80, 1)}
    with connect(make_store(tmp_path, noisy | plain("Particles", range(3)))) as engine:
        answer = engine.search(with_noise(moved, 30, 2), categories=["Tips"])
        assert (answer.grade, answer.category) == ("doubtful", None)
        assert {match.category for match in answer.matches} == {"Tips"}
        assert "another reference also resembles the query" in answer.reason
        both = engine.search(with_noise(moved, 30, 2), categories=["Tips", category], max_p_wrong=1)
        assert (both.grade, both.category) == ("good", category)


def test_noise_selects_between_two_recordings_of_one_field(tmp_path: Path) -> None:
    """The query has the noise of one of two recordings of one field; the info bar does not matter."""
    for category in CATEGORIES:
        for seed in (1, 2):
            noisy = with_noise(micrograph(category, 1), 60, seed)
            noisy[-50:] = 20  # an info bar, which the query does not have
            save(tmp_path / "labelled" / category / f"{seed}.jpg", noisy)
    index([tmp_path / "labelled"], tmp_path / "store", workers=2)
    with connect(tmp_path / "store") as engine:
        for category in CATEGORIES:
            for seed in (1, 2):
                answer = engine.search(with_noise(micrograph(category, 1), 60, seed)[:-50])
                assert answer.category == category
                assert answer.best is not None
                assert Path(answer.best.source).name == f"{seed}.jpg"


@pytest.fixture(scope="module")
def faint() -> dict[str, Grey]:
    """Return fields that noise of 60 grey levels nearly hides."""
    return {
        f"{category}/{number}": _faint_field(100 * position + number)
        for position, category in enumerate(CATEGORIES)
        for number in range(4)
    }


def _faint_field(seed: int) -> Grey:
    field = gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), 2)
    grey: Grey = np.rint(128 + 5 * field / field.std()).astype(np.uint8)
    return grey


def test_faint_twin_is_found_if_no_other_reference_is_close(tmp_path: Path, faint: dict[str, Grey]) -> None:
    for name, pixels in faint.items():
        save(tmp_path / "labelled" / f"{name}.jpg", pixels)
    index([tmp_path / "labelled"], tmp_path / "store", workers=2)
    with connect(tmp_path / "store") as engine:
        queries = {name: with_noise(pixels, 60, 5) for name, pixels in faint.items()}
        lenient = {name: engine.search(query, max_p_wrong=1) for name, query in queries.items()}
        strict = {name: engine.search(query, lone_scene=0.5, max_p_wrong=1) for name, query in queries.items()}
    assert all(answer.category in {None, name.partition("/")[0]} for name, answer in lenient.items())
    found = [name for name, answer in lenient.items() if answer.category]
    assert len(found) > len([name for name, answer in strict.items() if answer.category])
    for name in found:
        if strict[name].category is None:
            best = lenient[name].best
            assert best is not None
            assert 0.35 <= (best.scene_score or 0) < 0.5
            assert "no other reference is nearly as similar" in lenient[name].reason


def test_faint_twin_among_few_references_gets_no_label(tmp_path: Path, faint: dict[str, Grey]) -> None:
    """A candidate can only be lone if other references were compared."""
    few = {name: pixels for name, pixels in faint.items() if name.endswith("/0")}
    for name, pixels in few.items():
        save(tmp_path / "labelled" / f"{name}.jpg", pixels)
    index([tmp_path / "labelled"], tmp_path / "store", workers=2)
    with connect(tmp_path / "store") as engine:
        for pixels in few.values():
            answer = engine.search(with_noise(pixels, 60, 5))
            assert answer.category is None or (answer.best is not None and (answer.best.scene_score or 0) >= 0.5)


def test_changing_good_scene_also_changes_lone_scene() -> None:
    default = POLICIES["default"]
    assert default.lone_scene < default.good_scene
    assert default.adjusted({"good_scene": 0.7}).lone_scene == 0.7
    assert default.adjusted({"good_scene": 0.7, "lone_scene": 0.4}).lone_scene == 0.4


def test_copies_of_the_twin_are_no_rivals(tmp_path: Path) -> None:
    for category in CATEGORIES:
        (tmp_path / "labelled" / category).mkdir(parents=True)
        for quality in (95, 60, 30):
            image = Image.fromarray(micrograph(category, 1))
            image.save(tmp_path / "labelled" / category / f"{quality}.jpg", quality=quality)
    index([tmp_path / "labelled"], tmp_path / "store", workers=2)
    with connect(tmp_path / "store") as engine:
        for category in CATEGORIES:
            stretched = np.clip(micrograph(category, 1) * 0.5 + 60, 0, 255).astype(np.uint8)
            blurred = np.rint(gaussian_filter(stretched.astype(float), 2)).astype(np.uint8)
            answer = engine.search(blurred)
            assert (answer.grade, answer.category) == ("good", category)


# -- hidden rivals -----------------------------------------------------------------------------------------------------


def strong_pattern(pixels: Grey) -> Grey:
    """Add the pattern of one camera to an image, about as strong as the field."""
    fixed = gaussian_filter(np.random.default_rng(5).standard_normal(SHAPE), 2)
    grey: Grey = np.clip(pixels * 0.4 + 70 + 24 * fixed / fixed.std(), 0, 255).astype(np.uint8)
    return grey


UNRELATED = [(category, 50) for category in CATEGORIES[1:]]


def test_number_of_copies_of_the_twin_does_not_matter(tmp_path: Path) -> None:
    shared = {f"Particles/{number}": strong_pattern(micrograph("Particles", number)) for number in range(2)}
    queries = [strong_pattern(micrograph(*other)) for other in UNRELATED]
    queries += [with_noise(shared[f"Particles/{number}"], sigma, 3) for number, sigma in ((0, 60), (1, 30))]
    answers = {}
    for copies in (0, 8, 12, 20):
        for number in range(2):
            for copy in range(copies):
                path = tmp_path / f"{copies}" / "labelled" / "Particles" / f"{number} again {copy}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(shared[f"Particles/{number}"]).save(path, quality=94 - copy)
        with connect(make_store(tmp_path / f"{copies}", shared)) as engine:
            found = [engine.search(query) for query in queries]
        answers[copies] = [(answer.grade, answer.category) for answer in found]
    assert answers[0] == [("doubtful", None)] * len(UNRELATED) + [("good", "Particles")] * 2
    assert all(found == answers[0] for found in answers.values()), answers


def test_restricted_search_checks_all_categories(tmp_path: Path) -> None:
    """An artefact that twin and query share only with images of other categories also gives no label."""
    twin = strong_pattern(micrograph("Particles", 0))
    shared = {"Particles/0": twin, **plain("Particles", range(5, 8))}
    shared |= {f"Biological/{number}": strong_pattern(micrograph("Biological", number)) for number in range(3)}
    with connect(make_store(tmp_path, shared)) as engine:
        for other in UNRELATED:
            query = strong_pattern(micrograph(*other))
            answer = engine.search(query, categories=["Particles"])
            assert (answer.grade, answer.category) == ("doubtful", None)
            assert {match.category for match in answer.matches} == {"Particles"}
            assert engine.search(query).category is None
        assert engine.search(with_noise(twin, 60, 3), categories=["Particles"]).category == "Particles"


@pytest.mark.parametrize(("seed", "sigma", "grade"), [(302, 40, "ambiguous"), (304, 48, "doubtful")])
def test_field_with_a_second_far_label_gets_no_label(tmp_path: Path, seed: int, sigma: float, grade: str) -> None:
    """Both references show the same image, so the more distant reference is no look-alike, but evidence against the
    label."""
    sharp = _faint_field(seed)
    clear = np.clip(128 + (sharp.astype(float) - 128) * 3, 0, 255)
    both = {"Tips/sharp": sharp, "Powder/blurred": np.rint(gaussian_filter(clear, 2.5)).astype(np.uint8)}
    others = {f"Particles/{number}": _faint_field(900 + number) for number in range(4)}
    with connect(make_store(tmp_path, both | others)) as engine:
        query = with_noise(sharp, sigma, 1)
        near, far = [
            match.distance for match in engine.search(query, k=2, max_distance=1024, verify=False).matches
        ]  # fmt: skip
        assert near <= 300 < far
        answer = engine.search(query)
        assert (answer.grade, answer.category) == (grade, None)
        assert engine.search(query, max_distance=1024).grade == "ambiguous"


# -- regions -----------------------------------------------------------------------------------------------------------


def wide_panel(pixels: Grey) -> Grey:
    """Put a coarse panel, which determines most of the hash, over more than half of a pale field."""
    panel = gaussian_filter(np.random.default_rng(3).standard_normal(SHAPE), 4)
    shared = pixels / 6 + 107
    shared[:, :307] = (128 + 50 * panel / panel.std())[:, :307]
    return np.clip(shared, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("category", ["Fibres", "Powder"])
def test_regions_of_twins_with_near_hashes_are_compared(tmp_path: Path, category: str) -> None:
    with connect(make_store(tmp_path, {f"{category}/0": wide_panel(micrograph(category, 0))})) as engine:
        for other in UNRELATED:
            answer = engine.search(wide_panel(micrograph(*other)))
            assert (answer.grade, answer.category) == ("doubtful", None)
            assert "agree in some regions only" in answer.reason
            assert answer.best is not None
            assert 40 < answer.best.distance <= 200
        twin = engine.search(with_noise(wide_panel(micrograph(category, 0)), 20, 1))
        assert (twin.grade, twin.category) == ("good", category)
        assert twin.best is not None
        assert 40 < twin.best.distance <= 200


def encoded(pixels: Grey, quality: int) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=quality)
    return data.getvalue()


@pytest.mark.parametrize(("radius", "open_share"), [(0.8, 0.38), (0.6, 0.21), (0.4, 0.09)])
def test_narrow_aperture_gives_no_label_and_hides_no_twin(tmp_path: Path, radius: float, open_share: float) -> None:
    y, x = np.mgrid[-1 : 1 : SHAPE[0] * 1j, -1.33 : 1.33 : SHAPE[1] * 1j]
    within = x * x + y * y < radius**2
    assert within.mean() == pytest.approx(open_share, abs=0.01)

    def behind(pixels: Grey) -> Grey:
        return np.where(within, pixels, 0).astype(np.uint8)

    twin = behind(micrograph("Particles", 0))
    others = plain("Particles", range(4)) | plain("Porous_Sponge", range(4))
    with connect(make_store(tmp_path, {"Particles/behind": twin, **others}, "views")) as engine:
        alike = []
        for category in CATEGORIES[1:]:
            for number in (50, 51):
                answer = engine.search(behind(micrograph(category, number)))
                assert answer.category is None, (category, number)
                alike += [match.scene_score for match in answer.matches[:1] if (match.scene_score or 0) >= 0.5]
        assert alike  # so the scene score alone could not refuse them
        for sigma, quality in ((8, 80), (20, 30)):
            found = engine.search(encoded(with_noise(twin, sigma, 1), quality))
            assert found.best is not None
            assert Path(found.best.source).name == "behind.jpg"
            # If only a tenth of the image is visible, and the black rest contains noise, the images have too little in
            # common.
            assert found.category == "Particles" or (open_share < 0.1 and found.grade == "doubtful")


# -- without the pixels ------------------------------------------------------------------------------------------------


def shifted(pixels: Grey, down: int, right: int) -> Grey:
    return pixels[down:, right:]


def barred(pixels: Grey, level: int = 20) -> Grey:
    with_bar = pixels.copy()
    with_bar[-50:] = level
    return with_bar


def recordings() -> dict[str, Grey]:
    """Make several recordings of some fields: noisy, shifted, with an info bar, and some with another label."""
    made: dict[str, Grey] = {}
    for category in ("Powder", "Fibres"):
        field = micrograph(category, 1)
        made |= {
            f"{category}/clear": field, f"{category}/noisy": with_noise(field, 25, 1),
            f"{category}/moved": shifted(with_noise(field, 15, 9), 8, 12),
            f"{category}/barred": with_noise(barred(field), 40, 6),
            f"Tips/{category}": shifted(with_noise(barred(field), 30, 8), 14, 0),
        }  # fmt: skip
    return made


def changed(category: str, seed: int) -> Grey:
    """Apply up to three typical changes to an image that the store has."""
    rng, pixels = np.random.default_rng(seed), micrograph(category, 1)
    for change in rng.permutation(["noise", "shift", "bar", "blur", "crop", "label", "panel"])[: rng.integers(0, 4)]:
        pixels = pixels.copy()
        if change == "noise":
            pixels = with_noise(pixels, float(rng.choice([10, 25, 50, 80])), seed)
        elif change == "shift":
            pixels = shifted(pixels, *(int(pixel) for pixel in rng.integers(0, 20, 2)))
        elif change == "bar":
            pixels = barred(pixels, int(rng.choice([20, 230])))
        elif change == "blur":
            pixels = np.rint(gaussian_filter(pixels.astype(float), 2)).astype(np.uint8)
        elif change == "crop":
            margin = int(rng.integers(5, 30))
            pixels = pixels[margin:-margin, margin:-margin]
        elif change == "label":
            pixels[20:150, 30:230] = 255
        else:
            pixels[:, :120] = 90
    return np.ascontiguousarray(pixels)


def test_server_requests_the_pixels_that_can_change_an_answer(tmp_path: Path) -> None:
    folder = make_store(tmp_path, recordings(), "windows")
    flags, grades = set(), set()
    with (
        closing(Store(folder)) as store, connect(folder) as embedded, serving(folder) as target,
        connect(target) as remote,
    ):  # fmt: skip
        searcher = Searcher(store)
        for seed in range(16):
            pixels = changed(("Powder", "Fibres")[seed % 2], seed)
            query = Query.of_pixels(pixels)
            for policy in (POLICIES["default"], POLICIES["default"].adjusted({"max_p_wrong": 0.02})):
                whole = searcher.answer(query, Options(policy)).answer
                without = searcher.answer(replace(query, pixels=None), Options(policy))
                flags.add(without.pixels_would_change)
                if not without.pixels_would_change:
                    assert (without.answer.grade, without.answer.category) == (whole.grade, whole.category), seed
            here, there = embedded.search(pixels), remote.search(pixels)
            grades.add(here.grade)
            assert (there.grade, there.category) == (here.grade, here.category), seed
            assert there.matches[:1] == here.matches[:1], seed
    assert flags == {True, False}
    assert {"excellent", "good"} <= grades


@pytest.mark.parametrize("category", ["Fibres", "Powder"])
def test_pixels_missing_at_an_earlier_stage_would_change_it(tmp_path: Path, category: str) -> None:
    """This is also true if the best match is shifted, so that its pixels cannot be compared."""
    clear, moved = flat_field(category)
    nearer = {f"{category}/clear": clear, f"{category}/noisy": with_noise(moved, 80, 1)}
    covered = with_noise(micrograph(category, 1), 20, 1)
    covered[:, :160] = np.random.default_rng(1).integers(0, 255, (12, 20)).repeat(32, 0).repeat(8, 1)
    for name, images, pixels, k in (
        ("better", nearer, with_noise(moved, 30, 2), 1), ("in part", plain(category, [1]), covered, 5),
    ):  # fmt: skip
        query = replace(Query.of_pixels(pixels), pixels=None)
        with closing(Store(make_store(tmp_path / name, images, "windows"))) as store:
            found = Searcher(store).answer(query, Options(POLICIES["default"].adjusted({"k": k})))
        assert found.answer.grade == "good"
        assert not any(match.comparable for match in found.answer.matches)
        assert found.pixels_would_change
