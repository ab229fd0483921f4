"""Frames of an image: their hashes in all symmetries, their index, and stores that change their frames."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy.fftpack import dct
from scipy.ndimage import gaussian_filter
from twinscope_indexer.errors import StoreError
from twinscope_indexer.hashing.dct import low_frequencies
from twinscope_indexer.hashing.equalize import standardise
from twinscope_indexer.hashing.frames import (
    FRAMES_RECIPE,
    SHADES,
    VIEWS,
    WHOLE,
    WINDOWS,
    Frame,
    frame_codes,
    reference_frames,
)
from twinscope_indexer.hashing.perceptual import RECIPE
from twinscope_indexer.hashing.reach import REACHES, Reach
from twinscope_indexer.hashing.symmetry import SYMMETRIES, Symmetry
from twinscope_indexer.hashing.thumbnail import decode_thumbnail, encode_thumbnail
from twinscope_indexer.index.engines import ENGINES, engine_index
from twinscope_indexer.index.frames import FrameIndex, FrameView, NearFrame
from twinscope_indexer.indexing import reframing
from twinscope_indexer.indexing.reframing import encoded_frames, set_reach
from twinscope_indexer.indexing.run import index
from twinscope_indexer.store.catalog.catalog import Catalog, Record
from twinscope_indexer.store.frames import stored_reach
from twinscope_indexer.store.reader import Store, StoreWriter, open_writer
from twinscope_indexer.store.view import load_view

Grey = NDArray[np.uint8]
ALL_FRAMES = len(reference_frames("windows"))
OF_VIEWS = len(reference_frames("views"))


def smooth(seed: int, height: int, width: int, sigma: float = 2.0) -> Grey:
    """Return a random image with smooth structure."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(height, width)), sigma)
    return np.clip(128 + 50 * noise / noise.std(), 0, 255).astype(np.uint8)


def differing(a: Grey, b: Grey) -> int:
    return int((np.unpackbits(a) != np.unpackbits(b)).sum())


def plain_levels(pixels: Grey) -> Grey:
    """Return standardised grey levels, by Pillow."""
    return np.asarray(ImageOps.autocontrast(ImageOps.equalize(Image.fromarray(pixels))))


def plain_bits(standard: Grey) -> Grey:
    """Return the hash of standardised grey levels, by SciPy."""
    low = dct(dct(standard.astype(np.float64), axis=0)[:32], axis=1)[:, :32]
    return np.packbits(low > np.median(low))


def plain_code(pixels: Grey) -> Grey:
    """Return the hash of a frame, computed by the libraries that define the recipe."""
    return plain_bits(plain_levels(pixels))


def named(name: str) -> Symmetry:
    return next(one for one in SYMMETRIES if str(one) == name)


# -- symmetries --------------------------------------------------------------------------------------------------------

TURNS: dict[str, Callable[[Grey], Grey]] = {
    "": lambda image: image,
    "mirrored": np.fliplr,
    "flipped": np.flipud,
    "rotated by 180": lambda image: np.rot90(image, 2),
    "transposed": np.transpose,
    "rotated by 90": lambda image: np.rot90(image, -1),
    "rotated by 270": lambda image: np.rot90(image, 1),
    "transposed and rotated by 180": lambda image: np.rot90(image.T, 2),
}


@pytest.mark.parametrize("turn", TURNS)
def test_a_symmetry_does_what_its_name_says(turn: str) -> None:
    image = smooth(1, 5, 7, 0.5)
    np.testing.assert_array_equal(named(turn).applied(image), TURNS[turn](image))
    inverted = named(f"{turn}, inverted" if turn else "inverted")
    np.testing.assert_array_equal(inverted.applied(image), 255 - TURNS[turn](image))


def test_symmetries_are_a_group_with_the_identity_first() -> None:
    image = smooth(2, 5, 7, 0.5)
    made = {one.applied(image).tobytes() + bytes(one.applied(image).shape): one for one in SYMMETRIES}
    assert len(made) == len({str(one) for one in SYMMETRIES}) == 16
    assert SYMMETRIES[0] == Symmetry()
    assert str(SYMMETRIES[0]) == ""
    for first in SYMMETRIES:
        both = [second.applied(first.applied(image)) for second in SYMMETRIES]
        assert {one.tobytes() + bytes(one.shape) for one in both} == set(made)
        assert sum(np.array_equal(one, image) for one in both) == 1


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), height=st.integers(40, 130), width=st.integers(40, 130))
def test_code_of_a_symmetry_equals_code_of_the_changed_image(seed: int, height: int, width: int) -> None:
    image = smooth(seed, height, width)
    standard = plain_levels(image)
    codes = frame_codes(image, [WHOLE], SYMMETRIES)
    for symmetry, code in zip(SYMMETRIES, codes, strict=True):
        assert differing(code, plain_bits(symmetry.applied(standard))) == 0, str(symmetry)
        if not symmetry.inverted:  # equalising rounds inverted levels the other way
            assert differing(code, plain_code(symmetry.applied(image))) == 0, str(symmetry)


