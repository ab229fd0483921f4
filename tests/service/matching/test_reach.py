"""Reach: rotated, mirrored, inverted or cropped twins, twins with another info bar, and unrelated images."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from matching import Matcher
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from raw_client import RawClient, eventually
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity
from twinscope.v1 import catalog_pb2, similarity_pb2
from twinscope_client import connect
from twinscope_client.cli.main import main
from twinscope_client.demo.micrographs import synthesise
from twinscope_client.engine.protocol import Engine
from twinscope_client.testing import serving
from twinscope_indexer.hashing.equalize import standardise
from twinscope_indexer.hashing.perceptual import PHash, hash_pixels
from twinscope_indexer.indexing.run import index
from twinscope_indexer.store.reader import Store, open_writer
from twinscope_service.matching.answer import Answer, Transform
from twinscope_service.matching.fingerprint import Fingerprint
from twinscope_service.matching.geometry import whole_bits
from twinscope_service.matching.policy import POLICIES
from twinscope_service.matching.query import Limits, Query
from twinscope_service.wire.answers import answer_of
from twinscope_service.wire.queries import fingerprint_message

Grey = NDArray[np.uint8]
CATEGORIES = ("Tips", "Particles", "Powder")


def micrograph(category: str, number: int = 1) -> Grey:
    return synthesise(category, number, width=240, height=180, info_bar=False)


def bottom_cut(image: Grey, share: float) -> Grey:
    return image[: round((1 - share) * len(image))]


def with_bar(image: Grey, share: float = 0.08) -> Grey:
    """Add an info bar with a text and a scale below an image."""
    height, width = image.shape
    strip = Image.new("L", (width, round(share * height)), 0)
    draw = ImageDraw.Draw(strip)
    draw.text((6, 3), "15.0 kV  WD 8.1 mm  x2500", fill=255)
    draw.rectangle((0.75 * width, 0.4 * strip.height, 0.95 * width, 0.6 * strip.height), fill=255)
    return np.vstack([image, np.asarray(strip)])


def crop_of(image: Grey, left: float, top: float, right: float, bottom: float) -> Grey:
    height, width = image.shape
    return image[round(top * height) : round(bottom * height), round(left * width) : round(right * width)]


TURNED: dict[str, tuple[Callable[[Grey], Grey], str]] = {
    "rotated by 90": (lambda image: np.rot90(image, -1), "rotated by 270"),
    "rotated by 180": (lambda image: np.rot90(image, 2), "rotated by 180"),
    "rotated by 270": (lambda image: np.rot90(image, 1), "rotated by 90"),
    "mirrored": (np.fliplr, "mirrored"),
    "flipped": (np.flipud, "flipped"),
    "transposed": (np.transpose, "transposed"),
    "transposed back to front": (lambda image: np.rot90(image, 2).T, "transposed and rotated by 180"),
    "inverted": (lambda image: 255 - image, "inverted"),
    "rotated and inverted": (lambda image: 255 - np.rot90(image, -1), "rotated by 270, inverted"),
}
"""The change of the query, and the symmetry that makes it look like the reference again."""

CHANGED: dict[str, Callable[[Grey], Grey]] = {
    **{f"bottom {cut} % cut": lambda image, cut=cut: bottom_cut(image, cut / 100) for cut in (3, 5, 8, 12)},  # type: ignore[misc]
    "bar added": with_bar,
    "bottom cut, bar added": lambda image: with_bar(bottom_cut(image, 0.05), 0.1),
    "a margin lost": lambda image: crop_of(image, 0.02, 0.02, 0.98, 0.98),
    "bottom cut, rotated, inverted": lambda image: 255 - np.rot90(bottom_cut(image, 0.08)),
}

WINDOWED: dict[str, Callable[[Grey], Grey]] = {
    "7.5 % off each side": lambda image: crop_of(image, 0.075, 0.075, 0.925, 0.925),
    "top left corner": lambda image: crop_of(image, 0, 0, 0.8, 0.8),
    "bottom right corner": lambda image: crop_of(image, 0.2, 0.2, 1, 1),
    "right edge": lambda image: crop_of(image, 0.1, 0.033, 1, 0.933),
}


@pytest.fixture(scope="module")
def images() -> dict[str, Grey]:
    return {category: micrograph(category) for category in CATEGORIES}


@pytest.fixture(scope="module")
def stores(images: dict[str, Grey], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a store of the images for every reach."""
    root = tmp_path_factory.mktemp("reach")
    made = {}
    for reach in ("frame", "views", "windows"):
        if made:
            shutil.copytree(root / "frame", root / reach)
        made[reach] = make_store(root, images, reach)
    return made


