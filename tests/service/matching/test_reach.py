"""Reach: twins that were turned, mirrored, inverted, cropped or given another bar, and what is still refused."""

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
    """Put a bar with a text and a scale below an image."""
    height, width = image.shape
    strip = Image.new("L", (width, round(share * height)), 0)
    draw = ImageDraw.Draw(strip)
    draw.text((6, 3), "15.0 kV  WD 8.1 mm  x2500", fill=255)
    draw.rectangle((0.75 * width, 0.4 * strip.height, 0.95 * width, 0.6 * strip.height), fill=255)
    return np.vstack([image, np.asarray(strip)])


def part(image: Grey, left: float, top: float, right: float, bottom: float) -> Grey:
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
"""What was done to the query, and what is to be done to make it look like the reference again."""

CHANGED: dict[str, Callable[[Grey], Grey]] = {
    **{f"bottom {cut} % cut": lambda image, cut=cut: bottom_cut(image, cut / 100) for cut in (3, 5, 8, 12)},  # type: ignore[misc]
    "bar added": with_bar,
    "bottom cut, bar added": lambda image: with_bar(bottom_cut(image, 0.05), 0.1),
    "a margin lost": lambda image: part(image, 0.02, 0.02, 0.98, 0.98),
    "bottom cut, rotated, inverted": lambda image: 255 - np.rot90(bottom_cut(image, 0.08)),
}

WINDOWED: dict[str, Callable[[Grey], Grey]] = {
    "7.5 % off each side": lambda image: part(image, 0.075, 0.075, 0.925, 0.925),
    "top left corner": lambda image: part(image, 0, 0, 0.8, 0.8),
    "bottom right corner": lambda image: part(image, 0.2, 0.2, 1, 1),
    "right edge": lambda image: part(image, 0.1, 0.033, 1, 0.933),
}


@pytest.fixture(scope="module")
def pictures() -> dict[str, Grey]:
    return {category: micrograph(category) for category in CATEGORIES}