def test_inversion_changes_few_bits_of_thumbnails() -> None:
    for seed in range(5):
        image = smooth(seed, 144, 192)
        codes = frame_codes(image, [WHOLE], SYMMETRIES)
        for symmetry, code in zip(SYMMETRIES, codes, strict=True):
            assert differing(code, plain_code(symmetry.applied(image))) <= 40 * symmetry.inverted, str(symmetry)
        assert min(differing(a, b) for i, a in enumerate(codes) for b in codes[:i]) > 400


# -- frames ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(144, 192), (192, 144), (97, 131), (192, 192), (50, 60)])
def test_views_are_the_image_without_info_bar_or_margin(shape: tuple[int, int]) -> None:
    image = smooth(3, *shape)
    height, width = shape
    assert len(VIEWS) == 6
    for view, cut in zip(VIEWS[:5], (0, 0.035, 0.07, 0.105, 0.14), strict=True):
        np.testing.assert_array_equal(view.cut(image), image[: round((1 - cut) * height)])
    margin = VIEWS[5].left
    assert 0.01 < margin < 0.05
    assert (VIEWS[5].top, VIEWS[5].right, VIEWS[5].bottom) == (margin, 1 - margin, 1 - margin)
    rows, columns = (slice(round(margin * side), round((1 - margin) * side)) for side in (height, width))
    np.testing.assert_array_equal(VIEWS[5].cut(image), image[rows, columns])
    assert [view.is_whole for view in VIEWS] == [True] + [False] * 5
    assert (VIEWS[0], str(WHOLE)) == (WHOLE, "whole")
    assert [str(view) for view in VIEWS[1:5]] == [f"bottom {cut} % cut" for cut in ("3.5", "7", "10.5", "14")]


@pytest.mark.parametrize("shape", [(144, 192), (97, 131), (192, 150)])
def test_windows_lie_within_the_image(shape: tuple[int, int]) -> None:
    image = smooth(4, *shape)
    assert len(set(WINDOWS)) == len(WINDOWS)
    assert len({str(one) for one in VIEWS + WINDOWS}) == len(VIEWS + WINDOWS)
    for window in WINDOWS:
        assert 0 <= window.left < window.right <= 1 + 1e-9
        assert 0 <= window.top < window.bottom <= 1 + 1e-9
        cropped = window.cut(image)
        shares = (window.bottom - window.top, window.right - window.left)
        assert (
            max(abs(side - share * whole) for side, share, whole in zip(cropped.shape, shares, shape, strict=True)) <= 1
        )
        assert cropped.dtype == np.uint8
        if not window.angle:
            top, left = round(window.top * shape[0]), round(window.left * shape[1])
            np.testing.assert_array_equal(cropped, image[top : top + cropped.shape[0], left : left + cropped.shape[1]])


def test_windows_include_every_corner() -> None:
    corners = {(left, top) for left in (0, 1) for top in (0, 1)}
    for side in (0.95, 0.9, 0.85, 0.8):
        squares = [one for one in WINDOWS if not one.angle and abs(one.right - one.left - side) < 1e-9]
        ends = {(round(one.left / (1 - side), 6), round(one.top / (1 - side), 6)) for one in squares}
        assert corners <= ends


@pytest.mark.parametrize("angle", [-5.0, 2.0, 3.5])
def test_turned_frame_matches_image_turned_by_the_same_angle(angle: float) -> None:
    """The image is rotated counter-clockwise, as in Pillow. Another angle or direction gives another hash."""
    large = smooth(5, 480, 640, 12)
    query = np.asarray(Image.fromarray(large).rotate(angle, Image.Resampling.BICUBIC))[29:451, 38:602]  # 6 % cut off
    [code] = frame_codes(decode_thumbnail(encode_thumbnail(query)), [WHOLE])
    thumbnail = decode_thumbnail(encode_thumbnail(large))
    frames = [Frame(0.06, 0.06, 0.94, 0.94, turn) for turn in (angle, -angle, 0.0)]
    right, wrong, none = (differing(code, other) for other in frame_codes(thumbnail, frames))
    assert right < 100
    assert min(wrong, none) > right + 100
    assert str(frames[0]) == f"0.06,0.06 to 0.94,0.94 turned by {angle:g} degrees"
    assert f"{angle:g}" not in str(frames[2])


def test_cut_does_not_change_the_image() -> None:
    image = smooth(6, 90, 120)
    before = image.copy()
    image.flags.writeable = False  # as decoded thumbnails are
    for frame in VIEWS + WINDOWS:
        frame.cut(image)
    np.testing.assert_array_equal(image, before)


def test_wider_reach_appends_frames() -> None:
    assert REACHES == ("frame", "views", "windows")
    assert [reference_frames(reach) for reach in ("frame", "views")] == [(), VIEWS + SHADES]
    every = reference_frames("windows")
    assert every[: len(VIEWS + SHADES + WINDOWS)] == VIEWS + SHADES + WINDOWS
    assert len(set(every)) == len(every)


