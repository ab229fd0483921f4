"""Curves of growth: their exponents, and an interrupted run that continues."""

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
    for name in set(sys.modules) - before:  # other tests may import other modules named `load` or `scans`
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(_FOLDER)):
            del sys.modules[name]


def test_exponent_is_that_of_the_fitted_power(growth):
    sizes = [1_000, 10_000, 100_000]
    assert growth.Curve.of("a", "s", sizes, [3 * size**1.5 for size in sizes]).exponent == pytest.approx(1.5)
    assert growth.Curve.of("a", "s", sizes, [7.0] * 3).exponent == pytest.approx(0)


def test_interrupted_run_continues_and_a_finished_one_does_not(growth, tmp_path, capsys):
    file, calls = tmp_path / "out" / "growth.json", []

    def measure(what):
        return lambda: calls.append(what) or {"seconds": 1.5}

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
        kept.measured("10 images", measure("again"))
    assert calls == ["10", "20", "again", "again"]
    second.forget()
    growth.Kept(file, 0, afresh=False).measured("10 images", measure("after the end"))
    assert calls[-1] == "after the end"


@pytest.mark.parametrize("arguments", [["--images", "100"], ["--hashes", "5", "5"], ["--images", "0", "10"]])
def test_too_few_sizes_for_a_curve_are_refused(growth, monkeypatch, capsys, arguments):
    monkeypatch.setattr(sys, "argv", ["growth.py", *arguments])
    with pytest.raises(SystemExit):
        growth.main()
    assert "two sizes" in capsys.readouterr().err
