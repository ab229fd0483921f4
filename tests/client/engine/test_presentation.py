"""Representations of an answer: one line, HTML with two figures, JSON, and rows of a table."""

from __future__ import annotations

import asyncio
import base64
import copy
import gc
import io
import json
import math
import pickle
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import twinscope
from PIL import Image
from shelf import Shelf
from twinscope_client.testing import serving
from twinscope_indexer.metadata.model import InstrumentMetadata, StagePosition
from twinscope_service.matching.answer import ChanceOfError, Transform
from twinscope_service.matching.presentation import plain
from twinscope_service.matching.reasons import Reason, ReasonCode

NASTY = "<script>alert('x')</script>&\udce4\n"


@pytest.fixture(scope="module")
def served(shelf: Shelf) -> Iterator[str]:
    with serving(shelf.store) as target:
        yield target


@pytest.fixture(scope="module", params=["embedded", "remote"])
def engine(request: pytest.FixtureRequest, shelf: Shelf, served: str) -> Iterator[twinscope.Engine]:
    with twinscope.connect(shelf.store if request.param == "embedded" else served) as opened:
        yield opened


def match(**changes: Any) -> twinscope.Match:
    return replace(
        twinscope.Match("00000000000000ab", "refs/a.jpg", "Tips", "L9", 12, 0.93, (0.0, 0.1), 0.981), **changes
    )


def answer(*matches: twinscope.Match, grade: Any = "excellent", **changes: Any) -> twinscope.Answer:
    made = twinscope.Answer(grade, matches, "why", "ab" * 128, twinscope.Policy(), 3, "recipe", "taxonomy/1")
    return replace(made, **changes)


# -- one line --------------------------------------------------------------------------------------------------------


def test_repr_of_an_answer() -> None:
    chance = ChanceOfError(0.0056, 0.0001, 0.02, "shipped")
    assert repr(answer(match(), match(), p_wrong=chance)) == (
        "<Answer excellent: Tips (L9), 12 bits, scene score 0.930, SSIM 0.981, p_wrong 0.0056; 2 candidates>"
    )
    assert repr(answer(match(ssim=None), grade="doubtful", p_wrong=chance)) == (
        "<Answer doubtful: no label, best candidate Tips (L9), 12 bits, scene score 0.930; 1 candidate>"
    )
    assert repr(answer(grade="unhashable")) == "<Answer unhashable: no candidates>"


def test_repr_of_a_match() -> None:
    assert repr(match()) == (
        "<Match 00000000000000ab: Tips (L9), 12 bits, scene score 0.930, SSIM 0.981; 'refs/a.jpg'>"
    )


def test_repr_can_always_be_printed() -> None:
    """Names of files and folders may not be valid UTF-8."""
    for shown in (repr(match(source=NASTY, category=NASTY)), repr(answer(match(category=NASTY)))):
        assert "\udce4" not in shown
        shown.encode("utf-8")


# -- JSON ------------------------------------------------------------------------------------------------------------


def test_an_answer_as_json(engine: twinscope.Engine, shelf: Shelf) -> None:
    found = engine.search(255 - np.rot90(shelf.pixels["Tips", 0]), k=3, max_distance=1024)
    assert found.best is not None
    assert found.best.transform is not None
    values = found.to_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert list(values)[:3] == ["grade", "category", "code"]
    assert "thumbnails" not in values
    for one, shown in zip(found.matches, values["matches"], strict=True):
        assert (shown["image_id"], shown["source"], shown["distance"]) == (one.image_id, one.source, one.distance)
        assert shown["shift"] is None or tuple(shown["shift"]) == one.shift
    assert values["matches"][0]["transform"]["symmetry"] == found.best.transform.symmetry
    assert values["policy"]["max_distance"] == 1024


