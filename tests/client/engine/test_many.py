"""``search_many`` gives the answers of ``search``, in order, and an error instead of the answer for a bad image."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import twinscope
from PIL import Image
from shelf import Shelf
from twinscope_client.engine import many
from twinscope_client.testing import serving


@pytest.fixture(scope="module")
def served(shelf: Shelf) -> Iterator[str]:
    with serving(shelf.store) as target:
        yield target


def in_asyncio(target: str, images: Any, **options: Any) -> list[tuple[Any, Any]]:
    async def ask() -> list[tuple[Any, Any]]:
        async with twinscope.aio.connect(target) as engine:
            return [pair async for pair in engine.search_many(images, **options)]

    return asyncio.run(ask())


def blocking(target: Any, images: Any, **options: Any) -> list[tuple[Any, Any]]:
    with twinscope.connect(target) as engine:
        return list(engine.search_many(images, **options))


@pytest.fixture(params=["embedded", "remote", "asyncio"])
def search_many(request: pytest.FixtureRequest, shelf: Shelf, served: str) -> Callable[..., list[tuple[Any, Any]]]:
    """Return a function that lists everything that `search_many` of an engine yields."""
    ways = {"embedded": (blocking, shelf.store), "remote": (blocking, served), "asyncio": (in_asyncio, served)}
    way, target = ways[request.param]
    return lambda images, **options: way(target, images, **options)


@pytest.fixture
def mixed(shelf: Shelf, tmp_path: Path) -> list[Any]:
    """Images of every kind: good and bad images alternate."""
    good = [
        *(shelf.reference(category, number) for category, number in shelf.pixels),
        str(shelf.reference("Tips", 0)),
        shelf.reference("Fibres", 1).read_bytes(),
        shelf.pixels["Particles", 0],
        Image.fromarray(shelf.pixels["Particles", 1]),
        np.zeros((40, 40), np.uint8),
    ]
    whole = shelf.reference("Tips", 0).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    bad = [
        tmp_path / "missing.tif",
        tmp_path / "cut.jpg",
        b"no image",
        np.zeros(5, np.uint8),
        float("nan"),
        tmp_path,
    ]
    return [image for pair in itertools.zip_longest(good, bad) for image in pair if image is not None]


def alone(engine: Any, image: Any) -> Any:
    """Return the answer or the error of one image, from a single search."""
    try:
        return engine.search(image)
    except (twinscope.ImageError, TypeError) as error:
        return error


def test_answers_are_those_of_search_in_order(shelf: Shelf, search_many: Callable[..., Any], mixed: list[Any]) -> None:
    with twinscope.connect(shelf.store) as engine:
        expected = [alone(engine, image) for image in mixed]
    found = search_many(mixed)
    assert [image is given for (image, _), given in zip(found, mixed, strict=True)] == [True] * len(mixed)
    assert sum(isinstance(one, twinscope.ImageError) for _, one in found) == 6
    for (_, one), right in zip(found, expected, strict=True):
        if isinstance(right, twinscope.Answer):
            assert one == right
        elif isinstance(right, twinscope.ImageError):
            assert (type(one), str(one), one.fault) == (type(right), str(right), right.fault)
        else:
            assert (one.source, one.fault, one.detail) == ("float", "unsupported", str(right))


def test_it_accepts_any_number_of_images(search_many: Callable[..., Any], shelf: Shelf) -> None:
    assert search_many([]) == []
    path = shelf.reference("Tips", 0)
    found = search_many((path for _ in range(70)), workers=3, max_distance=200)
    assert {answer.grade for _, answer in found} == {"excellent"}
    assert {answer.policy.max_distance for _, answer in found} == {200}
    assert len(found) == 70


def test_an_endless_stream_is_read_a_little_ahead(shelf: Shelf) -> None:
    taken = itertools.count()
    images = (shelf.reference("Tips", next(taken) % 2) for _ in itertools.count())
    with twinscope.connect(shelf.store) as engine:
        first = list(itertools.islice(engine.search_many(images, workers=2), 3))
    assert [path.name for path, _ in first] == ["L9_0.jpg", "L9_1.jpg", "L9_0.jpg"]
    assert next(taken) < 20


def test_leaving_the_loop_cancels_running_searches(shelf: Shelf, served: str) -> None:
    async def ask() -> int:
        async with twinscope.aio.connect(served) as engine:
            images = (shelf.reference("Tips", 0) for _ in itertools.count())
            async with aclosing(engine.search_many(images, workers=4)) as found:
                async for _ in found:
                    break
            return len(asyncio.all_tasks())

    assert asyncio.run(ask()) == 1


def test_an_error_of_every_image_is_raised(search_many: Callable[..., Any], shelf: Shelf) -> None:
    with pytest.raises(twinscope.TaxonomyError, match="Unicorns"):
        search_many([shelf.reference("Tips", 0)], categories=["Unicorns"])


def test_an_error_of_the_iterator_reaches_the_caller(search_many: Callable[..., Any], shelf: Shelf) -> None:
    def images() -> Iterator[Path]:
        yield shelf.reference("Tips", 0)
        raise KeyError("queue")

    with pytest.raises(KeyError, match="queue"):
        search_many(images())


@pytest.mark.parametrize(
    ("images", "options", "error", "text"),
    [
        ("a.tif", {}, TypeError, "search takes one image"),
        (Path("a.tif"), {}, TypeError, "search takes one image"),
        (b"", {}, TypeError, "search takes one image"),
        (5, {}, TypeError, "search takes one image"),
        ([], {"max_distence": 1}, twinscope.OptionError, "Did you mean 'max_distance'"),
        ([], {"instrument": None}, twinscope.OptionError, "no option 'instrument'"),
        ([], {"workers": 0}, twinscope.OptionError, "workers must be a whole number of at least 1"),
        ([], {"workers": True}, twinscope.OptionError, "workers must be"),
    ],
)
def test_wrong_arguments_raise_before_any_search(
    shelf: Shelf, served: str, images: Any, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    for target in (shelf.store, served):
        with twinscope.connect(target) as engine, pytest.raises(error, match=text):
            engine.search_many(images, **options)
    with pytest.raises(error, match=text):
        twinscope.aio.connect(served).search_many(images, **options)


def test_any_error_of_a_decoder_is_the_error_of_its_image() -> None:
    def search(image: str) -> Any:
        raise {"memory": MemoryError(), "bug": IndexError("out of range"), "type": TypeError("in the decoder")}[image]

    found = dict(many.search_all(search, ["memory", "bug", "type"], 2))
    assert {name: (error.source, error.fault, error.detail) for name, error in found.items()} == {
        "memory": ("memory", "too_large", "not enough memory to decode it"),
        "bug": ("bug", "damaged", "unexpected IndexError: out of range"),
        "type": ("type", "damaged", "unexpected TypeError: in the decoder"),
    }


def test_errors_hold_no_traceback() -> None:
    """A frame of a traceback keeps the content of the file in memory, and a run may have thousands of bad files."""

    def search(image: int) -> Any:
        raise twinscope.ImageError("a.tif", "damaged", "why")

    [(_, error)] = many.search_all(search, [1], 1)
    assert (error.__traceback__, error.__cause__, error.__context__) == (None, None, None)


def test_a_file_that_changes_during_its_upload() -> None:
    damaged = twinscope.ServerError("ended early", code="DATA_LOSS", reason="UPLOAD_DAMAGED", retriable=True)
    fault = many.fault_of("a.tif", damaged)
    assert (fault.source, fault.fault) == ("a.tif", "unreadable")
    assert "ended early" in fault.detail
    gone = twinscope.ServerError("gone", code="UNAVAILABLE", retriable=True)
    with pytest.raises(twinscope.ServerError, match="gone"):
        many.fault_of("a.tif", gone)