@pytest.fixture(scope="module")
def stores(pictures: dict[str, Grey], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A store of the pictures for every reach."""
    root = tmp_path_factory.mktemp("reach")
    made = {}
    for reach in ("frame", "views", "windows"):
        if made:
            shutil.copytree(root / "frame", root / reach)
        made[reach] = make_store(root, pictures, reach)
    return made


def make_store(root: Path, pictures: dict[str, Grey], reach: Any, store: str = "") -> Path:
    """Index pictures, given by category or ``category/name``, with the grey levels that they have."""
    for name, pixels in pictures.items():
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


class Asked:
    """Answers of the embedded stores to changed pictures; each is asked for once."""

    def __init__(self, engines: dict[str, Engine], pictures: dict[str, Grey]) -> None:
        self._engines, self._pictures = engines, pictures
        self._known: dict[tuple[str, str, str], Answer] = {}

    def __call__(self, reach: str, name: str, category: str) -> Answer:
        key = reach, name, category
        if key not in self._known:
            self._known[key] = self._engines[reach].search(query_of(name, self._pictures[category]))
        return self._known[key]


@pytest.fixture(scope="module")
def asked(engines: dict[str, Engine], pictures: dict[str, Grey]) -> Asked:
    return Asked(engines, pictures)


def query_of(name: str, image: Grey) -> Grey:
    """Change an image in one of the ways of `TURNED`, `CHANGED` and `WINDOWED`."""
    do = TURNED[name][0] if name in TURNED else (CHANGED | WINDOWED)[name]
    return np.ascontiguousarray(do(image))


def transform(answer: Answer) -> Transform:
    assert answer.best is not None
    assert answer.best.transform is not None
    return answer.best.transform


# -- what is found -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TURNED)
def test_a_turned_twin_is_found_and_the_answer_says_how(asked: Asked, name: str) -> None:
    for category in CATEGORIES:
        answer = asked("views", name, category)
        assert answer.category == category
        found = transform(answer)
        assert found.symmetry == TURNED[name][1]
        assert str(found).startswith(f"query {TURNED[name][1]}")
        assert answer.reason.endswith(f"({found})")


@pytest.mark.parametrize("name", CHANGED)
def test_a_cropped_twin_or_one_with_another_bar_is_found(asked: Asked, name: str) -> None:
    for category in CATEGORIES:
        answer = asked("views", name, category)
        assert (answer.grade, answer.category) == ("good", category)
        best = answer.best
        assert best is not None
        if best.transform is None:  # near enough as it is
            assert name in {"bottom 3 % cut", "a margin lost", "bottom cut, bar added"}
            assert best.ssim is not None
        else:
            assert best.transform.symmetry == ("rotated by 90, inverted" if "rotated" in name else "")
            assert not best.transform.is_whole
            assert answer.reason.endswith(f"({best.transform})")


@pytest.mark.parametrize("name", WINDOWED)
def test_a_part_of_the_field_is_found_by_windows_and_not_without(
    asked: Asked, engines: dict[str, Engine], pictures: dict[str, Grey], name: str
) -> None:
    for category in CATEGORIES:
        answer = asked("windows", name, category)
        assert (answer.grade, answer.category) == ("good", category)
        found = transform(answer)
        assert (found.symmetry, found.query_frame) == ("", "whole")
        assert found.reference_frame != "whole"
    query = query_of(name, pictures[CATEGORIES[0]])
    assert engines["views"].search(query, **NEAR).grade == "none"
    assert engines["windows"].search(query, reach="views", **NEAR).grade == "none"


@pytest.mark.parametrize("crop", [pytest.param(0.05, id="5 %"), pytest.param(0.1, id="10 %")])
def test_a_centred_crop_is_found(engines: dict[str, Engine], pictures: dict[str, Grey], crop: float) -> None:
    for category, image in pictures.items():
        query = np.ascontiguousarray(part(image, crop, crop, 1 - crop, 1 - crop))
        assert engines["windows"].search(query, max_p_wrong=1).category == category


def test_a_field_shifted_by_12_percent_is_found(tmp_path: Path) -> None:
    """Fields of one size that share 88 %, as of a stage that has moved."""
    wide = {category: synthesise(category, 1, width=320, height=180, info_bar=False) for category in CATEGORIES}
    store = make_store(tmp_path, {category: image[:, :240] for category, image in wide.items()}, "windows")
    with connect(store) as engine:
        for category, image in wide.items():
            query = np.ascontiguousarray(image[:, 29:269])
            assert engine.search(query, reach="views", **NEAR).grade == "none"
            assert engine.search(query).category == category


# -- SSIM: only where the pixels lie over each other -------------------------------------------------------------------


def test_the_very_pixels_turned_are_the_same_acquisition(asked: Asked) -> None:
    grades = {(name, category): asked("views", name, category).grade for name in TURNED for category in CATEGORIES}
    assert {key: grade for key, grade in grades.items() if grade != "excellent"} == {}


def test_only_what_was_compared_as_a_whole_has_an_ssim(asked: Asked) -> None:
    compared = 0
    for name in TURNED:
        for category in CATEGORIES:
            answer = asked("views", name, category)
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
            best = asked("views", name, category).best
            assert best is not None
            assert (best.ssim is not None) == (best.transform is None)


def test_the_ssim_is_that_of_the_query_turned_back(engines: dict[str, Engine], pictures: dict[str, Grey]) -> None:
    rng = np.random.default_rng(1)
    compared = 0
    for image in pictures.values():
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


# -- turning it off ----------------------------------------------------------------------------------------------------


NEAR: dict[str, Any] = {"far_distance": 300}
"""Nothing is compared beyond the usual distance: there a plain hash finds a part of a field now and then."""
NO_PLAIN_TWIN = ("rotated by 90", "inverted", "bottom 8 % cut", "bar added", "top left corner")
"""Ways in which no plain search finds the twin, of every kind."""


def changed(image: Grey) -> Iterator[Grey]:
    for name in NO_PLAIN_TWIN:
        yield query_of(name, image)


def test_the_reach_of_a_policy_turns_it_off(engines: dict[str, Engine], pictures: dict[str, Grey]) -> None:
    narrow = POLICIES["default"].adjusted({"reach": "frame", "far_distance": 300})
    assert (narrow.name, narrow.reach) == ("default+changes", "frame")
    for query in changed(pictures["Powder"]):
        found = engines["windows"].search(query)
        assert found.category == "Powder"
        assert found.policy.reach == "windows"
        for answer in (
            engines["windows"].search(query, reach="frame", **NEAR),
            engines["windows"].search(query, policy=narrow),
            engines["windows"].search(query, policy="legacy"),
        ):
            assert (answer.grade, answer.matches, answer.policy.reach) == ("none", (), "frame")


def test_a_store_of_whole_frames_finds_none_of_them(engines: dict[str, Engine], pictures: dict[str, Grey]) -> None:
    for query in changed(pictures["Particles"]):
        answer = engines["frame"].search(query, **NEAR)
        assert (answer.grade, answer.matches) == ("none", ())
        assert answer.policy.reach == "windows"


def test_noise_is_seen_through_beyond_the_usual_distance(tmp_path: Path) -> None:
    """Heavy noise moves the hash of a faint picture, but not the place where the two fields agree."""
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


GROUNDS = (*CATEGORIES, "Biological", "Fibres")


def on_dark_ground(seed: int) -> Grey:
    """Bright spots, and faint shades of the ground between them."""
    noise = np.random.default_rng(seed).standard_normal((2, 180, 240))
    ground, spots = gaussian_filter(noise[0], 3), gaussian_filter(noise[1], 5)
    spots = np.clip(spots / spots.std() - 0.9, 0, None)
    return np.clip(18 + 7 * ground / ground.std() + 90 * spots, 0, 255).astype(np.uint8)


def darker(image: Grey) -> Grey:
    return np.clip(image.astype(int) - 40, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def on_ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    made = {category: on_dark_ground(seed) for seed, category in enumerate(GROUNDS)}
    made["Fibres"] = 255 - made["Fibres"]
    with connect(make_store(tmp_path_factory.mktemp("ground"), made, "views")) as engine:
        yield engine


@pytest.mark.parametrize("turned", [lambda image: image, lambda image: np.rot90(255 - image)], ids=["as is", "turned"])
@pytest.mark.parametrize("seed", range(5))
def test_a_twin_whose_ground_went_black_is_found(on_ground: Engine, seed: int, turned: Callable[[Grey], Grey]) -> None:
    image = on_dark_ground(seed)
    one, other = (hash_pixels(pixels) for pixels in (image, darker(image)))
    assert isinstance(one, PHash)
    assert isinstance(other, PHash)
    assert (darker(image) == 0).mean() > 0.5
    assert one.distance(other) > 300
    answer = on_ground.search(np.ascontiguousarray(turned(darker(image))))
    assert answer.grade == "good"
    assert answer.best is not None
    assert answer.best.category == GROUNDS[seed]


def test_others_whose_ground_went_black_get_no_label(on_ground: Engine) -> None:
    for seed in range(10, 30):
        assert on_ground.search(darker(on_dark_ground(seed))).grade == "none"


def test_one_panel_brighter_than_all_fields_is_no_twin(tmp_path: Path) -> None:
    """Then the brightest quarter of the pictures is the same."""

    def beside_a_panel(seed: int) -> Grey:
        image = on_dark_ground(seed) // 2
        image[:150, 170:] = np.clip(
            180 + 40 * gaussian_filter(np.random.default_rng(9).standard_normal((150, 70)), 2), 140, 255
        )
        return image

    pictures = {f"Powder/{seed}": beside_a_panel(seed) for seed in range(4)}
    with connect(make_store(tmp_path, pictures, "views")) as engine:
        for seed in range(10, 30):
            assert engine.search(beside_a_panel(seed)).grade not in {"good", "excellent"}
            assert engine.search(darker(beside_a_panel(seed))).grade not in {"good", "excellent"}
        for seed in range(4):
            assert engine.search(darker(beside_a_panel(seed))).grade in {"good", "excellent", "doubtful"}


def test_who_draws_a_line_means_it(engines: dict[str, Engine], pictures: dict[str, Grey]) -> None:
    assert POLICIES["default"].adjusted({"max_distance": 250}).far_distance == 250
    assert POLICIES["default"].adjusted({"max_distance": 250, "far_distance": 400}).far_distance == 400
    for query in changed(pictures["Powder"]):
        for match in engines["views"].search(query, max_distance=120).matches:
            assert match.distance <= 120


@pytest.mark.parametrize("reach", ["nowhere", "", 1, ["views"]])
def test_an_unknown_reach_is_refused(engines: dict[str, Engine], pictures: dict[str, Grey], reach: Any) -> None:
    with pytest.raises(ValueError, match="reach must be one of frame, views, windows"):
        engines["views"].search(pictures["Tips"], reach=reach)


def test_without_verification_nothing_goes_further(engines: dict[str, Engine], pictures: dict[str, Grey]) -> None:
    for query in changed(pictures["Tips"]):
        answer = engines["windows"].search(query, verify=False)
        assert (answer.grade, answer.matches) == ("none", ())


def test_a_hash_alone_goes_no_further(engines: dict[str, Engine], pictures: dict[str, Grey]) -> None:
    hashed = hash_pixels(query_of("mirrored", pictures["Tips"]))
    assert isinstance(hashed, PHash)
    [answer] = engines["windows"].search_hashes([hashed])
    assert (answer.grade, answer.matches) == ("none", ())


def test_what_is_found_as_it_is_is_answered_as_before(engines: dict[str, Engine], pictures: dict[str, Grey]) -> None:
    grades = set()
    for image in pictures.values():
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


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("category", ["Particles", "Tips", "Biological"])
def test_foreign_micrographs_get_no_label_however_changed(engines: dict[str, Engine], category: str) -> None:
    foreign = micrograph(category, 70)
    names = ("rotated by 270", "mirrored", "bottom cut, rotated, inverted", "a margin lost", "7.5 % off each side")
    for query in (foreign, *changed(foreign), *(query_of(name, foreign) for name in names)):
        answer = engines["windows"].search(query)
        assert (answer.grade, answer.category) == ("none", None)


def test_foreign_micrographs_get_no_label_at_any_distance(engines: dict[str, Engine]) -> None:
    """Where every reference is a candidate, the scene score alone refuses."""
    foreign = micrograph("Powder", 71)
    for query in (foreign, query_of("rotated by 90", foreign), query_of("inverted", foreign), with_bar(foreign)):
        answer = engines["windows"].search(query, max_distance=1024)
        assert (answer.grade, answer.category, len(answer.matches)) == ("none", None, len(CATEGORIES))


def test_what_cannot_be_hashed_stays_so(engines: dict[str, Engine]) -> None:
    stripes = np.tile(np.uint8([0, 255]), (240, 160))
    for query in (np.full((240, 320), 7, np.uint8), stripes, stripes.T, 255 - stripes):
        answer = engines["windows"].search(np.ascontiguousarray(query))
        assert (answer.grade, answer.matches) == ("unhashable", ())


@pytest.mark.parametrize("shape", [(60, 30), (30, 60), (39, 39), (12, 12)])
def test_a_query_too_small_for_frames_has_no_twin(
    engines: dict[str, Engine], pictures: dict[str, Grey], shape: tuple[int, int]
) -> None:
    small = np.asarray(Image.fromarray(pictures["Tips"]).resize(shape))
    answer = engines["windows"].search(query_of("rotated by 90", small))
    assert (answer.grade, answer.matches) == ("none", ())


def test_frames_too_small_to_be_hashed_are_near_nothing(tmp_path: Path) -> None:
    """Of images 44 pixels high the whole is hashed, but not what is left without 14 % of it."""
    small = {category: micrograph(category)[60:104, :192] for category in (*CATEGORIES, "Fibres", "Nanowires")}
    with connect(make_store(tmp_path, small, "views")) as engine:
        grades = {category: engine.search(query_of("inverted", image)).category for category, image in small.items()}
    assert grades == {category: category for category in small}


# -- parts that are far away -------------------------------------------------------------------------------------------


FAR_SHAPE = (192, 256)


@pytest.fixture(scope="module")
def outlines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, dict[str, Grey]]]:
    """A store of tips, of which parts are like parts of other tips, and of what is not; and its pictures."""
    names = ("Tips/1007", "Tips/1011", "Powder/1", "Fibres/1")
    made = {name: large_micrograph(*name.split("/")) for name in names}
    with connect(make_store(tmp_path_factory.mktemp("outlines"), made, "windows")) as engine:
        yield engine, made


def large_micrograph(category: str, number: str) -> Grey:
    barred = int(number) > 1000 and int(number) % 2 == 1
    height, width = FAR_SHAPE
    return synthesise(category, int(number), width=width, height=height, info_bar=barred)


@pytest.mark.parametrize("number", ["1004", "1009"])
def test_an_outline_that_one_part_of_a_reference_has_as_well_is_no_twin(
    outlines: tuple[Engine, dict[str, Grey]], number: str
) -> None:
    """Beyond the usual distance, where the best of thousands of parts is looked at."""
    engine, _ = outlines
    query = large_micrograph("Tips", number)
    answer = engine.search(query)
    assert (answer.grade, answer.matches) == ("none", ())
    assert engine.search(np.ascontiguousarray(query[:, ::-1])).grade == "none"


@pytest.mark.parametrize("name", ["Tips/1011", "Powder/1", "Fibres/1"])
@pytest.mark.parametrize("sigma", [0, 8])
def test_a_panel_that_is_far_by_hash_is_found_by_its_clear_score(
    outlines: tuple[Engine, dict[str, Grey]], name: str, sigma: float
) -> None:
    engine, made = outlines
    panel = Image.fromarray(part(made[name], 0.22, 0.3, 0.74, 0.82)).resize(FAR_SHAPE[::-1])
    noise = np.random.default_rng(1).normal(0, sigma, FAR_SHAPE)
    query = np.clip(np.asarray(panel) + noise, 0, 255).astype(np.uint8)
    answer = engine.search(query)
    assert (answer.grade, answer.category) == ("good", name.partition("/")[0])
    assert answer.best is not None
    assert answer.best.distance > 300
    assert (answer.best.scene_score or 0) >= 0.75
    assert transform(answer).reference_frame != "whole"
    assert engine.search(query, **NEAR).grade == "none"


def test_references_of_a_few_pixels_stop_no_query(tmp_path: Path) -> None:
    """A part of such a one may have no pixels at all; where there is little else, they are a twin's neighbours."""
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
        for picture in tiny.values():
            engine.search(picture, max_distance=1024)
    assert len(transforms) >= 3


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def twins(pictures: dict[str, Grey], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One field many times among the Tips, once among the Fibres, mirrored once; and a corner of it."""
    field = pictures["Powder"]
    made = {f"Tips/{number}": field for number in range(4)}
    made |= {"Fibres/same": field, "Powder/mirrored": np.ascontiguousarray(field[:, ::-1])}
    made |= {"Particles/corner": query_of("top left corner", field)}
    with connect(make_store(tmp_path_factory.mktemp("twins"), made, "windows")) as engine:
        yield engine


@pytest.mark.parametrize("k", [1, 2, 5])
def test_only_the_categories_asked_for_are_looked_at(twins: Engine, pictures: dict[str, Grey], k: int) -> None:
    query = query_of("rotated by 90", pictures["Powder"])
    for category in ("Tips", "Fibres", "Powder"):
        answer = twins.search(query, categories=[category], k=k)
        assert answer.category == category
        assert {match.category for match in answer.matches} == {category}
        assert len(answer.matches) == min(k, 4 if category == "Tips" else 1)
    assert twins.search(query, categories=["Fibres", "Tips"], k=9).grade == "ambiguous"
    foreign = twins.search(query_of("inverted", micrograph("Powder", 70)), categories=["Tips"], k=k)
    assert (foreign.grade, foreign.matches) == ("none", ())


@pytest.mark.parametrize("k", [1, 3])
def test_categories_hold_in_the_windows_as_well(twins: Engine, pictures: dict[str, Grey], k: int) -> None:
    query = query_of("bottom right corner", pictures["Powder"])
    for category in ("Tips", "Fibres"):
        answer = twins.search(query, categories=[category], k=k)
        assert answer.category == category
        assert {match.category for match in answer.matches} == {category}
        assert transform(answer).query_frame == "whole"


@pytest.mark.parametrize("k", [1, 5])
def test_a_stored_image_is_never_its_own_twin(twins: Engine, pictures: dict[str, Grey], k: int) -> None:
    mirrored = twins.search(np.fliplr(pictures["Powder"])).matches[0]
    assert mirrored.category == "Powder"
    answer = twins.search_stored(mirrored.image_id, categories=["Tips", "Powder"], k=k)
    assert (answer.grade, answer.category) == ("good", "Tips")
    assert mirrored.image_id not in {match.image_id for match in answer.matches}
    assert len(answer.matches) == min(k, 4)
    assert transform(answer).symmetry == "mirrored"
    assert answer.best is not None
    assert answer.best.ssim is None  # the pixels are not at hand
    corner = twins.search(query_of("top left corner", pictures["Powder"])).matches[0]
    assert corner.category == "Particles"
    larger = twins.search_stored(corner.image_id, categories=["Tips", "Particles"], k=k)
    assert (larger.category, transform(larger).query_frame) == ("Tips", "whole")
    assert corner.image_id not in {match.image_id for match in larger.matches}


def test_a_stored_image_alone_has_no_twin(engines: dict[str, Engine], pictures: dict[str, Grey]) -> None:
    for image in pictures.values():
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
    asked: Asked, engines: dict[str, Engine], remote: Engine, pictures: dict[str, Grey]
) -> None:
    transforms = set()
    names = [*TURNED, *CHANGED, *WINDOWED]
    for number, name in enumerate(names):
        category = CATEGORIES[number % len(CATEGORIES)]
        answer = remote.search(query_of(name, pictures[category]))
        assert answer == asked("windows", name, category)
        transforms |= {match.transform for match in answer.matches}
    assert len(transforms) > len(names) // 2
    changes: list[tuple[str, dict[str, Any]]] = [
        ("top left corner", {"reach": "views"}), ("rotated by 90", {"reach": "views"}), ("inverted", {"k": 1}),
        ("inverted", {"reach": "frame"}), ("bar added", {"categories": ["Tips"]}), ("mirrored", {"verify": False}),
        ("bottom 8 % cut", {"max_distance": 1024}), ("rotated by 90", {"excellent_ssim": 1.0}),
    ]  # fmt: skip
    for name, options in changes:
        query = query_of(name, pictures["Powder"])
        assert remote.search(query, **options) == engines["windows"].search(query, **options)


def test_answers_to_fingerprints_are_those_without_pixels(
    stores: dict[str, Path], target: str, pictures: dict[str, Grey]
) -> None:
    store = Store(stores["windows"])
    changes = set()
    with RawClient(target) as client:
        for query in changed(pictures["Powder"]):
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
            [deaf] = Matcher(store).match_all([Query(whole.hashed, whole.thumbnail)], limits=Limits(verify=False))
            assert deaf.matches == ()
    store.close()
    assert changes == {True, False}


def test_the_statistics_tell_the_reach(engines: dict[str, Engine], remote: Engine) -> None:
    assert {reach: engine.stats()["index"]["reach"] for reach, engine in engines.items()} == {
        reach: reach for reach in engines
    }
    assert remote.stats()["index"]["reach"] == "windows"


def test_an_unknown_reach_is_refused_by_the_server_too(target: str, pictures: dict[str, Grey]) -> None:
    query = similarity_pb2.Query(fingerprint=fingerprint_message(Fingerprint.of_pixels(pictures["Tips"])))
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
def test_images_written_through_the_server_have_the_frames_of_its_store(
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
        write(client, new, "lims:1")  # replaces it, and its frames
        for needed, query in queries.items():
            answer = remote.search(query)
            found = order.index(reach) >= order.index(needed)
            assert answer.category == ("Films_Coated_Surface" if found else None), needed
            assert [match.source for match in answer.matches[:1]] == ["lims:1"] * found
        assert remote.search(query_of("rotated by 90", micrograph("Tips", 6))).grade == "none"


def test_a_running_server_takes_up_what_is_indexed_beside_it(
    stores: dict[str, Path], pictures: dict[str, Grey], tmp_path: Path
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
        assert remote.search(query_of("mirrored", pictures["Tips"])).category == "Tips"
        assert remote.search(cut).grade == "none"
        make_store(root, {}, "windows", "store")
        assert eventually(lambda: remote.search(cut).category == "Films_Coated_Surface")
        assert remote.stats()["index"]["reach"] == "windows"
        make_store(root, {}, "frame", "store")
        assert eventually(lambda: remote.search(turned).grade == "none")


def test_frames_and_records_are_of_one_generation(pictures: dict[str, Grey], tmp_path: Path) -> None:
    store = Path(make_store(tmp_path, pictures, "views"))
    query = query_of("rotated by 90", pictures["Tips"])
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


def test_the_command_indexes_for_a_reach_and_searches_within_one(
    stores: dict[str, Path], pictures: dict[str, Grey], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def twinscope(*arguments: object) -> Any:
        assert main([str(argument) for argument in arguments]) == 0
        return capsys.readouterr().out

    store, query = tmp_path / "store", tmp_path / "query.png"
    Image.fromarray(query_of("top left corner", pictures["Tips"])).save(query)
    collection = stores["frame"].parent / "collection"
    for options, expected in (
        ((), "views"), (("--reach", "windows"), "windows"), ((), "windows"), (("--reach", "frame"), "frame"),
        (("--reach", "windows"), "windows"),
    ):  # fmt: skip
        twinscope("index", collection, "--store", store, *options)
        assert json.loads(twinscope("store", "stats", store, "--json"))["index"]["reach"] == expected
    [found] = [json.loads(line) for line in twinscope("search", query, "--at", store, "--json").splitlines()]
    assert found["category"] == "Tips"
    assert found["matches"][0]["transform"]["query_frame"] == "whole"
    narrower = twinscope("search", query, "--at", store, "--json", "--reach", "views")
    assert json.loads(narrower)["grade"] == "none"
    with pytest.raises(SystemExit):
        main(["index", str(collection), "--store", str(store), "--reach", "everything"])
    assert "--reach" in capsys.readouterr().err


def test_the_command_tells_people_the_reach(stores: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "stats", str(stores["windows"])]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if str(stores["windows"].parent) not in line]
    assert "windows" in "\n".join(told)


@pytest.mark.parametrize("shape", [(39, 192), (24, 24), (1, 1), (0, 5)])
def test_pictures_too_small_to_be_hashed_are_not_near(shape: tuple[int, int]) -> None:
    small, large = np.full(shape, 7, np.uint8), micrograph("Tips")
    assert whole_bits(small, small) == whole_bits(small, large) == whole_bits(large, small) == 1024
    assert whole_bits(large, large) == 0
