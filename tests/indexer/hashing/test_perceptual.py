"""The hash: equal to imagehash in every bit, and a reason if no hash could identify an image."""

from __future__ import annotations

from pathlib import Path

import imagehash
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps
from twinscope_client.demo.micrographs import CATEGORIES, synthesise
from twinscope_indexer.errors import ImageError, RecipeError
from twinscope_indexer.hashing.codes import BITS, BYTES
from twinscope_indexer.hashing.hashability import Unhashable
from twinscope_indexer.hashing.perceptual import RECIPE, PHash, hash_pixels, phash, require_recipe

Pixels = NDArray[np.uint8]


def legacy_hash(image: Image.Image) -> imagehash.ImageHash:
    """Hash by the legacy rule, as labelled collections were hashed."""
    return imagehash.phash(ImageOps.autocontrast(ImageOps.equalize(image.convert("L"))), hash_size=32)


def legacy_hex(pixels: Pixels) -> str:
    return str(legacy_hash(Image.fromarray(pixels)))


def waves(height: int, width: int, rng: np.random.Generator) -> Pixels:
    """Return a smooth image of a few plane waves."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    total = np.zeros((height, width))
    for _ in range(4):
        a, b, phase = rng.uniform(-9, 9), rng.uniform(-9, 9), rng.uniform(0, 7)
        total += rng.uniform(0.2, 1) * np.sin(2 * np.pi * (a * x + b * y) + phase)
    return np.clip(127.5 + 40 * total, 0, 255).astype(np.uint8)


def noise(height: int, width: int, rng: np.random.Generator) -> Pixels:
    return rng.integers(0, 256, (height, width), dtype=np.uint8)


def few_levels(height: int, width: int, rng: np.random.Generator) -> Pixels:
    levels = rng.choice(256, size=int(rng.integers(2, 5)), replace=False).astype(np.uint8)
    return levels[rng.integers(0, len(levels), (height, width))]


def blocks(height: int, width: int, rng: np.random.Generator) -> Pixels:
    """Return an image of few flat rectangles, in which many coefficients are exactly equal."""
    pixels = np.full((height, width), rng.integers(0, 256), np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        top, left = rng.integers(0, height), rng.integers(0, width)
        pixels[top : top + rng.integers(1, height + 1), left : left + rng.integers(1, width + 1)] = rng.integers(0, 256)
    return pixels


def rows_only(height: int, width: int, rng: np.random.Generator) -> Pixels:
    return np.repeat(rng.integers(0, 256, (height, 1), dtype=np.uint8), width, axis=1)


def columns_only(height: int, width: int, rng: np.random.Generator) -> Pixels:
    return np.ascontiguousarray(rows_only(width, height, rng).T)


def mirrored(height: int, width: int, rng: np.random.Generator) -> Pixels:
    half = noise(height, (width + 1) // 2, rng)
    return np.ascontiguousarray(np.hstack([half, half[:, ::-1]])[:, :width])


def turned_symmetric(height: int, width: int, rng: np.random.Generator) -> Pixels:
    side = min(height, width)
    square = noise(side, side, rng).astype(np.uint16)
    return ((square + square.T) // 2).astype(np.uint8)


def four_fold(height: int, width: int, rng: np.random.Generator) -> Pixels:
    """Return an image symmetric in both axes: three quarters of its coefficients are zero, except for rounding."""
    quarter = few_levels((height + 1) // 2, (width + 1) // 2, rng)
    half = np.hstack([quarter, quarter[:, ::-1]])
    return np.ascontiguousarray(np.vstack([half, half[::-1]]))


FAMILIES = (
    noise, waves, few_levels, blocks, rows_only, columns_only, mirrored, turned_symmetric, four_fold,
)  # fmt: skip


@settings(max_examples=250, deadline=None)
@given(
    family=st.sampled_from(FAMILIES),
    height=st.one_of(st.integers(1, 9), st.integers(1, 300), st.sampled_from([127, 128, 129, 256])),
    width=st.one_of(st.integers(1, 9), st.integers(1, 300), st.sampled_from([127, 128, 129, 256])),
    seed=st.integers(0, 2**32 - 1),
)
@example(family=noise, height=1, width=1, seed=0)
@example(family=noise, height=1, width=2, seed=0)
@example(family=noise, height=1, width=7000, seed=0)
@example(family=noise, height=7000, width=1, seed=0)
@example(family=waves, height=3, width=5000, seed=0)
@example(family=four_fold, height=128, width=128, seed=0)
@example(family=four_fold, height=64, width=64, seed=1)
def test_every_bit_equals_imagehash(family, height, width, seed):
    pixels = family(height, width, np.random.default_rng(seed))
    assert phash(pixels).tobytes().hex() == legacy_hex(pixels)


def chessboard(square: int, side: int = 128) -> Pixels:
    return (((np.indices((side, side)) // square).sum(axis=0) % 2) * 255).astype(np.uint8)


@pytest.mark.parametrize("square", [1, 2, 4, 8, 16, 32, 64])
def test_bits_tied_at_the_median_equal_imagehash(square):
    pixels = chessboard(square)
    assert phash(pixels).tobytes().hex() == legacy_hex(pixels)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 2)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_images_hash_as_in_imagehash(shape, level):
    pixels = np.full(shape, level, np.uint8)
    assert phash(pixels).tobytes().hex() == legacy_hex(pixels)


@pytest.mark.parametrize("category", CATEGORIES)
def test_micrographs_hash_as_in_imagehash(category):
    pixels = synthesise(category, 3, width=160, height=120)
    hashed = hash_pixels(pixels)
    assert isinstance(hashed, PHash)
    assert hashed.hex == legacy_hex(pixels)


@pytest.mark.parametrize(
    "view",
    [lambda p: p[::-1], lambda p: p[:, ::-1], lambda p: p.T, lambda p: p[::2, 1::3], np.asfortranarray],
    ids=["flipped", "mirrored", "transposed", "strided", "column-major"],
)
def test_memory_layout_does_not_matter(view):
    pixels = view(synthesise("Powder", 1, width=160, height=120))
    assert phash(pixels).tobytes() == phash(np.ascontiguousarray(pixels)).tobytes()


def test_hashing_does_not_change_the_pixels():
    pixels = synthesise("Tips", 1, width=96, height=64)
    before = pixels.copy()
    pixels.flags.writeable = False
    hash_pixels(pixels)
    assert np.array_equal(pixels, before)


def test_real_micrographs_hash_as_in_imagehash(micrographs_dir: Path):
    from twinscope_indexer.imaging.reader import read_image

    compared = 0
    for path in sorted(p for p in micrographs_dir.rglob("*") if p.suffix in {".jpg", ".png", ".tif"}):
        try:
            image = read_image(path)
        except ImageError:  # some are damaged on purpose
            continue
        if image.bits != 8 or image.window is not None:
            continue
        with Image.open(path) as opened:
            expected = str(legacy_hash(opened))
        assert phash(image.pixels).tobytes().hex() == expected, path
        compared += 1
    assert compared > 100


# -- amounts of structure ------------------------------------------------------------------------------------------


@given(level=st.integers(0, 255), height=st.integers(1, 40), width=st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_one_grey_value_is_featureless(level, height, width):
    hashed = hash_pixels(np.full((height, width), level, np.uint8))
    assert isinstance(hashed, Unhashable)
    assert hashed.reason == "featureless"
    assert str(level) in hashed.detail


@pytest.mark.parametrize("stripes", [rows_only, columns_only])
@pytest.mark.parametrize("seed", range(5))
def test_plain_stripes_are_degenerate(stripes, seed):
    hashed = hash_pixels(stripes(200, 160, np.random.default_rng(seed)))
    assert isinstance(hashed, Unhashable)
    assert hashed.reason == "degenerate"


def test_chessboard_is_degenerate():
    assert isinstance(hash_pixels(chessboard(16)), Unhashable)


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("info_bar", [True, False])
def test_micrographs_have_exactly_half_of_the_bits_set(category, info_bar):
    hashed = hash_pixels(synthesise(category, 8, width=160, height=120, info_bar=info_bar))
    assert isinstance(hashed, PHash)
    assert int(np.unpackbits(hashed.packed).sum()) == BITS // 2


def test_unrelated_micrographs_have_large_even_distances():
    hashes = [hash_pixels(synthesise(c, s, width=160, height=120, info_bar=False)) for c in CATEGORIES for s in (0, 1)]
    found = [a.distance(b) for i, a in enumerate(hashes) for b in hashes[:i]]
    assert all(distance % 2 == 0 for distance in found)
    assert min(found) > 300


def test_distance_counts_the_bits_that_differ():
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 2, (2, BITS)).astype(bool)
        one, other = PHash(np.packbits(a).tobytes()), PHash(np.packbits(b).tobytes())
        assert one.distance(other) == other.distance(one) == int((a != b).sum())
    assert one.distance(one) == 0


# -- the packed form ----------------------------------------------------------------------------------------------


@given(st.binary(min_size=BYTES, max_size=BYTES))
@settings(max_examples=50, deadline=None)
def test_hex_and_imagehash_round_trip(code):
    hashed = PHash(code)
    assert PHash.from_hex(hashed.hex) == hashed
    assert PHash.from_hex(hashed.hex.upper()) == hashed
    assert str(hashed.to_imagehash()) == hashed.hex
    assert PHash.from_imagehash(hashed.to_imagehash()) == hashed
    assert hashed.packed.tobytes() == code


def test_bits_are_row_major_with_the_most_significant_first():
    bits = np.zeros((32, 32), bool)
    bits[0, 0] = bits[1, 31] = True
    assert PHash.from_imagehash(imagehash.ImageHash(bits)).hex == f"{'80':0<14}{'01':0<242}"


@pytest.mark.parametrize(
    "text", ["", "ab", "0" * 255, "0" * 257, "x" * 256, " " + "0" * 255, "0" * 128, "00 " * 128, "é" * 256]
)
def test_invalid_hex_is_refused(text):
    with pytest.raises(ValueError, match="256 hexadecimal digits"):
        PHash.from_hex(text)


@pytest.mark.parametrize("length", [0, 127, 129])
def test_code_of_another_length_is_refused(length):
    with pytest.raises(ValueError, match="128 bytes"):
        PHash(bytes(length))


def test_imagehash_of_another_size_is_refused():
    with pytest.raises(ValueError, match="128 bytes"):
        PHash.from_imagehash(imagehash.ImageHash(np.zeros((8, 8), bool)))


def test_hashes_of_two_recipes_are_not_compared():
    mine, other = PHash(bytes(BYTES)), PHash(bytes(BYTES), recipe="phash64/1")
    with pytest.raises(RecipeError, match="phash64/1"):
        mine.distance(other)
    with pytest.raises(RecipeError):
        other.distance(mine)
    with pytest.raises(RecipeError):
        require_recipe("phash64/1")
    require_recipe(RECIPE)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4, 3), np.uint8),
        np.zeros(16, np.uint8),
        np.zeros((4, 4), np.uint16),
        np.zeros((4, 4)),
        np.zeros((0, 4), np.uint8),
        np.zeros((4, 0), np.uint8),
    ],
    ids=["colour", "one axis", "16 bits", "float", "no rows", "no columns"],
)
def test_array_that_is_not_a_grey_image_is_refused(pixels):
    for function in (phash, hash_pixels):
        with pytest.raises(ValueError, match="uint8 of shape"):
            function(pixels)


def test_empty_field_above_an_info_bar_is_featureless():
    image = np.full((480, 640), 60, np.uint8)
    image[440:] = np.random.default_rng(0).integers(0, 256, (40, 640), np.uint8)
    found = hash_pixels(image)
    assert isinstance(found, Unhashable)
    assert found.reason == "featureless"
    image[:440] += (4 * np.sin(np.mgrid[:440, :640].sum(axis=0) ** 1.1) + 4).astype(np.uint8)
    assert isinstance(hash_pixels(image), PHash)