def shaded(pixels: Grey, shades: str) -> Grey:
    """Keep the brightest or the darkest quarter of the pixels, and set all others to one level, by NumPy."""
    if shades == "dark":
        return 255 - shaded(255 - pixels, "bright")
    return np.maximum(pixels, np.quantile(pixels, 0.75, method="inverted_cdf")).astype(np.uint8)


def test_shades_use_the_field_without_an_info_bar() -> None:
    assert [frame.shades for frame in SHADES] == ["bright", "dark"]
    assert [frame.rectangle for frame in SHADES] == [VIEWS[4]] * 2
    assert all(frame.shades == "all" and frame.rectangle == frame for frame in VIEWS + WINDOWS)
    image = smooth(9, 144, 192)
    np.testing.assert_array_equal(SHADES[0].cut(image), VIEWS[4].cut(image))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), height=st.integers(60, 130), width=st.integers(60, 130), levels=st.integers(2, 256))
def test_shade_hashes_a_quarter_of_the_pixels(seed: int, height: int, width: int, levels: int) -> None:
    image = (smooth(seed, height, width) // (256 // levels)) * (256 // levels)
    field = VIEWS[4].cut(image)
    for frame, code in zip(SHADES, frame_codes(image, SHADES), strict=True):
        expected = shaded(field, frame.shades)
        level = expected.min() if frame.shades == "bright" else expected.max()
        if (expected != level).mean() >= 0.05:
            np.testing.assert_array_equal(code, plain_code(expected))
        else:
            assert not code.any()


@pytest.mark.parametrize("black", [0.3, 0.6, 0.7])
def test_bright_shade_ignores_how_much_became_black(black: float) -> None:
    image = smooth(10, 144, 192)
    darker = np.maximum(image, np.uint8(np.quantile(image, black)))
    bright, dark = frame_codes(image, SHADES)
    [bright_again, *_] = frame_codes(darker, SHADES)
    np.testing.assert_array_equal(bright_again, bright)
    np.testing.assert_array_equal(
        frame_codes(np.minimum(image, np.uint8(np.quantile(image, 1 - black))), SHADES)[1], dark
    )
    assert differing(bright, dark) > 300


@pytest.mark.parametrize("level", [0, 128, 255])
def test_image_of_nearly_one_level_has_no_shades(level: int) -> None:
    image = np.full((144, 192), level, np.uint8)
    assert not frame_codes(image, SHADES).any()
    image[:20, :20] = 255 - level if level != 128 else 200  # the shift is a sixtieth of the field
    assert not frame_codes(image, SHADES).any()


# -- codes of frames ---------------------------------------------------------------------------------------------------


def test_codes_are_ordered_by_frame_then_symmetry() -> None:
    image = smooth(7, 144, 192)
    symmetries = [named("mirrored"), named("rotated by 90"), SYMMETRIES[0]]
    codes = frame_codes(image, VIEWS, symmetries)
    expected = [plain_code(symmetry.applied(frame.cut(image))) for frame in VIEWS for symmetry in symmetries]
    assert (codes.dtype, codes.shape) == (np.uint8, (18, 128))
    np.testing.assert_array_equal(codes, expected)
    np.testing.assert_array_equal(frame_codes(image, VIEWS), expected[2::3])  # by default, only the identity


@pytest.mark.parametrize("shape", [(39, 192), (192, 39), (1, 1), (1, 200), (3, 3), (40, 40), (47, 192), (79, 79)])
def test_only_too_small_frames_have_zero_codes(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(8).integers(0, 256, shape, np.uint8)
    every = reference_frames("windows")
    codes = frame_codes(image, every, SYMMETRIES[:2]).reshape(len(every), 2, 128)
    for frame, code in zip(every, codes, strict=True):
        cropped = frame.cut(image)
        if min(cropped.shape) < 40:
            assert not code.any()
        elif frame.shades == "all":
            np.testing.assert_array_equal(code[0], plain_code(cropped))
    assert frame_codes(image, []).shape == (0, 128)


@pytest.mark.parametrize("height", [39, 47, 60, 79, 144])
def test_wider_reach_keeps_codes_of_narrower_reach(height: int) -> None:
    thumbnail = encode_thumbnail(smooth(10, height, 192))
    views = encoded_frames(thumbnail, "views")
    assert len(views) == OF_VIEWS * 128
    assert encoded_frames(thumbnail, "windows").startswith(views)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    height=st.integers(40, 120),
    width=st.integers(20, 60),
    levels=st.sampled_from([2, 9, 256]),
)
def test_bits_decided_by_rounding_follow_ordered_sums(seed: int, height: int, width: int, levels: int) -> None:
    """Half the frequencies of an image that is its own mirror image are zero, and their median is 0 or nearly 0."""
    half = np.random.default_rng(seed).integers(0, levels, (height, width), np.uint8) * (255 // (levels - 1))
    for image in (np.hstack([half, half[:, ::-1]]), np.vstack([half, half[::-1]]), np.hstack([half, 255 - half])):
        low = low_frequencies(standardise(image), 32) if min(image.shape) >= 40 else None
        for symmetry in (SYMMETRIES[0], named("mirrored"), named("transposed, inverted")):
            expected = np.zeros(128, np.uint8)
            if low is not None:
                turned = symmetry.applied_to(low)
                expected = np.packbits(turned > np.median(turned))
            np.testing.assert_array_equal(frame_codes(image, [WHOLE], [symmetry])[0], expected)


UNSTRUCTURED: dict[str, Grey] = {
    "black": np.zeros((144, 192), np.uint8),
    "white": np.full((144, 192), 255, np.uint8),
    "one pixel": np.pad(np.uint8([[9]]), ((70, 73), (90, 101))),
    "stripes": np.tile(np.uint8([0, 255]), (144, 96)),
    "two levels": np.tile(np.uint8([127, 128]), (192, 72)),
    "ramp": np.tile(np.arange(192, dtype=np.uint8), (144, 1)),
    "empty field above a bar": np.vstack([np.full((130, 192), 99, np.uint8), smooth(1, 14, 192)]),
}


@pytest.mark.parametrize("name", UNSTRUCTURED)
def test_images_without_structure_have_codes(name: str) -> None:
    for frames, symmetries in ((VIEWS, SYMMETRIES), (WINDOWS[::9], SYMMETRIES[:1])):
        codes = frame_codes(UNSTRUCTURED[name], frames, symmetries)
        assert (codes.dtype, codes.shape) == (np.uint8, (len(frames) * len(symmetries), 128))


# -- the index of frames -----------------------------------------------------------------------------------------------


def scan(codes: dict[int, Grey], queries: Grey, k: int, limit: int) -> list[tuple[int, int]]:
    """Return (distance, image) of the k nearest images by a full scan; codes of an image have shape (frames, 128)."""
    found = []
    for image, frames in codes.items():
        distances = np.bitwise_count(frames[:, None] ^ queries[None]).sum(axis=2).ravel().tolist()
        found += [(min(distances), image)] if distances and min(distances) <= limit else []
    return sorted(found)[:k]


def checked(found: list[NearFrame], codes: dict[int, Grey], queries: Grey) -> list[tuple[int, int]]:
    """Return (distance, image) of all results, after a check of each distance."""
    for one in found:
        assert differing(codes[one.image][one.frame], queries[one.query]) == one.distance
    return [(one.distance, one.image) for one in found]


def made_codes(rng: np.random.Generator, images: int, frames: int, queries: int, kinds: int) -> tuple[Any, Grey]:
    """Return codes near a few centres. Many codes are equal, so that frames, images and codes of the query have equal
    distances."""
    centres = rng.integers(0, 256, (kinds, 128), np.uint8)

    def some(*shape: int) -> Grey:
        codes = centres[rng.integers(0, kinds, shape)].copy()
        codes[..., 0] ^= np.uint8([0, 0, 1, 3])[rng.integers(0, 4, shape)]
        return codes

    numbers = np.sort(rng.choice(2**62, images, replace=False)).astype(np.int64)
    return dict(zip(numbers.tolist(), some(images, frames), strict=True)), some(queries)


def indexed(codes: dict[int, Grey], frames: int, engine: str = "scan") -> FrameIndex:
    numbers = np.array(sorted(codes), np.int64)
    stacked = np.stack([codes[one] for one in numbers.tolist()]) if codes else np.empty((0, frames, 128), np.uint8)
    return FrameIndex(frames, engine_index(engine)).extended(numbers, stacked)


index_properties = {
    "images": st.integers(0, 30),
    "frames": st.integers(1, 7),
    "queries": st.integers(0, 6),
    "kinds": st.integers(1, 4),
    "k": st.integers(1, 40),
    "limit": st.sampled_from([0, 1, 2, 300, 470, 512, 1024]),
    "seed": st.integers(0, 10**6),
    "share": st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    "engine": st.sampled_from(list(ENGINES)),
}


@settings(max_examples=150, deadline=None)
@given(**index_properties)
def test_search_returns_the_nearest_frame_of_each_image(
    images: int, frames: int, queries: int, kinds: int, k: int, limit: int, seed: int, share: float, engine: str
) -> None:
    rng = np.random.default_rng(seed)
    codes, wanted = made_codes(rng, images, frames, queries, kinds)
    whole = indexed(codes, frames, engine)
    assert (len(whole.images), len(whole)) == (images, images * frames)
    assert checked(whole.search(wanted, k, limit), codes, wanted) == scan(codes, wanted, k, limit)

    gone = [image for image in codes if rng.random() < share]
    kept = {image: one for image, one in codes.items() if image not in gone}
    fewer = whole.without(np.array([*gone, 5], np.int64))  # 5 is not an image
    assert len(fewer) == len(kept) * frames
    assert checked(fewer.search(wanted, k, limit), codes, wanted) == scan(kept, wanted, k, limit)
    assert checked(whole.search(wanted, k, limit), codes, wanted) == scan(codes, wanted, k, limit)  # unchanged


@settings(max_examples=60, deadline=None)
@given(**index_properties)
def test_base_and_delta_search_as_one_index(
    images: int, frames: int, queries: int, kinds: int, k: int, limit: int, seed: int, share: float, engine: str
) -> None:
    rng = np.random.default_rng(seed)
    codes, wanted = made_codes(rng, images, frames, queries, kinds)
    newer = {image: one for image, one in codes.items() if rng.random() < share}
    older = {image: one for image, one in codes.items() if image not in newer}
    changed = np.array([image for image in newer if rng.random() < 0.5], np.int64)
    before = older | {int(image): codes[int(image)] ^ np.uint8(7) for image in changed}  # the base has the old codes
    base, delta = indexed(before, frames, engine).without(changed), indexed(newer, frames)
    view = FrameView("views", 1, 1, {"views": base}, {"views": delta})
    assert view.search("views", wanted, k, limit) == indexed(codes, frames, engine).search(wanted, k, limit)
    assert view.nbytes == base.nbytes + delta.nbytes
    assert view.search("windows", wanted, k, limit) == []


def test_first_of_equally_near_frames_is_returned() -> None:
    """The order is by distance, image, frame and code, as `FrameIndex.search` documents."""
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 256, (2, 128), np.uint8)
    found = indexed({7: np.stack([a, b])}, 2).search(np.stack([b, a]), 1, 0)
    assert found == [NearFrame(7, 0, 1, 0)]


@pytest.mark.parametrize(("k", "limit"), [(0, 10), (-1, 10), (1, -1), (1, 1025)])
def test_limits_out_of_range_are_refused(k: int, limit: int) -> None:
    codes, wanted = made_codes(np.random.default_rng(2), 2, 2, 1, 1)
    with pytest.raises(ValueError, match=r"k must be|max_distance must be"):
        indexed(codes, 2).search(wanted, k, limit)


# -- loading: frames in memory are not read again ----------------------------------------------------------------------


def put(writer: StoreWriter, number: int, frames: Grey | None, *, hashed: bool = True) -> None:
    """Put a new or changed image with the given codes of its frames into the store."""
    root_id, root, _ = writer.catalog.root_for(Path("/collection"))
    code = None if not hashed else np.random.default_rng(number).bytes(128)
    record = Record(
        id=number, root=root, path=f"Tips/{number}.jpg", member=None, size=1, mtime_ns=1, sha256=bytes(32),
        format="JPEG", mode="L", bits=8, width=4, height=3, hash=code, unhashable=None if hashed else "featureless: x",
        recipe=RECIPE, category="Tips", code="L9", taxonomy="1", published_prefix=None,
        indexed_at="2024-01-01T00:00:00Z", generation=writer.generation,
    )  # fmt: skip
    writer.catalog.put(record, root_id, b"thumbnail", b"" if frames is None else frames.tobytes())


def set_stored_reach(writer: StoreWriter, reach: Reach) -> None:
    writer.catalog.set_meta("reach", reach)
    writer.catalog.set_meta("frames_recipe", FRAMES_RECIPE)
    writer.catalog.set_meta("reframed", str(writer.generation))


def all_near(frames: FrameView, kind: str, queries: Grey) -> list[tuple[int, int]]:
    return [(near.distance, near.image) for near in frames.search(kind, queries, 1000, 1024)]


def held_by(frames: FrameView) -> int:
    return sum(len(index) for indexes in (frames.base, frames.delta) for index in indexes.values())


@contextmanager
def opened(folder: Path) -> Iterator[Store]:
    store = Store(folder)
    try:
        yield store
    finally:
        store.close()


@pytest.mark.parametrize(
    "deleting",
    [False, True],
)
def test_refreshed_reader_has_the_frames_of_a_new_reader(tmp_path: Path, deleting: bool) -> None:
    """Runs add, change, blank, relabel, delete and reframe few or many images."""
    chance, rng = random.Random(3), np.random.default_rng(3)
    kinds = rng.integers(0, 256, (12, 128), np.uint8)
    queries = kinds[:3]
    codes: dict[int, Grey] = {}

    def some_frames() -> Grey:
        return kinds[rng.integers(0, len(kinds), ALL_FRAMES)]

    with open_writer(tmp_path, create=True) as writer:
        set_stored_reach(writer, "views")
        writer.catalog.root_for(Path("/collection"))
        with writer.catalog.transaction():
            for number in range(1, 61):
                codes[number] = some_frames()
                put(writer, number, codes[number])
        writer.publish()
    reach: Reach = "views"
    kept, loaded = 0, 0
    with opened(tmp_path) as standing:
        for run in range(24):
            with open_writer(tmp_path) as writer, writer.catalog.transaction():
                for _ in range(chance.choice([0, 1, 1, 2, 3, 9])):
                    number, action = chance.randint(1, 70), chance.random()
                    if deleting and action < 0.4:
                        writer.catalog.delete([number], writer.generation)
                        codes.pop(number, None)
                    elif action < 0.5:
                        put(writer, number, None, hashed=False)  # now featureless
                        codes.pop(number, None)
                    elif action < 0.6:
                        writer.catalog.relabel(number, "Powder", "L8", "1", writer.generation)
                    else:
                        codes[number] = some_frames()
                        put(writer, number, codes[number])
                if run % 6 == 5:
                    reach = chance.choice([one for one in REACHES if one != reach])
                    set_stored_reach(writer, reach)
            with open_writer(tmp_path) as writer:
                writer.publish()
            before = standing.view.frames
            after = standing.refresh().frames
            kept += bool(after.delta) and after.loaded == before.loaded
            loaded += after.loaded > before.loaded
            with opened(tmp_path) as fresh:
                ranges = {"views": slice(0, 6), "shades": slice(6, OF_VIEWS)} if reach != "frame" else {}
                ranges |= {"windows": slice(OF_VIEWS, ALL_FRAMES)} if reach == "windows" else {}
                for frames in (after, fresh.view.frames):
                    assert frames.reach == reach
                    assert held_by(frames) == sum(len(codes) * (one.stop - one.start) for one in ranges.values())
                    for kind in ("views", "shades", "windows"):
                        wanted = {image: one[ranges[kind]] for image, one in codes.items()} if kind in ranges else {}
                        assert all_near(frames, kind, queries) == scan(wanted, queries, 1000, 1024)
    assert kept > 5
    assert loaded > 3


def test_deleted_images_stay_absent_after_a_rewrite(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    codes = {number: rng.integers(0, 256, (OF_VIEWS, 128), np.uint8) for number in range(1, 101)}
    with open_writer(tmp_path, create=True) as writer:
        set_stored_reach(writer, "views")
        for number, one in codes.items():
            put(writer, number, one)
        writer.publish()
    with opened(tmp_path) as standing:
        for gone in (range(1, 7), range(7, 12)):  # each change concerns at most a tenth, both together more
            with open_writer(tmp_path) as writer:
                with writer.catalog.transaction():
                    writer.catalog.delete(gone, writer.generation)
                writer.publish()
            frames = standing.refresh().frames
            assert frames.search("views", codes[gone[0]], 1, 0) == []


def test_few_changes_are_loaded_as_a_delta(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    codes = {number: rng.integers(0, 256, (OF_VIEWS, 128), np.uint8) for number in range(1, 41)}
    with open_writer(tmp_path, create=True) as writer:
        set_stored_reach(writer, "views")
        for number, one in codes.items():
            put(writer, number, one)
        writer.publish()
    with opened(tmp_path) as store:
        held = store.view.frames
        for number in (3, 41, 42):
            with open_writer(tmp_path) as writer:
                codes[number] = rng.integers(0, 256, (OF_VIEWS, 128), np.uint8)
                put(writer, number, codes[number])
                writer.publish()
            frames = store.refresh().frames
            assert frames.loaded == held.loaded == 1
            assert len(frames.delta["views"]) + len(frames.base["views"]) == 6 * len(codes)
            assert all_near(frames, "views", codes[number][:1])[0] == (0, number)
        assert all_near(held, "views", codes[41][:1])[0][0] > 300  # the old view is unchanged
        with open_writer(tmp_path) as writer:
            for number in range(50, 60):
                put(writer, number, codes[1])
            writer.publish()
        assert store.refresh().frames.loaded == store.view.generation  # too many for a delta


def test_view_is_not_reused_for_another_store(tmp_path: Path) -> None:
    """This holds even if numbers, generations and reach are the same."""
    rng = np.random.default_rng(8)
    codes = rng.integers(0, 256, (2, OF_VIEWS, 128), np.uint8)
    for name, one in zip(("one", "two"), codes, strict=True):
        with open_writer(tmp_path / name, create=True) as writer:
            set_stored_reach(writer, "views")
            for number in range(1, 21):
                put(writer, number, one)
            writer.publish()
    held = load_view(tmp_path / "one")
    again, other = load_view(tmp_path / "one", held), load_view(tmp_path / "two", held)
    found = [[bool(view.frames.search("views", one[:1], 1, 0)) for one in codes] for view in (held, again, other)]
    for view in (held, again, other):
        view.snapshot.close()
    assert found == [[True, False], [True, False], [False, True]]


def test_frames_of_a_newer_release_are_refused_with_advice(tmp_path: Path) -> None:
    with open_writer(tmp_path, create=True) as writer:
        set_stored_reach(writer, "views")
        put(writer, 1, None)
        writer.publish()
        writer.catalog.set_meta("reach", "galaxies")
        writer.publish()
        with pytest.raises(
            StoreError, match=r"reach 'galaxies'.*knows only frame, views, windows; use the release"
        ) as caught:
            stored_reach(writer.catalog)
    assert str(tmp_path) in str(caught.value)
    with open_writer(tmp_path) as writer:
        put(writer, 2, None)
        writer.publish()
    with pytest.raises(StoreError, match="galaxies"):
        Store(tmp_path)


def test_image_without_all_its_frames_is_not_indexed(tmp_path: Path) -> None:
    """An example is an image with a missing, damaged or too small thumbnail."""
    codes = np.random.default_rng(6).integers(0, 256, (ALL_FRAMES, 128), np.uint8)
    with open_writer(tmp_path, create=True) as writer:
        set_stored_reach(writer, "windows")
        for number, frames in ((1, codes), (2, None), (3, codes[:OF_VIEWS])):
            put(writer, number, frames)
        writer.publish()
    with opened(tmp_path) as store:
        for kind in ("views", "windows"):
            assert [near.image for near in store.view.frames.search(kind, codes, 9, 1024)] == [1]


# -- reframing: from the thumbnails, without the images ----------------------------------------------------------------


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("collection") / "images"  # ids of images depend on the name
    (folder / "Tips").mkdir(parents=True)
    for number in range(4):
        Image.fromarray(smooth(20 + number, 90, 120, 3)).save(folder / "Tips" / f"{number}.png")
    Image.fromarray(np.full((90, 120), 9, np.uint8)).save(folder / "Tips" / "blank.png")
    return folder


@pytest.fixture(scope="module")
def indexed_as(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a store of the images for every reach, each made from scratch."""
    root = tmp_path_factory.mktemp("indexed")
    for reach in REACHES:
        index([image_folder], root / reach, reach=reach, workers=1)
    return {reach: root / reach for reach in REACHES}


def state(folder: Path) -> tuple[str, list[int], bytes]:
    """Return the content that a new reader sees: the reach, and the images and codes in order."""
    with opened(folder) as store:
        frames = store.view.frames
        if frames.reach == "frame":
            assert held_by(frames) == 0
            return "frame", [], b""
        ids, codes = store.catalog.frames(len(reference_frames(frames.reach)), above=0, upto=store.view.generation)
        assert held_by(frames) == len(ids) * len(reference_frames(frames.reach))
        for image, own in zip(ids.tolist(), codes, strict=True):
            assert frames.search("views", own[:1], 1, 0)[0].image == image
        return frames.reach, ids.tolist(), codes.tobytes()


def reframed(folder: Path, reach: Reach) -> None:
    with open_writer(folder) as writer:
        set_reach(writer, reach, 1)
        writer.publish()


def test_new_store_has_views_and_keeps_its_reach(image_folder: Path, tmp_path: Path) -> None:
    runs: list[tuple[Reach | None, Reach]] = [
        (None, "views"), ("windows", "windows"), (None, "windows"), ("frame", "frame"), (None, "frame"),
    ]  # fmt: skip
    for requested, expected in runs:
        index([image_folder], tmp_path / "store", reach=requested, workers=1)
        with opened(tmp_path / "store") as store:
            assert store.view.frames.reach == expected


def test_blank_image_has_no_frames(indexed_as: dict[str, Path]) -> None:
    assert [len(state(indexed_as[reach])[1]) for reach in ("views", "windows")] == [4, 4]


def test_reach_changes_without_the_image_files(
    image_folder: Path, indexed_as: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection, store = tmp_path / "images", tmp_path / "store"
    shutil.copytree(image_folder, collection)
    index([collection], store, reach="frame", workers=1)
    for file in (collection / "Tips").iterdir():
        file.unlink()
    expected = {reach: state(folder) for reach, folder in indexed_as.items()}
    generations = [1]
    path: list[Reach] = ["views", "windows", "views", "frame", "windows", "frame", "views"]
    with opened(store) as standing:
        for reach in path:
            index([collection], store, reach=reach, workers=2)
            if reach != "frame":
                assert state(store) == expected[reach]
            assert standing.refresh().frames.reach == reach  # without reopening the store
            generations.append(standing.view.generation)
            count = {"frame": 0, "views": OF_VIEWS, "windows": ALL_FRAMES}[reach]
            assert held_by(standing.view.frames) == 4 * count
    assert generations == sorted(set(generations))


def test_the_same_reach_again_changes_nothing(image_folder: Path, indexed_as: dict[str, Path], tmp_path: Path) -> None:
    store = Path(shutil.copytree(indexed_as["views"], tmp_path / "store"))
    report = index([image_folder], store, reach="views", workers=1)
    assert (report.generation, report.counts["unchanged"]) == (1, 5)


class Interruption(BaseException):
    """An exception that, like the exception of Ctrl-C, is no `Exception`."""


def interrupt_by_put(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    real, done = Catalog.put_frames, iter(range(10**6))

    def failing(self: Catalog, number: int, codes: bytes) -> None:
        if next(done) == after:
            raise Interruption
        real(self, number, codes)

    monkeypatch.setattr(Catalog, "put_frames", failing)


def interrupt_by_order(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    real = reframing.in_order

    def failing(*arguments: Any) -> Iterator[Any]:
        for done, one in enumerate(real(*arguments)):
            if done == after:
                raise Interruption
            yield one

    monkeypatch.setattr(reframing, "in_order", failing)


@pytest.mark.parametrize("interrupt", [interrupt_by_put, interrupt_by_order])
@pytest.mark.parametrize(
    ("old", "new"),
    [("frame", "views"), ("views", "windows")],
)
def test_interrupted_reframing_keeps_the_reach_and_resumes(
    indexed_as: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    interrupt: Callable[[pytest.MonkeyPatch, int], None],
    old: Reach,
    new: Reach,
) -> None:
    store = Path(shutil.copytree(indexed_as[old], tmp_path / "store"))
    before = state(store)
    with monkeypatch.context() as patched:
        interrupt(patched, 2)
        with pytest.raises(Interruption):
            reframed(store, new)
    assert state(store) == before
    reframed(store, new)
    assert state(store) == state(indexed_as[new])


@pytest.mark.parametrize("old", ["frame", "views"])
def test_interrupted_indexing_resumes(
    image_folder: Path, indexed_as: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: Reach
) -> None:
    store = Path(shutil.copytree(indexed_as[old], tmp_path / "store"))
    with monkeypatch.context() as patched:
        interrupt_by_put(patched, 1)
        with pytest.raises(Interruption):
            index([image_folder], store, reach="windows", workers=1)
    assert state(store)[0] == old
    index([image_folder], store, reach="windows", workers=1)
    assert state(store) == state(indexed_as["windows"])


def older_recipe(folder: Path) -> None:
    """Change a store as if an older release had hashed its frames."""
    with open_writer(folder) as writer:
        writer.catalog.set_meta("frames_recipe", "older/0")
        writer.catalog._db.execute("UPDATE frames SET codes = zeroblob(length(codes))")


def test_frames_of_another_recipe_are_recomputed(indexed_as: dict[str, Path], tmp_path: Path) -> None:
    store = Path(shutil.copytree(indexed_as["views"], tmp_path / "store"))
    older_recipe(store)
    with opened(store) as standing:
        reframed(store, "views")
        assert state(store) == state(indexed_as["views"])
        frames = standing.refresh().frames
        ids, codes = standing.catalog.frames(OF_VIEWS, above=0, upto=standing.view.generation)
        assert [frames.search("views", code[:1], 1, 0)[0].image for code in codes] == ids.tolist()


def test_recomputing_frames_resumes_after_an_interruption(
    indexed_as: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Path(shutil.copytree(indexed_as["views"], tmp_path / "store"))
    older_recipe(store)
    with monkeypatch.context() as patched:
        interrupt_by_put(patched, 2)
        with pytest.raises(Interruption):
            reframed(store, "views")
    reframed(store, "views")
    assert state(store) == state(indexed_as["views"])


def test_damaged_thumbnail_does_not_stop_reframing(indexed_as: dict[str, Path], tmp_path: Path) -> None:
    store = Path(shutil.copytree(indexed_as["frame"], tmp_path / "store"))
    _, ids, _ = expected = state(indexed_as["views"])
    with open_writer(store) as writer:
        damaged = [(b"no thumbnail", ids[0]), (writer.catalog.thumbnail(ids[1])[:200], ids[1])]  # type: ignore[index]
        writer.catalog._db.executemany("UPDATE thumbnails SET data = ? WHERE id = ?", damaged)
    reframed(store, "views")
    reach, left, codes = state(store)
    assert (reach, left) == ("views", ids[2:])
    assert codes == expected[2][2 * OF_VIEWS * 128 :]
    with opened(store) as opened_store:
        record = opened_store.records(ids[:1])[ids[0]]
        assert record.hash is not None
        [found] = opened_store.view.search(np.frombuffer(record.hash, np.uint8)[None], 1, 0)
        assert found.ids.tolist() == ids[:1]


def test_frames_follow_changed_and_deleted_images(image_folder: Path, tmp_path: Path) -> None:
    collection, store = tmp_path / "images", tmp_path / "store"
    shutil.copytree(image_folder, collection)
    index([collection], store, reach="windows", workers=1)
    Image.fromarray(smooth(40, 90, 120, 3)).save(collection / "Tips" / "0.png")
    Image.fromarray(np.full((90, 120), 9, np.uint8)).save(collection / "Tips" / "1.png")
    (collection / "Tips" / "2.png").unlink()
    index([collection], store, prune=True, workers=1)
    with opened(store) as reader:
        ids, codes = reader.catalog.frames(ALL_FRAMES, above=0, upto=reader.view.generation)
        names = [reader.records([number])[number].path for number in ids.tolist()]
        assert sorted(names) == ["Tips/0.png", "Tips/3.png"]
        thumbnail = decode_thumbnail(encode_thumbnail(smooth(40, 90, 120, 3)))
        expected = frame_codes(thumbnail, reference_frames("windows"))
        np.testing.assert_array_equal(codes[names.index("Tips/0.png")], expected)
        assert reader.catalog._db.execute("SELECT count(*) FROM frames").fetchone() == (2,)