def make_store(root: Path, images: dict[str, Grey], reach: Any, store: str = "") -> Path:
    """Index images, named by category or ``category/name``, without changing their grey levels."""
    for name, pixels in images.items():
        path = root / "collection" / (f"{name}.png" if "/" in name else f"{name}/a.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            Image.fromarray(pixels).save(path)
    index([root / "collection"], root / (store or reach), reach=reach, workers=1)
    return root / (store or reach)


@pytest.fixture(scope="module")
def engines(stores: dict[str, Path]) -> Iterator[dict[str, Engine]]:
    opened = {reach: connect(store) for reach, store in stores.items()}
    yield opened
    for engine in opened.values():
        engine.close()


class Answers:
    """Answers of the embedded stores to changed images; each query runs once."""

    def __init__(self, engines: dict[str, Engine], images: dict[str, Grey]) -> None:
        self._engines, self._images = engines, images
        self._known: dict[tuple[str, str, str], Answer] = {}

    def __call__(self, reach: str, name: str, category: str) -> Answer:
        key = reach, name, category
        if key not in self._known:
            self._known[key] = self._engines[reach].search(query_of(name, self._images[category]))
        return self._known[key]


@pytest.fixture(scope="module")
def answers(engines: dict[str, Engine], images: dict[str, Grey]) -> Answers:
    return Answers(engines, images)


def query_of(name: str, image: Grey) -> Grey:
    """Change an image in one of the ways of `TURNED`, `CHANGED` and `WINDOWED`."""
    change = TURNED[name][0] if name in TURNED else (CHANGED | WINDOWED)[name]
    return np.ascontiguousarray(change(image))


def transform(answer: Answer) -> Transform:
    assert answer.best is not None
    assert answer.best.transform is not None
    return answer.best.transform


# -- twins that are found ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TURNED)
def test_turned_twin_is_found_with_its_symmetry(answers: Answers, name: str) -> None:
    for category in CATEGORIES:
        answer = answers("views", name, category)
        assert answer.category == category
        found = transform(answer)
        assert found.symmetry == TURNED[name][1]
        assert str(found).startswith(f"query {TURNED[name][1]}")
        assert answer.reason.endswith(f"({found})")


@pytest.mark.parametrize("name", CHANGED)
def test_twin_with_a_crop_or_another_bar_is_found(answers: Answers, name: str) -> None:
    for category in CATEGORIES:
        answer = answers("views", name, category)
        assert (answer.grade, answer.category) == ("good", category)
        best = answer.best
        assert best is not None
        if best.transform is None:  # the distance is small enough without a change
            assert name in {"bottom 3 % cut", "a margin lost", "bottom cut, bar added"}
            assert best.ssim is not None
        else:
            assert best.transform.symmetry == ("rotated by 90, inverted" if "rotated" in name else "")
            assert not best.transform.is_whole
            assert answer.reason.endswith(f"({best.transform})")


@pytest.mark.parametrize("name", WINDOWED)
def test_crop_of_the_field_is_found_only_by_windows(
    answers: Answers, engines: dict[str, Engine], images: dict[str, Grey], name: str
) -> None:
    for category in CATEGORIES:
        answer = answers("windows", name, category)
        assert (answer.grade, answer.category) == ("good", category)
        found = transform(answer)
        assert (found.symmetry, found.query_frame) == ("", "whole")
        assert found.reference_frame != "whole"
    query = query_of(name, images[CATEGORIES[0]])
    assert engines["views"].search(query, **NEAR).grade == "none"
    assert engines["windows"].search(query, reach="views", **NEAR).grade == "none"


@pytest.mark.parametrize("crop", [pytest.param(0.05, id="5 %"), pytest.param(0.1, id="10 %")])
def test_centred_crop_is_found(engines: dict[str, Engine], images: dict[str, Grey], crop: float) -> None:
    for category, image in images.items():
        query = np.ascontiguousarray(crop_of(image, crop, crop, 1 - crop, 1 - crop))
        assert engines["windows"].search(query, max_p_wrong=1).category == category


def test_field_shifted_by_12_percent_is_found(tmp_path: Path) -> None:
    """Two fields of one size share 88 %, as after a stage movement."""
    wide = {category: synthesise(category, 1, width=320, height=180, info_bar=False) for category in CATEGORIES}
    store = make_store(tmp_path, {category: image[:, :240] for category, image in wide.items()}, "windows")
    with connect(store) as engine:
        for category, image in wide.items():
            query = np.ascontiguousarray(image[:, 29:269])
            assert engine.search(query, reach="views", **NEAR).grade == "none"
            assert engine.search(query).category == category


# -- SSIM: only if the pixels are aligned ------------------------------------------------------------------------------


def test_turned_pixels_are_the_same_acquisition(answers: Answers) -> None:
    grades = {(name, category): answers("views", name, category).grade for name in TURNED for category in CATEGORIES}
    assert {key: grade for key, grade in grades.items() if grade != "excellent"} == {}


def test_only_whole_images_have_an_ssim(answers: Answers) -> None:
    compared = 0
    for name in TURNED:
        for category in CATEGORIES:
            answer = answers("views", name, category)
            best = answer.best
            assert best is not None
            assert (best.ssim is not None) == best.comparable == transform(answer).is_whole
            assert answer.grade == ("excellent" if best.comparable else "good")
            if best.ssim is not None:
                compared += 1
                assert best.ssim == pytest.approx(1.0, abs=1e-3 if "inverted" not in name else 0.01)
    assert compared >= 5
    for name in CHANGED:
        for category in CATEGORIES:
            best = answers("views", name, category).best
            assert best is not None
            assert (best.ssim is not None) == (best.transform is None)


def test_ssim_is_that_of_the_query_turned_back(engines: dict[str, Engine], images: dict[str, Grey]) -> None:
    rng = np.random.default_rng(1)
    compared = 0
    for image in images.values():
        noisy = np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8)
        for name in ("rotated by 90", "mirrored"):
            best = engines["views"].search(query_of(name, noisy)).best
            assert best is not None
            if best.ssim is not None:
                compared += 1
                expected = structural_similarity(standardise(noisy), standardise(image))
                assert best.ssim == pytest.approx(expected, abs=1e-4)
                assert best.ssim < 0.98
    assert compared


