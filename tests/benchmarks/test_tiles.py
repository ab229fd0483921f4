"""Voting tiles, as the benchmark measures them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from twinscope_client.demo.micrographs import synthesise

_FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
if not (_FOLDER / "tiles.py").is_file():
    pytest.skip("the benchmarks are not part of this distribution", allow_module_level=True)


@pytest.fixture(scope="module")
def tiles():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(_FOLDER))
        import tiles

        yield tiles
        del sys.modules["tiles"]


CATEGORIES = ("Tips", "Particles", "Powder")


@pytest.fixture(scope="module")
def fields():
    return [synthesise(name, 5, width=640, height=480).astype(np.uint8) for name in CATEGORIES]


@pytest.fixture(scope="module")
def index(tiles, fields):
    return tiles.TileIndex([tiles.reference_tiles(Image.fromarray(field)) for field in fields])


def query_of(tiles, pixels):
    return tiles.query_tiles(Image.fromarray(np.ascontiguousarray(pixels)))


def cut(field, top, left, rows, columns):
    height, width = field.shape
    y, x = round(top * height), round(left * width)
    return field[y : y + round(rows * height), x : x + round(columns * width)]


@pytest.mark.parametrize(
    "crop", [(0, 0, 1, 1), (0.1, 0.1, 0.8, 0.8), (0.15, 0, 0.85, 1), (0.2, 0.3, 0.5, 0.5), (0.5, 0.5, 0.5, 0.5)]
)
@pytest.mark.parametrize("number", range(len(CATEGORIES)))
def test_crop_of_a_reference_is_found(tiles, fields, index, number, crop):
    assert tiles.match(query_of(tiles, cut(fields[number], *crop)), index) == number


@pytest.mark.parametrize("category", CATEGORIES)
def test_another_field_of_the_same_category_is_refused(tiles, index, category):
    unrelated = synthesise(category, 77, width=640, height=480).astype(np.uint8)
    assert tiles.match(query_of(tiles, unrelated), index) is None


def test_empty_image_has_no_tiles_and_no_votes(tiles, index):
    query = query_of(tiles, np.full((480, 640), 128, np.uint8))
    assert len(query.codes) == 0
    assert index.votes(query).tolist() == [0, 0, 0]


def test_tiles_with_different_locations_do_not_agree(tiles, fields, index):
    query = query_of(tiles, fields[0])
    scattered = np.random.default_rng(1).uniform(-5, 5, query.places.shape).astype(np.float32)
    assert index.votes(query)[0] >= tiles.VOTES
    assert index.votes(tiles.Tiles(query.codes, scattered, query.cells))[0] < tiles.VOTES


def test_tiles_of_one_cell_have_one_vote(tiles, fields, index):
    query = query_of(tiles, fields[0])
    assert index.votes(tiles.Tiles(query.codes, query.places, np.zeros_like(query.cells)))[0] == 1


def test_crop_of_a_strip_is_found(tiles, fields):
    strip = np.hstack(fields)
    index = tiles.TileIndex([tiles.reference_tiles(Image.fromarray(one)) for one in (fields[0].T.copy(), strip)])
    assert tiles.match(query_of(tiles, cut(strip, 0.1, 0.1, 0.8, 0.8)), index) == 1


def test_bytes_each_is_the_mean_of_the_references(tiles, fields, index):
    sizes = [tiles.reference_tiles(Image.fromarray(field)).codes.nbytes for field in fields]
    assert index.bytes_each == pytest.approx(np.mean(sizes))
