"""Frames and checks use the same maximum height of info bars."""

from __future__ import annotations

from twinscope_indexer.hashing.frames import FRAMES_RECIPE, VIEWS
from twinscope_indexer.imaging.infobar import MAX_HEIGHT, field_rows


def test_field_rows_are_above_the_highest_bar() -> None:
    for rows in range(60, 5000):
        assert 0.8 * rows < field_rows(rows) < (1 - MAX_HEIGHT) * rows
    assert [field_rows(rows) for rows in range(5)] == [0, 1, 2, 3, 3]


def test_views_exclude_up_to_the_highest_bar() -> None:
    assert min(view.bottom for view in VIEWS) == 1 - MAX_HEIGHT
    assert FRAMES_RECIPE.endswith("/2-9a47c0d197a0"), "stores must be indexed again: give the recipe a new number"
