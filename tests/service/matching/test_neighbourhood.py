"""The neighbourhood of a twin: copies, look-alikes, better references, and whether the twin is lone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from twinscope_indexer.hashing.frames import PANELS, WHOLE, frame_codes
from twinscope_indexer.hashing.perceptual import RECIPE
from twinscope_indexer.hashing.resampling import area_reduce
from twinscope_indexer.hashing.thumbnail import decode_thumbnail, encode_thumbnail
from twinscope_indexer.store.catalog.records import Record
from twinscope_indexer.store.reader import Store, open_writer
from twinscope_service.matching.answer import Match, Transform
from twinscope_service.matching.lookalikes import Neighbour, Neighbourhood, _without, neighbourhood
from twinscope_service.similarity.regions import Regions, compare_regions
from twinscope_service.similarity.scene_score import scene_scores

Grey = NDArray[np.uint8]
SHAPE = (96, 128)
TWIN = 1
AGREEING = Regions((0.9,) * 25, (False,) * 25, (False,) * 25)


def texture(seed: int, sigma: float = 1) -> NDArray[np.float64]:
    field = gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), sigma)
    return np.asarray(field / field.std())


def grey(field: NDArray[np.float64]) -> Grey:
    """Return a field as an image that was encoded and decoded by a store."""
    return decode_thumbnail(encode_thumbnail(np.clip(128 + 35 * field, 0, 255).astype(np.uint8)))


def sharing(share: float, seed: int, sigma: float = 1) -> Grey:
    """Return an image whose correlation with all other such images is `share`. Each seed gives another image."""
    return grey(share**0.5 * texture(0, sigma) + (1 - share) ** 0.5 * texture(seed, sigma))


def match_of(score: float, number: int = TWIN, transform: Transform | None = None) -> Match:
    return Match(f"{number:016x}", f"{number}.jpg", "Tips", "L9", 250, score, (0.0, 0.0), transform=transform)


def record_of(number: int, code: bytes, category: str = "Tips") -> Record:
    return Record(
        number, Path("/collection"), f"{number}.jpg", None, 1, 1, bytes(32), "JPEG", "L", 8, SHAPE[1], SHAPE[0], code,
        None, RECIPE, category, "L9", "1", None, "2024-01-01T00:00:00Z", 1,
    )  # fmt: skip


def neighbour(
    score: float, likeness: float = 0.0, image: Grey | None = None, number: int = 2, everywhere: bool = False
) -> Neighbour:
    shown = np.zeros(SHAPE, np.uint8) if image is None else image
    return Neighbour(match_of(score, number), record_of(number, bytes(128)), shown, likeness, everywhere)


def around(score: float, *others: Neighbour, coarse: float = 1.0) -> Neighbourhood:
    return Neighbourhood(match_of(score), list(others), [], {}, AGREEING, coarse, textured=True)


# -- look-alikes -------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 2), st.floats(0.1, 2))
def test_partial_correlation_is_that_of_the_residuals(seed: int, by_query: float, by_twin: float) -> None:
    own, shared, one, other = np.random.default_rng(seed).standard_normal((4, 30))
    query, twin = own + one + by_query * shared, own + other + by_twin * shared
    residuals = [values - np.polyval(np.polyfit(shared, values, 1), shared) for values in (query, twin)]
    together = np.corrcoef([query, twin, shared])
    assume(np.abs(together[2, :2]).max() < 0.99)
    assert _without(together[0, 1], together[0, 2], together[1, 2]) == pytest.approx(np.corrcoef(residuals)[0, 1])


def of_one_factor(has: float, left: float, others_have: float, count: int) -> Neighbourhood:
    """Return a neighbourhood with one common factor; without this factor, query and twin correlate by `left`.

    Scene scores are the products of the shares of the factor (Spearman 1904). The thumbnails of the others contain the
    factor.
    """
    alike = [
        neighbour(has * others_have, has * others_have, sharing(others_have**2, seed), seed)
        for seed in range(2, 2 + count)
    ]
    return around(has**2 + left * (1 - has**2), *alike)


@pytest.mark.parametrize("left", [0.0, 0.3])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_several_weak_lookalikes_reveal_a_common_factor(left: float, count: int) -> None:
    """A single reference would explain only a small part of the scene score."""
    neighbours = of_one_factor(0.9, left, 0.5, count)
    [one, *_] = neighbours.others
    assert _without(neighbours.twin.scene_score or 0, one.score, one.likeness) > 0.75
    assert neighbours.lookalike(()) == one.score
    assert of_one_factor(0.9, left, 0.5, 1).lookalike(()) == 0


@pytest.mark.parametrize("left", [0.75, 0.9])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_high_correlation_without_the_factor_has_no_lookalike(left: float, count: int) -> None:
    neighbours = of_one_factor(0.7, left, 0.6, count)
    assert len([other for other in neighbours.others if other.score > 0.4]) == count
    assert neighbours.lookalike(()) == 0


def test_other_that_explains_nearly_all_is_a_lookalike() -> None:
    strong, other = neighbour(0.7, 0.7, sharing(0.5, 2), 2), neighbour(0.4, 0.0, sharing(0.5, 3), 3)
    assert around(0.7, strong, other).lookalike(()) == 0.7
    assert around(0.7, other).lookalike(()) == 0
    assert around(0.95, strong, other).lookalike(()) == 0


def test_single_other_requires_more_remaining_correlation() -> None:
    one, unlike = neighbour(0.5, 0.3, sharing(0.5, 2), 2), neighbour(0.36, 0.0, sharing(0.5, 3), 3)
    assert 0.55 < _without(0.7, 0.5, 0.3) < 0.75
    assert around(0.7, one).lookalike(()) == 0.5
    assert around(0.7, one, unlike).lookalike(()) == 0
    assert around(0.85, one).lookalike(()) == 0


@pytest.mark.parametrize(
    "likenesses", [(0.051, -0.045), (-0.045, 0.051), (0.4, -0.4), (0.3, -0.001)], ids=lambda pair: f"{pair}"
)
def test_others_of_opposite_likeness_share_no_factor(likenesses: tuple[float, float]) -> None:
    images = sharing(0.3, 2), sharing(0.3, 3)
    pair = [neighbour(0.5, likeness, image) for likeness, image in zip(likenesses, images, strict=True)]
    assert scene_scores(images[0], [images[1]])[0].score > 0.2
    assert around(0.85, *pair).lookalike(()) == 0
    assert around(0.64, *pair).lookalike(()) == 0.5


def test_others_without_a_common_factor_count_one_by_one() -> None:
    pairs = (
        (sharing(0.3, 2), sharing(0.3, 3)),  # less similar to each other than to the query: no factor explains that
        (sharing(0.9, 4), 255 - sharing(0.9, 4)),  # opposites
        (sharing(0.9, 5), sharing(0.9, 6)[:70]),  # proportions that cannot be compared
    )
    for images in pairs:
        pair = [neighbour(0.8, likeness, image) for likeness, image in zip((0.6, 0.5), images, strict=True)]
        assert around(0.8, *pair).lookalike(()) == 0.8
        assert around(0.97, *(neighbour(0.6, 0.3, image) for image in images)).lookalike(()) == 0


@pytest.mark.parametrize("score", [0.5, 0.55, 0.599])
def test_weak_twin_allows_no_other_above_a_quarter(score: float) -> None:
    """The similarity between the other references does not matter, because they need not share the artefact."""
    unlike = [neighbour(0.26, 0.0, sharing(0.5, seed), seed) for seed in (2, 3)]
    assert around(score, *unlike).lookalike(()) == 0.26
    assert around(score, neighbour(0.24, 0.24)).lookalike(()) == 0
    assert around(0.6, *unlike).lookalike(()) == 0
    assert around(0.6, neighbour(0.34, 0.9)).lookalike(()) == 0
    assert around(0.6, neighbour(0.36, 0.9)).lookalike(()) == 0.36


def test_noisier_recording_of_the_twin_is_no_lookalike() -> None:
    """Everything that the reference shares with the query is also in the twin. For a look-alike, this is not true."""
    noisier = neighbour(0.42, 0.6, everywhere=True)
    assert _without(0.7, 0.42, 0.6) < 0.75
    assert around(0.7, noisier).lookalike(()) == 0
    assert around(0.7, neighbour(0.42, 0.6, everywhere=False)).lookalike(()) == 0.42
    assert around(0.7, neighbour(0.55, 0.6, everywhere=True)).lookalike(()) == 0.55
    relabelled = replace(noisier, match=replace(noisier.match, category="Powder"))
    assert around(0.7, relabelled).lookalike(()) == 0.42
    assert around(0.59, noisier).lookalike(()) == 0.42  # a weak twin cannot explain a look-alike


def test_known_reference_with_agreeing_regions_is_no_lookalike() -> None:
    for everywhere in (True, False):
        other = neighbour(0.9, 0.9, number=7, everywhere=everywhere)
        assert around(0.8, other).lookalike(["0000000000000007"]) == (0 if everywhere else 0.9)
        assert around(0.8, other).lookalike(["0000000000000008"]) == 0.9
        assert around(0.9, other).lookalike(["0000000000000007"]) == 0.9


def test_no_lookalike_and_none_better_without_others() -> None:
    assert around(0.7).lookalike(()) == 0
    assert around(0.7).better is None


def test_only_a_higher_scene_score_is_better() -> None:
    others = [neighbour(0.8, number=2), neighbour(0.75, number=3)]
    better = around(0.7, *others).better
    assert better is others[0]
    assert around(0.8, *others).better is None
    assert around(0.9, *others).better is None


def test_lone_twin_needs_others_distance_and_noise() -> None:
    others = [neighbour(score) for score in (0.1, 0.05, 0.0, 0.0, 0.0, 0.0, -0.1, -0.2)]
    assert around(0.4, *others, coarse=0.5).lone
    assert around(0.301, *others, coarse=0.301).lone
    assert not around(0.29, *others, coarse=0.5).lone  # not three times as much
    assert not around(0.4, *others, coarse=0.39).lone  # not noise: the coarse score is lower
    assert not around(0.4, *others[:-1], coarse=0.5).lone  # too few others


# -- a neighbourhood in a store ----------------------------------------------------------------------------------------


def code_of(image: Grey) -> NDArray[np.uint8]:
    return np.asarray(frame_codes(image, (WHOLE,))[0])


def apart(code: NDArray[np.uint8], bits: int, seed: int) -> bytes:
    """Return a hash that differs from another one by this many bits."""
    flipped = np.unpackbits(code)
    flipped[np.random.default_rng(seed).choice(1024, bits, replace=False)] ^= 1
    return np.packbits(flipped).tobytes()


References = dict[int, tuple[bytes, bytes, str]]
"""Hash, encoded thumbnail and category of each reference."""


@contextmanager
def stored(folder: Path, references: References) -> Iterator[Store]:
    with open_writer(folder, create=True) as writer:
        root_id, _, _ = writer.catalog.root_for(Path("/collection"))
        for number, (code, thumbnail, category) in references.items():
            writer.catalog.put(record_of(number, code, category), root_id, thumbnail)
        writer.publish()
    with closing(Store(folder)) as store:
        yield store


QUERY = sharing(0.5, 100)
SHOWN = decode_thumbnail(encode_thumbnail(sharing(0.5, 101)))
"""The thumbnail of the twin, which shares half of the query."""


def neighbours_of(
    folder: Path,
    references: References,
    twin_code: bytes,
    without: int | None = None,
    transform: Transform | None = None,
) -> Neighbourhood:
    """Return the neighbourhood of the twin in a store of the twin and some others."""
    with stored(folder, {TWIN: (twin_code, encode_thumbnail(sharing(0.5, 101)), "Tips"), **references}) as store:
        twin = match_of(0.5, transform=transform)
        return neighbourhood(twin, QUERY, code_of(QUERY).tobytes(), store.view, without)


def numbers(neighbours: Neighbourhood) -> list[int]:
    return [other.record.id for other in neighbours.others]


FAR = apart(code_of(QUERY), 480, 1)
"""Hash of a twin that is as far from its query as unrelated images are. No reference is near both hashes."""


def crowd(code: NDArray[np.uint8], first: int, count: int, bits: int, category: str = "Fibres") -> References:
    """Return references at this distance from a hash that show something else."""
    return {
        number: (apart(code, bits, number), encode_thumbnail(grey(texture(5000 + number))), category)
        for number in range(first, first + count)
    }


def test_references_near_query_and_near_twin_are_compared(tmp_path: Path) -> None:
    at_query, at_twin = code_of(QUERY), np.frombuffer(FAR, np.uint8)
    references = crowd(at_query, 100, 12, 230) | crowd(at_twin, 200, 12, 230)
    shared = encode_thumbnail(sharing(0.5, 102))
    references |= {2: (apart(at_query, 220, 2), shared, "Powder"), 3: (apart(at_twin, 220, 3), shared, "Powder")}
    near = neighbours_of(tmp_path, references, FAR)
    assert set(numbers(near)[:2]) == {2, 3}
    assert len([number for number in numbers(near) if 100 <= number < 200]) == 7
    assert len([number for number in numbers(near) if 200 <= number < 300]) == 7


def test_neighbours_are_measured_and_sorted_like_candidates(tmp_path: Path) -> None:
    references: References = {
        number: (apart(code_of(QUERY), 210 + number, number), encode_thumbnail(sharing(share, number, 1)), "Powder")
        for number, share in ((2, 0.0), (3, 0.3), (4, 0.7), (5, 0.5))
    }
    near = neighbours_of(tmp_path, references, apart(code_of(QUERY), 250, 9))
    assert numbers(near) == [4, 5, 3, 2]
    for other in near.others:
        shown = decode_thumbnail(references[other.record.id][1])
        [found] = scene_scores(QUERY, [shown])
        [between] = scene_scores(SHOWN, [shown])
        assert (other.score, other.match.shift) == (found.score, (found.shift_x, found.shift_y))
        assert other.likeness == (between.score if found.score >= 0.25 else 0)
        assert other.match.distance == 210 + other.record.id
        assert other.everywhere == (found.score >= 0.25 and compare_regions(SHOWN, shown).agree)
        assert np.array_equal(other.thumbnail, shown)
    assert {other.everywhere for other in near.others} == {True, False}
    assert near.regions == compare_regions(QUERY, SHOWN)
    halves = [np.rint(area_reduce(image, (48, 64))).astype(np.uint8) for image in (QUERY, SHOWN)]
    assert near.coarse == pytest.approx(scene_scores(halves[0], [halves[1]])[0].score, abs=0.01)


def test_neighbours_are_compared_in_the_frames_of_the_twin(tmp_path: Path) -> None:
    tiny = encode_thumbnail(np.random.default_rng(0).integers(0, 255, (2, 3), dtype=np.uint8))
    frame = next(frame for frame in PANELS if frame.cut(decode_thumbnail(tiny)).size == 0)
    transform = Transform("mirrored", "whole", str(frame))
    whole = encode_thumbnail(sharing(0.5, 102))
    references: References = {
        2: (apart(code_of(QUERY), 220, 2), whole, "Powder"),
        3: (apart(code_of(QUERY), 220, 3), tiny, "Tips"),
    }
    near = neighbours_of(tmp_path, references, apart(code_of(QUERY), 250, 9), transform=transform)
    [other] = near.others
    assert (other.record.id, other.match.transform) == (2, transform)
    cut, turned = frame.cut(decode_thumbnail(whole)), QUERY[:, ::-1]
    assert other.score == scene_scores(turned, [cut])[0].score
    apart_by = np.bitwise_count(code_of(np.ascontiguousarray(turned)) ^ code_of(np.ascontiguousarray(cut))).sum()
    assert other.match.distance == apart_by


@pytest.mark.parametrize("copies", [0, 15, 70, 300])
def test_copies_of_the_twin_hide_nothing(tmp_path: Path, copies: int) -> None:
    """The number of copies does not matter, even if the copies are nearer to query and twin than a look-alike is."""
    twin = apart(code_of(QUERY), 60, 1)
    references = crowd(np.frombuffer(twin, np.uint8), 1000, copies, 5, "Tips")
    references |= {2: (apart(code_of(QUERY), 300, 2), encode_thumbnail(sharing(0.5, 102)), "Tips")}
    assert numbers(neighbours_of(tmp_path, references, twin)) == [2]


def test_twin_with_only_copies_has_no_neighbours(tmp_path: Path) -> None:
    twin = apart(code_of(QUERY), 60, 1)
    references = crowd(np.frombuffer(twin, np.uint8), 1000, 40, 5, "Tips")
    assert numbers(neighbours_of(tmp_path, references, twin)) == []


def moved(field: NDArray[np.float64], right: int, noise: float) -> Grey:
    noisy = np.roll(field, right, 1) + noise * texture(103, 3)
    return grey(noisy / noisy.std())


SHOWN_FIELD = 0.5**0.5 * texture(0) + 0.5**0.5 * texture(101)
COPIES: dict[str, tuple[Callable[[], Grey], int]] = {
    "near by hash": (lambda: sharing(0.5, 102), 200),
    "re-encoded": (lambda: moved(SHOWN_FIELD, 0, 0.1), 300),
    "moved, noisy": (lambda: moved(SHOWN_FIELD, 5, 0.4), 300),
}
"""Images of the twin's field, with their distance from its hash."""


