"""The physical size of pixels and fields, computed from the values that the instrument wrote."""

from __future__ import annotations

import pytest
from twinscope_indexer.metadata.calibration import Calibration, ImageSize

SIZE = ImageSize(1000, 768)


def test_pixel_size_and_field_width_complete_each_other() -> None:
    assert SIZE.calibrated(50.0) == Calibration(50.0, 50.0, 50.0)
    assert SIZE.calibrated(None, 50.0) == Calibration(50.0, 50.0, 50.0)
    assert SIZE.calibrated(50.0, pixel_height_nm=40.0) == Calibration(50.0, 40.0, 50.0)
    assert SIZE.calibrated(None) == Calibration()
    assert ImageSize().calibrated(50.0, 9.0) == Calibration(50.0, 50.0, 9.0)


@pytest.mark.parametrize(("field", "agrees"), [(50.9, True), (49.1, True), (51.2, False), (48.8, False)])
def test_two_sizes_may_differ_by_two_percent(field: float, agrees: bool) -> None:
    assert SIZE.calibrated(50.0, field) == (Calibration(50.0, 50.0, field) if agrees else Calibration())


def test_image_resized_after_saving_has_no_calibration() -> None:
    assert SIZE.calibrated(50.0, saved_width=1000) == Calibration(50.0, 50.0, 50.0)
    assert SIZE.calibrated(50.0, saved_width=1024) == Calibration()
    assert ImageSize().calibrated(50.0, saved_width=1024) == Calibration(50.0, 50.0, None)


def test_rows_below_the_field() -> None:
    assert SIZE.rows_below((1000, 700)) == 68
    assert SIZE.rows_below((1000, 768)) == 0
    for field in ((1000, 769), (999, 700), None):
        assert SIZE.rows_below(field) is None
    assert ImageSize().rows_below((1000, 700)) is None
