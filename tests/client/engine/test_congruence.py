"""Embedded engines and servers at ``grpc://`` and ``grpcs://`` (with a token) give the same results."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from raw_client import authority
from shelf import Shelf
from twinscope_client import connect
from twinscope_client.demo.micrographs import synthesise
from twinscope_client.engine.protocol import Engine
from twinscope_client.testing import serving
from twinscope_indexer.errors import ImageError, RecipeError, TaxonomyError, UnknownImageError
from twinscope_indexer.hashing.perceptual import RECIPE, PHash, hash_pixels, phash
from twinscope_indexer.imaging.reader import read_image
from twinscope_service.errors import GenerationError, OptionError
from twinscope_service.matching.policy import POLICIES, Policy
from twinscope_service.server.tokens import token_line

TOKEN = "congruent"


@pytest.fixture(scope="module")
def embedded(shelf: Shelf) -> Iterator[Engine]:
    with connect(shelf.store) as engine:
        yield engine


@pytest.fixture(scope="module", params=["grpc", "grpcs"])
def remote(request: pytest.FixtureRequest, shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    if request.param == "grpc":
        with serving(shelf.store) as target, connect(target) as engine:
            yield engine
        return
    if shutil.which("openssl") is None:
        pytest.skip("certificates are made with the openssl command")
    folder = tmp_path_factory.mktemp("tls")
    ca = authority(folder, "ca")
    certificate, key = ca.issue("server")
    (folder / "tokens").write_text(token_line("tests", "read", TOKEN))
    settings = {"tls_certificate": certificate, "tls_key": key, "tokens": folder / "tokens"}
    with (
        serving(str(shelf.store), **settings) as target,
        connect(target, token=lambda: TOKEN, ca=str(ca.pem)) as engine,
    ):
        yield engine


@pytest.fixture(scope="module")
def files(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Image files of every kind, by name."""
    folder = tmp_path_factory.mktemp("queries")
    pixels = shelf.pixels["Tips", 0]
    rng = np.random.default_rng(1)
    deep = (pixels.astype(np.uint16) << 6) + rng.integers(0, 64, pixels.shape).astype(np.uint16)
    made: dict[str, Any] = {
        "same.tif": pixels,
        "deep.tif": deep,
        "float.tif": pixels.astype(np.float32) / 7 - 3,
        "shifted.tif": np.roll(pixels, 5, axis=1),
        "inverted.tif": 255 - pixels,
        "unknown.tif": synthesise("Biological", 7, width=300, height=200).astype(np.uint8),
        "blank.tif": np.full((120, 160), 77, np.uint8),
        "stripes.tif": np.tile(np.uint8([0, 255] * 80), (120, 1)),
        "tiny.tif": pixels[:6, :6],
    }
    for name, array in made.items():
        tifffile.imwrite(folder / name, array)
    Image.fromarray(pixels).resize((400, 300)).save(folder / "resized.png")
    Image.fromarray(pixels).save(folder / "worse.jpg", quality=25)
    Image.fromarray(np.stack([pixels, pixels // 2, pixels // 3], axis=2)).save(folder / "colour.png")
    whole = (folder / "same.tif").read_bytes()
    (folder / "truncated.tif").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.tif").write_bytes(b"")
    (folder / "text.tif").write_bytes(b"no image at all")
    (folder / "b\udce4ckslash\\name.tif").write_bytes(whole)
    return {path.name: path for path in folder.iterdir()} | {"missing.tif": folder / "missing.tif", "folder": folder}


def outcome(do: Callable[[], Any]) -> tuple[Any, ...]:
    """Return the result of a call, or everything of its exception that a caller can see."""
    try:
        return "value", do()
    except Exception as error:  # noqa: BLE001  any exception must be the same
        return "raises", type(error), str(error), {k: v for k, v in vars(error).items() if not k.startswith("__")}


NAMES = [
    "same.tif", "deep.tif", "float.tif", "shifted.tif", "inverted.tif", "unknown.tif", "blank.tif", "stripes.tif",
    "tiny.tif", "resized.png", "worse.jpg", "colour.png", "truncated.tif", "empty.tif", "text.tif", "missing.tif",
    "folder", "b\udce4ckslash\\name.tif",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_searches_of_files(embedded: Engine, remote: Engine, files: dict[str, Path], name: str) -> None:
    path = files[name]
    assert outcome(lambda: remote.search(path)) == outcome(lambda: embedded.search(path))


@pytest.mark.parametrize("name", ["same.tif", "shifted.tif", "worse.jpg", "unknown.tif", "blank.tif"])
def test_answers_as_json(embedded: Engine, remote: Engine, files: dict[str, Path], name: str) -> None:
    """Check the written form as well, because equal values such as 1 and 1.0 can be written in different ways."""
    found, expected = (json.dumps(engine.search(files[name]).to_dict()) for engine in (remote, embedded))
    assert found == expected


@pytest.mark.parametrize("name", ["deep.tif", "worse.jpg", "truncated.tif", "text.tif", "empty.tif"])
def test_searches_of_content(embedded: Engine, remote: Engine, files: dict[str, Path], name: str) -> None:
    path = files[name]
    data, text = path.read_bytes(), str(path)
    assert outcome(lambda: remote.search(text)) == outcome(lambda: embedded.search(text))
    assert outcome(lambda: remote.search(data)) == outcome(lambda: embedded.search(data))
    with path.open("rb") as one, path.open("rb") as two:
        assert outcome(lambda: remote.search(one)) == outcome(lambda: embedded.search(two))


def test_the_files_cover_every_outcome(embedded: Engine, files: dict[str, Path]) -> None:
    """Otherwise, the tests above might compare only one kind of answer."""
    outcomes = [outcome(lambda name=name: embedded.search(files[name])) for name in NAMES]
    assert {found[1].grade for found in outcomes if found[0] == "value"} == {"excellent", "good", "none", "unhashable"}
    faults = {found[3]["fault"] for found in outcomes if found[0] == "raises"}
    assert faults == {"truncated", "empty", "unsupported", "missing", "unreadable"}


@pytest.mark.parametrize("name", ["deep.tif", "float.tif", "colour.png", "tiny.tif", "blank.tif", "resized.png"])
def test_searches_of_pixels(embedded: Engine, remote: Engine, files: dict[str, Path], name: str) -> None:
    with Image.open(files[name]) as image:
        image.load()
        array = np.asarray(image)
        assert remote.search(image) == embedded.search(image)
    assert remote.search(array) == embedded.search(array)
    assert remote.search(array[::-1]) == embedded.search(array[::-1])


@pytest.mark.parametrize(
    "array", [np.zeros(5, np.uint8), np.zeros((4, 5, 2)), np.zeros((0, 5)), np.zeros((3, 3), "c8")]
)
def test_arrays_that_are_not_images(embedded: Engine, remote: Engine, array: np.ndarray) -> None:
    expected = outcome(lambda: embedded.search(array))
    assert expected[:2] == ("raises", ImageError)
    assert outcome(lambda: remote.search(array)) == expected


OPTIONS: list[dict[str, Any]] = [
    {"k": 1},
    {"k": 1000, "max_distance": 1024},
    {"k": 2, "max_distance": 1024, "verify": False},
    {"verify": False},
    {"policy": "legacy"},
    {"policy": "legacy", "verify": False},
    {"policy": "legacy", "k": 5, "max_distance": 600, "ssim_distance": 600},
    {"policy": POLICIES["default"].adjusted({"good_scene": 0.9})},
    {"excellent_ssim": 1.0},
    {"good_scene": 0.99, "lone_scene": 0.1},
    {"good_scene": -1.0, "max_distance": 1024},
    {"ssim_margin": 2.0, "scene_margin": 2.0, "max_distance": 1024, "good_scene": -1.0, "excellent_ssim": -1.0},
    {"ssim_distance": 0},
    {"max_distance": 0},
    {"categories": ["Tips"]},
    {"categories": ["L9", "Fibres"]},
    {"categories": "Particles", "max_distance": 1024},
    {"categories": ["Powder"]},
    {"categories": ["Unicorns"]},
    {"categories": ["Unicorns\udcff\\"]},
    {"categories": ["x" * 200]},
    {"policy": "nothing"},
    {"no_threshold": 1},
    {"k": 0},
    {"k": 1001},
    {"max_distance": 1025},
    {"max_distance": 0.5},
    {"good_scene": 1.5},
    {"k": True},
    {"k": True, "policy": POLICIES["default"].adjusted({"k": 1})},
    {"good_scene": 1},
    {"excellent_ssim": np.float32(0.9)},
    {"policy": Policy(name="whole", excellent_ssim=1, scene_margin=2)},
    {"policy": 5},
    {"policy": None},
    {"max_distence": 200},
    {"verify": "no"},
    {"k": np.int64(2)},
    {"k": 2.0},
    {"good_scene": float("nan")},
    {"good_scene": "0.5"},
    {"reach": "windows"},
    {"ssim": "always"},
    {"categories": [""]},
    {"categories": ["Tips", "x" * 257]},
    {"categories": ["\N{LATIN SMALL LETTER E WITH ACUTE}" * 129]},
    {"categories": ["\\" * 129]},
    {"categories": ["Tips"] * 64},
    {"categories": ["Tips"] * 65},
    {"categories": [5]},
    {"categories": b"Tips"},
    {"categories": None},
    {"categories": iter(())},
    {"min_generation": -1},
    {"min_generation": True},
    {"min_generation": 1 << 63},
    {"min_generation": 1},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options(
    embedded: Engine, remote: Engine, shelf: Shelf, files: dict[str, Path], options: dict[str, Any]
) -> None:
    for path in (files["shifted.tif"], files["blank.tif"]):
        assert outcome(lambda path=path: remote.search(path, **options)) == outcome(
            lambda path=path: embedded.search(path, **options)
        )
    other = {key: value for key, value in options.items() if key != "verify"}
    hashes = [hash_pixels(pixels) for pixels in shelf.pixels.values()]
    assert outcome(lambda: remote.search_hashes(hashes, **other)) == outcome(
        lambda: embedded.search_hashes(hashes, **other)
    )
    stored = embedded.search(shelf.reference("Tips", 1)).matches[0].image_id
    assert outcome(lambda: remote.search_stored(stored, **other)) == outcome(
        lambda: embedded.search_stored(stored, **other)
    )


def test_the_options_cover_answers_and_errors(embedded: Engine, shelf: Shelf) -> None:
    found = [outcome(lambda options=options: embedded.search(shelf.reference("Tips", 0), **options))
             for options in OPTIONS]  # fmt: skip
    assert {one[1] for one in found if one[0] == "raises"} == {TaxonomyError, OptionError}
    assert {one[1].grade for one in found if one[0] == "value"} >= {"excellent", "good", "unverified", "none"}


@pytest.mark.parametrize("options", [{"good_scene": 1}, {"policy": Policy(name="whole", ssim_margin=0)}], ids=str)
def test_thresholds_are_echoed_the_same(
    embedded: Engine, remote: Engine, files: dict[str, Path], options: dict[str, Any]
) -> None:
    """This also applies to whole numbers: in JSON, 1 and 1.0 differ."""
    given, expected = (repr(engine.search(files["same.tif"], **options).policy) for engine in (remote, embedded))
    assert given == expected
    assert "good_scene=1.0" in given or "ssim_margin=0.0" in given


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"categories": [""]}, OptionError), ({"categories": ["x" * 257]}, OptionError),
        ({"categories": ["Tips"] * 65}, OptionError), ({"categories": [5]}, OptionError),
        ({"categories": "Unicorns"}, TaxonomyError), ({"k": True}, OptionError), ({"good_scene": False}, OptionError),
        ({"k": True, "policy": POLICIES["default"].adjusted({"k": 1})}, OptionError),
        ({"min_generation": -1}, OptionError), ({"min_generation": True}, OptionError), ({"verify": 1}, OptionError),
    ],
    ids=str,
)  # fmt: skip
def test_wrong_options_are_refused(
    embedded: Engine, remote: Engine, files: dict[str, Path], options: dict[str, Any], error: type[Exception]
) -> None:
    for engine in (embedded, remote):
        with pytest.raises(error):
            engine.search(files["same.tif"], **options)


def test_a_generation_that_is_not_published(
    embedded: Engine, remote: Engine, shelf: Shelf, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinscope_service.matching.searcher.MAX_WAIT", 0.05)
    newest = embedded.stats()["generation"]
    stored = embedded.search(shelf.reference("Tips", 1)).matches[0].image_id
    hashes = [hash_pixels(shelf.pixels["Tips", 0])]
    for ask in (
        lambda engine, wanted: engine.search(files["same.tif"], min_generation=wanted),
        lambda engine, wanted: engine.search_hashes(hashes, min_generation=wanted),
        lambda engine, wanted: engine.search_stored(stored, min_generation=wanted),
    ):
        expected = outcome(lambda ask=ask: ask(embedded, newest + 1))
        assert expected[:2] == ("raises", GenerationError)
        assert f"generation {newest + 1}" in expected[2]
        assert outcome(lambda ask=ask: ask(remote, newest + 1)) == expected
        assert ask(remote, newest) == ask(embedded, newest)


@pytest.mark.parametrize("kind", ["bits", "list of bits", "nothing", "list of nothing", "hash", "text", "unhashable"])
def test_arguments_that_are_not_hashes(embedded: Engine, remote: Engine, shelf: Shelf, kind: str) -> None:
    pixels = shelf.pixels["Tips", 0]
    hashes: Any = {
        "bits": phash(pixels),
        "list of bits": [hash_pixels(pixels), phash(pixels)],
        "nothing": None,
        "list of nothing": [None],
        "hash": hash_pixels(pixels),
        "text": "hash",
        "unhashable": [hash_pixels(np.zeros((40, 40), np.uint8))],
    }[kind]
    expected = outcome(lambda: embedded.search_hashes(hashes))
    assert expected[:2] == ("raises", TypeError)
    assert "hash_pixels(pixels)" in expected[2]
    assert outcome(lambda: remote.search_hashes(hashes)) == expected


@pytest.mark.parametrize("options", [{}, {"categories": ["Unicorns"]}, {"categories": [""]}, {"k": 0}], ids=str)
def test_an_empty_list_of_hashes(embedded: Engine, remote: Engine, options: dict[str, Any]) -> None:
    expected = outcome(lambda: embedded.search_hashes([], **options))
    assert outcome(lambda: remote.search_hashes([], **options)) == expected
    assert expected[0] == ("raises" if options in ({"categories": [""]}, {"k": 0}) else "value")


def test_hashes_can_come_from_an_iterator(embedded: Engine, remote: Engine, shelf: Shelf) -> None:
    hashes = [hash_pixels(pixels) for pixels in shelf.pixels.values()]
    assert remote.search_hashes(iter(hashes)) == embedded.search_hashes(iter(hashes)) == embedded.search_hashes(hashes)


@pytest.mark.parametrize("recipe", ["", "x" * 500, "\N{LATIN SMALL LETTER E WITH ACUTE}\udc80\\", f"{RECIPE} "])
def test_recipes_of_every_kind(embedded: Engine, remote: Engine, shelf: Shelf, recipe: str) -> None:
    known = hash_pixels(shelf.pixels["Tips", 0])
    hashes = [known, PHash(known.code, recipe), PHash(known.code, "a third")]
    expected = outcome(lambda: embedded.search_hashes(hashes))
    assert expected[:2] == ("raises", RecipeError)
    assert expected[3] == {"found": recipe, "expected": RECIPE}
    assert outcome(lambda: remote.search_hashes(hashes)) == expected


@pytest.mark.parametrize("count", [0, 1, 7, 1100])
def test_many_hashes(embedded: Engine, remote: Engine, shelf: Shelf, count: int) -> None:
    rng = np.random.default_rng(count)
    known = [hash_pixels(pixels) for pixels in shelf.pixels.values()]
    codes = [np.frombuffer(hashed.code, np.uint8) ^ (1 << rng.integers(0, 8, 128, np.uint8)) * (rng.random(128) < 0.3)
             for hashed in known]  # fmt: skip
    hashes = [PHash(codes[i % len(codes)].astype(np.uint8).tobytes()) for i in range(count)]
    found = remote.search_hashes(hashes, max_distance=1024)
    assert found == embedded.search_hashes(hashes, max_distance=1024)
    assert len(found) == count


def test_hashes_of_another_recipe(embedded: Engine, remote: Engine, shelf: Shelf) -> None:
    hashes = [hash_pixels(shelf.pixels["Tips", 0]), PHash(bytes(128), "another recipe")]
    expected = outcome(lambda: embedded.search_hashes(hashes))
    assert expected[:2] == ("raises", RecipeError)
    assert outcome(lambda: remote.search_hashes(hashes)) == expected
    for engine in (embedded, remote):
        with pytest.raises(RecipeError) as caught:
            engine.search_hashes(hashes)
        assert (caught.value.found, caught.value.expected) == ("another recipe", RECIPE)


@pytest.mark.parametrize("image_id", ["0" * 16, "f" * 16, "A" * 16, "7", "", "../../etc/passwd", "0x1", "-1", "é" * 16])
def test_unknown_image_ids(embedded: Engine, remote: Engine, image_id: str) -> None:
    expected = outcome(lambda: embedded.search_stored(image_id))
    assert expected[:2] == ("raises", UnknownImageError)
    assert outcome(lambda: remote.search_stored(image_id)) == expected
    assert embedded.thumbnail(image_id) is remote.thumbnail(image_id) is None


def test_thumbnails(embedded: Engine, remote: Engine, shelf: Shelf) -> None:
    ids = [match.image_id for match in embedded.search(shelf.reference("Tips", 0), max_distance=1024, k=9).matches]
    assert len(ids) == 6
    for image_id in ids:
        np.testing.assert_array_equal(remote.thumbnail(image_id), embedded.thumbnail(image_id))


def test_statistics_and_identity(embedded: Engine, remote: Engine) -> None:
    assert remote.stats() == embedded.stats()
    assert list(remote.stats()) == list(embedded.stats())
    assert remote.identity == embedded.identity
    remote.refresh()
    assert remote.identity == embedded.identity


def test_a_stream_is_read_from_its_beginning(embedded: Engine, remote: Engine, files: dict[str, Path]) -> None:
    stream = io.BytesIO(files["same.tif"].read_bytes())
    stream.seek(9)
    assert remote.search(stream) == embedded.search(files["same.tif"])


def test_an_image_error_names_the_file_of_the_caller(remote: Engine, files: dict[str, Path]) -> None:
    with pytest.raises(ImageError) as caught:
        remote.search(files["truncated.tif"])
    assert caught.value.source == str(files["truncated.tif"])
    assert read_image(files["same.tif"]).pixels.shape == (240, 320)
