"""Tables of the calibration benchmark: the effect of a limit, and the reliability."""

from __future__ import annotations

import pytest


@pytest.fixture
def calibration(benchmark):
    return benchmark("calibration")


@pytest.fixture
def judged(calibration):
    def make(p_wrong, *, wrong=False, scene_score=0.9, weight=1.0):
        return calibration.Judged(p_wrong, wrong, scene_score, weight)

    return make


def test_limit_lets_through_matches_up_to_its_p_wrong(calibration, judged):
    some = [judged(0.01), judged(0.05), judged(0.06), judged(0.04, wrong=True, scene_score=0.2),
            judged(0.05, wrong=True, scene_score=0.6), judged(0.9, wrong=True)]  # fmt: skip
    one = calibration.at_limit(some, 0.05)
    assert (one.right, one.wrong, one.wrong_fields) == (2, 2, 1)
    every = calibration.at_limit(some, 1.0)
    assert (every.right, every.wrong) == (3, 3)


def test_reliability_is_weighted(calibration, judged):
    some = [judged(0.06, weight=3.0), judged(0.1, wrong=True, weight=1.0), judged(0.7, wrong=True)]
    first, last = calibration.reliability(some)
    assert (first.low, first.high, first.right, first.wrong) == (0.05, 0.1, 1, 1)
    assert first.said == pytest.approx((3 * 0.06 + 0.1) / 4)
    assert first.found == pytest.approx(0.25)
    assert (last.right, last.wrong, last.found) == (0, 1, 1.0)


def test_sure_means_below_one_percent(calibration, judged):
    assert calibration.sure([judged(0.009), judged(0.01), judged(0.001, wrong=True)]) == (2, 1)


def test_shipped_calibration_is_where_the_service_reads_it(calibration):
    assert calibration.SHIPPED.is_file()
