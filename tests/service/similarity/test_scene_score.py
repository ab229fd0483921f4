"""The scene score equals that of a slow oracle in double precision, and tolerates typical changes of a micrograph."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from scipy.ndimage import gaussian_filter, zoom
from twinscope_indexer.hashing.resampling import area_reduce
from twinscope_indexer.hashing.thumbnail import decode_thumbnail, encode_thumbnail
from twinscope_service.similarity import scene_score as scene
from twinscope_service.similarity.scene_score import prepare, prepared, scene_scores, score

SCENE = 0.5


def field(shape: tuple[int, int] = (400, 520), seed: int = 0) -> np.ndarray:
    """Return a generic micrograph: grains of several sizes."""
    rng = np.random.default_rng(seed)
    layers = [gaussian_filter(rng.normal(size=shape), scale) * scale for scale in (2, 5, 14)]
    total = np.sum(layers, axis=0)
    return np.clip(120 + 40 * total / total.std(), 0, 255).astype(np.uint8)


def thumb(pixels: np.ndarray) -> np.ndarray:
    return decode_thumbnail(encode_thumbnail(pixels))


def noisy(pixels: np.ndarray, sigma: float, seed: int = 9) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sigma, pixels.shape)
    return np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)


def jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=quality)
    return np.asarray(Image.open(data))


# ---- the oracle ----


def normal_by_scipy(thumbnail: np.ndarray) -> np.ndarray:
    smooth = gaussian_filter(thumbnail.astype(float), 1, mode="reflect")
    rows, columns = (np.vander(np.linspace(-1, 1, side), 3) for side in smooth.shape)
    surface = np.kron(rows, columns)
    shading = surface @ np.linalg.lstsq(surface, smooth.ravel(), rcond=None)[0]
    level = smooth - shading.reshape(smooth.shape)
    centred = level - gaussian_filter(level, 10, mode="reflect", truncate=8)
    return centred / np.sqrt(gaussian_filter(centred**2, 10, mode="reflect", truncate=8) + 2)


def shift_by_numpy(query: np.ndarray, candidate: np.ndarray) -> tuple[int, int]:
    """Return the translation with the highest phase correlation, computed with NumPy."""
    height, width = query.shape
    window = np.outer(*(np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in query.shape))
    cross = np.conj(np.fft.fft2(query * window)) * np.fft.fft2(candidate * window)
    surface = np.fft.ifft2(cross / (np.abs(cross) + 1e-6)).real
    shifts = [(y, x) for y in range(-(height // 6), height // 6 + 1) for x in range(-(width // 6), width // 6 + 1)]
    return max(shifts, key=lambda shift: surface[shift])


def agreement_by_corrcoef(query: np.ndarray, candidate: np.ndarray, down: int, right: int) -> float:
    """Return the smaller correlation, with or without the bottom, of the pixels inside the margins of both images."""
    height, width = query.shape
    y_margin, x_margin = height // 24, width // 24
    scores = []
    for rows in (height, height - round(0.15 * height)):
        y, x = np.meshgrid(range(y_margin, rows - y_margin), range(x_margin, width - x_margin), indexing="ij")
        inside = (y + down >= y_margin) & (y + down < rows - y_margin)
        inside &= (x + right >= x_margin) & (x + right < width - x_margin)
        y, x = y[inside], x[inside]
        scores.append(np.corrcoef(query[y, x], candidate[y + down, x + right])[0, 1])
    return float(min(scores))


@pytest.mark.parametrize("moved", [(0, 0), (5, -7), (-11, 3), (20, 30), (-20, -30)])
@pytest.mark.parametrize("shape", [(144, 192), (96, 81)])
def test_equals_the_oracle(shape: tuple[int, int], moved: tuple[int, int]) -> None:
    down, right = moved if shape[0] > 100 else (moved[0] // 2, moved[1] // 3)
    big = field((shape[0] + 60, shape[1] + 60), seed=shape[0])
    query = big[30 : 30 + shape[0], 30 : 30 + shape[1]]
    candidate = noisy(big[30 - down :, 30 - right :][: shape[0], : shape[1]], 25 if shape[0] > 100 else 8)
    x, y = normal_by_scipy(query), normal_by_scipy(candidate)
    np.testing.assert_allclose(prepare(query).normal, x, atol=2e-3)
    assert shift_by_numpy(x, y) == (down, right)
    found = scene_scores(query, [candidate])[0]
    assert (found.shift_y * shape[0], found.shift_x * shape[1]) == pytest.approx((down, right))
    rows = shape[0] - round(0.15 * shape[0])
    above_bar = normal_by_scipy(query[:rows]), normal_by_scipy(candidate[:rows])
    expected = min(agreement_by_corrcoef(x, y, down, right), agreement_by_corrcoef(*above_bar, down, right))
    assert found.score == pytest.approx(expected, abs=2e-3)


def test_agreement_of_the_bottom_alone_does_not_count() -> None:
    query, candidate = field((144, 192), seed=1), field((144, 192), seed=2)
    query[124:] = candidate[124:] = np.random.default_rng(3).integers(0, 256, (20, 192))
    x, y = normal_by_scipy(query), normal_by_scipy(candidate)
    expected = agreement_by_corrcoef(x, y, 0, 0)
    assert np.corrcoef(x[6:138, 8:184].ravel(), y[6:138, 8:184].ravel())[0, 1] > expected + 0.05
    assert shift_by_numpy(x, y) == (0, 0)
    assert score(prepare(query), prepare(candidate)).score == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("shading", ["even", "ramp", "vignette"])
def test_shared_info_bar_does_not_match_empty_fields(shading: str) -> None:
    y, x = np.mgrid[-1:1:768j, -1:1:1024j]
    light = {"even": 0 * x, "ramp": 70 * x, "vignette": -80 * (x * x + y * y) / 2}[shading]
    both = []
    for seed in (1, 2):
        image = noisy(np.clip(128 + light, 0, 255).astype(np.uint8), 6, seed)
        image[708:] = 0
        image[720:745, 20:600] = np.random.default_rng(0).integers(0, 2, (25, 580)) * 255
        both.append(thumb(image))
    assert scene_scores(both[0], [both[1]])[0].score < 0.3


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32))
@settings(max_examples=80, deadline=None)
def test_small_images_are_normalised_like_the_oracle(height: int, width: int, seed: int) -> None:
    thumbnail = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    np.testing.assert_allclose(prepare(thumbnail).normal, normal_by_scipy(thumbnail), atol=5e-3)


def test_candidate_is_first_reduced_to_the_smaller_shape() -> None:
    query, candidate = field((96, 128)), field((144, 192))
    expected = score(prepare(query), prepare(candidate, (96, 128)))
    assert scene_scores(query, [candidate]) == [expected]
    reduced = np.rint(area_reduce(candidate, (96, 128))).astype(np.uint8)
    assert scene_scores(query, [reduced])[0].score == pytest.approx(expected.score, abs=0.01)


@pytest.mark.parametrize("sigma", [0, 4, 25])
@pytest.mark.parametrize("moved", [(0, 0), (0, 1), (5, -7)])
def test_field_score_is_exact_to_a_thousandth(moved: tuple[int, int], sigma: int) -> None:
    down, right = moved
    big = field((174, 222), seed=sigma)
    query, candidate = big[15:159, 15:207], noisy(big[15 - down : 159 - down, 15 - right : 207 - right], sigma)
    whole = score(prepare(query), prepare(candidate)).score
    alone = score(prepare(query[:122]), prepare(candidate[:122])).score
    found = scene_scores(query, [candidate])[0].score
    assert min(whole, alone) - 1e-3 <= found <= min(whole, alone)
    assert (found == min(whole, alone)) or moved == (0, 0)


def test_unmoved_field_needs_no_second_translation() -> None:
    big = field((174, 222))
    query, candidate = big[:144, :192], noisy(big[:144, :192], 4)
    with mock.patch.object(scene, "translation", wraps=scene.translation) as translations:
        assert scene_scores(query, [candidate])[0].score > 0.9
    assert translations.call_count == 1


def test_sufficient_score_needs_no_translation() -> None:
    big = field((174, 222))
    query, candidate = prepare(big[:144, :192]), prepare(big[:144, 1:193])
    unmoved, best = score(query, candidate, enough=0.5), score(query, candidate)
    assert unmoved.shift_x == 0 < abs(best.shift_x)
    assert 0.5 < unmoved.score < best.score
    assert score(query, candidate, enough=unmoved.score + 1e-6) == best


# ---- changes of a micrograph ----

CHANGES = {
    "JPEG 75": lambda pixels: jpeg(pixels, 75),
    "JPEG 30": lambda pixels: jpeg(pixels, 30),
    "half size": lambda pixels: np.asarray(Image.fromarray(pixels).reduce(2)),
    "gamma 1.5": lambda pixels: np.rint(255 * (pixels / 255) ** 1.5).astype(np.uint8),
    "contrast 0.6": lambda pixels: np.rint(pixels * 0.6 + 50).astype(np.uint8),
    "contrast 0.1": lambda pixels: np.rint(pixels * 0.1 + 50).astype(np.uint8),
    "equalised": lambda pixels: np.asarray(ImageOps.equalize(Image.fromarray(pixels))),
    "noise 5": lambda pixels: noisy(pixels, 5),
    "noise 20": lambda pixels: noisy(pixels, 20),
    "blurred": lambda pixels: gaussian_filter(pixels, 1.5),
    "squeezed": lambda pixels: np.asarray(Image.fromarray(pixels).resize((520, 360))),
    "shaded": lambda pixels: (pixels * np.linspace(0.4, 1, pixels.shape[1])).astype(np.uint8),
    "marked": lambda pixels: np.where(np.indices(pixels.shape).sum(axis=0) < 90, 255, pixels).astype(np.uint8),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_image_shows_the_same_scene(change: str) -> None:
    pixels = field()
    query, reference = thumb(CHANGES[change](pixels)), thumb(pixels)
    there, back = scene_scores(query, [reference])[0], scene_scores(reference, [query])[0]
    assert there.score > 0.85
    assert (there.shift_x, there.shift_y) == (0, 0)
    assert back.score == pytest.approx(there.score, abs=0.02)


def test_unchanged_image_scores_one() -> None:
    thumbnail = thumb(field())
    found = scene_scores(thumbnail, [thumbnail])[0]
    assert found.score == pytest.approx(1, abs=1e-5)
    assert (found.shift_x, found.shift_y) == (0, 0)


def test_inverted_image_is_another_scene() -> None:
    thumbnail = thumb(field())
    assert scene_scores(thumbnail, [255 - thumbnail])[0].score < -0.8


@pytest.mark.parametrize(("down", "right"), [(8, 0), (0, -10), (-16, 26), (40, -52)])
def test_shifted_image_is_found_with_its_shift(down: int, right: int) -> None:
    big = field((600, 720))
    query, candidate = thumb(big[100:500, 100:620]), thumb(big[100 - down : 500 - down, 100 - right : 620 - right])
    there, back = scene_scores(query, [candidate])[0], scene_scores(candidate, [query])[0]
    assert there.score > 0.9
    assert there.shift_x * 520 == pytest.approx(right, abs=2)
    assert there.shift_y * 400 == pytest.approx(down, abs=2)
    assert (back.shift_x, back.shift_y) == pytest.approx((-there.shift_x, -there.shift_y))
    assert back.score == pytest.approx(there.score, abs=0.02)


@pytest.mark.parametrize("kept", [0.97, 0.93, 0.87])
def test_image_without_its_bottom_shows_the_same_scene(kept: float) -> None:
    pixels = field()
    whole, cut = thumb(pixels), thumb(pixels[: round(kept * len(pixels))])
    assert whole.shape != cut.shape
    assert scene_scores(whole, [cut])[0].score > 0.9
    assert scene_scores(cut, [whole])[0].score > 0.9
    tall = pixels.T
    assert scene_scores(thumb(tall), [thumb(tall[: round(kept * len(tall))])])[0].score > 0.9


def test_shift_without_the_bottom_is_a_share_of_the_query() -> None:
    big = field((460, 520))
    cut, query = big[24:384], big[:400]
    found = scene_scores(thumb(query), [thumb(cut)])[0]
    assert found.score > 0.9
    assert found.shift_y * 400 == pytest.approx(-24, abs=2)


def test_different_proportions_score_zero() -> None:
    pixels = field()
    found = scene_scores(thumb(pixels), [thumb(pixels[:300])])[0]
    assert (found.score, found.shift_x, found.shift_y) == (0, 0, 0)


def test_different_scenes_score_near_zero() -> None:
    thumbnails = [thumb(field(seed=seed)) for seed in range(12)]
    for position, query in enumerate(thumbnails):
        others = thumbnails[position + 1 :]
        assert all(abs(found.score) < 0.2 for found in scene_scores(query, others))


def test_shared_info_bar_is_not_a_shared_scene() -> None:
    bar = np.zeros((50, 520), np.uint8)
    bar[10:40] = np.where(zoom(np.random.default_rng(1).random((3, 52)), 10, order=0) > 0.5, 255, 0)
    first, second = (np.vstack([(field((350, 520), seed) * 0.05 + 100).astype(np.uint8), bar]) for seed in (1, 2))
    assert scene_scores(thumb(first), [thumb(second)])[0].score < 0.25


@pytest.mark.parametrize("shading", ["none", "ramp", "vignette"])
def test_shared_shading_does_not_match_empty_fields(shading: str) -> None:
    y, x = np.mgrid[-1:1:400j, -1:1:520j]
    light = {"none": 0 * x, "ramp": 20 * x + 10 * y, "vignette": -20 * (x**2 + y**2)}[shading]
    first, second = (noisy(150 + light, 3, seed) for seed in (1, 2))
    assert scene_scores(thumb(first), [thumb(second)])[0].score < 0.2


@pytest.mark.parametrize("level", [0, 77, 255])
@pytest.mark.parametrize("shape", [(144, 192), (1, 1), (2, 50), (30, 3)])
def test_featureless_thumbnail_scores_zero(shape: tuple[int, int], level: int) -> None:
    flat = np.full(shape, level, np.uint8)
    textured = np.random.default_rng(3).integers(0, 256, shape, np.uint8)
    for found in [*scene_scores(flat, [flat, textured]), *scene_scores(textured, [flat])]:
        assert (found.score, found.shift_x, found.shift_y) == (0, 0, 0)


@given(st.tuples(*[st.integers(1, 40)] * 4), st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_every_pair_of_shapes_gets_a_score(sides: tuple[int, int, int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    query, candidate = rng.integers(0, 256, sides[:2], np.uint8), rng.integers(0, 256, sides[2:], np.uint8)
    there, back = scene_scores(query, [candidate])[0], scene_scores(candidate, [query])[0]
    assert -1 <= there.score <= 1
    assert abs(there.shift_x) <= 1 / 6
    assert abs(there.shift_y) <= 1 / 6
    assert back.score == pytest.approx(there.score, abs=0.02)


def test_scores_have_the_order_of_the_candidates() -> None:
    query = thumb(field(seed=1))
    candidates = [thumb(field(seed=2)), query, thumb(field((300, 520), seed=3)), query[:, ::-1]]
    together = scene_scores(query, candidates)
    assert together == [scene_scores(query, [candidate])[0] for candidate in candidates]
    assert [found.score > SCENE for found in together] == [False, True, False, False]
    assert scene_scores(query, []) == []


def test_cache_changes_no_score() -> None:
    """Compare with uncached scores: other shapes, rotated and cut candidates, and one that is changed in memory."""
    query = thumb(field(seed=1))
    own = thumb(noisy(field(seed=1), 30)).copy()
    candidates = [own, own[:, :150], own[:120], np.ascontiguousarray(own[::-1]), own[3:, 4:], thumb(field(seed=2))]
    scene_scores(own, candidates)  # fills the cache
    first = scene_scores(query, candidates)
    for candidate, found in zip(candidates, first, strict=True):
        prepared.cache_clear()
        assert scene_scores(query.copy(), [candidate.copy()]) == [found]
    whole = score(prepare(query), prepare(own))
    rows = query.shape[0] - round(0.15 * query.shape[0])
    alone = score(prepare(query[:rows]), prepare(own[:rows]))
    assert first[0].score == pytest.approx(min(whole.score, alone.score), abs=1e-6)
    own[:] = own[:, ::-1].copy()
    assert scene_scores(query, [own])[0].score < SCENE < first[0].score


def test_cache_of_prepared_images_is_bounded() -> None:
    rng = np.random.default_rng(0)
    scene_scores(rng.integers(0, 256, (9, 9), np.uint8), list(rng.integers(0, 256, (500, 9, 9), np.uint8)))
    assert prepared.cache_info().currsize <= 64


def test_scores_are_the_same_in_every_thread() -> None:
    queries = [thumb(field(seed=seed)) for seed in range(4)]
    candidates = [*queries, *(thumb(noisy(field(seed=seed), 90)) for seed in range(4)), queries[0][:120]]
    alone = [scene_scores(query, candidates) for query in queries]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda query: scene_scores(query, candidates), queries * 4))
    assert together == alone * 4


@pytest.mark.parametrize("bad", [np.zeros((9, 9)), np.zeros((9, 9, 3), np.uint8), np.zeros((0, 9), np.uint8)])
def test_invalid_thumbnail_is_refused(bad: np.ndarray) -> None:
    good = field((90, 120))
    for query, candidates in ((bad, [good]), (good, [good, bad])):
        with pytest.raises(ValueError, match="grey image"):
            scene_scores(query, candidates)


def test_prepared_images_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="prepare both to one shape"):
        score(prepare(field((40, 50))), prepare(field((40, 51))))


def test_real_micrographs_are_distinguished_and_recognised(micrographs_dir: Path) -> None:
    scenes = {}
    with (micrographs_dir / "MANIFEST.tsv").open(encoding="utf-8") as manifest:
        header = next(manifest).rstrip("\n").split("\t")
        for line in manifest:
            row = dict(zip(header, line.rstrip("\n").split("\t"), strict=True))
            if row["mode"] == "L" and row["bits"] == "8" and "truncated" not in line:
                scenes.setdefault(row["scene"], micrographs_dir / row["path"])
    paths = list(scenes.values())[::5]
    assert len(paths) > 5
    thumbnails = []
    for path in paths:
        with Image.open(path) as image:
            pixels = np.asarray(image)
        thumbnails.append(thumb(pixels))
        changed = thumb(jpeg(noisy(pixels, 5), 50))
        assert scene_scores(changed, thumbnails[-1:])[0].score > 0.8, path
    for position, query in enumerate(thumbnails):
        assert all(found.score < 0.4 for found in scene_scores(query, thumbnails[position + 1 :]))