# -- limited reach -----------------------------------------------------------------------------------------------------


NEAR: dict[str, Any] = {"far_distance": 300}
"""Policy without comparisons above the usual distance, at which the hash of the whole image sometimes finds a crop."""
NO_PLAIN_TWIN = ("rotated by 90", "inverted", "bottom 8 % cut", "bar added", "top left corner")
"""Changes of every kind after which a search by the whole image does not find the twin."""


def changed(image: Grey) -> Iterator[Grey]:
    for name in NO_PLAIN_TWIN:
        yield query_of(name, image)


def test_reach_of_a_policy_limits_the_search(engines: dict[str, Engine], images: dict[str, Grey]) -> None:
    narrow = POLICIES["default"].adjusted({"reach": "frame", "far_distance": 300})
    assert (narrow.name, narrow.reach) == ("default+changes", "frame")
    for query in changed(images["Powder"]):
        found = engines["windows"].search(query)
        assert found.category == "Powder"
        assert found.policy.reach == "windows"
        for answer in (
            engines["windows"].search(query, reach="frame", **NEAR),
            engines["windows"].search(query, policy=narrow),
            engines["windows"].search(query, policy="legacy"),
        ):
            assert (answer.grade, answer.matches, answer.policy.reach) == ("none", (), "frame")


def test_store_with_reach_frame_finds_no_changed_twin(engines: dict[str, Engine], images: dict[str, Grey]) -> None:
    for query in changed(images["Particles"]):
        answer = engines["frame"].search(query, **NEAR)
        assert (answer.grade, answer.matches) == ("none", ())
        assert answer.policy.reach == "windows"


def test_noisy_twin_is_found_beyond_the_usual_distance(tmp_path: Path) -> None:
    """Heavy noise changes the hash of a faint image, but not the agreement of the two fields."""
    fields = {
        category: gaussian_filter(np.random.default_rng(seed).standard_normal((480, 640)), 16)
        for seed, category in enumerate(CATEGORIES)
    }
    faint = {category: (128 + 4 * field / field.std()).astype(np.uint8) for category, field in fields.items()}
    with connect(make_store(tmp_path, faint, "views")) as engine:
        found, nearer = 0, 0
        for category, image in faint.items():
            noisy = np.clip(image + np.random.default_rng(3).normal(0, 34, image.shape), 0, 255).astype(np.uint8)
            found += engine.search(noisy, max_p_wrong=1).category == category
            nearer += engine.search(noisy, **NEAR, max_p_wrong=1).category == category
    assert (found, nearer) == (len(CATEGORIES), 0)


BACKGROUNDS = (*CATEGORIES, "Biological", "Fibres")


def on_dark_background(seed: int) -> Grey:
    """Return bright spots on a dark background with faint shades."""
    noise = np.random.default_rng(seed).standard_normal((2, 180, 240))
    background, spots = gaussian_filter(noise[0], 3), gaussian_filter(noise[1], 5)
    spots = np.clip(spots / spots.std() - 0.9, 0, None)
    return np.clip(18 + 7 * background / background.std() + 90 * spots, 0, 255).astype(np.uint8)