@pytest.mark.parametrize("name", COPIES)
def test_only_copies_of_another_label_are_neighbours(tmp_path: Path, name: str) -> None:
    make, bits = COPIES[name]
    twin = apart(code_of(QUERY), 250, 9)
    copy = encode_thumbnail(make())
    references: References = {
        number: (apart(np.frombuffer(twin, np.uint8), bits, number), copy, category)
        for number, category in ((2, "Tips"), (3, "Powder"))
    }
    near = neighbours_of(tmp_path, references, twin)
    assert numbers(near) == [3]
    assert near.others[0].score > 0.3


def test_unmoved_reference_that_shares_much_is_no_copy(tmp_path: Path) -> None:
    """Images of one camera or one aperture also have much in common, but the common part does not move."""
    shown = moved(SHOWN_FIELD, 0, 0.4)
    assert 0.82 < scene_scores(SHOWN, [shown])[0].score < 0.93
    references: References = {2: (apart(code_of(QUERY), 300, 2), encode_thumbnail(shown), "Tips")}
    assert numbers(neighbours_of(tmp_path, references, apart(code_of(QUERY), 250, 9))) == [2]


def test_neighbours_need_a_thumbnail_and_exclude_the_query(tmp_path: Path) -> None:
    good = encode_thumbnail(sharing(0.5, 102))
    thumbnails: Sequence[bytes] = (good, b"", good[: len(good) // 2], b"no JPEG", good)
    references: References = {
        number: (apart(code_of(QUERY), 220, number), thumbnail, "Powder")
        for number, thumbnail in enumerate(thumbnails, 2)
    }
    twin = apart(code_of(QUERY), 250, 9)
    assert sorted(numbers(neighbours_of(tmp_path / "all", references, twin))) == [2, 6]
    assert numbers(neighbours_of(tmp_path / "itself", references, twin, without=2)) == [6]
