"""The matcher: from an image to a graded answer, for complete, changed and missing collections."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matching import Matcher
from PIL import Image, ImageOps
from shelf import Shelf
from skimage.metrics import structural_similarity
from twinscope_client.demo.micrographs import synthesise
from twinscope_indexer.errors import ImageError, RecipeError
from twinscope_indexer.hashing.codes import BITS
from twinscope_indexer.hashing.perceptual import PHash, hash_pixels
from twinscope_indexer.imaging.reader import read_image
from twinscope_indexer.indexing.run import index
from twinscope_indexer.store.reader import Store, open_writer
from twinscope_service.matching.answer import UPLOADS
from twinscope_service.matching.policy import named_policy
from twinscope_service.matching.query import Query
from twinscope_service.matching.reference_pixels import ReferencePixels

_DEFAULT = named_policy("default")
_LEGACY = named_policy("legacy")


@contextmanager
def matching(store: Path) -> Iterator[tuple[Matcher, Store]]:
    opened = Store(store)
    try:
        yield Matcher(opened), opened
    finally:
        opened.close()


def encoded(pixels: np.ndarray, quality: int) -> np.ndarray:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=quality)
    return read_image(data.getvalue()).pixels


def make_store(folder: Path, images: dict[str, np.ndarray]) -> Path:
    """Index images with names of the form ``Category/name.png``."""
    for name, pixels in images.items():
        path = folder / "collection" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    index([folder / "collection"], folder / "store", workers=1)
    return folder / "store"


def micrograph(category: str, number: int, width: int = 320, height: int = 240) -> np.ndarray:
    return synthesise(category, number, width=width, height=height).astype(np.uint8)


# -- grades ------------------------------------------------------------------------------------------------------


def test_exact_twin_is_excellent(shelf: Shelf) -> None:
    with matching(shelf.store) as (matcher, _):
        for (category, number), pixels in shelf.pixels.items():
            answer = matcher.match(Query.of_pixels(pixels))
            assert answer.grade == "excellent"
            assert answer.category == category
            assert answer.best is not None
            assert answer.best.source == str(shelf.reference(category, number))
            assert answer.best.published_prefix == "L9"


def test_full_size_ssim_matches_scikit_image(shelf: Shelf) -> None:
    pixels = shelf.pixels["Tips", 1]
    with matching(shelf.store) as (matcher, _):
        answer = matcher.match(Query.of_pixels(encoded(pixels, 60)))
    with Image.open(shelf.reference("Tips", 1)) as image:
        reference = image.convert("L")
    standard = [
        np.asarray(ImageOps.autocontrast(ImageOps.equalize(image)))
        for image in (Image.fromarray(encoded(pixels, 60)), reference)
    ]
    assert answer.best is not None
    assert answer.best.ssim == pytest.approx(structural_similarity(*standard), abs=1e-5)


def test_re_encoded_noisy_twin_is_good(shelf: Shelf) -> None:
    noise = np.random.default_rng(1).normal(0, 9, (240, 320))
    changed = encoded(np.clip(shelf.pixels["Particles", 0] + noise, 0, 255).astype(np.uint8), 30)
    with matching(shelf.store) as (matcher, _):
        answer = matcher.match(Query.of_pixels(changed))
    assert answer.grade == "good"
    assert answer.category == "Particles"
    assert answer.best is not None
    assert answer.best.ssim is not None
    assert answer.best.ssim < 0.95
    assert answer.best.scene_score is not None
    assert answer.best.scene_score >= _DEFAULT.good_scene


@pytest.mark.parametrize("shape", [(160, 120), (640, 480), (300, 240)])
def test_twin_of_another_size_is_found_and_compared(shelf: Shelf, shape: tuple[int, int]) -> None:
    resized = Image.fromarray(shelf.pixels["Fibres", 1]).resize(shape, Image.Resampling.LANCZOS)
    with matching(shelf.store) as (matcher, _):
        answer = matcher.match(Query.of_pixels(np.asarray(resized)))
    assert answer.category == "Fibres"
    assert answer.best is not None
    assert answer.best.ssim is not None


def test_unrelated_image_gets_no_label_at_any_distance(shelf: Shelf) -> None:
    unrelated = micrograph("Particles", 77)
    with matching(shelf.store) as (matcher, _):
        nothing = matcher.match(Query.of_pixels(unrelated))
        assert nothing.matches == ()
        assert nothing.reason.startswith("no reference within 300 bits of the query; a search up to 430 bits found no")
        near = matcher.match(Query.of_pixels(unrelated), _DEFAULT.adjusted({"far_distance": 300}))
        assert near.reason == "no reference within 300 bits of the query"
        answer = matcher.match(Query.of_pixels(unrelated), _DEFAULT.adjusted({"max_distance": BITS, "k": 6}))
    assert answer.grade == "none"
    assert len(answer.matches) == 6
    assert answer.category is None
    assert all(found.scene_score is not None and found.ssim is None for found in answer.matches)


@pytest.mark.parametrize("pixels", [np.full((240, 320), 23, np.uint8), np.tile(np.uint8([0, 255]), (240, 160))])
def test_image_without_structure_is_unhashable(shelf: Shelf, pixels: np.ndarray) -> None:
    with matching(shelf.store) as (matcher, _):
        answer = matcher.match(Query.of_pixels(pixels))
    assert answer.grade == "unhashable"
    assert answer.matches == ()
    assert answer.query_hash is None


def test_image_with_two_categories_is_ambiguous_and_shows_both(tmp_path: Path) -> None:
    pixels = micrograph("Tips", 3)
    store = make_store(
        tmp_path, {"Tips/a.png": pixels, "Powder/b.png": pixels, "Fibres/c.png": micrograph("Fibres", 4)}
    )
    with matching(store) as (matcher, _):
        answer = matcher.match(Query.of_pixels(pixels))
    assert answer.grade == "ambiguous"
    assert answer.category is None
    assert {found.category for found in answer.matches} == {"Tips", "Powder"}
    assert "Tips" in answer.reason
    assert "Powder" in answer.reason


def test_hash_is_unverified_and_thumbnail_good_at_best(shelf: Shelf) -> None:
    whole = Query.of_pixels(shelf.pixels["Tips", 0])
    with matching(shelf.store) as (matcher, _):
        by_hash = matcher.match(Query(whole.hashed))
        by_thumbnail = matcher.match(Query(whole.hashed, whole.thumbnail))
    assert by_hash.grade == "unverified"
    assert by_hash.best is not None
    assert by_hash.best.category == "Tips"
    assert by_thumbnail.grade == "good"
    assert by_thumbnail.best is not None
    assert by_thumbnail.best.ssim is None


def test_hash_of_another_recipe_is_refused(shelf: Shelf) -> None:
    hashed = hash_pixels(shelf.pixels["Tips", 0])
    assert isinstance(hashed, PHash)
    with matching(shelf.store) as (matcher, _), pytest.raises(RecipeError, match="older/0"):
        matcher.match(Query(PHash(hashed.code, "older/0")))


def test_number_and_distance_of_candidates_are_limited(shelf: Shelf) -> None:
    query = Query.of_pixels(shelf.pixels["Tips", 0])
    with matching(shelf.store) as (matcher, _):
        near = matcher.match(query, _DEFAULT.adjusted({"k": 3, "max_distance": BITS}))
        own = near.best
        assert own is not None
        assert len(near.matches) == 3
        assert len(matcher.match(query, _DEFAULT.adjusted({"max_distance": own.distance})).matches) == 1
        if own.distance:
            assert not matcher.match(query, _DEFAULT.adjusted({"max_distance": own.distance - 1})).matches


def test_answer_contains_what_decided_it(shelf: Shelf) -> None:
    query = Query.of_pixels(shelf.pixels["Tips", 0])
    with matching(shelf.store) as (matcher, store):
        answer = matcher.match(query, _DEFAULT.adjusted({"k": 2}))
        assert answer.generation == store.view.generation == 1
    assert isinstance(query.hashed, PHash)
    assert answer.query_hash == query.hashed.hex
    assert answer.policy.k == 2
    assert answer.recipe == query.hashed.recipe
    assert answer.taxonomy


def test_empty_store_answers_none(tmp_path: Path) -> None:
    (tmp_path / "Tips").mkdir()
    index([tmp_path / "Tips"], tmp_path / "store", workers=1)
    with matching(tmp_path / "store") as (matcher, _):
        answer = matcher.match(Query.of_pixels(micrograph("Tips", 1)))
    assert (answer.grade, answer.taxonomy) == ("none", "")


# -- missing or changed references ------------------------------------------------------------------------------------


@pytest.fixture
def lone(tmp_path: Path) -> tuple[Path, Path, np.ndarray]:
    """Return a store of one image, the file of the image, and its pixels."""
    pixels = micrograph("Tips", 5)
    return make_store(tmp_path, {"Tips/a.png": pixels}), tmp_path / "collection/Tips/a.png", pixels


@pytest.mark.parametrize("policy", [_DEFAULT, _LEGACY])
def test_nothing_is_excellent_without_the_references_pixels(lone: Any, policy: Any) -> None:
    store, file, pixels = lone
    file.unlink()
    with matching(store) as (matcher, _):
        answer = matcher.match(Query.of_pixels(pixels), policy)
    assert answer.grade == ("good" if policy is _DEFAULT else "unverified")
    assert answer.best is not None
    assert answer.best.ssim is None
    assert "no such file" in answer.best.note


def test_another_image_with_the_references_name_is_not_compared(lone: Any) -> None:
    store, file, pixels = lone
    Image.fromarray(micrograph("Tips", 6)).save(file)
    with matching(store) as (matcher, _):
        answer = matcher.match(Query.of_pixels(pixels))
    assert answer.grade == "good"
    assert answer.best is not None
    assert "changed since it was indexed" in answer.best.note


def test_same_content_with_a_new_time_is_the_same_reference(lone: Any) -> None:
    store, file, pixels = lone
    shutil.copy(file, file.with_name("copy"))
    file.with_name("copy").replace(file)
    with matching(store) as (matcher, _):
        assert matcher.match(Query.of_pixels(pixels)).grade == "excellent"


def test_answer_comes_from_one_generation(tmp_path: Path) -> None:
    """An answer shows no image that is deleted or relabelled later, neither before nor after it is published."""
    pixels = micrograph("Tips", 5)
    store = make_store(tmp_path, {"Tips/a.png": pixels, "Tips/b.png": encoded(pixels, 95)})
    with matching(store) as (matcher, opened):
        first = matcher.match(Query.of_pixels(pixels)).best
        assert first is not None
        with open_writer(store) as writer:
            expected, view = matcher.match(Query.of_pixels(pixels)), opened.view
            number, other = (int(found.image_id, 16) for found in expected.matches)
            writer.catalog.relabel(other, "Powder", "L8", "1", writer.generation)
            writer.catalog.delete([number], writer.generation)
            assert matcher.match(Query.of_pixels(pixels)) == expected
            writer.publish()
            assert matcher.match(Query.of_pixels(pixels)) == expected
        opened.refresh()
        assert matcher.match_all([Query.of_pixels(pixels)], view=view) == [expected]
        answer = matcher.match(Query.of_pixels(pixels))
    assert [(int(found.image_id, 16), found.category) for found in answer.matches] == [(other, "Powder")]
    assert answer.generation == expected.generation + 1


def test_reference_without_a_thumbnail_is_unverified(lone: Any) -> None:
    store, _, pixels = lone
    with open_writer(store) as writer:
        writer.catalog._db.execute("DELETE FROM thumbnails")
    with matching(store) as (matcher, _):
        answer = matcher.match(Query.of_pixels(pixels))
    assert answer.grade == "unverified"
    assert "no thumbnail" in answer.reason


@pytest.mark.parametrize("damage", ["substr(data, 1, length(data) / 2)", "x'ffd8ff'", "zeroblob(length(data))"])
def test_damaged_thumbnail_affects_only_its_reference(tmp_path: Path, damage: str) -> None:
    """The answer states what is wrong and what to do."""
    pixels = {f"{category}/a.png": micrograph(category, 5) for category in ("Tips", "Powder", "Fibres", "Particles")}
    store = make_store(tmp_path, pixels)
    with open_writer(store) as writer:
        damaged = "SELECT id FROM images WHERE path LIKE 'Powder/%'"
        writer.catalog._db.execute(f"UPDATE thumbnails SET data = {damage} WHERE id IN ({damaged})")
    queries = {name: Query.of_pixels(one) for name, one in pixels.items()}
    noise = np.random.default_rng(1).normal(0, 60, (240, 320))
    noisy = Query.of_pixels(np.clip(pixels["Powder/a.png"] + noise, 0, 255).astype(np.uint8))
    turned = Query.of_pixels(np.ascontiguousarray(pixels["Powder/a.png"][:, ::-1]))
    with matching(store) as (matcher, _):
        answers = {name: matcher.match(query) for name, query in queries.items()}
        together = matcher.match_all([*queries.values(), noisy, turned])
        assert together == [*answers.values(), matcher.match(noisy), matcher.match(turned)]
        everything = _DEFAULT.adjusted({"max_distance": BITS})
        assert matcher.match(queries["Tips/a.png"], everything).grade == "excellent"
    affected = answers.pop("Powder/a.png")
    assert {name: answer.grade for name, answer in answers.items()} == dict.fromkeys(answers, "excellent")
    assert affected.best is not None
    assert (affected.grade, affected.best.category) == ("unverified", "Powder")
    assert affected.best.note == "the thumbnail in the store is damaged; index the image again"
    assert affected.best.note in affected.reason
    assert all(answer.category is None for answer in together[-2:])


# -- unusual sizes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [_DEFAULT, _LEGACY])
def test_images_of_any_size_are_answered(tmp_path: Path, policy: Any) -> None:
    rng = np.random.default_rng(0)
    shapes = [(1, 1), (2, 2), (1, 300), (300, 1), (3, 3), (6, 6), (6, 200), (7, 7), (8, 900), (900, 8), (24, 24)]
    images = {f"Tips/{h}x{w}.png": rng.integers(0, 256, (h, w), np.uint8) for h, w in shapes}
    store = make_store(tmp_path, images)
    with matching(store) as (matcher, _):
        for name, pixels in images.items():
            answer = matcher.match(Query.of_pixels(pixels), policy.adjusted({"max_distance": BITS, "k": 20}))
            if min(pixels.shape) < 7:
                assert answer.grade != "excellent", name
                assert all(found.ssim is None for found in answer.matches[:1]), name
            else:
                assert answer.grade == "excellent", name
                assert answer.best is not None
                assert answer.best.source.endswith(name)


# -- pixels of references ----------------------------------------------------------------------------------------------


def test_least_recently_used_pixels_are_removed_first(shelf: Shelf) -> None:
    size = shelf.pixels["Tips", 0].nbytes
    pixels = ReferencePixels(budget=2 * size)
    with matching(shelf.store) as (_, store):
        records = list(store.catalog.all_records())
        first = pixels(records[0])
        assert pixels(records[0]) is first
        second = pixels(records[1])
        pixels(records[0])  # used again, so the second image is now the least recently used
        pixels(records[2])
        assert pixels(records[0]) is first
        assert pixels(records[1]) is not second
        assert np.array_equal(pixels(records[1]), second)


def test_cached_pixels_are_those_of_the_references_own_file(tmp_path: Path) -> None:
    """These pixels must not come from another file that has or had the same content."""
    pixels = micrograph("Tips", 5)
    store = make_store(tmp_path, {"Tips/a.png": pixels, "Tips/b.png": pixels})
    with matching(store) as (_, opened):
        first, second = sorted(opened.records(opened.view.base.ids.tolist()).values(), key=lambda one: one.path)
    assert first.sha256 == second.sha256
    data = (second.root / second.path).read_bytes()
    (second.root / second.path).unlink()
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    stored = replace(first, root=UPLOADS, path="mine")
    reader = ReferencePixels(uploads=uploads)
    assert reader(first).tolist() == pixels.tolist()
    for gone in (second, stored):
        with pytest.raises(ImageError):
            reader(gone)
    kept = uploads / first.sha256.hex()
    kept.write_bytes(data)
    assert reader(stored).tolist() == reader(stored).tolist() == pixels.tolist()
    kept.unlink()
    with pytest.raises(ImageError, match="without its file"):
        reader(stored)


def test_pixels_larger_than_the_budget_are_not_kept(shelf: Shelf) -> None:
    pixels = ReferencePixels(budget=10)
    with matching(shelf.store) as (_, store):
        record = next(store.catalog.all_records())
        assert pixels(record) is not pixels(record)


def test_reference_in_an_archive_is_compared_at_full_size(tmp_path: Path) -> None:
    pixels = micrograph("Tips", 5)
    (tmp_path / "Tips").mkdir()
    Image.fromarray(pixels).save(tmp_path / "Tips/a.png")
    archive = Path(shutil.make_archive(str(tmp_path / "Tips"), "zip", tmp_path, "Tips"))
    index([archive], tmp_path / "store", workers=1)
    with matching(tmp_path / "store") as (matcher, store):
        answer = matcher.match(Query.of_pixels(pixels))
        archive.write_bytes(archive.read_bytes()[:-30])
        with pytest.raises(ImageError):
            ReferencePixels()(next(store.catalog.all_records()))
    assert answer.grade == "excellent"
    assert answer.best is not None
    assert answer.best.source.endswith("Tips.zip!Tips/a.png")


# -- threads -----------------------------------------------------------------------------------------------------------


def test_answers_do_not_depend_on_the_number_of_threads(shelf: Shelf) -> None:
    queries = [Query.of_pixels(pixels) for pixels in shelf.pixels.values()]
    queries += [Query.of_pixels(encoded(pixels, 40)) for pixels in shelf.pixels.values()]
    queries.append(Query.of_pixels(micrograph("Particles", 77)))
    wide = _DEFAULT.adjusted({"max_distance": BITS})
    with matching(shelf.store) as (matcher, _):
        alone = [matcher.match(query, wide) for query in queries]
    with matching(shelf.store) as (matcher, _), ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda n: matcher.match(queries[n % len(queries)], wide), range(8 * len(queries))))
    assert together == alone * 8
