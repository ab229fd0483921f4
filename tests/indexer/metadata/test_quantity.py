"""Parsing of numbers, quantities with units and dates."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twinscope_indexer.metadata.quantity import LENGTH, moment, quantity, size


@given(st.decimals(min_value="0.0001", max_value="99999", places=4), st.sampled_from(sorted(LENGTH.items())))
def test_quantities_are_exact(value: Decimal, unit: tuple[str, int]) -> None:
    for shift in (0, 3, 9):
        exact = float(value * Decimal(10) ** (unit[1] + shift))
        assert quantity(f"{value} {unit[0]}", LENGTH, shift) == exact
        assert quantity(f"{value}{unit[0]}", LENGTH, shift) == exact


def test_commas() -> None:
    assert quantity("8,25 mm", LENGTH, 3) == 8.25
    assert quantity("1,000 mm", LENGTH, 3) is None  # 1 or 1000
    assert quantity("0,125 mm", LENGTH, 3) == 0.125
    assert quantity("1,000.5 mm", LENGTH, 3) is None


@pytest.mark.parametrize(
    ("day", "clock", "expected"),
    [
        ("26 Apr 2021", "17:58:45", "2021-04-26T17:58:45"),
        ("26-APR-2021", "", "2021-04-26"),
        ("2019/03/12", "10:21", "2019-03-12T10:21:00"),
        ("2019-03-12", "12:00:00 AM", "2019-03-12T00:00:00"),
        ("12.03.2019", "12:00:00 PM", "2019-03-12T12:00:00"),
        ("12.03.2019", "25:00:00", "2019-03-12"),
        ("12.03.2019", "13:00 PM", "2019-03-12"),
        ("03/13/2019", None, "2019-03-13"),
        ("13/03/2019", None, "2019-03-13"),
        ("03/03/2019", None, "2019-03-03"),
        ("03/12/2019", None, None),
        ("30 Feb 2021", None, None),
        ("26 Foo 2021", None, None),
        ("0000-01-01", None, None),
        ("", "10:00", None),
        (None, None, None),
    ],
)
def test_dates(day: str | None, clock: str | None, expected: str | None) -> None:
    assert moment(day, clock) == expected


def test_dates_with_a_known_order() -> None:
    assert moment("03/12/2019", slashes="month") == "2019-03-12"
    assert moment("03/12/2019", slashes="day") == "2019-12-03"


def test_sizes() -> None:
    assert size("1024 * 768") == size("1024x768") == size("1024 768") == (1024, 768)
    assert size("0 * 768") is size("1024") is size("-1 5") is size(None) is None