def darker(image: Grey) -> Grey:
    return np.clip(image.astype(int) - 40, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def dark_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    made = {category: on_dark_background(seed) for seed, category in enumerate(BACKGROUNDS)}
    made["Fibres"] = 255 - made["Fibres"]
    with connect(make_store(tmp_path_factory.mktemp("background"), made, "views")) as engine:
        yield engine


@pytest.mark.parametrize("turned", [lambda image: image, lambda image: np.rot90(255 - image)], ids=["as is", "turned"])
@pytest.mark.parametrize("seed", range(5))
def test_twin_whose_background_became_black_is_found(
    dark_engine: Engine, seed: int, turned: Callable[[Grey], Grey]
) -> None:
    image = on_dark_background(seed)
    one, other = (hash_pixels(pixels) for pixels in (image, darker(image)))
    assert isinstance(one, PHash)
    assert isinstance(other, PHash)
    assert (darker(image) == 0).mean() > 0.5
    assert one.distance(other) > 300
    answer = dark_engine.search(np.ascontiguousarray(turned(darker(image))))
    assert answer.grade == "good"
    assert answer.best is not None
    assert answer.best.category == BACKGROUNDS[seed]


def test_unrelated_images_with_a_black_background_get_no_label(dark_engine: Engine) -> None:
    for seed in range(10, 30):
        assert dark_engine.search(darker(on_dark_background(seed))).grade == "none"


def test_shared_panel_brighter_than_the_fields_is_no_twin(tmp_path: Path) -> None:
    """The brightest quarter of all images is then the same."""

    def beside_a_panel(seed: int) -> Grey:
        image = on_dark_background(seed) // 2
        image[:150, 170:] = np.clip(
            180 + 40 * gaussian_filter(np.random.default_rng(9).standard_normal((150, 70)), 2), 140, 255
        )
        return image

    images = {f"Powder/{seed}": beside_a_panel(seed) for seed in range(4)}
    with connect(make_store(tmp_path, images, "views")) as engine:
        for seed in range(10, 30):
            assert engine.search(beside_a_panel(seed)).grade not in {"good", "excellent"}
            assert engine.search(darker(beside_a_panel(seed))).grade not in {"good", "excellent"}
        for seed in range(4):
            assert engine.search(darker(beside_a_panel(seed))).grade in {"good", "excellent", "doubtful"}


def test_max_distance_also_limits_far_distance(engines: dict[str, Engine], images: dict[str, Grey]) -> None:
    assert POLICIES["default"].adjusted({"max_distance": 250}).far_distance == 250
    assert POLICIES["default"].adjusted({"max_distance": 250, "far_distance": 400}).far_distance == 400
    for query in changed(images["Powder"]):
        for match in engines["views"].search(query, max_distance=120).matches:
            assert match.distance <= 120


@pytest.mark.parametrize("reach", ["nowhere", "", 1, ["views"]])
def test_unknown_reach_is_refused(engines: dict[str, Engine], images: dict[str, Grey], reach: Any) -> None:
    with pytest.raises(ValueError, match="reach must be one of frame, views, windows"):
        engines["views"].search(images["Tips"], reach=reach)


def test_frames_are_not_searched_without_verification(engines: dict[str, Engine], images: dict[str, Grey]) -> None:
    for query in changed(images["Tips"]):
        answer = engines["windows"].search(query, verify=False)
        assert (answer.grade, answer.matches) == ("none", ())


def test_frames_are_not_searched_for_a_bare_hash(engines: dict[str, Engine], images: dict[str, Grey]) -> None:
    hashed = hash_pixels(query_of("mirrored", images["Tips"]))
    assert isinstance(hashed, PHash)
    [answer] = engines["windows"].search_hashes([hashed])
    assert (answer.grade, answer.matches) == ("none", ())


def test_reach_does_not_change_the_answer_of_a_plain_twin(engines: dict[str, Engine], images: dict[str, Grey]) -> None:
    grades = set()
    for image in images.values():
        data = io.BytesIO()
        Image.fromarray(image).resize((180, 135)).save(data, "JPEG", quality=60)
        for query in (image, data.getvalue()):
            alone = engines["frame"].search(query, reach="frame")
            grades.add(alone.grade)
            for reach in ("views", "windows"):
                answer = engines[reach].search(query)
                assert answer.best is not None
                assert answer.best.transform is None
                assert replace(answer, policy=alone.policy, generation=alone.generation) == alone
    assert grades == {"excellent", "good"}


# -- queries without a twin --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("category", ["Particles", "Tips", "Biological"])
def test_changed_unrelated_images_get_no_label(engines: dict[str, Engine], category: str) -> None:
    unrelated = micrograph(category, 70)
    names = ("rotated by 270", "mirrored", "bottom cut, rotated, inverted", "a margin lost", "7.5 % off each side")
    for query in (unrelated, *changed(unrelated), *(query_of(name, unrelated) for name in names)):
        answer = engines["windows"].search(query)
        assert (answer.grade, answer.category) == ("none", None)


def test_unrelated_images_get_no_label_at_any_distance(engines: dict[str, Engine]) -> None:
    """If every reference is a candidate, the scene score alone refuses them."""
    unrelated = micrograph("Powder", 71)
    for query in (
        unrelated,
        query_of("rotated by 90", unrelated),
        query_of("inverted", unrelated),
        with_bar(unrelated),
    ):
        answer = engines["windows"].search(query, max_distance=1024)
        assert (answer.grade, answer.category, len(answer.matches)) == ("none", None, len(CATEGORIES))


def test_unhashable_images_stay_unhashable(engines: dict[str, Engine]) -> None:
    stripes = np.tile(np.uint8([0, 255]), (240, 160))
    for query in (np.full((240, 320), 7, np.uint8), stripes, stripes.T, 255 - stripes):
        answer = engines["windows"].search(np.ascontiguousarray(query))
        assert (answer.grade, answer.matches) == ("unhashable", ())


@pytest.mark.parametrize("shape", [(60, 30), (30, 60), (39, 39), (12, 12)])
def test_query_too_small_for_frames_has_no_twin(
    engines: dict[str, Engine], images: dict[str, Grey], shape: tuple[int, int]
) -> None:
    small = np.asarray(Image.fromarray(images["Tips"]).resize(shape))
    answer = engines["windows"].search(query_of("rotated by 90", small))
    assert (answer.grade, answer.matches) == ("none", ())


def test_frames_too_small_to_be_hashed_match_nothing(tmp_path: Path) -> None:
    """An image with a height of 44 pixels has a hash, but the image without the lowest 14 % is too small for a hash."""
    small = {category: micrograph(category)[60:104, :192] for category in (*CATEGORIES, "Fibres", "Nanowires")}
    with connect(make_store(tmp_path, small, "views")) as engine:
        grades = {category: engine.search(query_of("inverted", image)).category for category, image in small.items()}
    assert grades == {category: category for category in small}


# -- windows at a large distance ---------------------------------------------------------------------------------------


FAR_SHAPE = (192, 256)


@pytest.fixture(scope="module")
def outlines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, dict[str, Grey]]]:
    """Return an engine and its images: tips that resemble other tips in some windows, and other images."""
    names = ("Tips/1007", "Tips/1011", "Powder/1", "Fibres/1")
    made = {name: large_micrograph(*name.split("/")) for name in names}
    with connect(make_store(tmp_path_factory.mktemp("outlines"), made, "windows")) as engine:
        yield engine, made


