"""The curves of growth: the exponent that is printed, and a run that goes on where it was broken off."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

_FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
if not (_FOLDER / "growth.py").is_file():
    pytest.skip("the benchmarks are not part of this distribution", allow_module_level=True)


@pytest.fixture
def growth(monkeypatch):
    monkeypatch.syspath_prepend(str(_FOLDER))
    before = set(sys.modules)
    import growth

    yield growth
    for name in set(sys.modules) - before:  # `load` and `scans` may mean something else to another test
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(_FOLDER)):
            del sys.modules[name]


def test_the_exponent_is_that_of_the_power_that_fits(growth):
    sizes = [1_000, 10_000, 100_000]
    assert growth.Curve.of("a", "s", sizes, [3 * size**1.5 for size in sizes]).exponent == pytest.approx(1.5)
    assert growth.Curve.of("a", "s", sizes, [7.0] * 3).exponent == pytest.approx(0)


def test_a_run_that_was_broken_off_goes_on_and_one_that_ended_is_forgotten(growth, tmp_path, capsys):
    file, asked = tmp_path / "out" / "growth.json", []

    def measure(what):
        return lambda: asked.append(what) or {"seconds": 1.5}

    def broken():
        raise KeyboardInterrupt

    first = growth.Kept(file, 0, afresh=False)
    found = first.measured("10 images", measure("10"))
    with pytest.raises(KeyboardInterrupt):
        first.measured("20 images", broken)
    assert found["seconds"] == 1.5
    assert "10 images: seconds 1.5" in capsys.readouterr().out

    second = growth.Kept(file, 0, afresh=False)
    assert second.measured("10 images", measure("10 again")) == found
    assert "before" in capsys.readouterr().out
    second.measured("20 images", measure("20"))
    for kept in (growth.Kept(file, 1, afresh=False), growth.Kept(file, 0, afresh=True)):
        kept.measured("10 images", measure("anew"))
    assert asked == ["10", "20", "anew", "anew"]
    second.forget()
    growth.Kept(file, 0, afresh=False).measured("10 images", measure("after the end"))
    assert asked[-1] == "after the end"


@pytest.mark.parametrize("arguments", [["--images", "100"], ["--hashes", "5", "5"], ["--images", "0", "10"]])
def test_sizes_that_make_no_curve_are_refused(growth, monkeypatch, capsys, arguments):
    monkeypatch.setattr(sys, "argv", ["growth.py", *arguments])
    with pytest.raises(SystemExit):
        growth.main()
    assert "two sizes" in capsys.readouterr().err