def test_every_value_of_an_answer_fits_json() -> None:
    metadata = InstrumentMetadata(vendor="Zeiss", stage=StagePosition(x_mm=1.5))
    odd = answer(
        match(ssim=np.float32(0.5), scene_score=math.nan, source=NASTY, instrument=metadata), instrument=metadata
    )
    values = odd.to_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert values["matches"][0]["ssim"] == 0.5
    assert values["matches"][0]["scene_score"] is None
    assert values["instrument"] == values["matches"][0]["instrument"] == metadata.to_dict()
    assert plain({1: (b"\x01", Path("a"), np.int64(3), {2.5}, None, True)}) == {"1": ["01", "a", 3, [2.5], None, True]}


# -- tables ----------------------------------------------------------------------------------------------------------


def test_the_row_of_an_answer() -> None:
    turned = Transform("rotated by 90", "whole", "bottom 7 % cut")
    chance = ChanceOfError(0.01, 0.001, 0.02, "shipped")
    why = (Reason(ReasonCode.SAME_FIELD, {"scene_score": 0.93}), Reason(ReasonCode.TRANSFORMED, {"transform": "x"}))
    best = match(transform=turned, contradictions=("a", "b"))
    row = answer(best, match(), p_wrong=chance, reasons=why).to_row()
    assert row == {
        "grade": "excellent", "category": "Tips", "code": "L9", "reason": "why",
        "reason_codes": "same_field; transformed", "distance": 12, "scene_score": 0.93,
        "ssim": 0.981, "match_category": "Tips", "match_code": "L9", "match_id": "00000000000000ab",
        "match_source": "refs/a.jpg", "published_prefix": None, "note": "", "p_wrong": 0.01, "p_wrong_low": 0.001,
        "p_wrong_high": 0.02, "symmetry": "rotated by 90", "query_frame": "whole", "reference_frame": "bottom 7 % cut",
        "shift_x": 0.0, "shift_y": 0.1, "contradictions": "a; b", "candidates": 2, "policy": "default",
        "query_hash": "ab" * 128, "generation": 3, "recipe": "recipe", "taxonomy": "taxonomy/1",
    }  # fmt: skip
    empty = answer(grade="none").to_row()
    assert list(empty) == list(row)
    assert {empty[name] for name in ("category", "distance", "ssim", "p_wrong", "match_id", "shift_x")} == {None}
    assert empty["candidates"] == 0


def test_answers_become_data_frames(engine: twinscope.Engine, shelf: Shelf, tmp_path: Path) -> None:
    paths = [tmp_path / "missing.tif", *(shelf.reference(category, number) for category, number in shelf.pixels)]
    made = twinscope.columns(engine.search_many([np.zeros((40, 40), np.uint8), *paths]))
    for frame in (pd.DataFrame(made), pl.DataFrame(made)):
        assert frame.shape == (8, 31)
        assert list(frame.columns)[:2] == ["image", "grade"]
        assert list(frame.columns)[-1] == "fault"
        assert list(frame["grade"]) == ["unhashable", "failed", *["excellent"] * 6]
        assert list(frame["image"])[1:] == [str(path) for path in paths]
        assert list(frame["category"])[2:] == [category for category, _ in shelf.pixels]
        assert list(frame["fault"])[1] == "missing"
        assert float(frame["ssim"].mean()) > 0.95
    assert str(pl.DataFrame(made).schema["distance"]) == "Int64"
    assert str(pl.DataFrame(made).schema["scene_score"]) == "Float64"


def test_a_column_that_starts_empty_has_its_type() -> None:
    """If a data frame is built from rows, it infers the type of a column from the first rows."""
    found = [answer(grade="none")] * 500 + [answer(match())]
    made = twinscope.columns(found)
    assert str(pl.DataFrame(made).schema["scene_score"]) == "Float64"
    assert "image" not in made
    assert twinscope.columns([]) == {}


# -- HTML ------------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """The texts and figures of an HTML fragment, in which every tag must be closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.figures: list[np.ndarray] = []
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "img":
            kind, _, data = (dict(attributes)["src"] or "").partition(",")
            assert kind == "data:image/jpeg;base64"
            self.figures.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))))
        elif tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        self.texts.append(text)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    small = Image.fromarray(other).resize(one.shape[::-1], Image.Resampling.BOX)
    return float(np.corrcoef(one.ravel(), np.asarray(small).ravel())[0, 1])