def large_micrograph(category: str, number: str) -> Grey:
    barred = int(number) > 1000 and int(number) % 2 == 1
    height, width = FAR_SHAPE
    return synthesise(category, int(number), width=width, height=height, info_bar=barred)


@pytest.mark.parametrize("number", ["1004", "1009"])
def test_shared_outline_in_one_window_is_no_twin(outlines: tuple[Engine, dict[str, Grey]], number: str) -> None:
    """Above the usual distance, the best of thousands of windows is compared."""
    engine, _ = outlines
    query = large_micrograph("Tips", number)
    answer = engine.search(query)
    assert (answer.grade, answer.matches) == ("none", ())
    assert engine.search(np.ascontiguousarray(query[:, ::-1])).grade == "none"


@pytest.mark.parametrize("name", ["Tips/1011", "Powder/1", "Fibres/1"])
@pytest.mark.parametrize("sigma", [0, 8])
def test_panel_with_a_far_hash_is_found_by_its_high_score(
    outlines: tuple[Engine, dict[str, Grey]], name: str, sigma: float
) -> None:
    engine, made = outlines
    panel = Image.fromarray(crop_of(made[name], 0.22, 0.3, 0.74, 0.82)).resize(FAR_SHAPE[::-1])
    noise = np.random.default_rng(1).normal(0, sigma, FAR_SHAPE)
    query = np.clip(np.asarray(panel) + noise, 0, 255).astype(np.uint8)
    answer = engine.search(query)
    assert (answer.grade, answer.category) == ("good", name.partition("/")[0])
    assert answer.best is not None
    assert answer.best.distance > 300
    assert (answer.best.scene_score or 0) >= 0.75
    assert transform(answer).reference_frame != "whole"
    assert engine.search(query, **NEAR).grade == "none"


