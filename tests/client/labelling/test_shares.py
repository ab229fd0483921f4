"""Shares in percent are rounded half up. 0 % means none and 100 % means all, never nearly none or nearly all."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twinscope_client.labelling.report import page
from twinscope_client.labelling.shares import percent


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [
        (81, 146, "55.5 %"), (30, 41, "73.2 %"), (13, 14, "92.9 %"), (1, 16, "6.3 %"), (1, 3, "33.3 %"),
        (0, 7, "0.0 %"), (7, 7, "100.0 %"), (1, 2001, "< 0.1 %"), (1, 2000, "0.1 %"),
        (1999, 2000, "> 99.9 %"), (1998, 2000, "99.9 %"), (1, 10**9, "< 0.1 %"), (10**9 - 1, 10**9, "> 99.9 %"),
    ],
)  # fmt: skip
def test_a_share(part: int, whole: int, shown: str) -> None:
    assert percent(part / whole) == shown


@given(st.integers(1, 3000).flatmap(lambda whole: st.tuples(st.integers(0, whole), st.just(whole))))
def test_a_share_is_shown_by_the_nearest_tenth(counts: tuple[int, int]) -> None:
    share = Fraction(*counts)
    shown = percent(counts[0] / counts[1])
    if shown[0] in "<>":
        assert 0 < share < Fraction("0.0005") or Fraction("0.9995") <= share < 1
    else:
        assert abs(Fraction(shown.removesuffix(" %")) / 100 - share) <= Fraction("0.0005")
        assert (shown == "0.0 %", shown == "100.0 %") == (share == 0, share == 1)


def test_the_report_shows_shares_and_chances_in_the_same_way() -> None:
    assert [page._percent(share) for share in (81 / 146, 0.9999, None)] == ["55.5 %", "> 99.9 %", "–"]
    assert [page._chance(chance) for chance in (0.9994, 0.99951, 1)] == ["99.9 %", "more than 99.9 %", "100 %"]