@pytest.mark.parametrize("form", ["path", "bytes", "array", "stream"])
def test_the_page_has_both_thumbnails(engine: twinscope.Engine, shelf: Shelf, form: str) -> None:
    path = shelf.reference("Tips", 0)
    data = path.read_bytes()
    forms = {"path": path, "bytes": data, "array": shelf.pixels["Tips", 0], "stream": io.BytesIO(data)}
    found = engine.search(forms[form])
    page = Page(found._repr_html_())
    text = "".join(page.texts)
    assert [correlation(figure, shelf.pixels["Tips", 0]) > 0.97 for figure in page.figures] == [True, True]
    for wanted in ("excellent: Tips (L9)", found.reason, "query", "best candidate: Tips", str(path)):
        assert wanted in text


def test_the_page_of_an_answer_without_candidates(engine: twinscope.Engine) -> None:
    page = Page(engine.search(np.zeros((40, 40), np.uint8))._repr_html_())
    assert len(page.figures) == 1
    assert "table" not in page.tags


def test_the_page_of_a_stored_image(engine: twinscope.Engine, shelf: Shelf) -> None:
    best = engine.search(shelf.reference("Tips", 0)).best
    assert best is not None
    page = Page(engine.search_stored(best.image_id, max_distance=1024)._repr_html_())
    assert correlation(page.figures[0], shelf.pixels["Tips", 0]) > 0.97
    assert len(page.figures) == 2


def test_the_page_of_an_answer_from_asyncio(shelf: Shelf, served: str) -> None:
    async def ask() -> str:
        async with twinscope.aio.connect(served) as engine:
            return (
                await engine.search(shelf.reference("Tips", 0))
            )._repr_html_()  # inside the event loop, as in a notebook

    assert len(Page(asyncio.run(ask())).figures) == 2


def test_every_text_is_escaped() -> None:
    nasty = match(source=NASTY, category=NASTY, code=NASTY, transform=Transform(NASTY, NASTY, "whole"))
    html = answer(nasty, *[match()] * 8, reason=NASTY)._repr_html_()
    html.encode("utf-8")
    page = Page(html)
    assert page.tags == {"div", "p", "strong", "br", "table", "thead", "tbody", "tr", "th", "td"}
    assert "".join(page.texts).count("<script>") == 8
    assert "and 4 more candidates" in "".join(page.texts)


def test_the_page_works_without_its_thumbnails(shelf: Shelf, tmp_path: Path) -> None:
    path = tmp_path / "query.jpg"
    path.write_bytes(shelf.reference("Tips", 0).read_bytes())
    engine = twinscope.connect(shelf.store)
    found = engine.search(path)
    assert len(Page(found._repr_html_()).figures) == 2
    path.unlink()
    assert len(Page(found._repr_html_()).figures) == 1
    engine.close()
    assert "(no thumbnail)" in found._repr_html_()
    for again in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found)):
        assert Page(again._repr_html_()).figures == []


def test_an_answer_keeps_no_engine_alive(shelf: Shelf) -> None:
    engine = twinscope.connect(shelf.store)
    found = engine.search(shelf.reference("Tips", 0))
    before = sys.getrefcount(engine)
    other = engine.search(shelf.reference("Tips", 1))
    assert sys.getrefcount(engine) == before
    del engine
    gc.collect()
    assert "(no thumbnail)" in found._repr_html_()
    assert other.grade == "excellent"


def test_thumbnails_do_not_affect_equality_or_pickles(engine: twinscope.Engine, shelf: Shelf) -> None:
    path = shelf.reference("Tips", 0)
    one, other = engine.search(path), engine.search(path.read_bytes())
    assert one.thumbnails is not None
    assert one == other == replace(one, thumbnails=None)
    again = pickle.loads(pickle.dumps(one))
    assert again == one
    assert again.thumbnails is None
    assert b"humbnails" not in pickle.dumps(one)
    assert len(pickle.dumps(one)) < 4000
    assert re.fullmatch(r"<Answer excellent: Tips \(L9\).*>", repr(again))