def test_references_of_a_few_pixels_cause_no_error(tmp_path: Path) -> None:
    """A window of such a reference can have no pixels; in a small store, such references are neighbours of a twin."""
    rng = np.random.default_rng(0)
    tiny = {f"Tips/{h} x {w}": rng.integers(0, 256, (h, w), np.uint8) for h, w in ((2, 3), (2, 300), (3, 2), (5, 5))}
    field = synthesise("Powder", 1, width=512, height=384, info_bar=False)
    panel = np.asarray(Image.fromarray(field[96:288, 128:384]))
    with connect(make_store(tmp_path, {"Powder": field, **tiny}, "windows")) as engine:
        transforms = set()
        for sigma in (30, 90):
            for query in (panel, field[20:320, 20:430], field[40:, 60:]):
                noise = np.random.default_rng(1).normal(0, sigma, query.shape)
                answer = engine.search(np.clip(query + noise, 0, 255).astype(np.uint8))
                assert answer.category == "Powder"
                transforms.add(transform(answer).reference_frame)
        for image in tiny.values():
            engine.search(image, max_distance=1024)
    assert len(transforms) >= 3


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def twins(images: dict[str, Grey], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Index one field several times as Tips, once as Fibres, mirrored as Powder, and a corner of it as Particles."""
    field = images["Powder"]
    made = {f"Tips/{number}": field for number in range(4)}
    made |= {"Fibres/same": field, "Powder/mirrored": np.ascontiguousarray(field[:, ::-1])}
    made |= {"Particles/corner": query_of("top left corner", field)}
    with connect(make_store(tmp_path_factory.mktemp("twins"), made, "windows")) as engine:
        yield engine


@pytest.mark.parametrize("k", [1, 2, 5])
def test_only_the_requested_categories_are_answered(twins: Engine, images: dict[str, Grey], k: int) -> None:
    query = query_of("rotated by 90", images["Powder"])
    for category in ("Tips", "Fibres", "Powder"):
        answer = twins.search(query, categories=[category], k=k)
        assert answer.category == category
        assert {match.category for match in answer.matches} == {category}
        assert len(answer.matches) == min(k, 4 if category == "Tips" else 1)
    assert twins.search(query, categories=["Fibres", "Tips"], k=9).grade == "ambiguous"
    unrelated = twins.search(query_of("inverted", micrograph("Powder", 70)), categories=["Tips"], k=k)
    assert (unrelated.grade, unrelated.matches) == ("none", ())


@pytest.mark.parametrize("k", [1, 3])
def test_requested_categories_also_limit_windows(twins: Engine, images: dict[str, Grey], k: int) -> None:
    query = query_of("bottom right corner", images["Powder"])
    for category in ("Tips", "Fibres"):
        answer = twins.search(query, categories=[category], k=k)
        assert answer.category == category
        assert {match.category for match in answer.matches} == {category}
        assert transform(answer).query_frame == "whole"


@pytest.mark.parametrize("k", [1, 5])
def test_stored_image_is_never_its_own_twin(twins: Engine, images: dict[str, Grey], k: int) -> None:
    mirrored = twins.search(np.fliplr(images["Powder"])).matches[0]
    assert mirrored.category == "Powder"
    answer = twins.search_stored(mirrored.image_id, categories=["Tips", "Powder"], k=k)
    assert (answer.grade, answer.category) == ("good", "Tips")
    assert mirrored.image_id not in {match.image_id for match in answer.matches}
    assert len(answer.matches) == min(k, 4)
    assert transform(answer).symmetry == "mirrored"
    assert answer.best is not None
    assert answer.best.ssim is None  # the pixels are not available
    corner = twins.search(query_of("top left corner", images["Powder"])).matches[0]
    assert corner.category == "Particles"
    larger = twins.search_stored(corner.image_id, categories=["Tips", "Particles"], k=k)
    assert (larger.category, transform(larger).query_frame) == ("Tips", "whole")
    assert corner.image_id not in {match.image_id for match in larger.matches}


def test_single_stored_image_has_no_twin(engines: dict[str, Engine], images: dict[str, Grey]) -> None:
    for image in images.values():
        stored = engines["windows"].search(image).matches[0].image_id
        answer = engines["windows"].search_stored(stored)
        assert (answer.grade, answer.matches) == ("none", ())


# -- behind a server ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def target(stores: dict[str, Path]) -> Iterator[str]:
    with serving(stores["windows"]) as address:
        yield address


@pytest.fixture(scope="module")
def remote(target: str) -> Iterator[Engine]:
    with connect(target) as engine:
        yield engine


def test_answers_are_the_same_embedded_and_remote(
    answers: Answers, engines: dict[str, Engine], remote: Engine, images: dict[str, Grey]
) -> None:
    transforms = set()
    names = [*TURNED, *CHANGED, *WINDOWED]
    for number, name in enumerate(names):
        category = CATEGORIES[number % len(CATEGORIES)]
        answer = remote.search(query_of(name, images[category]))
        assert answer == answers("windows", name, category)
        transforms |= {match.transform for match in answer.matches}
    assert len(transforms) > len(names) // 2
    changes: list[tuple[str, dict[str, Any]]] = [
        ("top left corner", {"reach": "views"}), ("rotated by 90", {"reach": "views"}), ("inverted", {"k": 1}),
        ("inverted", {"reach": "frame"}), ("bar added", {"categories": ["Tips"]}), ("mirrored", {"verify": False}),
        ("bottom 8 % cut", {"max_distance": 1024}), ("rotated by 90", {"excellent_ssim": 1.0}),
    ]  # fmt: skip
    for name, options in changes:
        query = query_of(name, images["Powder"])
        assert remote.search(query, **options) == engines["windows"].search(query, **options)


def test_answers_to_fingerprints_are_those_without_pixels(
    stores: dict[str, Path], target: str, images: dict[str, Grey]
) -> None:
    store = Store(stores["windows"])
    changes = set()
    with RawClient(target) as client:
        for query in changed(images["Powder"]):
            message = similarity_pb2.Query(fingerprint=fingerprint_message(Fingerprint.of_pixels(query)))
            result = client.call(client.similarity.Search, similarity_pb2.SearchRequest(query=message)).result
            whole = Query.of_pixels(query)
            expected = Matcher(store).match(Query(whole.hashed, whole.thumbnail))
            answer = answer_of(result.answer)
            assert answer == expected
            assert (answer.grade, answer.category) == ("good", "Powder")
            assert all(match.ssim is None for match in answer.matches)
            assert result.pixels_would_change_grade == any(match.comparable for match in answer.matches)
            changes.add(result.pixels_would_change_grade)
            [unverified] = Matcher(store).match_all([Query(whole.hashed, whole.thumbnail)], limits=Limits(verify=False))
            assert unverified.matches == ()
    store.close()
    assert changes == {True, False}


def test_statistics_contain_the_reach(engines: dict[str, Engine], remote: Engine) -> None:
    assert {reach: engine.stats()["index"]["reach"] for reach, engine in engines.items()} == {
        reach: reach for reach in engines
    }
    assert remote.stats()["index"]["reach"] == "windows"


def test_server_refuses_an_unknown_reach(target: str, images: dict[str, Grey]) -> None:
    query = similarity_pb2.Query(fingerprint=fingerprint_message(Fingerprint.of_pixels(images["Tips"])))
    with RawClient(target) as client:
        request = similarity_pb2.SearchRequest(query=query)
        request.options.policy.reach = 9  # type: ignore[assignment]
        failure = client.failure(client.similarity.Search, request)
    assert (failure.code, failure.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert failure.fields == ("options.policy.reach",)


# -- writing -----------------------------------------------------------------------------------------------------------


def upload(client: RawClient, image: Grey, source: str) -> int:
    data = io.BytesIO()
    tifffile.imwrite(data, image)
    described = catalog_pb2.ImageDescription(source=source, category="L2")
    header = catalog_pb2.UploadHeader(sequence=1, size_bytes=len(data.getvalue()), description=described)
    messages = [
        catalog_pb2.UploadImagesRequest(header=header), catalog_pb2.UploadImagesRequest(chunk=data.getvalue()),
    ]  # fmt: skip
    [answer] = client.call(client.catalog.UploadImages, iter(messages))
    return int(answer.generation)


def upsert(client: RawClient, image: Grey, source: str) -> int:
    new = catalog_pb2.NewImage(
        description=catalog_pb2.ImageDescription(source=source, category="L2"),
        fingerprint=fingerprint_message(Fingerprint.of_pixels(image)),
    )
    request = catalog_pb2.BatchUpsertImagesRequest(images=[new])
    return int(client.call(client.catalog.BatchUpsertImages, request).generation)


@pytest.mark.parametrize("write", [upload, upsert])
@pytest.mark.parametrize("reach", ["frame", "views", "windows"])
def test_images_written_through_the_server_have_all_frames(
    stores: dict[str, Path], tmp_path: Path, write: Callable[[RawClient, Grey, str], int], reach: str
) -> None:
    store = Path(shutil.copytree(stores[reach], tmp_path / "store"))
    new = micrograph("Films_Coated_Surface", 5)
    queries = {
        "frame": new,
        "views": query_of("rotated by 90", new),
        "windows": query_of("top left corner", new),
    }
    order = list(queries)
    with serving(store) as target, RawClient(target) as client, connect(target) as remote:
        assert remote.search(queries["views"]).grade == "none"
        write(client, micrograph("Tips", 6), "lims:1")
        write(client, new, "lims:1")  # replaces the image and its frames
        for needed, query in queries.items():
            answer = remote.search(query)
            found = order.index(reach) >= order.index(needed)
            assert answer.category == ("Films_Coated_Surface" if found else None), needed
            assert [match.source for match in answer.matches[:1]] == ["lims:1"] * found
        assert remote.search(query_of("rotated by 90", micrograph("Tips", 6))).grade == "none"


def test_running_server_loads_what_another_process_indexes(
    stores: dict[str, Path], images: dict[str, Grey], tmp_path: Path
) -> None:
    root = tmp_path
    shutil.copytree(stores["views"].parent / "collection", root / "collection")
    make_store(root, {}, "views", "store")
    new = micrograph("Films_Coated_Surface", 5)
    turned, cut = query_of("rotated by 270", new), query_of("top left corner", new)
    with serving(root / "store", refresh_seconds=0.05) as target, connect(target) as remote:
        assert remote.search(turned).grade == "none"
        make_store(root, {"Films_Coated_Surface": new}, "views", "store")
        assert eventually(lambda: remote.search(turned).category == "Films_Coated_Surface")
        assert remote.search(query_of("mirrored", images["Tips"])).category == "Tips"
        assert remote.search(cut).grade == "none"
        make_store(root, {}, "windows", "store")
        assert eventually(lambda: remote.search(cut).category == "Films_Coated_Surface")
        assert remote.stats()["index"]["reach"] == "windows"
        make_store(root, {}, "frame", "store")
        assert eventually(lambda: remote.search(turned).grade == "none")


def test_frames_and_records_are_of_one_generation(images: dict[str, Grey], tmp_path: Path) -> None:
    store = Path(make_store(tmp_path, images, "views"))
    query = query_of("rotated by 90", images["Tips"])
    with connect(store) as engine:
        expected = engine.search(query)
        with open_writer(store) as writer:
            writer.catalog.delete([int(expected.matches[0].image_id, 16)], writer.generation)
            with connect(store) as fresh:
                assert fresh.search(query) == engine.search(query) == expected
            writer.publish()
        assert expected.category == "Tips"
        assert engine.search(query) == expected
        with connect(store) as fresh:
            assert fresh.search(query).grade == "none"


# -- the command -------------------------------------------------------------------------------------------------------


def test_commands_index_for_a_reach_and_search_with_one(
    stores: dict[str, Path], images: dict[str, Grey], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def twinscope(*arguments: object) -> Any:
        assert main([str(argument) for argument in arguments]) == 0
        return capsys.readouterr().out

    store, query = tmp_path / "store", tmp_path / "query.png"
    Image.fromarray(query_of("top left corner", images["Tips"])).save(query)
    collection = stores["frame"].parent / "collection"
    for options, expected in (
        ((), "views"), (("--reach", "windows"), "windows"), ((), "windows"), (("--reach", "frame"), "frame"),
        (("--reach", "windows"), "windows"),
    ):  # fmt: skip
        twinscope("index", collection, "--store", store, *options)
        assert json.loads(twinscope("store", "stats", store, "--json"))["index"]["reach"] == expected
    found, _summary = [json.loads(line) for line in twinscope("search", query, "--at", store, "--json").splitlines()]
    assert found["category"] == "Tips"
    assert found["matches"][0]["transform"]["query_frame"] == "whole"
    narrower = twinscope("search", query, "--at", store, "--json", "--reach", "views")
    assert json.loads(narrower.splitlines()[0])["grade"] == "none"
    with pytest.raises(SystemExit):
        main(["index", str(collection), "--store", str(store), "--reach", "everything"])
    assert "--reach" in capsys.readouterr().err


def test_stats_command_prints_the_reach(stores: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "stats", str(stores["windows"])]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if str(stores["windows"].parent) not in line]
    assert "windows" in "\n".join(lines)


@pytest.mark.parametrize("shape", [(39, 192), (24, 24), (1, 1), (0, 5)])
def test_images_too_small_to_be_hashed_are_not_near(shape: tuple[int, int]) -> None:
    small, large = np.full(shape, 7, np.uint8), micrograph("Tips")
    assert whole_bits(small, small) == whole_bits(small, large) == whole_bits(large, small) == 1024
    assert whole_bits(large, large) == 0
